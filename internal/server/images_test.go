package server

import (
	"bytes"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/image"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/test/engine"
)

// TestWhatIsBuiltLiesInTheServersOwnRegistry: an engine builds, the server's registry keeps, and another engine pulls with a
// job's login.
func TestWhatIsBuiltLiesInTheServersOwnRegistry(t *testing.T) {
	d := engine.StartDocker(t)
	s := start(t, Config{Data: t.TempDir()})
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Images = Images{Host: u.Host, Engine: "unix://" + d.Socket}
	m := &makers{server: s, cfg: s.cfg.Images}
	ws, err := s.store.Workspaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if place, ok := m.place(store.Compute{Kind: "kubernetes"}, nil); place != "" || !ok || !m.dockerfiles(place) {
		t.Fatalf("images of a cluster go to %q, %v", place, ok)
	}
	name, err := m.name(t.Context(), ws[0], "", "1")
	if err != nil || name != u.Host+"/main/environments:1" {
		t.Fatalf("%q, %v", name, err)
	}
	b, err := m.builder(t.Context(), ws[0], "")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	made, err := b.Build(t.Context(), image.Recipe{Name: name, Dockerfile: &image.Dockerfile{Text: "FROM " + d.Image + "\nENV MADE=here\n"}}, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	row := store.ImageBuild{Image: made.Name, Digest: made.Digest}
	if there, err := m.there(t.Context(), ws[0], row); err != nil || !there {
		t.Errorf("it is not there: %v", err)
	}

	login, err := s.imageLogin(t.Context(), ws[0], name)
	if err != nil || login == nil {
		t.Fatalf("%v, %v", login, err)
	}
	config := t.TempDir()
	docker := func(in string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), "docker", append([]string{"-H", "unix://" + d.Socket}, args...)...)
		cmd.Env, cmd.Stdin = append(os.Environ(), "DOCKER_CONFIG="+config), strings.NewReader(in)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	docker(login.Password.Reveal(), "login", "-u", login.Username, "--password-stdin", login.Server)
	docker("", "pull", name)
	if out := docker("", "run", "--rm", "--network", "none", name, "sh", "-c", "echo $MADE"); out != "here" {
		t.Errorf("it says %q", out)
	}

	// The same again sends nothing, and an image laid on it takes its layers from the registry.
	log.Reset()
	again, err := b.Build(t.Context(), image.Recipe{Name: name, Dockerfile: &image.Dockerfile{Text: "FROM " + d.Image + "\nENV MADE=here\n"}}, &log)
	if err != nil || again.Digest != made.Digest {
		t.Errorf("again it is %s, %v\n%s", again.Digest, err, log.String())
	}
	if err := m.remove(t.Context(), ws[0], row); err != nil {
		t.Error(err)
	}
	if there, err := m.there(t.Context(), ws[0], row); err != nil || there {
		t.Errorf("it is there after it was removed: %v", err)
	}
	if err := m.remove(t.Context(), ws[0], row); err != nil {
		t.Errorf("removed again: %v", err)
	}
}

func TestImagesOfAnEngineOnThisMachineStayThere(t *testing.T) {
	m := &makers{}
	for settings, want := range map[string]string{
		`{"image":"x"}`: "engine:unix:///var/run/docker.sock", `{"address":"docker+unix:///run/d.sock"}`: "engine:unix:///run/d.sock", `{"address":"docker+ssh://host"}`: "", `{"address":"docker+tcp://host:2376"}`: "",
	} {
		place, ok := m.place(store.Compute{Kind: "docker", Settings: []byte(settings)}, nil)
		if place != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", settings, place, ok)
		}
	}
}
