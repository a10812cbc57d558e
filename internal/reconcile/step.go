package reconcile

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// step is one look at one job: load the row, do what is due at the target, write what was seen. It knows the hold only
// by values taken when it began, so nothing of it is shared.
type step struct {
	hold        *hold
	compute     store.Compute
	id          string
	key         compute.Key
	ref         compute.Ref
	status      *compute.Status
	submitted   bool
	seen        time.Time
	environment string
	before      <-chan struct{}
	sent        func()
	down        time.Time // since when this hold has no answer; zero: it has
	silence     time.Time // since when nobody has
	fails       int
}

// result is what a step reports.
type result struct {
	id          string
	ref         compute.Ref
	generation  int64           // of the wish that it saw
	given       *compute.Status // the news that the step began with
	wrote       bool            // and whether it is written
	anew        bool            // it is handed over anew, because it never started
	submitted   bool
	canceled    bool
	environment string        // hash of the environment that was planned
	denied      error         // the target refused what the step did
	ended       bool          // it no longer takes a slot
	done        bool          // nothing more to do for now
	failed      bool          // try again, more slowly each time
	stale       bool          // another server holds the compute
	after       time.Duration // look again then; 0: on news
}

var (
	errWish    = errors.New("reconcile: the wish changed")
	errChanged = errors.New("reconcile: the row changed meanwhile")
)

const (
	// tries is how often handing over is tried when it fails without a verdict.
	tries = 8
	// orderly is how long a job waits for the one before it to be handed over: a large snapshot does not hold up the queue.
	orderly = 200 * time.Millisecond
	// secondLook is how long after a cancel a target without fences is asked again whether the job is really not there.
	secondLook = 2 * time.Second
)

func (s step) do(ctx context.Context) result {
	r := result{id: s.id, ref: s.ref, given: s.status}
	row, err := s.hold.cfg.Store.JobByID(ctx, s.id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		r.done = true
		return r
	case err != nil:
		r.failed, r.after = true, s.pause()
		return r
	}
	r.generation = row.Generation
	if err := s.act(ctx, &row, &r); err != nil {
		s.judge(ctx, &row, err, &r)
	}
	return r
}

// act does the one thing that is due.
func (s step) act(ctx context.Context, row *store.Job, r *result) error {
	switch {
	case row.Due == nil || row.Phase == store.Collected || row.Phase == store.Released:
		r.done = true
		return nil
	case row.Phase == store.Accepted && row.Wish == store.Cancel: // control ended it, or is about to
		r.done = true
		return nil
	case !s.down.IsZero():
		return s.silent(ctx, row, r)
	case row.Phase == store.Accepted:
		return s.submit(ctx, row, r)
	case row.Phase == store.Ended:
		r.ended = true
		return s.home(ctx, row, r)
	case row.Wish == store.Cancel && row.ObservedGeneration < row.Generation:
		return s.cancel(ctx, row, r)
	case s.status != nil:
		return s.apply(ctx, row, *s.status, r)
	default: // a job whose handing over is in doubt is asked about before it is handed over again
		return s.ask(ctx, row, r)
	}
}

// judge turns an error into what follows from it.
func (s step) judge(ctx context.Context, row *store.Job, err error, r *result) {
	if p, ok := errors.AsType[*imagePending](err); ok {
		s.image(ctx, row, p, r)
		return
	}
	switch {
	case errors.Is(err, errLeaseLost), errors.Is(err, compute.ErrStale):
		r.stale = true
		return
	case errors.Is(err, errChanged), errors.Is(context.Cause(ctx), errWish):
		r.after = time.Millisecond
		return
	case ctx.Err() != nil:
		r.after = time.Second
		return
	}
	handing := row.Phase == store.Accepted || row.Phase == store.Handing && !r.submitted && !s.submitted
	r.failed, r.after = true, s.pause()
	switch {
	case errors.Is(err, compute.ErrUnreachable):
		if handing && s.fails > 0 {
			s.wait(ctx, row, problem(err), r)
		}
	case errors.Is(err, compute.ErrThrottled):
		if e, ok := errors.AsType[*compute.Error](err); ok && e.After > 0 {
			r.failed, r.after = false, e.After
		}
		s.wait(ctx, row, problem(err), r)
	case errors.Is(err, compute.ErrFull), errors.Is(err, &workspace.Problem{Code: "DiskFull"}):
		s.wait(ctx, row, problem(err), r)
	case errors.Is(err, compute.ErrDenied):
		r.denied = err
		s.wait(ctx, row, problem(err), r)
	case handing && (verdict(err) || s.fails >= tries):
		s.fail(ctx, row, problem(err), r)
	case row.Phase == store.Ended && verdict(err) && s.fails >= tries: // what it left can never come home
		s.fail(ctx, row, problem(err), r)
	default: // a job that runs ends by its own end alone
		s.hold.log.Warn("step failed and is tried again", "job", row.Name, "phase", row.Phase, "error", err)
		if s.fails > 0 {
			s.wait(ctx, row, problem(err), r)
		}
	}
}

