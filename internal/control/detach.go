package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/fleet"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// cancelWait is how long Detach waits for cancelled jobs to end, and for a target to be reached.
const cancelWait = 60 * time.Second

// Detach forgets a compute and its secrets, and takes away what this attachment placed on the target, and only that.
// The target itself is never touched. It is refused while jobs run, unless they are to be cancelled. left names what
// had to stay behind because the target did not answer.
func (c *Control) Detach(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, opts DetachOptions) (left []string, err error) {
	row, err := c.Compute(ctx, p, ws, name)
	if err != nil {
		return nil, err
	}
	if row.Alias == "" && row.State != store.ComputeFailed && row.State != store.ComputeCreating {
		if err := c.emptyCompute(ctx, p, ws, row, opts); err != nil {
			return nil, err
		}
		if left, err = c.clear(ctx, row, opts.Force); err != nil {
			return left, err
		}
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error { return c.forget(ctx, tx, row) })
	c.Fleet.Forget(row.ID)
	return left, err
}

// forget takes the compute's rows away: its secrets, and the names that only stood for it. The compute may have changed
// since row was read; by its id it is the same.
func (c *Control) forget(ctx context.Context, tx *store.Tx, row store.Compute) error {
	computes, err := tx.Computes(ctx, row.WorkspaceID)
	if err != nil {
		return err
	}
	for _, other := range computes {
		if row.Alias == "" && other.Alias == row.Name {
			if err := tx.DeleteCompute(ctx, other.ID); err != nil {
				return err
			}
		}
	}
	if err := tx.DeleteSecret(ctx, row.ID); err != nil {
		return err
	}
	if err := tx.DeleteCompute(ctx, row.ID); err != nil && !errors.Is(err, store.ErrNotFound) { // another detached it too
		return err
	}
	tx.Hint(row.ID, "")
	return nil
}

// emptyCompute sees to it that no job of the compute is unfinished.
func (c *Control) emptyCompute(ctx context.Context, p workspace.Principal, ws workspace.Workspace, row store.Compute, opts DetachOptions) error {
	for {
		unfinished, err := c.unfinished(ctx, ws, row)
		if err != nil || len(unfinished) == 0 {
			return err
		}
		if !opts.CancelJobs && !opts.Force {
			return inUse(row, len(unfinished), unfinished[0].Name)
		}
		if err := c.endJobs(ctx, p, ws, row, opts, unfinished); err != nil {
			return err
		}
	}
}

func inUse(row store.Compute, jobs int, name string) error {
	return &workspace.Problem{
		Class: workspace.Conflict, Code: "ComputeInUse", Target: row.Name,
		Message: "compute " + quote(row.Name) + " has " + some(jobs, "unfinished job", name),
		Mend:    fmt.Sprintf("wait for the end, or cancel what is unfinished: moorage compute detach %s --cancel-jobs", row.Name),
	}
}

// endJobs cancels jobs and waits for their end; with force, those that do not end in time are given up.
func (c *Control) endJobs(ctx context.Context, p workspace.Principal, ws workspace.Workspace, row store.Compute, opts DetachOptions, unfinished []store.Job) error {
	for _, j := range unfinished {
		if err := c.CancelJob(ctx, p, ws, j.Name); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(cancelWait)
	for _, j := range unfinished {
		wait := time.Until(deadline)
		if opts.Force && row.Health != store.Healthy {
			wait = min(wait, time.Second)
		}
		job, err := c.WaitJob(ctx, p, ws, j.Name, max(wait, time.Millisecond))
		if err != nil {
			return err
		}
		switch {
		case job.State.Terminal():
		case opts.Force:
			if err := c.AbandonJob(ctx, p, ws, j.Name); err != nil {
				return err
			}
		default:
			return &workspace.Problem{
				Class: workspace.Conflict, Code: "ComputeInUse", Target: row.Name,
				Message: fmt.Sprintf("job %q on compute %q did not end in time", j.Name, row.Name),
				Mend:    fmt.Sprintf("try again, or give it up: moorage compute detach %s --force", row.Name),
			}
		}
	}
	return nil
}

func (c *Control) unfinished(ctx context.Context, ws workspace.Workspace, row store.Compute) ([]store.Job, error) {
	return c.Store.Jobs(ctx, ws.ID, store.JobFilter{ComputeID: row.ID, States: workspace.Unfinished(), IncludeArchived: true}, store.Page{Limit: 1000})
}

// clear marks the compute as going, which makes its holder let it go, and removes what was placed on the target. From
// the mark on no job is accepted, and it is not set while there is one.
func (c *Control) clear(ctx context.Context, row store.Compute, force bool) (left []string, err error) {
	mark := func(ctx context.Context, state store.ComputeState) error {
		return c.Store.Write(ctx, func(tx *store.Tx) error {
			now, err := tx.ComputeByID(ctx, row.ID)
			if err != nil {
				return notFound(err, "compute", row.Name)
			}
			if state == store.ComputeDeleting {
				switch n, err := tx.CountActive(ctx, row.ID); {
				case err != nil:
					return err
				case n > 0:
					return inUse(row, n, "")
				}
			}
			now.State = state
			tx.Hint(row.ID, "")
			return tx.UpdateCompute(ctx, now)
		})
	}
	if err := mark(ctx, store.ComputeDeleting); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	err = c.removeAll(ctx, row)
	if err == nil {
		return nil, nil
	}
	if force {
		return []string{fmt.Sprintf("what was placed on %s stays there, in the folder .moorage/%s/%s of the login, because the target did not answer: %s",
			row.Address, c.Fleet.Server(), row.ID, asProblem(err).Message)}, nil
	}
	if back := mark(context.WithoutCancel(ctx), store.ComputeSucceeded); back != nil {
		return nil, back
	}
	why := *asProblem(err)
	why.Mend = fmt.Sprintf("see to the target, or detach without clearing it up: moorage compute detach %s --force", row.Name)
	return nil, &why
}

func (c *Control) removeAll(ctx context.Context, row store.Compute) error {
	target, release, err := c.Fleet.Use(ctx, row.ID)
	if err != nil {
		return err
	}
	defer release()
	remover, ok := fleet.Ability[compute.Remover](target)
	if !ok {
		return nil
	}
	return remover.RemoveAll(ctx)
}
