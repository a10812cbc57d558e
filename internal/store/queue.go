package store

import (
	"context"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// HandedJobs lists, without bodies, the jobs of a compute that its target may know and whose end is not home: what a
// new holder has to find again.
func (q reads) HandedJobs(ctx context.Context, computeID string) ([]Job, error) {
	return many(ctx, q, (*Job).rowFields, `SELECT `+jobColumns+` FROM jobs j
		WHERE j.compute_id = $1 AND j.due IS NOT NULL AND j.phase IN ('handing', 'submitted', 'ended') ORDER BY j.id`, computeID)
}

// NextJobs lists, without bodies, the first of a compute's queue: the highest priority first, then the oldest.
func (q reads) NextJobs(ctx context.Context, computeID string, limit int) ([]Job, error) {
	return many(ctx, q, (*Job).rowFields, `SELECT `+jobColumns+` FROM jobs j
		WHERE j.compute_id = $1 AND j.due IS NOT NULL AND j.phase = 'accepted' ORDER BY j.priority DESC, j.id LIMIT $2`, computeID, limit)
}

// QueuePosition is a job's place in the queue of its compute, from 1.
func (q reads) QueuePosition(ctx context.Context, j Job) (int, error) {
	return one(ctx, q, scalar[int], `SELECT count(*) + 1 FROM jobs
		WHERE compute_id = $1 AND due IS NOT NULL AND phase = 'accepted' AND (priority > $2 OR priority = $2 AND id < $3)`, j.ComputeID, j.Priority, j.ID)
}

// QueueHead lists the ids of the first of a compute's queue, in its order.
func (q reads) QueueHead(ctx context.Context, computeID string, limit int) ([]string, error) {
	return many(ctx, q, scalar[string], `SELECT id FROM jobs
		WHERE compute_id = $1 AND due IS NOT NULL AND phase = 'accepted' ORDER BY priority DESC, id LIMIT $2`, computeID, limit)
}

// ReleasableJobs lists, without bodies, ended jobs of a compute whose folder at the target has been kept long enough.
func (q reads) ReleasableJobs(ctx context.Context, computeID string, now int64, limit int) ([]Job, error) {
	return many(ctx, q, (*Job).rowFields, `SELECT `+jobColumns+` FROM jobs j
		WHERE j.compute_id = $1 AND j.phase = 'collected' AND j.due <= $2 ORDER BY j.due LIMIT $3`, computeID, now, limit)
}

// JobReleased notes that a target has forgotten an ended job. Nothing is to be done with it any more.
func (tx *Tx) JobReleased(ctx context.Context, id string) error {
	return tx.change(ctx, `UPDATE jobs SET phase = 'released', due = NULL WHERE id = $1 AND phase = 'collected'`, id)
}

// CancelQueued ends a job that no target has met. ended is false when one may have: then WishCancel is the way.
func (tx *Tx) CancelQueued(ctx context.Context, id string) (ended bool, err error) {
	n, err := tx.r.exec(ctx, `UPDATE jobs SET wish = 'cancel', state = 'Canceled', phase = 'released', due = NULL, reason = '', ended = $2,
		generation = generation + 1 WHERE id = $1 AND phase = 'accepted' AND state NOT IN `+terminal, id, tx.s.clock.Millis())
	return n > 0, err
}

// SetHealth writes how a compute answers, and nothing else of it.
func (tx *Tx) SetHealth(ctx context.Context, id string, h Health, reason *workspace.Problem, since int64) error {
	return tx.change(ctx, `UPDATE computes SET health = $2, health_reason = $3, health_since = $4 WHERE id = $1`, id, string(h), problemText(reason), since)
}