// verdict tells whether an error is about the job itself, so that trying again cannot change it.
func verdict(err error) bool {
	if errors.Is(err, compute.ErrInvalid) || errors.Is(err, compute.ErrNotSupported) {
		return true
	}
	p, ok := errors.AsType[*workspace.Problem](err)
	return ok && (p.Class == workspace.Invalid || p.Class == workspace.Unsupported || p.Class == workspace.NotFound)
}

func (s step) pause() time.Duration {
	return min(backoffFirst<<min(s.fails, 10), backoffLast)
}

// wait shows why a job waits. It keeps its place and its phase.
func (s step) wait(ctx context.Context, row *store.Job, why *workspace.Problem, r *result) {
	state := row.State
	if row.Phase == store.Handing && row.Wish != store.Cancel {
		state = workspace.Queued
	}
	if state.Terminal() { // its end could not be written, and what is written is no end
		return
	}
	if row.State == state && reflect.DeepEqual(row.Reason, why) {
		return
	}
	row.State, row.Reason = state, why
	if err := s.write(ctx, row); errors.Is(err, errLeaseLost) {
		r.stale = true
	}
}

// silent is for a job whose target does not answer: it is shown as such after a while, and given up by policy only. One
// that the target never met keeps its place in the queue.
func (s step) silent(ctx context.Context, row *store.Job, r *result) error {
	gone := s.hold.now().Sub(s.down)
	if gone < patience {
		r.after = patience - gone
		return nil
	}
	r.after = patience
	if row.Phase == store.Accepted {
		return nil
	}
	silence := s.hold.now().Sub(s.silence)
	if limit := s.hold.cfg.Policy.UnreachableAfter; limit > 0 && silence > limit {
		return s.lose(ctx, row, &workspace.Problem{
			Code: "ComputeUnreachable", Message: "compute " + s.compute.Name + " did not answer for " + silence.Round(time.Second).String() + ", so the job was given up",
			Mend: "see to the compute, then submit the job again; what it left there is removed when the compute answers",
		}, r)
	}
	if row.State == workspace.NotResponding || row.State == workspace.CancelRequested {
		return nil
	}
	row.State, row.Reason = workspace.NotResponding, s.compute.HealthReason
	return s.write(ctx, row)
}

// submit marks the job as handed over and hands it over. After a crash in between the target is asked first, and starts
// nothing twice.
func (s step) submit(ctx context.Context, row *store.Job, r *result) error {
	h := s.hold
	build, err := h.cfg.Builder.Build(ctx, *row, s.compute)
	if err != nil {
		return err
	}
	build.Key, build.Epoch = s.key, h.epoch
	if build.Environment != nil {
		r.environment = build.Environment.Hash
	}
	target, release, err := h.cfg.Fleet.Use(ctx, s.compute.ID)
	if err != nil {
		return err
	}
	defer release()
	if row.Phase == store.Accepted {
		row.Phase, row.State, row.Reason = store.Handing, workspace.Starting, nil
		row.Attempt, row.Submitted = s.key.Attempt, h.cfg.Clock.Millis()
		row.Due = new(row.Submitted)
		if err := s.write(ctx, row); err != nil {
			return err
		}
		h.cfg.Fault.Pass(fault.HandingMarked)
	}
	s.turn(ctx)
	ref, err := target.Submit(ctx, build)
	if err != nil {
		return err
	}
	s.sent()
	h.cfg.Fault.Pass(fault.JobSubmitted)
	r.submitted, r.ref = true, ref
	r.after = h.cfg.Policy.Poll
	if string(ref) == row.Ref {
		return nil
	}
	row.Ref, row.Phase = string(ref), store.Submitted
	return s.write(ctx, row)
}

