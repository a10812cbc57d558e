package reconcile

import (
	"context"
	"errors"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/internal/store"
)

// sweep releases ended jobs whose folders were kept long enough: nothing of them stays at the target. It runs beside
// the steps, one sweep at a time, and what fails is found again by the next.
func (h *hold) sweep(ctx context.Context) {
	if !h.sweeping.CompareAndSwap(false, true) {
		return
	}
	h.steps.Go(func() {
		defer h.sweeping.Store(false)
		if err := h.release(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, compute.ErrUnreachable) {
			h.log.Warn("ended jobs could not be released and are tried again", "error", err)
		}
	})
}

func (h *hold) release(ctx context.Context) error {
	rows, err := h.cfg.Store.ReleasableJobs(ctx, h.id, h.cfg.Clock.Millis(), releaseBatch)
	if err != nil || len(rows) == 0 {
		return err
	}
	target, done, err := h.cfg.Fleet.Use(ctx, h.id)
	if err != nil {
		return err
	}
	defer done()
	var released []string
	var failed error
	for _, r := range rows {
		err := h.releaseOne(ctx, target, r)
		switch {
		case err == nil:
			released = append(released, r.ID)
			continue
		case errors.Is(err, compute.ErrUnreachable) || ctx.Err() != nil:
			return errors.Join(err, h.released(ctx, released))
		}
		failed = errors.Join(failed, err) // one that cannot be released does not hold up the others
	}
	return errors.Join(failed, h.released(ctx, released))
}

func (h *hold) releaseOne(ctx context.Context, target compute.Target, r store.Job) error {
	handle := compute.Handle{Key: h.key(r), Ref: compute.Ref(r.Ref)}
	if r.ExitCode == nil { // it was given up, and may run; over already costs a call
		if err := target.Cancel(ctx, handle, h.epoch); err != nil {
			return err
		}
	}
	if err := target.Release(ctx, handle, h.epoch); err != nil {
		return err
	}
	h.cfg.Fault.Pass(fault.JobReleased)
	return nil
}

// released writes down in one go what was released. What is not written is released again, which does nothing.
func (h *hold) released(ctx context.Context, jobs []string) error {
	if len(jobs) == 0 {
		return nil
	}
	return h.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		for _, id := range jobs {
			err := tx.JobReleased(ctx, id)
			if err != nil && !errors.Is(err, store.ErrNotFound) { // deleted, or released by another server
				return err
			}
		}
		return nil
	})
}
