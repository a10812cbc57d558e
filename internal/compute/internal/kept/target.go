package kept

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Probe looks at the target. Identity begins with the machine's id.
func (t *Target) Probe(ctx context.Context) (compute.Facts, error) {
	var facts compute.Facts
	err := t.do(ctx, func(c *keeper.Client) error {
		f, err := c.Probe(ctx)
		if err != nil {
			return err
		}
		facts = t.facts(f)
		return nil
	})
	if err == nil && t.opts.Facts != nil {
		t.opts.Facts(&facts)
	}
	return facts, err
}

// Submit hands a job over.
func (t *Target) Submit(ctx context.Context, job compute.Job) (compute.Ref, error) {
	if err := t.refuse(job); err != nil {
		return "", err
	}
	k := toJob(job)
	contained(&k, job)
	secrets := make(map[string]string, len(job.Secrets))
	for name, s := range job.Secrets {
		secrets[name] = s.Reveal()
	}
	return "", t.do(ctx, func(c *keeper.Client) error {
		_, err := c.Submit(ctx, job.Key.String(), job.Epoch, k, secrets)
		return err
	})
}

// refuse says what this target never will do.
func (t *Target) refuse(job compute.Job) error {
	var p workspace.Problem
	switch {
	case job.Ranks.Nodes > 1:
		p = workspace.Problem{
			Code: "OneNode", Target: "resources.instance_count", Message: fmt.Sprintf("the job asks for %d nodes, and this compute is one machine", job.Ranks.Nodes),
			Mend: "ask for one instance with several processes, or submit to a cluster",
		}
	case job.Image != nil && t.opts.Containers != ContainersAuto:
		p = workspace.Problem{
			Code: "NoContainers", Target: "environment.image", Message: "the job asks for a container, and this compute runs none", Cause: "its kind does not, or its setting containers is never",
			Mend: "set containers to auto, or submit without an image",
		}
	default:
		return nil
	}
	p.Class = workspace.Invalid
	return &compute.Error{Kind: compute.ErrInvalid, Problem: p}
}

// Status tells how jobs are.
func (t *Target) Status(ctx context.Context, jobs []compute.Handle) ([]compute.Status, error) {
	keys := make([]string, len(jobs))
	for i, h := range jobs {
		keys[i] = h.Key.String()
	}
	out := make([]compute.Status, len(jobs))
	err := t.do(ctx, func(c *keeper.Client) error {
		statuses, err := c.Status(ctx, keys)
		for i, s := range statuses {
			out[i] = fromStatus(jobs[i].Key, s)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Cancel ends a job, or fences its key.
func (t *Target) Cancel(ctx context.Context, job compute.Handle, epoch int64) error {
	return t.do(ctx, func(c *keeper.Client) error { return c.Cancel(ctx, job.Key.String(), epoch) })
}

// Logs writes a job's log. After a lost connection it goes on where it was, as long as each connection brings something.
func (t *Target) Logs(ctx context.Context, job compute.Handle, q compute.LogQuery, w io.Writer) (int64, error) {
	next := q.From
	for {
		from := next
		err := t.do(ctx, func(c *keeper.Client) error {
			var err error
			next, err = c.Logs(ctx, job.Key.String(), q.Stream, next, q.Follow, w)
			return err
		})
		if next > from && errors.Is(err, compute.ErrUnreachable) && ctx.Err() == nil {
			continue
		}
		return next, err
	}
}

// Collect brings outputs home.
func (t *Target) Collect(ctx context.Context, job compute.Handle, out compute.Outputs) error {
	r := &Receiver{Out: out}
	err := t.do(ctx, func(c *keeper.Client) error { return c.Collect(ctx, job.Key.String(), r) })
	if r.Err != nil { // the server's own failure to keep a file is not the target's
		return r.Err
	}
	return err
}

func toFile(f keeper.File) compute.File {
	return compute.File{Path: f.Path, Size: f.Size, Mode: f.Mode, Modified: f.Modified}
}

// Release removes what a job left.
func (t *Target) Release(ctx context.Context, job compute.Handle, epoch int64) error {
	return t.do(ctx, func(c *keeper.Client) error { return c.Release(ctx, job.Key.String(), epoch) })
}

// Watch tells of changes.
func (t *Target) Watch(ctx context.Context, fn func(compute.Status)) error {
	c, err := t.connect(ctx)
	if err != nil {
		return err
	}
	return t.failed(ctx, c.Watch(ctx, func(s keeper.Status) {
		if key, ok := t.key(s.Key); ok {
			fn(fromStatus(key, s))
		}
	}))
}

// Dial connects to a TCP port of a running job.
func (t *Target) Dial(ctx context.Context, job compute.Handle, port int) (net.Conn, error) {
	var conn net.Conn
	err := t.do(ctx, func(c *keeper.Client) error {
		var err error
		conn, err = c.Dial(ctx, job.Key.String(), port)
		return err
	})
	return conn, err
}

// RemoveAll takes away everything that this attachment placed.
func (t *Target) RemoveAll(ctx context.Context) error {
	return t.do(ctx, func(c *keeper.Client) error { return c.RemoveAll(ctx) })
}

var (
	_ compute.Target  = (*Target)(nil)
	_ compute.Watcher = (*Target)(nil)
	_ compute.Dialer  = (*Target)(nil)
	_ compute.Remover = (*Target)(nil)
)
