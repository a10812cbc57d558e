package reconcile

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/fleet"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The bounds of the pause between two attempts to reach a compute: one backoff a compute, so one dead host starves nobody.
const (
	backoffFirst = 500 * time.Millisecond
	backoffLast  = 30 * time.Second
	// patience is how long a target may be silent before its jobs are shown as NotResponding.
	patience = 15 * time.Second
)

// watch keeps the target open, passes on its news, and reports when it answers and when not. Targets that cannot tell
// of changes are asked often instead.
func (h *hold) watch(ctx context.Context) {
	pause := backoffFirst
	for ctx.Err() == nil {
		begun := time.Now()
		err := h.watchOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errOutdated) {
			continue
		}
		if time.Since(begun) > backoffLast {
			pause = backoffFirst
		}
		select {
		case h.link <- err:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(pause):
		case <-h.stop:
			return
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, backoffLast)
	}
}

func (h *hold) watchOnce(ctx context.Context) error {
	target, release, err := h.cfg.Fleet.Use(ctx, h.id)
	if err != nil {
		return err
	}
	defer release()
	// An empty question costs one round trip and proves that the target answers.
	if _, err := target.Status(ctx, nil); err != nil {
		return err
	}
	select {
	case h.link <- nil:
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := make(chan struct{})
	defer func() { <-stopped }()
	defer cancel(nil)
	go func() {
		defer close(stopped)
		select {
		case <-h.stop:
			cancel(errStopped)
		case <-fleet.Outdated(target):
			cancel(errOutdated)
		case <-ctx.Done():
		}
	}()
	watcher, ok := fleet.Ability[compute.Watcher](target)
	h.watched.Store(ok)
	if !ok {
		return h.pollUntilLost(ctx, target)
	}
	err = watcher.Watch(ctx, func(s compute.Status) {
		select {
		case h.news <- s:
		case <-ctx.Done():
		}
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// pollUntilLost stands in for Watch: it only finds out when the target stops answering. The hold asks about jobs.
func (h *hold) pollUntilLost(ctx context.Context, target compute.Target) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			if _, err := target.Status(ctx, nil); err != nil {
				return err
			}
		}
	}
}

// errOutdated ends the watch of a target whose settings changed; it is opened again with the new ones.
var errOutdated = errors.New("reconcile: the target was opened with older settings")

// linked takes what watch reported and keeps the compute's health true.
func (h *hold) linked(ctx context.Context, err error) {
	now := h.now()
	if err == nil {
		h.down = time.Time{}
		h.poll, h.polls = now, 0 // ask about every job: news may have been missed
		h.cleanup = now
		h.pulling = true
		for _, j := range h.jobs {
			if !j.busy && j.due.After(now) {
				j.due = now
			}
		}
		h.health(ctx, store.Healthy, nil)
		return
	}
	if errors.Is(err, errStopped) {
		return
	}
	if h.down.IsZero() {
		h.down = now
		for _, j := range h.jobs {
			if j.due.IsZero() {
				j.due = now.Add(patience)
			}
		}
	}
	state := store.HealthUnreachable
	if errors.Is(err, compute.ErrDenied) {
		state = store.HealthDenied
	}
	h.log.Warn("compute does not answer", "health", state, "error", err)
	h.health(ctx, state, err)
}

// silence is since when the target does not answer, as the compute's row knows it over restarts of servers; zero: it does.
func (h *hold) silence() time.Time {
	if h.down.IsZero() || h.compute.Health == store.Healthy || h.compute.HealthSince == 0 {
		return h.down
	}
	return time.UnixMilli(h.compute.HealthSince)
}

// rights keeps the health of a compute true whose target answers, but refuses jobs.
func (h *hold) rights(ctx context.Context, r result) {
	switch {
	case r.denied != nil:
		h.health(ctx, store.HealthDenied, r.denied)
	case r.submitted && h.compute.Health == store.HealthDenied && h.down.IsZero():
		h.health(ctx, store.Healthy, nil)
	}
}

// health writes how the compute answers, if that is news. Another reason for the same health does not begin it anew.
func (h *hold) health(ctx context.Context, state store.Health, cause error) {
	c := h.compute
	var reason *workspace.Problem
	if cause != nil {
		reason = problem(cause)
	}
	if c.Health == state && reflect.DeepEqual(c.HealthReason, reason) {
		return
	}
	since := c.HealthSince
	if c.Health != state || since == 0 {
		since = h.cfg.Clock.Millis()
	}
	err := h.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.SetHealth(ctx, c.ID, state, reason, since); err != nil {
			return err
		}
		tx.Saw(c.ID, "")
		return nil
	})
	if err != nil {
		if ctx.Err() == nil {
			h.log.Warn("health cannot be written", "error", err)
		}
		return
	}
	h.compute.Health, h.compute.HealthReason, h.compute.HealthSince = state, reason, since
}

// ask asks the target about every job that it may know, in one call, and treats the answers as news.
func (h *hold) ask(ctx context.Context) {
	handles := make([]compute.Handle, 0, len(h.jobs))
	for _, j := range h.jobs {
		handles = append(handles, compute.Handle{Key: j.key, Ref: j.ref})
	}
	if len(handles) == 0 {
		return
	}
	h.steps.Go(func() {
		target, release, err := h.cfg.Fleet.Use(ctx, h.id)
		if err != nil {
			return // watch reports it
		}
		defer release()
		statuses, err := target.Status(ctx, handles)
		if err != nil {
			return
		}
		for _, s := range statuses {
			if s.Phase == compute.Missing {
				continue // only the job's own step may conclude from this
			}
			select {
			case h.news <- s:
			case <-ctx.Done():
				return
			}
		}
	})
}
