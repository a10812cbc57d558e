package docker

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// agents are connections to keeper agents, each in a running container beside the job. What is pushed comes by them: a
// followed log, outputs of a running job, connections of the job to the server and to the job. One is started when it is
// needed and stays until its container ends.
type agents struct {
	dial func(ctx context.Context, id string) (*keeper.Client, error)

	mu     sync.Mutex
	known  map[string]*keeper.Client
	linked map[string]bool // kept up for the job's way back
	closed bool
}

// get gives the connection to a container's agent, or makes one.
func (a *agents) get(ctx context.Context, id string) (*keeper.Client, error) {
	if c := a.have(id); c != nil {
		return c, nil
	}
	c, err := a.dial(ctx, id)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	if other := a.known[id]; other != nil && !over(other) { // another caller was faster
		_ = c.Close()
		return other, nil
	}
	if a.known == nil {
		a.known = map[string]*keeper.Client{}
	}
	a.known[id] = c
	return c, nil
}

func (a *agents) have(id string) *keeper.Client {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.known[id]
	if c != nil && over(c) {
		delete(a.known, id)
		return nil
	}
	return c
}

func over(c *keeper.Client) bool {
	select {
	case <-c.Done():
		return true
	default:
		return false
	}
}

// drop closes a container's connection.
func (a *agents) drop(id string) {
	a.mu.Lock()
	c := a.known[id]
	delete(a.known, id)
	a.mu.Unlock()
	if c != nil {
		_ = c.Close()
	}
}

func (a *agents) close() {
	a.mu.Lock()
	known := a.known
	a.known, a.closed = nil, true
	a.mu.Unlock()
	for _, c := range known {
		_ = c.Close()
	}
}

// mark tells whether the caller is the one to keep a container's connection up.
func (a *agents) mark(id string, on bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !on {
		delete(a.linked, id)
		return false
	}
	if a.closed || a.linked[id] {
		return false
	}
	if a.linked == nil {
		a.linked = map[string]bool{}
	}
	a.linked[id] = true
	return true
}

// supervisor is the program of the container's first process, whichever keeper that was.
const supervisor = "/proc/1/exe"

// dialAgent starts an agent in a running container.
func (t *Target) dialAgent(ctx context.Context, id string) (*keeper.Client, error) {
	e, err := t.engine.ExecCreate(ctx, id, client.ExecCreateOptions{
		User: "0:0", AttachStdin: true, AttachStdout: true, AttachStderr: true, Cmd: []string{supervisor, "agent", "--root", folder},
	})
	if err != nil {
		return nil, err
	}
	r, err := t.engine.ExecAttach(ctx, e.ID, client.ExecAttachOptions{})
	if err != nil {
		return nil, err
	}
	out, w := io.Pipe()
	go func() { // ends with the connection
		_, err := stdcopy.StdCopy(w, io.Discard, r.Reader)
		_ = w.CloseWithError(errors.Join(err, io.EOF))
	}()
	return keeper.Dial(ctx, &execution{Reader: out, Writer: r.Conn, close: func() error { r.Close(); return out.Close() }}, keeper.Options{
		Server: t.env.Server, Compute: t.env.Compute, CA: t.env.CA, Objects: t.env.Objects, Log: t.env.Log, WayBack: t.wayBack,
	})
}

// execution is the standard input and output of a program in a container.
type execution struct {
	io.Reader
	io.Writer
	close func() error
}

func (e *execution) Close() error { return e.close() }

func (t *Target) wayBack(key string, conn net.Conn) {
	k, ok := t.key(key)
	if !ok || t.env.WayBack == nil {
		_ = conn.Close()
		return
	}
	t.env.WayBack(k, conn)
}

// link keeps an agent in a container for as long as it runs, so that its job reaches the server.
func (t *Target) link(id string) {
	if !t.agents.mark(id, true) {
		return
	}
	t.wg.Go(func() {
		defer t.agents.mark(id, false)
		for wait := 20 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
			c, err := t.agents.get(t.ctx, id)
			switch {
			case err == nil:
				select {
				case <-c.Done():
				case <-t.ctx.Done():
					return
				}
			case gone(err) || conflict(err): // the container is no more, or has stopped
				return
			}
			select {
			case <-time.After(wait):
			case <-t.ctx.Done():
				return
			}
		}
	})
}

// Dial connects to a TCP port in the container of a running job.
func (t *Target) Dial(ctx context.Context, job compute.Handle, port int) (net.Conn, error) {
	b, found, err := t.find(ctx, job.Key)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, unknown(job.Key)
	}
	if !b.alive() {
		return nil, &compute.Error{Kind: compute.ErrNotFound, Problem: workspace.Problem{
			Class: workspace.Conflict, Code: "JobNotRunning", Message: "the job does not run, so nothing listens in it", Mend: "wait until it runs",
		}}
	}
	c, err := t.agents.get(ctx, b.id)
	if err != nil {
		return nil, t.failed(ctx, err)
	}
	conn, err := c.Dial(ctx, job.Key.String(), port)
	if err != nil {
		return nil, kept.Failed(ctx, err)
	}
	return conn, nil
}
