package server

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

const (
	azureVariable = "MOORAGE_AZURE_CLIENT_SECRET"
	azureHidden   = "hidden-secret-of-the-application"
)

// secretFile is a file that holds text.
func secretFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return file
}

func TestAzureSettingsAreRead(t *testing.T) {
	c, err := config(t, "azure: {tenant_id: t, client_id: c, client_secret_file: /s, client_certificate_file: /c, managed_identity: true, cloud: china, authority: https://a, resource_manager: https://r}\n")
	want := Azure{TenantID: "t", ClientID: "c", ClientSecretFile: "/s", ClientCertificateFile: "/c", ManagedIdentity: true, Cloud: "china", Authority: "https://a", ResourceManager: "https://r"}
	if err != nil || c.Azure != want {
		t.Errorf("%+v, %v", c.Azure, err)
	}
	_, err = config(t, "azure:\n  client_secret: in-clear\n")
	problemOf(t, err, "InvalidConfig")
}

func TestAzureIsAskedOnlyWithALogin(t *testing.T) {
	var log bytes.Buffer
	for name, tc := range map[string]struct {
		azure    Azure
		variable string
		asked    bool
		warned   bool
	}{
		"nothing":       {},
		"a file":        {azure: Azure{TenantID: "t", ClientID: "c", ClientSecretFile: secretFile(t, azureHidden+"\n", 0o600)}, asked: true},
		"an open file":  {azure: Azure{TenantID: "t", ClientID: "c", ClientSecretFile: secretFile(t, azureHidden, 0o644)}, asked: true, warned: true},
		"the variable":  {azure: Azure{TenantID: "t", ClientID: "c"}, variable: azureHidden, asked: true},
		"this machine":  {azure: Azure{ManagedIdentity: true}, asked: true},
		"another cloud": {azure: Azure{ManagedIdentity: true, Cloud: "government"}, asked: true},
	} {
		t.Run(name, func(t *testing.T) {
			log.Reset()
			t.Setenv(azureVariable, tc.variable)
			o := options(t)
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
			s, err := Start(t.Context(), Config{Data: t.TempDir(), Listen: "127.0.0.1:0", NoLocal: true, Azure: tc.azure}, o)
			if err != nil {
				t.Fatal(err)
			}
			s.Close(context.WithoutCancel(t.Context()))
			if asked := strings.Contains(log.String(), "asked of Azure"); asked != tc.asked || strings.Contains(log.String(), azureHidden) {
				t.Errorf("log:\n%s", log.String())
			}
			if warned := strings.Contains(log.String(), "chmod 600"); warned != tc.warned {
				t.Errorf("warned %v:\n%s", warned, log.String())
			}
			if _, there := os.LookupEnv(azureVariable); there {
				t.Error("the variable is still there, and programs on this machine inherit it")
			}
		})
	}
}

func TestAzureSettingsThatCannotWorkEndTheStart(t *testing.T) {
	for name, tc := range map[string]struct {
		azure    Azure
		variable string
		words    string
	}{
		"no proof":     {Azure{TenantID: "t", ClientID: "c"}, "", "client_secret_file"},
		"no file":      {Azure{TenantID: "t", ClientID: "c", ClientSecretFile: "/not/there"}, "", "/not/there"},
		"empty file":   {Azure{TenantID: "t", ClientID: "c", ClientSecretFile: secretFile(t, "\n", 0o600)}, "", "is empty"},
		"no tenant":    {Azure{}, azureHidden, "azure.tenant_id"},
		"no PEM":       {Azure{TenantID: "t", ClientID: "c", ClientCertificateFile: secretFile(t, azureHidden, 0o600)}, "", "azure.client_certificate_file"},
		"two proofs":   {Azure{TenantID: "t", ClientID: "c", ManagedIdentity: true}, azureHidden, "more than one"},
		"plain http":   {Azure{TenantID: "t", ClientID: "c", Authority: "http://login"}, azureHidden, "azure.authority"},
		"wrong planet": {Azure{ManagedIdentity: true, Cloud: "mars"}, "", "azure.cloud"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(azureVariable, tc.variable)
			_, err := Start(t.Context(), Config{Data: t.TempDir(), Listen: "127.0.0.1:0", NoLocal: true, Azure: tc.azure}, options(t))
			p := problemOf(t, err, "InvalidAzureSettings")
			if p.Class != workspace.Invalid || !strings.Contains(p.Error(), tc.words) || strings.Contains(p.Error(), azureHidden) {
				t.Errorf("%s", p.Error())
			}
		})
	}
}
