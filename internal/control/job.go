package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// SubmitJob accepts a job under the client's name, or reports the one of that name with created false. When it
// returns, the job is durable and will end exactly once. properties is the ARM document's, and is kept as it is.
func (c *Control) SubmitJob(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, properties json.RawMessage) (job store.Job, created bool, err error) {
	if p := workspace.CheckName("job", name); p != nil {
		return store.Job{}, false, p
	}
	if err := c.room(); err != nil {
		return store.Job{}, false, err
	}
	j, err := parseCommandJob(properties)
	if err != nil {
		return store.Job{}, false, err
	}
	on, err := c.jobCompute(ctx, ws, j)
	if err != nil {
		return store.Job{}, false, err
	}
	spec, err := c.resolve(ctx, ws, name, j, on)
	if err != nil {
		return store.Job{}, false, err
	}
	job = c.newJob(p, ws, name, j, on)
	job.Doc, job.GPUs = properties, spec.GPUs
	if job.Spec, err = json.Marshal(spec); err != nil {
		return store.Job{}, false, fmt.Errorf("control: job %s: %w", name, err)
	}
	return c.accept(ctx, ws, job, tracking.JobRun{Tags: j.Tags, Parent: j.ParentJobName}, nil)
}

// accept inserts a job and its run in one transaction, or reports the job that has the name already. Of run it fills in what
// the job says; record is what else the run history shall know, or nil.
func (c *Control) accept(ctx context.Context, ws workspace.Workspace, job store.Job, run tracking.JobRun, record *store.RunRecord) (accepted store.Job, created bool, err error) {
	run.WorkspaceID, run.Name, run.Experiment, run.DisplayName = ws.ID, job.Name, job.Experiment, job.DisplayName
	run.User, run.Created = job.CreatedBy, job.Created
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		if now, err := tx.ComputeByID(ctx, job.ComputeID); err != nil || now.State != store.ComputeSucceeded { // detached since it was looked up
			return errors.Join(notFound(err, "compute", job.ComputeName), notReady(now))
		}
		if err := tx.InsertJob(ctx, job); err != nil {
			return err
		}
		tx.Hint(job.ComputeID, job.ID)
		if err := tracking.CreateJobRun(ctx, tx, run); err != nil || record == nil {
			return err
		}
		row, err := tx.Run(ctx, ws.ID, job.Name)
		if err != nil {
			return err
		}
		return tx.PutRunRecord(ctx, row.Number, *record)
	})
	if errors.Is(err, store.ErrExists) {
		job, err = c.Store.Job(ctx, ws.ID, job.Name)
		return job, false, err
	}
	if err != nil {
		return store.Job{}, false, err
	}
	c.Fault.Pass(fault.JobAccepted)
	return job, true, nil
}

func (c *Control) newJob(p workspace.Principal, ws workspace.Workspace, name string, j *commandJob, on store.Compute) store.Job {
	now := c.Clock.Millis()
	job := store.Job{
		ID: c.Clock.NewID(), WorkspaceID: ws.ID, Name: name, ComputeID: on.ID, ComputeName: on.Name,
		Experiment: j.ExperimentName, DisplayName: j.DisplayName, JobType: "Command",
		State: workspace.Queued, Wish: store.WishRun, Phase: store.Accepted, Priority: j.priority(),
		Attempt: 1, Created: now, Due: &now, Generation: 1, ObservedGeneration: 1,
		CreatedBy: p.Name,
	}
	if job.Experiment == "" {
		job.Experiment = "Default"
	}
	if job.DisplayName == "" {
		job.DisplayName = name
	}
	job.Tags, _ = json.Marshal(j.Tags)             // strings always encode
	job.Properties, _ = json.Marshal(j.Properties) // strings always encode
	return job
}

// jobCompute is the compute that a job names, or the default one, ready to take jobs.
func (c *Control) jobCompute(ctx context.Context, ws workspace.Workspace, j *commandJob) (store.Compute, error) {
	name := lastSegment(j.ComputeID)
	if name == "" || j.isLocal() {
		name = c.DefaultCompute
	}
	on, err := c.standsFor(ctx, ws, name)
	if err != nil {
		return store.Compute{}, err
	}
	return on, notReady(on)
}

