// Package engine starts the real servers of test/servers from Go tests and stands between them and the code under test:
// a proxy that cuts, stalls and slows connections. It is used by tests only.
//
// A server whose programs are absent skips the test with a printed reason, and fails it when the environment says CI=true.
package engine

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// absent is the exit code by which a script says that a program is not installed.
const absent = 3

// script is the path of test/servers/NAME.
func script(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "servers", name)
}

// run calls a script and reads the NAME=value lines that it prints.
func run(t testing.TB, name string, env []string, args ...string) map[string]string {
	t.Helper()
	cmd := exec.Command(script(name), args...)
	cmd.Env = append(os.Environ(), env...)
	var said strings.Builder
	cmd.Stderr = &said
	// What the script starts in the background keeps its standard error open; waiting for its end would be waiting for ever.
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		if x, ok := errors.AsType[*exec.ExitError](err); ok && x.ExitCode() == absent {
			Absent(t, strings.TrimSpace(said.String()))
		}
		t.Fatalf("test/servers/%s %s: %v\n%s", name, strings.Join(args, " "), err, said.String())
	}
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[k] = v
		}
	}
	return values
}

// Absent skips the test because something is not installed; in CI that is a failure.
func Absent(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("in CI nothing is skipped: " + reason)
	}
	t.Skip(reason)
}

// Need gives the path of a program, or skips the test as Absent does.
func Need(t testing.TB, program, howToGetIt string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		Absent(t, program+" is not installed: "+howToGetIt)
	}
	return path
}

// Python gives the Python that has the clients of test/clients/requirements.txt, as test/environment names it, or skips the
// test as Absent does.
func Python(t testing.TB) string {
	t.Helper()
	return PythonWith(t, "MOORAGE_PYTHON", "requirements.txt")
}

// PythonWith gives the Python that has the clients of another list of test/clients, by the variable of test/environment
// that names it.
func PythonWith(t testing.TB, variable, list string) string {
	t.Helper()
	python := os.Getenv(variable)
	if python == "" {
		Absent(t, variable+" names no Python with the clients of test/clients/"+list+": run `make setup`, then `make test`")
	}
	return python
}
