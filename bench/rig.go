package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rig is what every figure is measured on: a throw-away OpenSSH server, a kept-open OpenSSH connection to it, the
// program with a server of its own, and that server's compute "gpu", which is the same login.
type rig struct {
	dir     string
	moorage string // the program
	ssh     map[string]string
	address string // ssh://user@127.0.0.1:port
	options []string
	hello   string // the tiny job: Python prints a number. The same Python on both sides
	server  *serverProcess
	idle    float64 // memory of that server before its first job, MB
	// with 100,000 jobs, once they were needed
	large, largeOnPostgres *serverProcess
	registry               *registryRig // once it was needed
	docker                 *dockerRig   // once it was needed
	cluster                *clusterRig  // once it was needed
	closers                []func()
}

func newRig(ctx context.Context, moorage string) (r *rig, err error) {
	r = &rig{moorage: moorage}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.dir, err = os.MkdirTemp("", "moorage-bench-"); err != nil {
		return r, err
	}
	if err := os.Chmod(r.dir, 0o755); err != nil { // the login of the throw-away server must reach its home
		return r, err
	}
	r.closers = append(r.closers, func() { _ = os.RemoveAll(r.dir) })
	if err := r.startSSHD(ctx); err != nil {
		return r, err
	}
	if err := r.startMux(ctx); err != nil {
		return r, err
	}
	python, err := exec.CommandContext(ctx, "ssh", append([]string{"-S", filepath.Join(r.dir, "mux")}, append(r.options, r.login(), "command -v python3")...)...).Output()
	if err != nil {
		return r, fmt.Errorf("the login has no python3: %w: %s", err, stderr(err))
	}
	r.hello = strings.TrimSpace(string(python)) + " -c 'print(1)'"
	if r.server, err = r.startServer(ctx, "data"); err != nil {
		return r, err
	}
	out, err := r.cli(ctx, "compute", "attach", "gpu", "--kind", "ssh", "--address", r.address, "--private-key-file", r.ssh["KEY"], "--slots", "2")
	if err != nil {
		return r, fmt.Errorf("attach: %w\n%s", err, out)
	}
	rest(ctx)
	r.idle, err = pss(r.server.cmd.Process.Pid)
	return r, err
}

func (r *rig) close() {
	for _, end := range slices.Backward(r.closers) {
		end()
	}
}

func (r *rig) startSSHD(ctx context.Context) error {
	at := filepath.Join(r.dir, "sshd")
	out, err := exec.CommandContext(ctx, "test/servers/sshd", "start", at).Output()
	if err != nil {
		return fmt.Errorf("sshd: %w: %s", err, stderr(err))
	}
	r.closers = append(r.closers, func() { _ = exec.Command("test/servers/sshd", "remove", at).Run() })
	r.ssh = map[string]string{}
	for line := range strings.Lines(string(out)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		r.ssh[k] = v
	}
	r.address = fmt.Sprintf("ssh://%s@127.0.0.1:%s", r.ssh["USER"], r.ssh["PORT"])
	r.options = []string{
		"-F", "none", "-p", r.ssh["PORT"], "-i", r.ssh["KEY"], "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
	}
	return nil
}

// start starts an engine of the tests, which ends with the rig, and gives what its script prints.
func (r *rig) start(ctx context.Context, engine, dir string) (map[string]string, error) {
	script := "test/servers/" + engine
	cmd := exec.CommandContext(ctx, script, "start", dir)
	cmd.WaitDelay = time.Second // the engine holds its standard error
	out, err := cmd.Output()
	r.closers = append(r.closers, func() { _ = exec.Command(script, "remove", dir).Run() })
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		if x, ok := errors.AsType[*exec.ExitError](err); ok && x.ExitCode() == 3 {
			return nil, absent(stderr(err))
		}
		return nil, fmt.Errorf("%s: %w: %s", engine, err, stderr(err))
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[name] = value
	}
	return said, nil
}

func stderr(err error) string {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(e.Stderr)
	}
	return ""
}

func (r *rig) login() string { return r.ssh["USER"] + "@127.0.0.1" }

// startMux opens the connection that OpenSSH keeps for later commands: the floor "mux".
func (r *rig) startMux(ctx context.Context) error {
	control := filepath.Join(r.dir, "mux")
	args := append([]string{"-M", "-S", control, "-N", "-f"}, r.options...)
	if out, err := exec.CommandContext(ctx, "ssh", append(args, r.login())...).CombinedOutput(); err != nil {
		return fmt.Errorf("mux: %w: %s", err, out)
	}
	r.closers = append(r.closers, func() { _ = exec.Command("ssh", "-S", control, "-O", "exit", r.login()).Run() })
	return nil
}