// notReady refuses a compute that takes no jobs. One that is gone is for others to refuse.
func notReady(on store.Compute) error {
	if on.ID == "" || on.State == store.ComputeSucceeded {
		return nil
	}
	return &workspace.Problem{
		Class: workspace.Conflict, Code: "ComputeNotReady", Target: on.Name,
		Message: fmt.Sprintf("compute %q takes no jobs", on.Name),
		Cause:   "it is in state " + string(on.State),
		Mend:    "see what is wrong: moorage compute show " + on.Name,
	}
}

// Job gives a job by name.
func (c *Control) Job(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) (store.Job, error) {
	job, err := c.Store.Job(ctx, ws.ID, name)
	if err != nil {
		return store.Job{}, notFound(err, "job", name)
	}
	return c.placed(ctx, c.explained(ctx, job)), nil
}

// CancelJob wishes the end of a job. A job that no target met yet is Canceled at once; over already: nil.
func (c *Control) CancelJob(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) error {
	job, err := c.Store.Job(ctx, ws.ID, name)
	if err != nil {
		return notFound(err, "job", name)
	}
	return c.cancel(ctx, job)
}

func (c *Control) cancel(ctx context.Context, job store.Job) error {
	return c.Store.Write(ctx, func(tx *store.Tx) error {
		ended, err := tx.CancelQueued(ctx, job.ID)
		if err != nil {
			return err
		}
		tx.Hint(job.ComputeID, job.ID)
		if !ended {
			_, err := tx.WishCancel(ctx, job.ID)
			return err
		}
		job.State, job.Ended = workspace.Canceled, c.Clock.Millis()
		return tracking.SetJobRunState(ctx, tx, job)
	})
}

// AbandonJob ends a job in the books alone: for one whose compute will never answer. What runs there may go on.
func (c *Control) AbandonJob(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) error {
	job, err := c.Store.Job(ctx, ws.ID, name)
	if err != nil {
		return notFound(err, "job", name)
	}
	why := &workspace.Problem{
		Code: "Abandoned", Message: "the job was abandoned before its end was known",
		Mend: "what it left on the compute, and perhaps itself, is still there",
	}
	abandoned := false
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		if job, err = tx.JobByID(ctx, job.ID); err != nil || job.State.Terminal() {
			return err
		}
		job.State, job.Reason, job.Error, job.Ended = workspace.Failed, nil, why, c.Clock.Millis()
		job.Phase, job.Due, job.LogInline = store.Released, nil, nil
		if err := tx.ForceJob(ctx, job); err != nil {
			return err
		}
		abandoned = true
		tx.Hint(job.ComputeID, job.ID)
		return tracking.SetJobRunState(ctx, tx, job)
	})
	if err != nil || !abandoned {
		return err
	}
	if _, err := (tracking.JobLog{Blob: c.Blob}).Seal(ctx, job, nil); err != nil { // its pieces are found all the same
		c.Log.Warn("the log of an abandoned job could not be put together", "job", job.Name, "error", err)
	}
	return nil
}

// look is how long at most WaitJob and WatchJob trust hints before they look for themselves.
const look = 2 * time.Second

// WaitJob returns when the job is terminal or the time is up, with the job as it is then.
func (c *Control) WaitJob(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, timeout time.Duration) (store.Job, error) {
	if timeout <= 0 {
		return c.Job(ctx, p, ws, name)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last store.Job
	err := c.WatchJob(limited, p, ws, name, func(j store.Job) error { last = j; return nil })
	switch {
	case err == nil || limited.Err() == nil || ctx.Err() != nil:
		return last, err
	case last.ID == "": // the time was too short to read it even once
		return c.Job(ctx, p, ws, name)
	}
	return last, nil
}

// WatchJob calls fn with the job as it is, and again after each change of state or reason, until it is terminal, fn fails or ctx ends.
func (c *Control) WatchJob(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string, fn func(store.Job) error) error {
	job, err := c.Store.Job(ctx, ws.ID, name)
	if err != nil {
		return notFound(err, "job", name)
	}
	wake, remove := c.watchers.add(job.ID)
	defer remove()
	var last store.Job
	for {
		job, err := c.Store.JobByID(ctx, job.ID)
		if err != nil {
			return err
		}
		job = c.explained(ctx, job)
		if last.ID == "" || differs(last, job) {
			last = job
			if err := fn(c.placed(ctx, job)); err != nil {
				return err
			}
		}
		if job.State.Terminal() {
			return nil
		}
		if err := c.await(ctx, wake, look); err != nil {
			return err
		}
	}
}

// await returns at the next wake, after the time, or with ctx's error.
func (c *Control) await(ctx context.Context, wake <-chan struct{}, at time.Duration) error {
	timer := time.NewTimer(at)
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return &workspace.Problem{Class: workspace.Unavailable, Code: "ServerStopping", Message: "the server is stopping", Mend: "ask again when it is back; the job goes on"}
	}
	return nil
}

