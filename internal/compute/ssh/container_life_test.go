package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

// begin submits a job in a container and waits until its log has a text.
func begin(t *testing.T, target compute.Target, j compute.Job, image, text string) compute.Handle {
	t.Helper()
	j.Key, j.Epoch = compute.Key{Server: "server", Compute: "compute", Job: clock.System().NewID(), Attempt: 1}, 1
	j.Image = &compute.Image{Name: image}
	h := compute.Handle{Key: j.Key}
	if _, err := target.Submit(t.Context(), j); err != nil {
		t.Fatalf("submit: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = target.Cancel(ctx, h, 1)
	})
	engine.Eventually(t, waitLimit, "log with "+text, func() bool {
		log := newBuffer()
		_, err := target.Logs(context.Background(), h, compute.LogQuery{}, log)
		return err == nil && strings.Contains(log.String(), text)
	})
	return h
}

func jobFolder(server *engine.SSHD, h compute.Handle) string {
	return filepath.Join(server.Home, ".moorage", "server", "compute", "jobs", h.Key.String())
}

// containers lists those of jobs at the engine, running or not.
func containers(t *testing.T, d *engine.Docker) []string {
	t.Helper()
	return strings.Fields(dockerSays(t, d, "ps", "--all", "--no-trunc", "--quiet", "--filter", "label=moorage.key"))
}

// TestContainersOfAMachine has one engine for all cases; the last ends it.
func TestContainersOfAMachine(t *testing.T) {
	server, d := machineWithDocker(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *engine.SSHD, *engine.Docker)
	}{
		{"KilledSupervisorLeavesNoContainer", killedSupervisor},
		{"ShowsNoSecretAndIsTheLogins", showsNoSecret},
		{"CanBeSwitchedOff", switchedOff},
		{"PrivateRegistryIsLoggedInToForOnePull", privateRegistry},
		{"OutliveTheirEngine", outlivesEngine},
	} {
		t.Run(c.name, func(t *testing.T) {
			engine.Eventually(t, waitLimit, "the end of containers of the case before", func() bool { return len(containers(t, d)) == 0 })
			c.run(t, server, d)
		})
	}
}

