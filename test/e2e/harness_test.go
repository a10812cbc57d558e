// Package e2e drives a whole server as its users do: the real program, real jobs, HTTP from outside. Its tests read as a
// list of promises. What must be killed is the program in a process of its own.
package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var moorage string // the program under test

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "moorage-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		moorage = filepath.Join(dir, "moorage")
		// The keepers that are embedded must be those of this very source.
		for _, build := range [][]string{{"make", "-s", "-C", "../..", "keepers"}, {"go", "build", "-o", moorage, "../../cmd/moorage"}} {
			if out, err := exec.Command(build[0], build[1:]...).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "%s: moorage cannot be built: %v\n%s", strings.Join(build, " "), err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// program is a server in a process of its own.
type program struct {
	t      testing.TB
	cmd    *exec.Cmd
	data   string
	url    string // empty: it ended before it was ready
	client *http.Client
	token  string
	ended  chan struct{}
	once   sync.Once
	killed atomic.Bool // by the test, before it ended by itself
	output *lockedBuffer
}

// start runs "moorage serve" on a data folder until it is ready. env is added to the environment.
func start(t testing.TB, data string, env ...string) *program {
	t.Helper()
	return startAt(t, data, "127.0.0.1:0", env...)
}

// startAt is start on an address that is given.
func startAt(t testing.TB, data, listen string, env ...string) *program {
	t.Helper()
	p := &program{t: t, data: data, ended: make(chan struct{}), output: &lockedBuffer{}}
	p.cmd = exec.Command(moorage, "serve", "--data", data, "--listen", listen)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = p.output
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// A local compute's supervisors inherit nothing of ours, but its agent holds standard error until it has noticed.
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			_, _ = fmt.Fprintln(p.output, lines.Text())
			if strings.Contains(lines.Text(), "ready") {
				ready <- true
			}
		}
		ready <- false
		_ = p.cmd.Wait() // how it ended is what tests are about
		close(p.ended)
	}()
	t.Cleanup(p.kill)
	select {
	case ok := <-ready:
		if !ok {
			<-p.ended
			return p
		}
	case <-time.After(60 * time.Second):
		t.Fatalf("the server is not ready after a minute:\n%s", p.output)
	}
	p.connect()
	return p
}

// started is start for tests in which it must come up.
func started(t testing.TB, data string, env ...string) *program {
	t.Helper()
	return startedAt(t, data, "127.0.0.1:0", env...)
}

// startedAt is started on an address that is given.
func startedAt(t testing.TB, data, listen string, env ...string) *program {
	t.Helper()
	p := startAt(t, data, listen, env...)
	if p.url == "" {
		t.Fatalf("the server did not start:\n%s", p.output)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server on %s said:\n%s", data, clip(p.output.String()))
		}
	})
	return p
}

func clip(s string) string {
	const most = 8 << 10
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

func (p *program) connect() {
	p.t.Helper()
	var s struct{ URL string }
	b, err := os.ReadFile(filepath.Join(p.data, "server.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.url = s.URL
	p.client = &http.Client{Transport: &http.Transport{TLSClientConfig: p.trust(), MaxIdleConnsPerHost: 16}}
	secret, err := os.ReadFile(filepath.Join(p.data, "keys", "admin.secret"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.token = strings.TrimSpace(string(secret))
}

// trust makes clients that trust the server's own authority and nothing else.
func (p *program) trust() *tls.Config {
	p.t.Helper()
	ca, err := os.ReadFile(filepath.Join(p.data, "ca.pem"))
	if err != nil {
		p.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: roots}
}

// addr is host:port of the server.
func (p *program) addr() string { return strings.TrimPrefix(p.url, "https://") }

// gone tells whether the process has ended.
func (p *program) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// crashed tells whether it ended by a fault point: by SIGKILL, and not by ours.
func (p *program) crashed() bool {
	if !p.gone() || p.killed.Load() || p.cmd.ProcessState == nil {
		return false
	}
	s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && s.Signaled() && s.Signal() == syscall.SIGKILL
}

// kill ends the process at once, as a power cut would.
func (p *program) kill() {
	p.once.Do(func() {
		if !p.gone() {
			p.killed.Store(true)
			_ = p.cmd.Process.Kill() // it may have ended by itself
		}
		<-p.ended
		if p.client != nil {
			p.client.CloseIdleConnections()
		}
	})
}

// stop asks the process to end and waits for it.
func (p *program) stop() error {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.ended:
		p.once.Do(func() {})
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("the server ended with exit code %d:\n%s", code, p.output)
		}
		return nil
	case <-time.After(30 * time.Second):
		return errors.New("the server did not stop within 30 s of SIGINT")
	}
}

// pause stops the process where it is, as a laptop's lid or a debugger would, until resume.
func (p *program) pause()  { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *program) resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// refused runs the program to its end, which must be a failure, and gives what it said.
func refused(t testing.TB, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(moorage, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("moorage %s succeeded:\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
