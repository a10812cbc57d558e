package batch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Target is an attached cluster. It is neither a Watcher nor a Dialer: supervisors run on machines that the agent's
// machine knows nothing of.
type Target struct {
	kept     *kept.Target
	env      compute.Env
	settings Settings
	comment  string
	settle   time.Duration

	mu   sync.Mutex
	gone map[string]time.Time // by key: since when the queue does not show a job that left no record
	deaf error                // what the queue last failed with
	ask  time.Time            // when it is asked again after that
}

const (
	askLimit = 5 * time.Second  // for a look at the queue; its programs wait longer for a controller that is away
	askAgain = 10 * time.Second // after a look that failed
)

// Submit makes the job's folder and queues its supervisor.
func (t *Target) Submit(ctx context.Context, job compute.Job) (compute.Ref, error) {
	if job.GPUs > 0 {
		return "", &compute.Error{Kind: compute.ErrNotSupported, Problem: workspace.Problem{
			Class: workspace.Unsupported, Code: "NoGPUs", Message: fmt.Sprintf("the job asks for %d GPUs, and batch computes ask Slurm for none yet", job.GPUs),
			Mend: "give sbatch options that ask for them with --set 'options=[--gpus=1]' (setting options), or submit the job to a compute of kind ssh",
		}}
	}
	ref, err := t.kept.Submit(ctx, job)
	return ref, t.refused(err)
}

// refused sorts what sbatch says by what follows from it.
func (t *Target) refused(err error) error {
	e, ok := errors.AsType[*compute.Error](err)
	if !ok || e.Problem.Code != "ProgramFailed" {
		return err
	}
	says := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(e.Problem.Cause, w) {
				return true
			}
		}
		return false
	}
	out := *e
	switch {
	case says("Unable to contact slurm controller", "Connection refused", "Socket timed out", "Zero Bytes were transmitted", "Communication connection failure"):
		out.Problem.Code, out.Problem.Message = "SlurmUnreachable", "Slurm's controller does not answer"
		out.Problem.Mend = "nothing needs doing if it is being maintained; else look at scontrol ping on the login node"
	case says("QOSMaxSubmitJob", "AssocMaxSubmitJob", "submit limit", "temporarily unable to accept job"):
		out.Kind, out.Problem.Code, out.Problem.Message = compute.ErrFull, "SlurmSubmitLimit", "Slurm takes no more jobs of this user now"
		out.Problem.Mend = "nothing needs doing: the job is handed over when others have ended"
	case says("Access/permission denied", "not permitted", "Invalid account", "Invalid user id"):
		out.Kind, out.Problem.Class, out.Problem.Code, out.Problem.Message = compute.ErrDenied, workspace.Denied, "SlurmDenied", "Slurm refuses jobs of this user"
		out.Problem.Mend = "correct account, partition or qos in the compute's settings, or ask the cluster's administrator"
	case says("Invalid", "invalid", "unrecognized option", "Requested node configuration is not available", "violates"):
		out.Kind, out.Problem.Class, out.Problem.Code, out.Problem.Message = compute.ErrInvalid, workspace.Invalid, "SlurmRefused", "Slurm refuses the job"
		out.Problem.Mend = "correct partition, qos or options in the compute's settings"
	}
	return &out
}

// Status reads the folder, and asks the queue in one call about all that have not ended.
func (t *Target) Status(ctx context.Context, jobs []compute.Handle) ([]compute.Status, error) {
	out, err := t.kept.Status(ctx, jobs)
	if err != nil {
		return nil, err
	}
	open := func(s compute.Status) bool { return s.Phase != compute.Ended && s.Phase != compute.Missing }
	waits := false
	for _, s := range out {
		waits = waits || open(s)
	}
	if !waits {
		return out, nil
	}
	queue, err := t.look(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return t.unasked(out, err), nil
	}
	lost := false
	for i, s := range out {
		e, queued := queue[s.Key.String()]
		switch {
		case !open(s):
			t.seen(s.Key)
		case queued:
			t.seen(s.Key)
			if s.Phase == compute.Waiting && s.Reason == nil {
				out[i].Reason = e.reason()
			}
		case t.overdue(s.Key):
			if err := t.bury(ctx, s); err != nil {
				return nil, err
			}
			lost = true
		}
	}
	if lost {
		return t.kept.Status(ctx, jobs)
	}
	return out, nil
}