// turn waits until the job before this one in the queue is handed over, for a moment at most.
func (s step) turn(ctx context.Context) {
	if s.before == nil {
		return
	}
	timer := time.NewTimer(orderly)
	defer timer.Stop()
	select {
	case <-s.before:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// cancel passes the wish on. The job's end comes as news.
func (s step) cancel(ctx context.Context, row *store.Job, r *result) error {
	target, release, err := s.hold.cfg.Fleet.Use(ctx, s.compute.ID)
	if err != nil {
		return err
	}
	defer release()
	if err := target.Cancel(ctx, s.handle(), s.hold.epoch); err != nil {
		return err
	}
	s.hold.cfg.Fault.Pass(fault.CancelSent)
	r.canceled = true
	row.ObservedGeneration = row.Generation
	r.after = 200 * time.Millisecond
	return s.write(ctx, row)
}

// ask looks for itself when no news came.
func (s step) ask(ctx context.Context, row *store.Job, r *result) error {
	target, release, err := s.hold.cfg.Fleet.Use(ctx, s.compute.ID)
	if err != nil {
		return err
	}
	defer release()
	status, err := target.Status(ctx, []compute.Handle{s.handle()})
	if err != nil {
		return err
	}
	return s.apply(ctx, row, status[0], r)
}

// apply writes what the target told.
func (s step) apply(ctx context.Context, row *store.Job, status compute.Status, r *result) error {
	s.hold.cfg.Fault.Pass(fault.StatusSeen)
	r.wrote = true
	r.after = s.next(row)
	if status.Ref != "" {
		r.ref, row.Ref = status.Ref, string(status.Ref)
	}
	state, reason := row.State, status.Reason
	switch status.Phase {
	case compute.Ended:
		return s.end(ctx, row, status, r)
	case compute.Missing:
		return s.missing(ctx, row, status, r)
	case compute.Waiting:
		state = workspace.Queued
	case compute.Preparing:
		state = workspace.Preparing
	case compute.Running:
		state = workspace.Running
		if !status.Started.IsZero() {
			row.Started = status.Started.UnixMilli()
		}
	}
	if row.Wish == store.Cancel {
		state = workspace.CancelRequested
		if s.hold.limits.NoFence { // the job may have come after the cancel
			row.ObservedGeneration = 0
			return s.cancel(ctx, row, r)
		}
	}
	note := s.prepared(row, status)
	if state == workspace.Running && row.State == workspace.Running && row.Started > 0 {
		return s.interim(ctx, row, status, r)
	}
	if row.Phase == store.Submitted && state == row.State && reflect.DeepEqual(reason, row.Reason) && len(note) == 0 {
		return nil
	}
	row.Phase, row.State, row.Reason = store.Submitted, state, reason
	return s.write(ctx, row, note...)
}

func (s step) next(row *store.Job) time.Duration {
	if row.Wish == store.Cancel {
		return 500 * time.Millisecond
	}
	return s.hold.cfg.Policy.Interval
}

// missing is an authoritative "never heard of it", once the target has had time to hear of it.
func (s step) missing(ctx context.Context, row *store.Job, status compute.Status, r *result) error {
	canceled := row.Wish == store.Cancel && row.ObservedGeneration >= row.Generation
	wait := s.hold.limits.SubmitGap
	if canceled && s.hold.limits.NoFence {
		wait = max(wait, secondLook)
	}
	if left := wait - s.hold.now().Sub(s.seen); left > 0 {
		r.after = left
		return nil
	}
	switch {
	case canceled:
		return s.finish(ctx, row, workspace.Canceled, nil, r)
	case row.Phase == store.Handing && !s.submitted:
		return s.submit(ctx, row, r)
	case row.Phase != store.Ended && status.Reason != nil && status.Reason.Code == compute.NotStarted:
		// Its target may take away what it knows of the job before it starts it anew. If that is broken off, the job is one
		// that was never handed over, and not one that was lost.
		r.anew = true
		if row.Phase != store.Handing {
			row.Phase = store.Handing
			if err := s.write(ctx, row); err != nil {
				return err
			}
		}
		return s.submit(ctx, row, r)
	case row.Phase == store.Ended && row.ExitCode != nil:
		return s.lose(ctx, row, &workspace.Problem{
			Code: "OutputsLost", Message: "what the job left on compute " + s.compute.Name + " was gone before it came home",
			Cause: fmt.Sprintf("the command ended with exit code %d, and then its folder was removed", *row.ExitCode),
			Mend:  "submit it again; somebody or something removed the compute's folder of this server",
		}, r)
	}
	return s.lose(ctx, row, &workspace.Problem{
		Code: "JobLost", Message: "compute " + s.compute.Name + " no longer knows the job",
		Cause: "its folder there is gone, so how it ended cannot be told",
		Mend:  "submit it again; somebody or something removed the compute's folder of this server",
	}, r)
}

// lose ends a job of which nothing more can come home: what is home of its log is all there will be.
func (s step) lose(ctx context.Context, row *store.Job, why *workspace.Problem, r *result) error {
	size, err := s.log().Seal(ctx, *row, nil)
	if err != nil {
		return err
	}
	row.LogSize = size
	return s.finish(ctx, row, workspace.Failed, why, r)
}

// fail ends a job that can never succeed. If the target may have met it all the same, its key is fenced first, so that
// nothing runs for a job that has failed; what is there of it is taken away by the sweep.
func (s step) fail(ctx context.Context, row *store.Job, why *workspace.Problem, r *result) {
	err := s.fence(ctx, row)
	if err == nil {
		err = s.finish(ctx, row, workspace.Failed, why, r)
	}
	switch {
	case err == nil:
		r.failed, r.after = false, 0
	case errors.Is(err, errLeaseLost), errors.Is(err, compute.ErrStale):
		r.stale = true
	}
}

func (s step) fence(ctx context.Context, row *store.Job) error {
	if row.Phase != store.Handing {
		return nil
	}
	target, release, err := s.hold.cfg.Fleet.Use(ctx, s.compute.ID)
	if err != nil {
		return err
	}
	defer release()
	return target.Cancel(ctx, s.handle(), s.hold.epoch)
}

// finish writes a job's terminal state. Everything that is to come home is home.
func (s step) finish(ctx context.Context, row *store.Job, state workspace.State, why *workspace.Problem, r *result, environments ...store.PreparedEnvironment) error {
	now := s.hold.cfg.Clock.Millis()
	met := row.Phase != store.Accepted
	row.State, row.Reason, row.Error = state, nil, why
	if row.Ended == 0 {
		row.Ended = now
	}
	row.ObservedGeneration = row.Generation
	row.Phase, row.Due = store.Released, nil
	if met {
		row.Phase, row.Due = store.Collected, new(now+s.hold.cfg.Policy.Keep.Milliseconds())
	}
	if err := s.write(ctx, row, environments...); err != nil {
		return err
	}
	s.hold.cfg.Fault.Pass(fault.EndWritten)
	r.wrote, r.ended, r.done = true, true, true
	return nil
}

func (s step) handle() compute.Handle { return compute.Handle{Key: s.key, Ref: s.ref} }

// write writes the row under the lease, with what was learnt of its environment, moves the run that shows the job, and
// tells whoever watches.
func (s step) write(ctx context.Context, row *store.Job, environments ...store.PreparedEnvironment) error {
	h := s.hold
	var changed bool
	err := h.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		var err error
		changed, err = tx.UpdateJob(ctx, *row, store.Guard{ComputeID: h.id, Holder: h.cfg.Holder, Epoch: h.epoch})
		if err != nil || !changed {
			return err
		}
		for _, e := range environments {
			if err := tx.PutPreparedEnvironment(ctx, e); err != nil {
				return err
			}
		}
		tx.Saw(h.id, row.ID)
		if row.State.Terminal() && h.cfg.Ended != nil {
			if err := h.cfg.Ended(ctx, tx, *row); err != nil {
				return err
			}
		}
		return tracking.SetJobRunState(ctx, tx, *row)
	})
	if err != nil {
		return err
	}
	if changed {
		return nil
	}
	lease, err := h.cfg.Store.LeaseOf(ctx, h.id)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && (lease.Holder != h.cfg.Holder || lease.Epoch != h.epoch):
		return errLeaseLost
	case err != nil:
		return err
	}
	return errChanged
}
