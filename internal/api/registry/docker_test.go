package registry

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/test/engine"
)

// TestDockerPushesAndPulls: the real engine, which speaks TLS to a registry on loopback without asking for its authority.
func TestDockerPushesAndPulls(t *testing.T) {
	d := engine.StartDocker(t)
	s := newServer(t, "")
	config := t.TempDir()
	docker := func(in string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "docker", append([]string{"-H", "unix://" + d.Socket}, args...)...)
		cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+config)
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(in string, args ...string) string {
		t.Helper()
		out, err := docker(in, args...)
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(out)
	}
	name := s.host + "/main/base:1"
	must("", "tag", d.Image, name)
	if out, err := docker("", "push", name); err == nil || !strings.Contains(out, "no password was given") {
		t.Errorf("pushed without login: %v\n%s", err, out)
	}
	if out, err := docker("wrong", "login", "-u", "moorage", "--password-stdin", s.host); err == nil || !strings.Contains(out, "unauthorized") {
		t.Errorf("logged in with a wrong password: %v\n%s", err, out)
	}
	must(admin, "login", "-u", "moorage", "--password-stdin", s.host)
	must("", "push", name)
	again := must("", "push", name)
	if !strings.Contains(again, "Layer already exists") {
		t.Errorf("the second push sent layers: %s", again)
	}
	must("", "tag", d.Image, s.host+"/main/other:1")
	if out := must("", "push", s.host+"/main/other:1"); !strings.Contains(out, "Mounted from main/base") {
		t.Errorf("a push to another repository sent layers: %s", out)
	}
	id := must("", "image", "inspect", "-f", "{{.Id}}", d.Image)
	must("", "rmi", d.Image, name, s.host+"/main/other:1")
	must("", "logout", s.host)
	must(s.token("id-of-main", authn.RegistryPull), "login", "-u", "moorage", "--password-stdin", s.host)
	must("", "pull", name)
	if got := must("", "image", "inspect", "-f", "{{.Id}}", name); got != id {
		t.Errorf("image %s came back, %s went", got, id)
	}
	if out := must("", "run", "--rm", name, "echo", "hello"); out != "hello" {
		t.Errorf("it says %q", out)
	}
	if out, err := docker("", "push", name); err == nil || !strings.Contains(out, "denied") {
		t.Errorf("pushed with a token to pull: %v\n%s", err, out)
	}
}
