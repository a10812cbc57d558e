package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/test/engine"
)

// blobHost is the name by which azureml-core uploads (azureml-v1.md §1.4).
const blobHost = "moorage.blob.localhost"

// person is somebody who uses azureml-core: a home, where the client keeps its caches, and a folder with config.json and
// scripts to train with.
type person struct {
	server  *program
	python  string
	home    string
	project string
	reach   []string // words before a command that let the client find blobHost
}

// newPerson gives a person the configuration that the server prints, and a folder code with the scripts of
// test/clients/v1/job.
func newPerson(t *testing.T, server *program, python string) *person {
	t.Helper()
	p := &person{server: server, python: python, home: t.TempDir(), project: t.TempDir(), reach: engine.AtHome(t, blobHost)}
	p.configure(t)
	if err := os.CopyFS(filepath.Join(p.project, "code"), os.DirFS(v1Script(t, "job"))); err != nil {
		t.Fatal(err)
	}
	return p
}

// configure writes the config.json that Workspace.from_config reads.
func (p *person) configure(t *testing.T) {
	t.Helper()
	config, err := exec.Command(moorage, "config", "--data", p.server.data).Output()
	if err == nil {
		err = os.WriteFile(filepath.Join(p.project, "config.json"), config, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// v1Script is the path of a file of test/clients/v1.
func v1Script(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../clients/v1", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// command runs a script in the person's project. All that it knows of the server is what `moorage env` prints in a shell.
func (p *person) command(ctx context.Context, python, script string, args ...string) *exec.Cmd {
	words := append([]string{}, p.reach...)
	words = append(words, "sh", "-c", `eval "$("$0" env --data "$1")" && shift && exec "$@"`, moorage, p.server.data, python, script)
	words = append(words, args...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = p.project
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(python)+":"+os.Getenv("PATH"), "HOME="+p.home, "TMPDIR="+p.home,
		"AZURE_CORE_COLLECT_TELEMETRY=no", "PYTHONWARNINGS=ignore", "PYTHONDONTWRITEBYTECODE=1")
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// said is a line of a script of test/clients/v1: the verdict on a promise, or a wish that the script waits for.
type said struct {
	Promise string
	Seconds float64
	Broken  string // why; empty if it was kept
	Absent  string // what is not installed
	Output  string // what the client printed meanwhile, if the promise was broken

	Ask  string
	With json.RawMessage
}

// wish does what a script asks for, and gives what it is told.
type wish func(with json.RawMessage) (any, error)

// promises runs a script of test/clients/v1 and makes a subtest of each promise.
func (p *person) promises(t *testing.T, script string, wishes map[string]wish, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := p.command(ctx, p.python, v1Script(t, script), args...)
	var noise bytes.Buffer
	cmd.Stderr = &noise
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	count := 0
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		var s said
		if json.Unmarshal(line, &s) != nil && len(line) > 0 {
			noise.Write(line)
		}
		switch {
		case s.Ask != "":
			s.answer(in, wishes)
		case s.Promise != "":
			count++
			t.Run(s.Promise, s.judge)
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil || count == 0 {
		t.Errorf("%s: %d promises, %v\n%s", script, count, err, clip(noise.String()))
	}
}

func (s said) judge(t *testing.T) {
	switch {
	case s.Absent != "":
		engine.Absent(t, s.Absent)
	case s.Broken != "":
		t.Errorf("broken after %.1f s: %s\n%s", s.Seconds, s.Broken, s.Output)
	default:
		t.Logf("kept after %.1f s", s.Seconds)
	}
}

// answer tells the script that its wish is done, or why not.
func (s said) answer(w io.Writer, wishes map[string]wish) {
	answer := struct {
		Error string `json:"error,omitempty"`
		Given any    `json:"given,omitempty"`
	}{}
	if do := wishes[s.Ask]; do == nil {
		answer.Error = "nobody does " + s.Ask
	} else if given, err := do(s.With); err != nil {
		answer.Error = err.Error()
	} else {
		answer.Given = given
	}
	b, err := json.Marshal(answer)
	if err != nil {
		b = fmt.Appendf(nil, `{"error": %q}`, err.Error())
	}
	_, _ = w.Write(append(b, '\n')) // a script that is gone says so by its exit code
}

// run runs a script that only prints, and gives its last line.
func (p *person) run(ctx context.Context, python, script string, args ...string) (string, error) {
	cmd := p.command(ctx, python, script, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", filepath.Base(script), err, clip(string(out)))
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], nil
}