func differs(a, b store.Job) bool {
	return a.State != b.State || !reflect.DeepEqual(a.Reason, b.Reason) || a.Started != b.Started
}

// JobFiles lists what a job brought home.
func (c *Control) JobFiles(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) ([]store.JobFile, error) {
	job, err := c.Store.Job(ctx, ws.ID, name)
	if err != nil {
		return nil, notFound(err, "job", name)
	}
	return c.Store.JobFiles(ctx, job.ID)
}

// JobLog writes a job's log from an offset on and returns the offset after it. With follow it ends when the job has
// ended and everything was written; it outlives lost connections to the compute. Streams are those of compute.LogQuery.
func (c *Control) JobLog(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name, stream string, from int64, follow bool, w io.Writer) (int64, error) {
	job, err := c.Store.Job(ctx, ws.ID, name)
	if err != nil {
		return from, notFound(err, "job", name)
	}
	from = max(from, 0)
	wake, remove := c.watchers.add(job.ID)
	defer remove()
	pause := 5 * time.Millisecond
	for {
		if job, err = c.Store.JobByID(ctx, job.ID); err != nil {
			return from, err
		}
		if job.State.Terminal() {
			return c.homeLog(ctx, job, stream, from, w)
		}
		if job.Phase == store.Accepted && stream != "" {
			next, waits, err := c.waitingLog(ctx, job, from, w)
			if err != nil || waits && !follow {
				return next, err
			}
			from = next
		}
		if job.Phase != store.Accepted {
			next, err := c.targetLog(ctx, job, compute.LogQuery{Stream: stream, From: from, Follow: follow}, w)
			if err == nil || ctx.Err() != nil || !lost(err) {
				return next, err
			}
			if next > from {
				pause = 5 * time.Millisecond
			}
			from = next
		}
		if !follow {
			return c.homeLog(ctx, job, stream, from, w)
		}
		if err := c.await(ctx, wake, pause); err != nil {
			return from, err
		}
		pause = min(2*pause, look)
	}
}

// lost tells whether a log may go on later: the target is silent, or does not know the job yet.
func lost(err error) bool {
	return errors.Is(err, compute.ErrUnreachable) || errors.Is(err, compute.ErrNotFound) || errors.Is(err, compute.ErrThrottled) || errors.Is(err, compute.ErrDenied)
}

func (c *Control) homeLog(ctx context.Context, job store.Job, stream string, from int64, w io.Writer) (int64, error) {
	log := tracking.JobLog{Blob: c.Blob}
	switch {
	case stream != "":
		return log.ReadPreparing(ctx, job, from, w)
	case job.LogInline != nil && int64(len(job.LogInline)) == job.LogSize:
		if from >= job.LogSize {
			return from, nil
		}
		n, err := w.Write(job.LogInline[from:])
		return from + int64(n), err
	}
	return log.Read(ctx, job, from, w)
}

func (c *Control) targetLog(ctx context.Context, job store.Job, q compute.LogQuery, w io.Writer) (int64, error) {
	target, release, err := c.Fleet.Use(ctx, job.ComputeID)
	if err != nil {
		return q.From, err
	}
	defer release()
	return target.Logs(ctx, c.handle(job), q, w)
}

func (c *Control) handle(job store.Job) compute.Handle {
	return compute.Handle{
		Key: compute.Key{Server: c.Fleet.Server(), Compute: job.ComputeID, Job: job.ID, Attempt: job.Attempt},
		Ref: compute.Ref(job.Ref),
	}
}
