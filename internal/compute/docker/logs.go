package docker

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
)

// asks is how often an agent in a container is tried, with a pause before each, until that counts as
// unreachable. A container whose process has ended is shown as running for some time.
const asks = 100

// Logs reads the supervisor's file: by an agent in the container while it runs, and out of the container after that.
func (t *Target) Logs(ctx context.Context, job compute.Handle, q compute.LogQuery, w io.Writer) (int64, error) {
	file, err := keeper.LogFile(q.Stream)
	if err != nil {
		return q.From, kept.Failed(ctx, err)
	}
	to := &kept.Sink{W: w}
	next := q.From
	for again := range asks {
		if err := kept.Pause(ctx, again); err != nil {
			return next, err
		}
		if p := t.preparations.of(job.Key); p != nil && !p.almost(ctx) { // after it, all is in the container
			if next, err = t.preparingLog(ctx, p, q, next, to); err != nil || !q.Follow {
				return next, err
			}
		}
		b, found, err := t.find(ctx, job.Key)
		switch {
		case err != nil:
			return next, err
		case !found || b.made() && b.verdict() == nil:
			return next, unknown(job.Key)
		case b.canceled():
			return next, nil
		case !b.alive() || !q.Follow && next == 0:
			return t.copyLog(ctx, b.id, path.Join(t.layout(job.Key).Dir(), file), next, to)
		}
		if again == 0 && t.agents.have(b.id) == nil { // what is there need not wait for an agent's start
			if next, err = t.copyLog(ctx, b.id, path.Join(t.layout(job.Key).Dir(), file), next, to); err != nil {
				return next, err
			}
		}
		next, err = t.pushed(ctx, b.id, job.Key, q, next, to)
		switch {
		case err == nil:
			return next, nil
		case to.Err != nil:
			return next, to.Err
		case ctx.Err() != nil:
			return next, context.Cause(ctx)
		case again == asks-1:
			return next, kept.Failed(ctx, err)
		}
		// The agent ends with the container, perhaps before it has sent the rest. Otherwise it is asked again.
	}
	return next, t.busy(job.Key)
}

// preparingLog reads the log of a job whose image is pulled, with follow until its container has taken over.
func (t *Target) preparingLog(ctx context.Context, p *preparing, q compute.LogQuery, from int64, to *kept.Sink) (int64, error) {
	if q.Stream == "prepare" {
		next, err := p.pull.log.copyTo(ctx, from, q.Follow, to)
		if err != nil {
			return next, err
		}
		from = next
	}
	if q.Follow {
		select {
		case <-p.done:
		case <-ctx.Done():
			return from, context.Cause(ctx)
		}
	}
	return from, nil
}

// pushed reads a log by an agent beside the job.
func (t *Target) pushed(ctx context.Context, id string, key compute.Key, q compute.LogQuery, from int64, w io.Writer) (int64, error) {
	c, err := t.agents.get(ctx, id)
	if err != nil {
		return from, t.failed(ctx, err)
	}
	return c.Logs(ctx, key.String(), q.Stream, from, q.Follow, w)
}

// copyLog reads a log out of a container. What is before the offset is read and not written.
func (t *Target) copyLog(ctx context.Context, id, name string, from int64, to *kept.Sink) (int64, error) {
	r, err := t.stream(ctx, id, name)
	if errors.Is(err, fs.ErrNotExist) {
		return from, nil
	}
	if err != nil {
		return from, t.failed(ctx, err)
	}
	defer func() { _ = r.Close() }()
	if _, err := io.CopyN(io.Discard, r, from); errors.Is(err, io.EOF) {
		return from, nil
	} else if err != nil {
		return from, t.failed(ctx, err)
	}
	n, err := io.Copy(to, r)
	if to.Err != nil {
		return from + n, to.Err
	}
	return from + n, t.failed(ctx, err)
}
