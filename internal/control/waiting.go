package control

import (
	"context"
	"errors"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// queueShown is how far into a compute's queue a list of jobs tells their places. One job alone is told any place.
const queueShown = 1000

// Jobs lists jobs, newest first. Those that wait for their compute have a Reason and, near the head of its queue, a
// Position.
func (c *Control) Jobs(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, f store.JobFilter, page store.Page) ([]store.Job, error) {
	jobs, err := c.Store.Jobs(ctx, ws.ID, f, page)
	if err != nil {
		return nil, err
	}
	queues := map[string]queue{}
	for i, job := range jobs {
		if !waits(job) {
			continue
		}
		q, known := queues[job.ComputeID]
		if !known {
			if q, err = c.queue(ctx, job.ComputeID); err != nil {
				return nil, err
			}
			queues[job.ComputeID] = q
		}
		jobs[i].Reason, jobs[i].Position = reason(job, q.compute), q.places[job.ID]
	}
	return jobs, nil
}

// queue is the head of a compute's queue: places by job, from 1.
type queue struct {
	compute store.Compute
	places  map[string]int
}

func (c *Control) queue(ctx context.Context, computeID string) (queue, error) {
	on, err := c.Store.ComputeByID(ctx, computeID)
	if err != nil && !errors.Is(err, store.ErrNotFound) { // one that is gone says nothing
		return queue{}, err
	}
	head, err := c.Store.QueueHead(ctx, computeID, queueShown)
	places := make(map[string]int, len(head))
	for i, id := range head {
		places[id] = i + 1
	}
	return queue{on, places}, err
}

// waits tells whether no target has met the job yet.
func waits(job store.Job) bool { return job.Phase == store.Accepted && !job.State.Terminal() }

// explained adds why a waiting job waits, and placed how many are before it. What cannot be read is left out.
func (c *Control) explained(ctx context.Context, job store.Job) store.Job {
	if !waits(job) {
		return job
	}
	if on, err := c.Store.ComputeByID(ctx, job.ComputeID); err == nil {
		job.Reason = reason(job, on)
	}
	return job
}

func (c *Control) placed(ctx context.Context, job store.Job) store.Job {
	if !waits(job) {
		return job
	}
	if at, err := c.Store.QueuePosition(ctx, job); err == nil {
		job.Position = at
	}
	return job
}

// reason is why a waiting job waits: what was seen when it was to be handed over, else the health of its compute.
func reason(job store.Job, on store.Compute) *workspace.Problem {
	if job.Reason != nil || on.ID == "" {
		return job.Reason
	}
	if on.Health != store.HealthUnreachable && on.Health != store.HealthDenied {
		return &workspace.Problem{Code: "WaitsForSlot", Message: "waits for a slot on compute " + on.Name, Warning: true}
	}
	why := &workspace.Problem{Code: "ComputeUnhealthy", Message: "waits for compute " + on.Name + ", which is " + string(on.Health), Warning: true}
	if cause := on.HealthReason; cause != nil {
		why.Cause, why.Mend = cause.Message, cause.Mend
		if cause.Cause != "" {
			why.Cause += ": " + cause.Cause
		}
	}
	return why
}
