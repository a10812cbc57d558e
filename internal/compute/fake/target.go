package fake

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

// Target is a machine as one attachment sees it.
type Target struct {
	m      *Machine
	scope  scope
	once   sync.Once
	closed chan struct{}
}

// begin is the start of every call but Close.
func (t *Target) begin(ctx context.Context, v Verb, key compute.Key) error {
	select {
	case <-t.closed:
		return Unreachable()
	default:
		return t.m.enter(ctx, v, key)
	}
}

// Probe tells of the machine.
func (t *Target) Probe(ctx context.Context) (compute.Facts, error) {
	if err := t.begin(ctx, Probe, compute.Key{}); err != nil {
		return compute.Facts{}, err
	}
	t.m.mu.Lock()
	f := compute.Facts{
		Identity: []string{"fake-machine-" + t.m.name}, Details: map[string]string{"os": "fake", "arch": "none", "machine": t.m.name},
		Problems: slices.Clone(t.m.faults.findings),
	}
	t.m.mu.Unlock()
	return f, t.m.leave(Probe)
}

// Submit takes a job.
func (t *Target) Submit(ctx context.Context, j compute.Job) (compute.Ref, error) {
	t.m.mu.Lock()
	delete(t.m.stillborn, j.Key)
	t.m.mu.Unlock()
	if err := t.begin(ctx, Submit, j.Key); err != nil {
		return "", err
	}
	t.m.mu.Lock()
	var err error
	if t.m.fence(t.scope, j.Epoch) {
		err = errStale
	} else {
		err = t.m.accept(j)
	}
	t.m.mu.Unlock()
	if err == nil {
		err = t.m.leave(Submit)
	}
	if err != nil {
		return "", err
	}
	return ref(j.Key), nil
}

// Status tells how jobs are.
func (t *Target) Status(ctx context.Context, jobs []compute.Handle) ([]compute.Status, error) {
	if err := t.begin(ctx, Status, compute.Key{}); err != nil {
		return nil, err
	}
	out := make([]compute.Status, len(jobs))
	now := time.Now()
	t.m.mu.Lock()
	for i, h := range jobs {
		out[i] = compute.Status{Key: h.Key, Phase: compute.Missing}
		if t.m.stillborn[h.Key] {
			out[i].Reason = notStarted
		}
		if j := t.m.jobs[h.Key]; j != nil && !now.Before(j.hidden) {
			out[i] = t.m.status(j)
		}
	}
	t.m.mu.Unlock()
	if err := t.m.leave(Status); err != nil {
		return nil, err
	}
	return out, nil
}

// Cancel ends a job, or fences its key.
func (t *Target) Cancel(ctx context.Context, h compute.Handle, epoch int64) error {
	if err := t.begin(ctx, Cancel, h.Key); err != nil {
		return err
	}
	t.m.mu.Lock()
	stale := t.m.fence(t.scope, epoch)
	_, known := t.m.jobs[h.Key]
	if !stale && !known && !t.m.limits.NoFence {
		j := &job{Job: compute.Job{Key: h.Key}, changed: make(chan struct{})}
		j.ctx, j.cancel = context.WithCancelCause(t.m.ctx)
		t.m.jobs[h.Key] = j
		t.m.finish(j, exitOf(j, errCanceled, 0))
	}
	t.m.mu.Unlock()
	if stale {
		return errStale
	}
	t.m.end(h.Key, errCanceled)
	return t.m.leave(Cancel)
}