// mux runs a command over the kept-open connection.
func (r *rig) mux(ctx context.Context, command string) (time.Duration, error) {
	args := append([]string{"-S", filepath.Join(r.dir, "mux")}, r.options...)
	return timed(func() error { return exec.CommandContext(ctx, "ssh", append(args, r.login(), command)...).Run() })
}

// fresh runs a command over a new OpenSSH connection.
func (r *rig) fresh(ctx context.Context, command string, out io.Writer) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "ssh", append(r.options[:len(r.options):len(r.options)], r.login(), command)...)
	cmd.Stdout = out
	return timed(cmd.Run)
}

// serverProcess is "moorage serve" on a data folder of its own.
type serverProcess struct {
	cmd    *exec.Cmd
	data   string
	url    string
	token  string
	client *http.Client
	ended  chan struct{}
}

func (r *rig) startServer(ctx context.Context, name string, more ...string) (*serverProcess, error) {
	s := &serverProcess{data: filepath.Join(r.dir, name), ended: make(chan struct{})}
	s.cmd = exec.Command(r.moorage, append([]string{"serve", "--data", s.data, "--listen", "127.0.0.1:0", "--log-level", "warn"}, more...)...)
	s.cmd.Stderr = os.Stderr
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "ready") {
				ready <- true
			}
		}
		ready <- false
		_ = s.cmd.Wait() // it is told to end by a signal
		close(s.ended)
	}()
	r.closers = append(r.closers, s.stop)
	select {
	case ok := <-ready:
		if !ok {
			return nil, errors.New("the server ended before it was ready")
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s, s.connect()
}

func (s *serverProcess) stop() {
	_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
	<-s.ended
}

func (s *serverProcess) connect() error {
	var at struct{ URL string }
	b, err := os.ReadFile(filepath.Join(s.data, "server.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &at); err != nil {
		return err
	}
	s.url = at.URL
	ca, err := os.ReadFile(filepath.Join(s.data, "ca.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 64}}
	secret, err := os.ReadFile(filepath.Join(s.data, "keys", "admin.secret"))
	s.token = strings.TrimSpace(string(secret))
	return err
}

const workspacePath = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/moorage/providers/Microsoft.MachineLearningServices/workspaces/main"

func (s *serverProcess) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 400 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, res.Status, b)
	}
	return b, err
}

// submit puts a job on compute gpu.
func (s *serverProcess) submit(ctx context.Context, name, command string) error {
	return s.submitTo(ctx, "gpu", name, command)
}

func (s *serverProcess) submitTo(ctx context.Context, compute, name, command string) error {
	_, err := s.call(ctx, http.MethodPut, workspacePath+"/jobs/"+name+"?api-version=2024-01-01", map[string]any{"properties": map[string]any{
		"jobType": "Command", "command": command, "experimentName": "bench", "computeId": workspacePath + "/computes/" + compute,
	}})
	return err
}

// wait returns when a job has ended, and fails when it did not complete.
func (s *serverProcess) wait(ctx context.Context, name string) error {
	for {
		b, err := s.call(ctx, http.MethodGet, "/native/v1"+workspacePath+"/jobs/"+name+"/wait?timeout=60s", nil)
		if err != nil {
			return err
		}
		var v struct{ State string }
		if err := json.Unmarshal(b, &v); err != nil {
			return err
		}
		switch v.State {
		case "Completed":
			return nil
		case "Failed", "Canceled":
			return fmt.Errorf("job %s: %s", name, b)
		}
	}
}

// cli runs the command line as a user does, a process of its own.
func (r *rig) cli(ctx context.Context, args ...string) ([]byte, error) {
	return r.command(ctx, args...).CombinedOutput()
}

func (r *rig) command(ctx context.Context, args ...string) *exec.Cmd {
	s := r.server
	cmd := exec.CommandContext(ctx, r.moorage, args...)
	cmd.Env = append(os.Environ(), "MOORAGE_URL="+s.url, "MOORAGE_CA="+filepath.Join(s.data, "ca.pem"), "MOORAGE_TOKEN_FILE="+filepath.Join(s.data, "keys", "admin.secret"),
		"MOORAGE_SUBSCRIPTION=00000000-0000-0000-0000-000000000001", "MOORAGE_RESOURCE_GROUP=moorage", "MOORAGE_WORKSPACE=main", "XDG_CACHE_HOME="+filepath.Join(r.dir, "cache"))
	return cmd
}
