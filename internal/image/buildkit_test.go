package image

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestBuildKitBuildsADockerfile(t *testing.T) {
	kit := engine.StartBuildKit(t)
	e, d := startEngine(t)
	host := guardedRegistry(t, "ann", password)
	login := Login{Server: host, Username: "ann", Password: workspace.NewSecret(password)}

	// The base: what the engine has, put into a registry that asks for a login.
	seed := &Maker{Dir: t.TempDir(), Dockerfiles: e, To: Registry{Logins: []Login{login}}}
	log := &buffer{}
	if _, err := seed.Build(t.Context(), Recipe{Name: host + "/base:1", Dockerfile: &Dockerfile{Text: "FROM " + d.Image + "\nLABEL a=b\n"}}, log); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	df := dockerfile(t, host+"/base:1")
	kitBuilder := BuildKit{Address: "unix://" + kit.Socket, Program: kit.Program}
	m := &Maker{Dir: t.TempDir(), Dockerfiles: kitBuilder, To: e}
	r := Recipe{Name: "team/kit:1", Dockerfile: &df}
	if _, err := m.Build(t.Context(), r, log); err == nil {
		t.Error("a private base was had without a login")
	}
	r.Logins = []Login{login}
	log = &buffer{}
	if _, err := m.Build(t.Context(), r, log); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	checkBuilt(t, runs(t, e, r.Name, "sh", "-c", "cat /srv/made; find /srv"))
	if strings.Contains(log.String(), password) || !strings.Contains(log.String(), "made with") {
		t.Errorf("the log is\n%s", log)
	}

	_, err := m.Build(t.Context(), Recipe{Name: "team/x:1", Logins: r.Logins, Dockerfile: &Dockerfile{Text: "FROM " + host + "/base:1\nRUN echo oh no; exit 7\n"}}, log)
	if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != "ImageBuildFailed" || !strings.Contains(p.Cause, "exit code: 7") {
		t.Errorf("a step that fails: %+v (%v)", p, err)
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	stop, words, done := errors.New("no longer wanted"), &buffer{}, make(chan error, 1)
	go func() {
		_, err := m.Build(ctx, Recipe{Name: "team/x:1", Logins: r.Logins, Dockerfile: &Dockerfile{Text: "FROM " + host + "/base:1\nRUN echo be''gun; sleep 600\n"}}, words)
		done <- err
	}()
	engine.Eventually(t, 30*time.Second, "the step runs", func() bool { return strings.Contains(words.String(), " begun") })
	cancel(stop)
	if err := <-done; !errors.Is(err, stop) {
		t.Errorf("it ended with %v", err)
	}
}

func TestBuildKitThatIsNotThere(t *testing.T) {
	m := &Maker{Dir: t.TempDir(), Dockerfiles: BuildKit{Address: "unix:///nowhere", Program: "sh"}, To: Registry{}}
	_, err := m.Build(t.Context(), Recipe{Name: "127.0.0.1:1/x:1", Dockerfile: &Dockerfile{Text: "FROM scratch"}}, &buffer{})
	if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Class != workspace.Unavailable || p.Code != "BuildKitFailed" {
		t.Errorf("%+v (%v)", p, err)
	}
}

func TestLoginsAreHandedOverWithoutAFile(t *testing.T) {
	dir := t.TempDir()
	cmd := command(t.Context(), "sh", "-c", `cat "$0/config.json"; cat "$0/config.json"; tr '\\0' ' ' </proc/self/environ; tr '\\0' ' ' </proc/self/cmdline`, dir)
	end, err := handOver(cmd, dir, []Login{{Server: "registry.example:5000", Username: "ann", Password: workspace.NewSecret(password)}})
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	out, err := cmd.CombinedOutput()
	secret := base64.StdEncoding.EncodeToString([]byte("ann:" + password))
	if err != nil || strings.Count(string(out), secret) != 2 { // as often as it was opened
		t.Errorf("the program read %s (%v)", out, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "config.json")); err == nil && strings.Contains(string(b), secret) {
		t.Error("the logins are in a file")
	}
}