// Logs writes a log.
func (t *Target) Logs(ctx context.Context, h compute.Handle, q compute.LogQuery, w io.Writer) (int64, error) {
	next := q.From
	if err := t.begin(ctx, Logs, h.Key); err != nil {
		return next, err
	}
	if t.m.limits.NoLogOffsets && q.From > 0 {
		return next, failure(compute.ErrNotSupported, "NoLogOffsets", "a log of this kind is only read from its beginning")
	}
	for {
		t.m.mu.Lock()
		j := t.m.jobs[h.Key]
		if j == nil {
			t.m.mu.Unlock()
			return next, notFound(h.Key)
		}
		log := j.log
		if q.Stream == "prepare" {
			log = j.prepare
		}
		more := slices.Clone(log[min(next, int64(len(log))):])
		ended, changed, broken := j.phase == compute.Ended, j.changed, t.m.faults.broken
		t.m.mu.Unlock()
		n, err := w.Write(more)
		next += int64(n)
		if err != nil {
			return next, err
		}
		if !q.Follow || ended {
			return next, t.m.leave(Logs)
		}
		select {
		case <-changed:
		case <-broken:
			return next, Unreachable()
		case <-t.closed:
			return next, Unreachable()
		case <-ctx.Done():
			return next, context.Cause(ctx)
		}
	}
}

// Collect brings files home.
func (t *Target) Collect(ctx context.Context, h compute.Handle, out compute.Outputs) error {
	if err := t.begin(ctx, Collect, h.Key); err != nil {
		return err
	}
	t.m.mu.Lock()
	j := t.m.jobs[h.Key]
	var files []file
	running := false
	if j != nil {
		files, running = slices.Clone(j.files), j.phase != compute.Ended
	}
	t.m.mu.Unlock()
	switch {
	case j == nil:
		return notFound(h.Key)
	case running && t.m.limits.NoCollectWhileRunning:
		return failure(compute.ErrNotSupported, "NoCollectWhileRunning", "outputs of this kind come home after the end")
	}
	for _, f := range files {
		if out.Want(f.output, f.File) {
			if err := out.Put(ctx, f.output, f.File, bytes.NewReader(f.content)); err != nil {
				return err
			}
		}
	}
	return t.m.leave(Collect)
}

// Release forgets a job.
func (t *Target) Release(ctx context.Context, h compute.Handle, epoch int64) error {
	if err := t.begin(ctx, Release, h.Key); err != nil {
		return err
	}
	t.m.mu.Lock()
	j := t.m.jobs[h.Key]
	var err error
	switch {
	case t.m.fence(t.scope, epoch):
		err = errStale
	case j != nil && j.phase != compute.Ended:
		err = failure(compute.ErrInvalid, "JobRunning", "the job is not over")
	default:
		delete(t.m.jobs, h.Key)
	}
	t.m.mu.Unlock()
	if err != nil {
		return err
	}
	return t.m.leave(Release)
}

// Watch tells of changes.
func (t *Target) Watch(ctx context.Context, fn func(compute.Status)) error {
	if err := t.begin(ctx, Watch, compute.Key{}); err != nil {
		return err
	}
	w := &watcher{scope: t.scope, news: make(chan compute.Status, 4096)}
	t.m.mu.Lock()
	t.m.watchers[w] = true
	broken := t.m.faults.broken
	t.m.mu.Unlock()
	defer func() {
		t.m.mu.Lock()
		defer t.m.mu.Unlock()
		delete(t.m.watchers, w)
	}()
	for {
		select {
		case s, ok := <-w.news:
			if !ok {
				return Unreachable()
			}
			fn(s)
		case <-broken:
			return Unreachable()
		case <-t.closed:
			return Unreachable()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// RemoveAll ends and forgets the jobs of this attachment.
func (t *Target) RemoveAll(ctx context.Context) error {
	if err := t.begin(ctx, Remove, compute.Key{}); err != nil {
		return err
	}
	for _, k := range t.m.Jobs() {
		if (scope{k.Server, k.Compute}) == t.scope {
			t.m.Forget(k)
		}
	}
	t.m.mu.Lock()
	delete(t.m.epochs, t.scope)
	t.m.mu.Unlock()
	return t.m.leave(Remove)
}

// Close ends what this target waits for. Jobs go on.
func (t *Target) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

var (
	_ compute.Target  = (*Target)(nil)
	_ compute.Watcher = (*Target)(nil)
	_ compute.Remover = (*Target)(nil)
)
