package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/moorage-ml/moorage/internal/server"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// resolved is the configuration of "moorage serve ARGS".
func resolved(t *testing.T, args ...string) (server.Config, error) {
	t.Helper()
	var f serveFlags
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	f.add(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f.resolve(flags)
}

func TestFlagsWinOverVariablesOverTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m.yml")
	if err := os.WriteFile(file, []byte("data: /file\nlisten: file:1\ndatabase: file\nnames: [file]\nmin_free: 1GB\njobs: {keep: 1m, grace: 1m}\nworkspace: {name: file}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MOORAGE_LISTEN", "variable:1")
	t.Setenv("MOORAGE_DATABASE", "variable")
	t.Setenv("MOORAGE_JOBS_KEEP", "2m")
	t.Setenv("MOORAGE_NO_LOCAL", "true")
	t.Setenv("MOORAGE_MIN_FREE", "none")
	c, err := resolved(t, "--config", file, "--database", "flag", "--name", "a,b", "--name", "c")
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != "/file" || c.Listen != "variable:1" || c.Database != "flag" || strings.Join(c.Names, " ") != "a b c" || c.MinFree != -1 ||
		c.Jobs.Keep != 2*time.Minute || c.Jobs.Grace != time.Minute || !c.NoLocal || c.Workspace.Name != "file" {
		t.Errorf("%+v", c)
	}
	t.Setenv("MOORAGE_CONFIG", file)
	if c, err := resolved(t); err != nil || c.Data != "/file" {
		t.Errorf("the file named by a variable: %+v, %v", c, err)
	}
}

func TestSettingThatCannotBeReadIsNamed(t *testing.T) {
	t.Setenv("MOORAGE_JOBS_KEEP", "soon")
	_, err := resolved(t)
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || p.Code != "InvalidSetting" || !strings.Contains(p.Message, "MOORAGE_JOBS_KEEP") {
		t.Errorf("got %v", err)
	}
}

func TestLoggerIsCheckedBeforeTheStart(t *testing.T) {
	for _, cfg := range []server.Config{{LogLevel: "loud"}, {LogFormat: "xml"}} {
		if _, err := logger(cfg, os.Stderr); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

func TestAzureLoginComesFromFlagsAndVariables(t *testing.T) {
	t.Setenv("MOORAGE_AZURE_TENANT_ID", "tenant")
	t.Setenv("MOORAGE_AZURE_CLOUD", "government")
	t.Setenv("AZURE_CLIENT_ID", "of another program")
	c, err := resolved(t, "--azure-managed-identity", "--azure-cloud", "china")
	want := server.Azure{TenantID: "tenant", ManagedIdentity: true, Cloud: "china"}
	if err != nil || c.Azure != want {
		t.Errorf("%+v, %v", c.Azure, err)
	}
}
