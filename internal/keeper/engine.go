package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// engine is a program that runs containers on this machine: Docker's or Podman's.
type engine struct {
	Kind     string `json:"kind"` // docker or podman
	Path     string `json:"path"`
	Rootless bool   `json:"rootless,omitempty"`
}

const (
	docker = "docker"
	podman = "podman"
)

// engineLimit bounds what an engine is asked that takes it moments.
const engineLimit = 15 * time.Second

// findEngine gives the first engine that the login may use, or why there is none: nil, nil if it has no such program.
func findEngine(ctx context.Context, login login) (*engine, *workspace.Problem) {
	var first *workspace.Problem
	for _, name := range []string{docker, podman} {
		path := findProgram(login.env, name)
		if path == "" {
			continue
		}
		e, err := askEngine(ctx, login.env, name, path)
		if err == nil {
			return e, nil
		}
		if first == nil {
			first = unusable(name, err)
		}
	}
	return nil, first
}

// askEngine finds out what a program is and whether its engine answers.
func askEngine(ctx context.Context, env []string, name, path string) (*engine, error) {
	ctx, cancel := context.WithTimeout(ctx, engineLimit)
	defer cancel()
	e := &engine{Kind: name, Path: path}
	if name == docker {
		if host := lookup(env, "DOCKER_HOST"); host != "" && !strings.HasPrefix(host, "unix://") {
			return nil, fmt.Errorf("DOCKER_HOST is %s, an engine elsewhere, to which the job's folder cannot be mounted", host)
		}
		if out, err := e.ask(ctx, env, "--version"); err == nil && strings.Contains(strings.ToLower(string(out)), podman) {
			e.Kind = podman // by another name
		}
	}
	if e.Kind == podman {
		return e, e.askPodman(ctx, env)
	}
	out, err := e.ask(ctx, env, "info", "--format", "{{json .}}")
	if err != nil {
		return nil, err
	}
	return e, e.readDocker(out)
}

// askPodman looks at its containers, for which it needs all that a container will. What it can tell of itself at length takes
// it ten times as long.
func (e *engine) askPodman(ctx context.Context, env []string) error {
	if _, err := e.ask(ctx, env, "ps", "--quiet"); err != nil {
		return err
	}
	out, err := e.ask(ctx, env, "version", "--format", "json")
	if err != nil {
		return err
	}
	e.Rootless = os.Geteuid() != 0
	return readPodman(out)
}

func (e *engine) readDocker(info []byte) error {
	var i struct {
		ServerErrors    []string
		SecurityOptions []string
		OSType          string
		KernelVersion   string
	}
	if err := json.Unmarshal(info, &i); err != nil {
		return fmt.Errorf("what it says of itself cannot be read: %w", err)
	}
	if len(i.ServerErrors) > 0 {
		return errors.New(i.ServerErrors[0])
	}
	if kernel := kernelRelease(); i.OSType != "linux" || kernel != "" && i.KernelVersion != kernel {
		return errors.New("its engine is on another machine, to which the job's folder cannot be mounted")
	}
	for _, o := range i.SecurityOptions {
		if strings.Contains(o, "name=rootless") {
			return errors.New("it is rootless, and its containers have a network of their own, from which jobs do not reach the server")
		}
	}
	return nil
}

func readPodman(version []byte) error {
	var v struct{ Server json.RawMessage }
	if err := json.Unmarshal(version, &v); err != nil {
		return fmt.Errorf("what it says of itself cannot be read: %w", err)
	}
	if len(v.Server) > 0 && string(v.Server) != "null" {
		return errors.New("its engine is on another machine, to which the job's folder cannot be mounted")
	}
	return nil
}

// ask runs the engine's program and gives what it printed. The error is its own words.
func (e *engine) ask(ctx context.Context, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, e.Path, args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = env, "/", time.Second
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil {
		return out, errors.New("it does not answer")
	}
	if x, ok := errors.AsType[*exec.ExitError](err); ok {
		if said := strings.TrimSpace(strings.ToValidUTF8(string(x.Stderr), "�")); said != "" {
			return out, errors.New(said)
		}
	}
	return out, err
}

// unusable is the finding that a machine has an engine, and the login cannot use it.
func unusable(name string, err error) *workspace.Problem {
	p := &workspace.Problem{
		Class: workspace.Unavailable, Code: "EngineUnusable", Message: "the machine's " + name + " cannot be used, so jobs with an image run without it", Cause: err.Error(), Warning: true,
		Mend: "correct that there, then attach again or look at the compute anew; or set containers to never",
	}
	switch said := strings.ToLower(p.Cause); {
	case strings.Contains(said, "permission denied"):
		p.Mend = fmt.Sprintf("run there: sudo usermod -aG docker %s; it counts for connections made after that", whoami())
	case strings.Contains(said, "cannot connect"), strings.Contains(said, "daemon running"):
		p.Mend = "start it there: sudo systemctl start docker"
	case strings.Contains(said, "rootless"):
		p.Mend = "install podman there, or let the login use the machine's own Docker"
	}
	return p
}

func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

// engineNow is the engine that jobs with an image use, found once per connection. What cannot be used is looked at again.
func (a *agent) engineNow(ctx context.Context) (*engine, *workspace.Problem) {
	a.engineMu.Lock()
	defer a.engineMu.Unlock()
	if a.engine != nil {
		return a.engine, nil
	}
	e, p := findEngine(ctx, a.login())
	a.engine = e
	return e, p
}

// noEngine is the problem of a job with an image on a machine that runs none.
func noEngine() *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "NoEngine", Message: "the job asks for a container, and nothing on the target runs containers", Cause: "the login finds neither docker nor podman",
		Mend: "install one of them there, or submit without an image",
	}
}