// look asks the queue, unless it failed to answer a moment ago.
func (t *Target) look(ctx context.Context) (map[string]entry, error) {
	now := t.env.Clock.Now()
	t.mu.Lock()
	err, ask := t.deaf, t.ask
	t.mu.Unlock()
	if err != nil && now.Before(ask) {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, askLimit, errSlow)
	defer cancel()
	queue, err := t.queue(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deaf, t.ask = err, t.env.Clock.Now().Add(askAgain)
	return queue, err
}

var errSlow = errors.New("squeue does not answer")

// unasked is what stands in the folder, when the queue does not answer. Jobs go on without it.
func (t *Target) unasked(all []compute.Status, err error) []compute.Status {
	why := workspace.Problem{
		Class: workspace.Unavailable, Code: "SlurmUnreachable", Message: "Slurm does not say why the job waits", Warning: true,
		Mend: "nothing needs doing if it is being maintained; else look at squeue on the login node",
	}
	why.Cause = causeOf(err)
	for i, s := range all {
		if s.Phase == compute.Waiting && s.Reason == nil {
			all[i].Reason = &why
		}
	}
	return all
}

// overdue tells whether the queue has not shown a job for so long that its record, if there were one, would be seen here.
func (t *Target) overdue(key compute.Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.env.Clock.Now()
	since, ok := t.gone[key.String()]
	if !ok {
		t.gone[key.String()] = now
		return false
	}
	return now.Sub(since) >= t.settle
}

func (t *Target) seen(key compute.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.gone, key.String())
}

// bury records the end of a job that left the queue and no record.
func (t *Target) bury(ctx context.Context, s compute.Status) error {
	p := workspace.Problem{
		Code: "LeftTheQueue", Message: "Slurm ended the job, and its supervisor left no record", Cause: "squeue no longer shows it",
		Mend: "look at sacct on the login node for why: a node that failed, a time limit or an administrator are the usual reasons; then submit the job again",
	}
	if s.Phase != compute.Running {
		p.Message = "Slurm ended the job before its command started"
	}
	err := t.kept.Do(ctx, func(c *keeper.Client) error { return c.Bury(ctx, s.Key.String(), p) })
	if err == nil {
		t.seen(s.Key)
	}
	return err
}

// Cancel leaves the tombstone, which is what counts, and then tells Slurm, which makes it quick.
func (t *Target) Cancel(ctx context.Context, job compute.Handle, epoch int64) error {
	if err := t.kept.Cancel(ctx, job, epoch); err != nil {
		return err
	}
	queue, err := t.queue(ctx)
	if e, ok := queue[job.Key.String()]; ok && err == nil {
		// A pending job leaves the queue; the supervisor of a running one ends the tree, with the job's own grace.
		_, err = t.program(ctx, append([]string{"sh", "-c", `scancel --quiet --state=PENDING "$@"; scancel --quiet --batch --signal=TERM "$@"`, "sh"}, e.ids...)...)
	}
	if err != nil {
		t.env.Log.WarnContext(ctx, "Slurm was not told of a cancel; the job's supervisor finds it out", "job", job.Key.Job, "err", err)
	}
	return nil
}

// program runs a program on the login node.
func (t *Target) program(ctx context.Context, args ...string) ([]byte, error) {
	var out []byte
	err := t.kept.Do(ctx, func(c *keeper.Client) (err error) {
		out, err = c.Run(ctx, t.settings.Programs, args...)
		return err
	})
	return out, err
}

// Logs reads the supervisor's file in the shared folder.
func (t *Target) Logs(ctx context.Context, job compute.Handle, q compute.LogQuery, w io.Writer) (int64, error) {
	return t.kept.Logs(ctx, job, q, w)
}

// Collect brings outputs home from the shared folder.
func (t *Target) Collect(ctx context.Context, job compute.Handle, out compute.Outputs) error {
	return t.kept.Collect(ctx, job, out)
}

// Release removes the job's folder. Slurm's own memory of it fades by itself.
func (t *Target) Release(ctx context.Context, job compute.Handle, epoch int64) error {
	t.seen(job.Key)
	return t.kept.Release(ctx, job, epoch)
}

// RemoveAll ends the attachment's jobs and removes what was placed for it.
func (t *Target) RemoveAll(ctx context.Context) error {
	if queue, err := t.queue(ctx); err == nil {
		for _, e := range queue {
			_, _ = t.program(ctx, append([]string{"scancel", "--quiet", "--state=PENDING"}, e.ids...)...)
		}
	}
	return t.kept.RemoveAll(ctx)
}

// Close ends the agent. Jobs go on.
func (t *Target) Close() error { return t.kept.Close() }

var (
	_ compute.Target  = (*Target)(nil)
	_ compute.Remover = (*Target)(nil)
)
