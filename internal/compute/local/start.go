package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// starter starts agents.
type starter struct {
	folder string
	self   []string
	env    compute.Env
}

// dial starts an agent as a child process. It ends when the stream is closed, or with the server.
func (s starter) dial(context.Context) (io.ReadWriteCloser, error) {
	argv, err := s.program()
	if err != nil {
		return nil, failed(err)
	}
	cmd := exec.Command(argv[0], append(argv[1:len(argv):len(argv)], "agent", "--root", s.folder)...) //nolint:noctx // it ends with the stream, not with the dial
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, failed(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, failed(err)
	}
	cmd.Dir = "/"
	cmd.Env = withoutSettings(os.Environ())
	cmd.Stderr = &said{log: func(line string) { s.env.Log.Warn("the local agent said", "line", line) }}
	if err := cmd.Start(); err != nil {
		return nil, failed(err)
	}
	return &child{Reader: out, WriteCloser: in, cmd: cmd}, nil
}

// withoutSettings leaves out the variables by which the server itself is set up: a job has no use for them, and some are
// secrets.
func withoutSettings(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		return strings.HasPrefix(v, "MOORAGE_") && !strings.HasPrefix(v, bootVariable+"=")
	})
}

// bootVariable stands for the machine's boot in tests.
const bootVariable = "MOORAGE_BOOT_ID"

// program is the keeper built for this machine, placed by content, or else this executable.
func (s starter) program() ([]string, error) {
	if len(s.self) > 0 {
		return s.self, nil
	}
	if s.env.Keeper != nil {
		goos, goarch := platform()
		p, err := s.env.Keeper(goos, goarch)
		if err == nil {
			path := filepath.Join(s.folder, "bin", fmt.Sprintf("keeper-%.16s", p.Hash))
			return []string{path}, place(p, path)
		}
		if !errors.Is(err, compute.ErrInvalid) {
			return nil, err
		}
	}
	exe, err := os.Executable()
	return []string{exe, "keeper"}, err
}

// place writes the program unless it is there.
func place(p compute.Program, path string) error {
	if info, err := os.Stat(path); err == nil && info.Size() == p.Size {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	r, err := p.Open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	f, err := os.CreateTemp(filepath.Dir(path), "keeper-*.new")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = io.Copy(f, r)
	err = errors.Join(err, f.Chmod(0o700), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// child is an agent's standard input and output.
type child struct {
	io.Reader
	io.WriteCloser
	cmd  *exec.Cmd
	once sync.Once
}

// patience is how long an agent may take to end after its input did.
const patience = 5 * time.Second

// Close ends the agent: it stops when its input ends, or is killed, which means nothing to jobs.
func (c *child) Close() error {
	c.once.Do(func() {
		_ = c.WriteCloser.Close()
		kill := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
		go func() { // ends with the agent
			_ = c.cmd.Wait()
			kill.Stop()
		}()
	})
	return nil
}

// said hands on what an agent prints on its standard error.
type said struct{ log func(string) }

func (s *said) Write(b []byte) (int, error) {
	s.log(string(b))
	return len(b), nil
}

func failed(err error) error {
	return &compute.Error{Kind: compute.ErrUnreachable, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: "KeeperNotStarted", Message: "the keeper cannot be started on the server's machine", Cause: err.Error(),
		Mend: "check that the compute's folder is writable, has room, and is not mounted noexec",
	}}
}