func killedSupervisor(t *testing.T, server *engine.SSHD, d *engine.Docker) {
	target := mustOpen(t, settingsFor(t, server))
	h := begin(t, target, compute.Job{Command: "echo begun; sleep 300"}, d.Image, "begun")
	var holder struct{ PID int }
	b, err := os.ReadFile(filepath.Join(jobFolder(server, h), "lock"))
	if err == nil {
		err = json.Unmarshal(b, &holder)
	}
	if err != nil || holder.PID <= 1 {
		t.Fatalf("the supervisor is not known: %q %v", b, err)
	}
	if err := syscall.Kill(holder.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	x, _ := await(t, target, h)
	if x.Outcome != compute.Lost || x.Problem == nil || x.Problem.Code != "SupervisorKilled" {
		t.Errorf("%+v", x)
	}
	engine.Eventually(t, waitLimit, "the container's end", func() bool { return len(containers(t, d)) == 0 })
}

func showsNoSecret(t *testing.T, server *engine.SSHD, d *engine.Docker) {
	target := mustOpen(t, settingsFor(t, server))
	given := filepath.Join(server.Home, "given, \"and\" more")
	server.WriteHome(t, filepath.Base(given), "on the machine\n", 0o644)
	j := compute.Job{
		Command: `cat ${{inputs.given}}; echo $TOKEN | wc -c; id -u; touch outputs/made; echo begun; sleep 300`,
		Secrets: map[string]workspace.Secret{"TOKEN": workspace.NewSecret("very-secret-words")},
		Env:     map[string]string{"PLAIN": "value-of-a-variable"},
		Inputs:  []compute.Input{{Name: "given", Path: given}},
	}
	h := begin(t, target, j, d.Image, "begun")
	said := dockerSays(t, d, append([]string{"inspect"}, containers(t, d)...)...)
	for _, hidden := range []string{"very-secret-words", "value-of-a-variable"} {
		if strings.Contains(said, hidden) {
			t.Errorf("docker inspect tells %s", hidden)
		}
	}
	made, err := os.Stat(filepath.Join(jobFolder(server, h), "code", "outputs", "made"))
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.Stat(server.Home)
	if err != nil {
		t.Fatal(err)
	}
	owner, login := made.Sys().(*syscall.Stat_t).Uid, home.Sys().(*syscall.Stat_t).Uid
	log := newBuffer()
	if _, err := target.Logs(t.Context(), h, compute.LogQuery{}, log); err != nil {
		t.Fatal(err)
	}
	if want := "on the machine\n18\n" + strconv.Itoa(int(login)) + "\nbegun\n"; owner != login || log.String() != want {
		t.Errorf("owner %d, login %d, log %q", owner, login, log)
	}
}

func outlivesEngine(t *testing.T, server *engine.SSHD, d *engine.Docker) {
	target := mustOpen(t, settingsFor(t, server))
	sign := filepath.Join("outputs", "go")
	// It goes on for longer than the process inside needs to look.
	h := begin(t, target, compute.Job{Command: "echo begun; until [ -e " + sign + " ]; do sleep 0.05; done; sleep 1; echo over; exit 5"}, d.Image, "begun")
	d.Stop(t)
	if err := os.WriteFile(filepath.Join(jobFolder(server, h), "code", sign), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if x, log := await(t, target, h); x.Code != 5 || log != "begun\nover\n" {
		t.Errorf("%+v %q", x, log)
	}
	d.Start(t)
	letIn(t, d, 0o666)
	h = begin(t, target, compute.Job{Command: "echo begun; sleep 300"}, d.Image, "begun")
	dockerSays(t, d, append([]string{"stop"}, containers(t, d)...)...)
	if x, _ := await(t, target, h); x.Outcome != compute.Failed || x.Problem == nil || x.Problem.Code != "ContainerStopped" {
		t.Errorf("a container that was stopped: %+v", x)
	}
	h = begin(t, target, compute.Job{Command: "echo begun; sleep 300"}, d.Image, "begun")
	dockerSays(t, d, append([]string{"kill"}, containers(t, d)...)...)
	if x, _ := await(t, target, h); x.Outcome != compute.Failed || x.Problem == nil || x.Problem.Code != "ContainerKilled" {
		t.Errorf("a container that was killed: %+v", x)
	}
}

func TestEngineThatLetsNobodyInIsSaid(t *testing.T) {
	server, d := machineWithDocker(t)
	// Where there is another engine, it is hidden by one that cannot be used either.
	server.WriteHome(t, "bin/podman", "#!/bin/sh\nexit 1\n", 0o755)
	server.WriteHome(t, ".profile", "export PATH=$HOME/bin:$PATH DOCKER_HOST=unix://"+d.Socket+"\n", 0o644)
	letIn(t, d, 0o600)
	target := mustOpen(t, settingsFor(t, server))
	f, err := target.Probe(t.Context())
	if err != nil || f.Details["containers"] != "none" {
		t.Fatalf("%+v %v", f.Details, err)
	}
	var found *workspace.Problem
	for _, p := range f.Problems {
		if p.Code == "EngineUnusable" {
			found = &p
		}
	}
	if found == nil || !found.Warning || !strings.Contains(found.Mend, "usermod -aG docker "+server.User) || !strings.Contains(strings.ToLower(f.Details["engine_problem"]), "permission denied") {
		t.Errorf("%+v %+v", f.Details, found)
	}
	letIn(t, d, 0o666) // mended, also for the connection that is there
	begin(t, target, compute.Job{Command: "echo begun"}, d.Image, "begun")
}

func switchedOff(t *testing.T, server *engine.SSHD, d *engine.Docker) {
	s := settingsFor(t, server)
	s.Containers = "never"
	target := mustOpen(t, s)
	f, err := target.Probe(t.Context())
	if err != nil || f.Details["containers"] != "never" {
		t.Errorf("%+v %v", f.Details, err)
	}
	key := compute.Key{Server: "server", Compute: "compute", Job: clock.System().NewID(), Attempt: 1}
	_, err = target.Submit(t.Context(), compute.Job{Key: key, Epoch: 1, Command: "true", Image: &compute.Image{Name: d.Image}})
	if !errors.Is(err, compute.ErrInvalid) || !errors.Is(err, &workspace.Problem{Code: "NoContainers"}) {
		t.Errorf("%v", err)
	}
	s.Containers = "sometimes"
	if _, err := open(t, s); !errors.Is(err, &workspace.Problem{Code: "InvalidSettings"}) {
		t.Errorf("%v", err)
	}
}

func privateRegistry(t *testing.T, server *engine.SSHD, d *engine.Docker) {
	images := registry.New()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "registry-secret" && r.Header.Get("X-Test") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="the test's"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, http.StatusUnauthorized)
			return
		}
		images.ServeHTTP(w, r)
	})}
	go func() { _ = front.Serve(ln) }()
	t.Cleanup(func() { _ = front.Close() })
	name := ln.Addr().String() + "/team/base:1"
	config := t.TempDir()
	for _, args := range [][]string{
		{"--config", config, "login", "--username", "someone", "--password", "registry-secret", ln.Addr().String()},
		{"--config", config, "tag", d.Image, name},
		{"--config", config, "push", name},
		{"--config", config, "rmi", name},
	} {
		dockerSays(t, d, args...)
	}
	target := mustOpen(t, settingsFor(t, server))
	submit := func(login *compute.Login) (compute.Exit, string, string) {
		key := compute.Key{Server: "server", Compute: "compute", Job: clock.System().NewID(), Attempt: 1}
		h := compute.Handle{Key: key}
		_, err := target.Submit(t.Context(), compute.Job{Key: key, Epoch: 1, Command: "echo inside", Image: &compute.Image{Name: name, Login: login}})
		if err != nil {
			t.Fatal(err)
		}
		x, log := await(t, target, h)
		prepared := newBuffer()
		if _, err := target.Logs(t.Context(), h, compute.LogQuery{Stream: "prepare"}, prepared); err != nil {
			t.Fatal(err)
		}
		return x, log, prepared.String()
	}
	x, _, _ := submit(nil)
	if x.Problem == nil || x.Problem.Code != "ImagePullFailed" || x.Problem.Cause == "" || !x.Problem.Warning && x.Outcome != compute.Failed {
		t.Errorf("without a login: %+v", x)
	}
	x, log, prepared := submit(&compute.Login{Server: ln.Addr().String(), Username: "someone", Password: workspace.NewSecret("registry-secret")})
	if x.Outcome != compute.Succeeded || log != "inside\n" || !strings.Contains(prepared, "pull "+name) {
		t.Errorf("with a login: %+v %q\n%s", x, log, prepared)
	}
	err = filepath.WalkDir(filepath.Join(server.Home, ".moorage"), func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == "keeper" {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "registry-secret") || strings.HasPrefix(e.Name(), "docker-credential") {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
