package keeper

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// probe looks at what a job will need.
func (a *agent) probe(ctx context.Context) (Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	login := a.login()
	var (
		asking sync.WaitGroup // the engine, beside the rest
		found  *engine
		unfit  *workspace.Problem
	)
	asking.Go(func() { found, unfit = a.engineNow(ctx) })
	f := Facts{Details: map[string]string{}, Now: time.Now().UTC()}
	set := func(name, value string) {
		if value != "" {
			f.Details[name] = value
		}
	}
	home, _ := os.UserHomeDir()
	set("os", runtime.GOOS)
	set("arch", runtime.GOARCH)
	set("release", release())
	set("cpus", strconv.Itoa(runtime.NumCPU()))
	set("slots", strconv.Itoa(a.slots()))
	set("memory", memory())
	set("home", home)
	set("folder", a.root.folder)
	set("shell", login.shell)
	set("locale", firstOf(lookup(login.env, "LC_ALL"), lookup(login.env, "LANG")))
	id, err := machineID(a.root.folder)
	if err != nil {
		return f, err
	}
	f.Machine = id
	set("machine_id", id)
	a.probeTools(ctx, login, set, &f)
	asking.Wait()
	reportEngine(found, unfit, set, &f)
	gpus := a.gpus()
	set("gpus", strconv.Itoa(max(len(gpus), a.scope.GPUs)))
	var names []string
	for _, g := range gpus {
		names = append(names, g.name+" ("+g.memory+")")
	}
	set("gpu_names", strings.Join(names, ", "))
	if login.say != "" {
		f.Problems = append(f.Problems, workspace.Problem{
			Code: "LoginEnvironment", Message: login.say, Warning: true, Mend: "correct the login's profile; it must end within 10 seconds",
		})
	}
	f.Problems = append(f.Problems, a.probeFolder(set)...)
	f.Problems = append(f.Problems, probeSystem(set)...)
	return f, nil
}

// reportEngine reports the engine that jobs with an image use, or why it cannot be used.
func reportEngine(e *engine, p *workspace.Problem, set func(string, string), f *Facts) {
	if e != nil {
		set("engine", e.Path)
	}
	if p != nil {
		f.Problems = append(f.Problems, *p)
		set("engine_problem", p.Cause)
	}
}

// programs that change how environments are made or jobs run, by the name under which they are reported.
var programs = []string{"micromamba", "mamba", "conda", "pixi", "uv", "docker", "podman", "git", "sbatch", "nvidia-smi"}

func (a *agent) probeTools(ctx context.Context, login login, set func(string, string), f *Facts) {
	for _, name := range programs {
		if path := findProgram(login.env, name); path != "" {
			set(name, path)
		}
	}
	for _, name := range []string{"python3", "python"} {
		path := findProgram(login.env, name)
		if path == "" {
			continue
		}
		version, err := pythonVersion(ctx, login.env, path)
		if err != nil {
			continue
		}
		set("python", path)
		set("python_version", version)
		return
	}
	f.Problems = append(f.Problems, workspace.Problem{
		Code: "NoPython", Message: "the login finds no working Python 3", Warning: true,
		Mend: "install python3, or give jobs an environment, which brings its own",
	})
}

func pythonVersion(ctx context.Context, env []string, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])")
	cmd.Env, cmd.Dir, cmd.WaitDelay = env, "/", time.Second
	out, err := cmd.Output()
	version := strings.TrimSpace(string(out))
	if err == nil && !strings.HasPrefix(version, "3.") {
		err = fmt.Errorf("version %q", version)
	}
	return version, err
}

// findProgram is the path of a program in the login's PATH, or nothing.
func findProgram(env []string, name string) string {
	if path := lookPath(env, name); path != name {
		return path
	}
	return ""
}

type gpu struct{ index, uuid, name, memory string }

// findGPUs asks nvidia-smi, if the login has it.
func findGPUs(ctx context.Context, login login) []gpu {
	path := findProgram(login.env, "nvidia-smi")
	if path == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader")
	cmd.Env, cmd.Dir, cmd.WaitDelay = login.env, "/", time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	return parseGPUs(string(out))
}

func parseGPUs(text string) []gpu {
	var out []gpu
	for line := range strings.Lines(text) {
		f := strings.Split(line, ",")
		if len(f) < 4 {
			continue
		}
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		if n, err := strconv.Atoi(f[0]); err != nil || n < 0 {
			continue
		}
		// A name may hold a comma; the index, the uuid and the memory cannot.
		out = append(out, gpu{f[0], f[1], strings.Join(f[2:len(f)-1], ", "), f[len(f)-1]})
	}
	return out
}

// machineID names the machine: its own id, or one that is kept in the folder.
func machineID(folder string) (string, error) {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		b, err := os.ReadFile(path)
		if id := strings.TrimSpace(string(b)); err == nil && len(id) >= 32 {
			return id, nil
		}
	}
	path := filepath.Join(folder, "machine-id")
	lock, err := takeLock(filepath.Join(folder, "slots", "machine-id.lock"), exclusive, true)
	if err != nil {
		return "", err
	}
	defer lock.release()
	if b, err := os.ReadFile(path); err == nil && len(bytes.TrimSpace(b)) > 0 {
		return string(bytes.TrimSpace(b)), nil
	}
	id := randomMark()
	return id, os.WriteFile(path, []byte(id+"\n"), 0o600)
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}
