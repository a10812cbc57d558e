package kept

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
)

// TestMain lets the test program be the keeper.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(keeper.Main([]string{os.Args[0], "keeper"}, os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// agents starts agents and can kill them.
type agents struct {
	folder string
	dials  atomic.Int32
	down   atomic.Bool
	last   atomic.Pointer[exec.Cmd]
}

type stream struct {
	io.Reader
	io.WriteCloser
	cmd *exec.Cmd
}

func (s stream) Close() error {
	_ = s.WriteCloser.Close()
	return s.cmd.Wait()
}

func (a *agents) dial(context.Context) (io.ReadWriteCloser, error) {
	a.dials.Add(1)
	if a.down.Load() {
		return nil, errors.New("no route to host")
	}
	cmd := exec.Command(os.Args[0], "keeper", "agent", "--root", a.folder)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	a.last.Store(cmd)
	return stream{out, in, cmd}, cmd.Start()
}

func newTarget(t *testing.T) (*Target, *agents) {
	a := &agents{folder: t.TempDir()}
	target := New(compute.Env{Server: "srv", Compute: "cmp", Log: slog.New(slog.DiscardHandler), Clock: clock.System()}, Options{Dial: a.dial})
	t.Cleanup(func() { _ = target.Close() })
	return target, a
}

var unknown = []compute.Handle{{Key: compute.Key{Server: "srv", Compute: "cmp", Job: "J1", Attempt: 1}}}

func TestCallsShareOneConnectionAndALostOneIsMadeAnew(t *testing.T) {
	target, a := newTarget(t)
	ask := func() {
		s, err := target.Status(t.Context(), unknown)
		if err != nil || s[0].Phase != compute.Missing {
			t.Errorf("%+v %v", s, err)
		}
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(ask)
	}
	wg.Wait()
	if n := a.dials.Load(); n != 1 {
		t.Errorf("%d connections for calls at once", n)
	}
	if err := a.last.Load().Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ask()
	ask()
	if n := a.dials.Load(); n != 2 {
		t.Errorf("%d connections after one was lost", n)
	}
}

func TestUnreachableIsSaidAndMended(t *testing.T) {
	target, a := newTarget(t)
	a.down.Store(true)
	_, err := target.Status(t.Context(), unknown)
	e, ok := errors.AsType[*compute.Error](err)
	if !ok || !errors.Is(err, compute.ErrUnreachable) || e.Problem.Cause != "no route to host" || e.Problem.Mend == "" {
		t.Errorf("%v", err)
	}
	a.down.Store(false)
	if _, err := target.Status(t.Context(), unknown); err != nil {
		t.Error(err)
	}
	if err := target.Close(); err != nil {
		t.Log(err) // of the agent's process; it ends all the same
	}
	if _, err := target.Status(t.Context(), unknown); !errors.Is(err, compute.ErrUnreachable) {
		t.Errorf("after Close: %v", err)
	}
}

func TestCallerWhoGivesUpDoesNotSpoilTheOthers(t *testing.T) {
	hold := make(chan struct{})
	target, a := newTarget(t)
	dial := target.opts.Dial
	target.opts.Dial = func(ctx context.Context) (io.ReadWriteCloser, error) {
		select {
		case <-hold:
			return dial(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := target.Status(ctx, unknown)
		first <- err
	}()
	for target.flying() == nil {
		select {
		case err := <-first:
			t.Fatal(err)
		default:
		}
	}
	second := make(chan error, 1)
	go func() {
		_, err := target.Status(t.Context(), unknown)
		second <- err
	}()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	close(hold)
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
	if n := a.dials.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func (t *Target) flying() *flight {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flight
}
