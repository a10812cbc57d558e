package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

// TestMain lets the test program be the keeper: with the word "keeper" it is the program, so agents and supervisors of
// the tests are real processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(Main([]string{os.Args[0], "keeper"}, os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// objects are the server's, in memory.
type objects struct {
	mu    sync.Mutex
	all   map[snapshot.Hash][]byte
	opens int
}

func (o *objects) put(b []byte) snapshot.Hash {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := snapshot.Sum(b)
	if o.all == nil {
		o.all = map[snapshot.Hash][]byte{}
	}
	o.all[h] = b
	return h
}

// tree stores a folder given as path → content; a path that ends with "*" is executable.
func (o *objects) tree(files map[string]string) snapshot.Hash {
	var t snapshot.Tree
	sub := map[string]map[string]string{}
	for path, content := range files {
		dir, rest, nested := strings.Cut(path, "/")
		if nested {
			if sub[dir] == nil {
				sub[dir] = map[string]string{}
			}
			sub[dir][rest] = content
			continue
		}
		name, exec := strings.CutSuffix(path, "*")
		if target, ok := strings.CutPrefix(content, "->"); ok {
			t = append(t, snapshot.Entry{Name: name, Kind: snapshot.Link, Target: target})
			continue
		}
		t = append(t, snapshot.Entry{Name: name, Kind: snapshot.File, Exec: exec, Size: int64(len(content)), Hash: o.put([]byte(content))})
	}
	for name, files := range sub {
		t = append(t, snapshot.Entry{Name: name, Kind: snapshot.Folder, Hash: o.tree(files)})
	}
	return o.put(t.Encode())
}

func (o *objects) Open(_ context.Context, h snapshot.Hash) (io.ReadCloser, int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opens++
	b, ok := o.all[h]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

// rig is a server's end: a folder, objects, and how to connect.
type rig struct {
	t      *testing.T
	folder string
	opts   Options
	objs   *objects
	env    []string
}

func newRig(t *testing.T) *rig {
	o := &objects{}
	folder := t.TempDir()
	t.Cleanup(func() { endAll(t, folder) })
	return &rig{t: t, folder: folder, objs: o, opts: Options{Server: "srv", Compute: "cmp", Slots: 4, Objects: o}}
}

// endAll ends what a test left running.
func endAll(t *testing.T, folder string) {
	locks, _ := filepath.Glob(filepath.Join(folder, "*", "*", "jobs", "*", fileLockName))
	more, _ := filepath.Glob(filepath.Join(folder, "*", "*", "*", "jobs", "*", fileLockName))
	for _, path := range append(locks, more...) {
		var h holder
		b, _ := os.ReadFile(path)
		if json.Unmarshal(b, &h) == nil && h.PID > 0 {
			_ = signalProcess(h.PID, h.Start, syscall.SIGKILL)
		}
		var st startRecord
		if readRecord(filepath.Dir(path), fileStarted, &st) == nil {
			_ = endMarked(st.Mark)
		}
		until(t, "supervisors are gone", func() bool { held, _ := lockHeld(path); return !held })
	}
}

type agentProcess struct {
	io.Reader
	io.WriteCloser
	cmd *exec.Cmd
}

func (r *rig) agent() *agentProcess {
	r.t.Helper()
	cmd := exec.Command(os.Args[0], "keeper", "agent", "--root", r.folder)
	cmd.Env = append(os.Environ(), r.env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	check(r.t, err)
	out, err := cmd.StdoutPipe()
	check(r.t, err)
	check(r.t, cmd.Start())
	r.t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &agentProcess{out, in, cmd}
}

func (r *rig) dial() *Client {
	r.t.Helper()
	c, _ := r.dialAgent()
	return c
}

func (r *rig) dialAgent() (*Client, *agentProcess) {
	r.t.Helper()
	a := r.agent()
	c, err := Dial(r.t.Context(), a, r.opts)
	check(r.t, err)
	r.t.Cleanup(func() { _ = c.Close() })
	return c, a
}

func (r *rig) dir(key string) string { return filepath.Join(r.folder, "srv", "cmp", "jobs", key) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.Tick(2 * time.Millisecond); !ok(); <-tick {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

func submit(t *testing.T, c *Client, key string, job Job) Status {
	t.Helper()
	s, err := c.Submit(t.Context(), key, 1, job, nil)
	check(t, err)
	return s
}

func status(t *testing.T, c *Client, key string) Status {
	t.Helper()
	s, err := c.Status(t.Context(), []string{key})
	check(t, err)
	return s[0]
}

func wait(t *testing.T, c *Client, key string) Exit {
	t.Helper()
	var s Status
	until(t, key+" ends", func() bool { s = status(t, c, key); return s.Phase == Ended })
	return *s.Exit
}

func logOf(t *testing.T, c *Client, key string) string {
	t.Helper()
	var b bytes.Buffer
	_, err := c.Logs(t.Context(), key, "", 0, true, &b)
	check(t, err)
	return b.String()
}

func run(t *testing.T, c *Client, key string, job Job) (Exit, string) {
	t.Helper()
	submit(t, c, key, job)
	x := wait(t, c, key)
	return x, logOf(t, c, key)
}

func alive(pid string) bool {
	b, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/stat")
	if err != nil {
		return false
	}
	i := bytes.LastIndexByte(b, ')')
	return i > 0 && !strings.Contains(string(b[i:i+3]), "Z")
}

func faultCode(err error) string {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.Problem.Code
	}
	return fmt.Sprint(err)
}
