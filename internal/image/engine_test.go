package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

func startEngine(t *testing.T) (*Engine, *engine.Docker) {
	t.Helper()
	d := engine.StartDocker(t)
	e, err := OpenEngine("unix://" + d.Socket)
	if err != nil {
		t.Fatal(err)
	}
	e.RunNetwork = "none" // the test's engine has no other
	t.Cleanup(func() { e.Close() })
	return e, d
}

// runs runs a command in an image and gives what it printed.
func runs(t *testing.T, e *Engine, image string, command ...string) string {
	t.Helper()
	c := e.client
	made, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Config: &container.Config{Image: image, Cmd: command}, HostConfig: &container.HostConfig{NetworkMode: "none"},
	})
	if err != nil {
		t.Fatal(err)
	}
	wait := c.ContainerWait(t.Context(), made.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := c.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	var code int64
	select {
	case end := <-wait.Result:
		code = end.StatusCode
	case err := <-wait.Error:
		t.Fatal(err)
	}
	logs, err := c.ContainerLogs(t.Context(), made.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, logs); err != nil {
		t.Fatal(err)
	}
	if code != 0 {
		t.Fatalf("%v in %s ended with %d:\n%s", command, image, code, out.String())
	}
	return out.String()
}

func pull(t *testing.T, e *Engine, image string) {
	t.Helper()
	answer, err := e.client.ImagePull(t.Context(), image, client.ImagePullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTheEngineRunsWhatWasMadeWithoutIt(t *testing.T) {
	e, _ := startEngine(t)
	host := startRegistry(t)
	push(t, debianPython(t), host+"/base/python:1")
	app := t.TempDir()
	if err := os.WriteFile(filepath.Join(app, "main.py"), []byte("import six, markupsafe, sys\nprint('six', six.__version__, markupsafe.escape('<'), sys.prefix)\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := Recipe{
		Name: host + "/team/train:1", Base: host + "/base/python:1", Files: []Files{{From: Folder(app), To: "/app"}},
		Packages: &Packages{Requirements: []string{"six==1.16.0", "markupsafe", "pyflakes"}},
	}
	if _, err := (&Maker{Dir: t.TempDir(), Uv: realUv(t), To: Registry{}}).Build(t.Context(), r, &buffer{}); err != nil {
		t.Fatal(err)
	}
	pull(t, e, r.Name)
	if out := runs(t, e, r.Name, "python", "/app/main.py"); !strings.HasPrefix(out, "six 1.16.0 &lt; /opt/moorage/") {
		t.Errorf("it printed %q", out)
	}
	if out := runs(t, e, r.Name, "pyflakes", "--version"); !strings.Contains(out, "Python 3.") {
		t.Errorf("a script of a package printed %q", out)
	}

	// The same without a registry between: loaded into the engine.
	r.Name = "team/loaded:1"
	log := &buffer{}
	if _, err := (&Maker{Dir: t.TempDir(), Uv: realUv(t), To: e}).Build(t.Context(), r, log); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if out := runs(t, e, r.Name, "python3", "/app/main.py"); !strings.HasPrefix(out, "six 1.16.0") {
		t.Errorf("it printed %q", out)
	}
}

// dockerfile is a context with what a Dockerfile can ask for and what must not be sent.
func dockerfile(t *testing.T, base string) Dockerfile {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"docker/Dockerfile": "ARG BASE=none\nFROM ${BASE} AS first\nARG WORD\nCOPY . /srv/\nRUN echo made with $WORD > /srv/made && ls -R /srv\nFROM first AS second\nRUN echo second >> /srv/made\n",
		".dockerignore":     "**/*.secret\ndata\n!data/keep\n",
		"a.secret":          "hidden", "sub/b.secret": "hidden", "data/drop": "hidden", "data/keep": "kept", "sub/ä b.txt": "kept",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Dockerfile{Context: Folder(dir), Path: "docker/Dockerfile", Args: map[string]string{"BASE": base, "WORD": "care"}, Target: "first"}
}

func checkBuilt(t *testing.T, out string) {
	t.Helper()
	if !strings.Contains(out, "made with care") || strings.Contains(out, "second") || !strings.Contains(out, "keep") || !strings.Contains(out, "ä b.txt") {
		t.Errorf("the image holds\n%s", out)
	}
	if strings.Contains(out, "secret") || strings.Contains(out, "drop") {
		t.Errorf("what .dockerignore leaves out is in the image:\n%s", out)
	}
}

func TestTheEnginesBuilderBuildsADockerfile(t *testing.T) {
	e, d := startEngine(t)
	host := startRegistry(t)
	df := dockerfile(t, d.Image)
	log := &buffer{}
	m := &Maker{Dir: t.TempDir(), Dockerfiles: e, To: Registry{}}
	r := Recipe{Name: host + "/built:1", Dockerfile: &df}
	if _, err := m.Build(t.Context(), r, log); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	pull(t, e, r.Name)
	checkBuilt(t, runs(t, e, r.Name, "sh", "-c", "cat /srv/made; find /srv"))
	if !strings.Contains(log.String(), "Step 1/") {
		t.Errorf("the engine's words are not in the log:\n%s", log)
	}

	// Left at the engine that built it.
	m = &Maker{Dir: t.TempDir(), Dockerfiles: e, To: e}
	r.Name = "team/left:1"
	log = &buffer{}
	if _, err := m.Build(t.Context(), r, log); err != nil || !strings.Contains(log.String(), "stays at the engine") || !strings.Contains(log.String(), "Using cache") {
		t.Fatalf("%v\n%s", err, log)
	}
	checkBuilt(t, runs(t, e, r.Name, "sh", "-c", "cat /srv/made; find /srv"))

	// A Dockerfile as text, without a context, and layers on top of it.
	r = Recipe{Name: host + "/text:1", Dockerfile: &Dockerfile{Text: "FROM " + d.Image + "\nRUN echo text > /made\n"}, Files: []Files{{From: df.Context, To: "/ctx"}}}
	m = &Maker{Dir: t.TempDir(), Dockerfiles: e, To: Registry{}}
	if _, err := m.Build(t.Context(), r, log); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	pull(t, e, r.Name)
	if out := runs(t, e, r.Name, "sh", "-c", "cat /made /ctx/data/keep"); out != "text\nkept" {
		t.Errorf("it printed %q", out)
	}
}

func TestAFailedBuildSaysWhichStep(t *testing.T) {
	e, d := startEngine(t)
	m := &Maker{Dir: t.TempDir(), Dockerfiles: e, To: e}
	for text, want := range map[string]string{
		"FROM " + d.Image + "\nRUN echo oh no; exit 7\n": "returned a non-zero code: 7",
		"FROM " + d.Image + "\nCOPY absent /x\n":         "absent",
		"NONSENSE\n":                                     "NONSENSE",
	} {
		_, err := m.Build(t.Context(), Recipe{Name: "team/x:1", Dockerfile: &Dockerfile{Text: text}}, &buffer{})
		if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != "ImageBuildFailed" || p.Class != workspace.Invalid || !strings.Contains(p.Cause, want) {
			t.Errorf("%q: %+v (%v)", text, p, err)
		}
	}
	_, err := m.Build(t.Context(), Recipe{Name: "team/x:1", Dockerfile: &Dockerfile{Context: Folder(t.TempDir())}}, &buffer{})
	if !errors.Is(err, &workspace.Problem{Code: "InvalidImage"}) {
		t.Errorf("without a Dockerfile: %v", err)
	}
}

func TestACancelledBuildEndsAtTheEngine(t *testing.T) {
	e, d := startEngine(t)
	m := &Maker{Dir: t.TempDir(), Dockerfiles: e, To: e}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop, log, done := errors.New("no longer wanted"), &buffer{}, make(chan error, 1)
	go func() {
		_, err := m.Build(ctx, Recipe{Name: "team/x:1", Dockerfile: &Dockerfile{Text: "FROM " + d.Image + "\nRUN echo be''gun; sleep 600\n"}}, log)
		done <- err
	}()
	running := func() int {
		list, err := e.client.ContainerList(t.Context(), client.ContainerListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	engine.Eventually(t, 20*time.Second, "the step runs", func() bool { return strings.Contains(log.String(), "begun\n") && running() == 1 })
	cancel(stop)
	if err := <-done; !errors.Is(err, stop) {
		t.Fatalf("it ended with %v", err)
	}
	engine.Eventually(t, 20*time.Second, "the step ends", func() bool { return running() == 0 })
}

// guardedRegistry starts a registry that asks for a login.
func guardedRegistry(t *testing.T, user, password string) string {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

const password = "pä$$ word-9471"

func TestPrivateBasesAreHadByLoginOnly(t *testing.T) {
	e, d := startEngine(t)
	host := guardedRegistry(t, "ann", password)
	login := Login{Server: host, Username: "ann", Password: workspace.NewSecret(password)}
	open := startRegistry(t)
	push(t, debianPython(t), open+"/base:1")

	log := &buffer{}
	seed := &Maker{Dir: t.TempDir(), To: Registry{Logins: []Login{login}}}
	if _, err := seed.Build(t.Context(), Recipe{Name: host + "/private:1", Base: open + "/base:1"}, log); err != nil {
		t.Fatal(err)
	}
	append1 := Recipe{Name: "team/a:1", Base: host + "/private:1"}
	built := Recipe{Name: "team/b:1", Dockerfile: &Dockerfile{Text: "FROM " + host + "/private:1\nCOPY --from=" + d.Image + " /bin/busybox /bin/busybox\n"}}
	for _, r := range []Recipe{append1, built} {
		m := &Maker{Dir: t.TempDir(), Dockerfiles: e, To: e}
		if _, err := m.Build(t.Context(), r, log); err == nil || errors.Is(err, &workspace.Problem{Code: "EngineFailed"}) {
			t.Errorf("%s without a login: %v", r.Name, err)
		}
		r.Logins = []Login{login}
		if _, err := m.Build(t.Context(), r, log); err != nil {
			t.Errorf("%s with a login: %v\n%s", r.Name, err, log)
		}
	}
	if strings.Contains(log.String(), password) {
		t.Errorf("the log holds the password:\n%s", log)
	}
}
