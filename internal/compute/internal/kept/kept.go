// Package kept is a compute.Target over the keeper: whatever can carry a stream of bytes to the keeper's agent can run
// jobs by it. The kinds local and ssh are this with different streams. It knows no transport.
package kept

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Options says how a target is reached and what it may use.
type Options struct {
	// Dial starts an agent ("keeper agent --root FOLDER") on the target and gives its standard input and output. It is
	// called when a connection is needed and there is none. Its errors should be *compute.Error; others count as
	// unreachable.
	Dial func(ctx context.Context) (io.ReadWriteCloser, error)
	// Slots is how many jobs run at once on the machine; 0: one per CPU.
	Slots int
	// GPUs is how many devices there are; 0: what the machine says.
	GPUs int
	// HideGPUs lets jobs that want no GPU see none.
	HideGPUs bool
	// Containers says whether jobs that ask for an image run in containers of the machine's own engine: ContainersAuto or
	// ContainersNever. Empty: the kind runs none.
	Containers string
	// Launcher, if not nil, has supervisors started by a queueing system.
	Launcher *keeper.Launcher
	// Facts, if not nil, completes what a probe found, e.g. with a host key in Identity.
	Facts func(*compute.Facts)
	// CloseTransport, if not nil, is called by Close.
	CloseTransport func() error
}

// The values of Options.Containers, and of the setting of that name; empty is auto there.
const (
	ContainersAuto  = "auto"
	ContainersNever = "never"
)

// Containers reads the setting. It is false for a word that is none.
func Containers(setting string) (string, bool) {
	switch setting {
	case "", ContainersAuto:
		return ContainersAuto, true
	case ContainersNever:
		return ContainersNever, true
	}
	return "", false
}

// Target is an attached compute that the keeper serves.
type Target struct {
	env  compute.Env
	opts Options

	mu     sync.Mutex
	client *keeper.Client
	flight *flight // the dialling under way
	closed bool
}

type flight struct {
	done   chan struct{}
	client *keeper.Client
	err    error
}

// New makes a target. It connects when first used.
func New(env compute.Env, opts Options) *Target { return &Target{env: env, opts: opts} }

// Connect makes sure that there is a connection.
func (t *Target) Connect(ctx context.Context) error {
	_, err := t.connect(ctx)
	return err
}

// connect gives the connection, or makes one; callers that come meanwhile share the attempt.
func (t *Target) connect(ctx context.Context) (*keeper.Client, error) {
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return nil, unreachable(errors.New("the target was closed"))
		}
		if c := t.client; c != nil {
			select {
			case <-c.Done():
				t.client = nil
			default:
				t.mu.Unlock()
				return c, nil
			}
		}
		f := t.flight
		mine := f == nil
		if mine {
			f = &flight{done: make(chan struct{})}
			t.flight = f
		}
		t.mu.Unlock()
		if mine {
			t.dial(ctx, f)
			return f.client, f.err
		}
		select {
		case <-f.done:
			// The context of whoever dialled may have ended; that is not this caller's failure.
			if f.err != nil && !isContext(f.err) {
				return nil, f.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// connectLimit bounds starting an agent, logging in and placing it the first time included. Callers without a limit of their
// own must not hold up all others.
const connectLimit = 3 * time.Minute

func (t *Target) dial(ctx context.Context, f *flight) {
	defer close(f.done)
	limit, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	stream, err := t.opts.Dial(limit)
	if err == nil {
		f.client, err = keeper.Dial(limit, stream, keeper.Options{
			Server: t.env.Server, Compute: t.env.Compute, Slots: t.opts.Slots, GPUs: t.opts.GPUs, HideGPUs: t.opts.HideGPUs, Launcher: t.opts.Launcher,
			CA: t.env.CA, Objects: t.env.Objects, Log: t.env.Log, WayBack: t.wayBack,
		})
	}
	if err != nil && limit.Err() != nil && ctx.Err() == nil {
		err = tooSlow(err)
	}
	f.err = t.failed(ctx, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flight = nil
	if f.err == nil && t.closed {
		_ = f.client.Close()
		f.client, f.err = nil, unreachable(errors.New("the target was closed"))
	}
	t.client = f.client
}

func (t *Target) wayBack(key string, conn net.Conn) {
	job, attempt, ok := strings.Cut(key, ".")
	n, err := strconv.Atoi(attempt)
	if !ok || err != nil || t.env.WayBack == nil {
		_ = conn.Close()
		return
	}
	t.env.WayBack(compute.Key{Server: t.env.Server, Compute: t.env.Compute, Job: job, Attempt: n}, conn)
}

// do calls fn with a connection, and once more with a fresh one if it was lost: every request may be repeated.
func (t *Target) do(ctx context.Context, fn func(*keeper.Client) error) error {
	for attempt := 0; ; attempt++ {
		c, err := t.connect(ctx)
		if err != nil {
			return err
		}
		err = fn(c)
		if f, ok := errors.AsType[*keeper.Fault](err); ok && f.Cause == keeper.Gone && attempt == 0 && ctx.Err() == nil {
			_ = c.Close()
			continue
		}
		return t.failed(ctx, err)
	}
}

// failed makes an error of the contract.
func (t *Target) failed(ctx context.Context, err error) error {
	if err == nil || isContext(err) && ctx.Err() != nil {
		return err
	}
	if _, ok := errors.AsType[*compute.Error](err); ok {
		return err
	}
	f, ok := errors.AsType[*keeper.Fault](err)
	if !ok {
		return unreachable(err)
	}
	kind := compute.ErrUnreachable
	switch f.Cause {
	case keeper.Invalid:
		kind = compute.ErrInvalid
	case keeper.Stale:
		kind = compute.ErrStale
	case keeper.Denied:
		kind = compute.ErrDenied
	case keeper.NotFound:
		kind = compute.ErrNotFound
	case keeper.Internal, keeper.Gone:
	}
	return &compute.Error{Kind: kind, Problem: f.Problem, Err: f.Err}
}

func unreachable(err error) error {
	return &compute.Error{Kind: compute.ErrUnreachable, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: "ComputeUnreachable", Message: "the compute cannot be reached", Cause: err.Error(),
		Mend: "check that the machine is up and that the server may connect to it; jobs there go on",
	}}
}

func tooSlow(err error) error {
	return &compute.Error{Kind: compute.ErrUnreachable, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: "ConnectionTooSlow", Message: "the compute was not ready within " + connectLimit.String(),
		Cause: "the line or the machine is too slow", Mend: "try again; the keeper is placed only once",
	}}
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// Close drops the connection. Jobs go on.
func (t *Target) Close() error {
	t.mu.Lock()
	c := t.client
	t.client, t.closed = nil, true
	t.mu.Unlock()
	var err error
	if c != nil {
		err = c.Close()
	}
	if t.opts.CloseTransport != nil {
		err = errors.Join(err, t.opts.CloseTransport())
	}
	return err
}
