package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/store"
)

// hold is one compute, held by lease. One goroutine (run) owns everything below "owned by run"; steps and the watch
// are goroutines of their own that report to it by channel.
type hold struct {
	*Loop
	id     string // of the compute
	limits compute.Limits
	epoch  int64
	log    *slog.Logger

	stop     chan struct{} // closed by drop
	stopOnce sync.Once
	hints    chan store.Hint
	missed   atomic.Bool // hints came faster than they were taken: look at everything
	news     chan compute.Status
	results  chan result
	link     chan error  // nil: the target answers; else why not
	watched  atomic.Bool // the target tells of changes by itself

	// owned by run
	compute store.Compute
	jobs    map[string]*job // those that the target may know and that are not yet home, and those being submitted
	steps   sync.WaitGroup
	adopted bool            // what earlier holders handed over is among jobs
	down    time.Time       // since when the target does not answer; zero: it does
	polls   int             // how often all were asked about since the target answers
	poll    time.Time       // when to ask about all; zero: not yet
	cleanup time.Time       // when to look for what is to be released
	pulling bool            // the queue may have more
	last    <-chan struct{} // closed when the job that was pulled last is handed over

	sweeping atomic.Bool
}

// job is what the holder remembers of a job between steps. Everything in it can be found again from its row.
type job struct {
	id          string
	key         compute.Key
	ref         compute.Ref
	generation  int64                   // of the newest wish known
	handed      bool                    // counts against the slots
	submitted   bool                    // Submit was answered under this hold
	seen        time.Time               // when this hold last told the target of it, or found it
	environment string                  // hash of its environment, if it was planned under this hold
	before      <-chan struct{}         // closed when the job before it in the queue is handed over; nil: order does not matter
	sent        func()                  // tells the one behind it
	busy        bool                    // a step is at work
	interrupt   context.CancelCauseFunc // of that step
	again       bool                    // something happened meanwhile
	status      *compute.Status         // the newest news, not yet written
	due         time.Time               // when to look at it without news; zero: only on news
	fails       int
}

// settle is how long news that is not the end of a job waits for newer news before it is written.
const settle = 100 * time.Millisecond

// releaseBatch bounds how many ended jobs are released in one go.
const releaseBatch = 200

func newHold(l *Loop, c store.Compute, epoch int64) *hold {
	return &hold{
		Loop: l, id: c.ID, compute: c, limits: l.cfg.Fleet.Limits(c.Kind), epoch: epoch,
		log:     l.cfg.Log.With("compute", c.Name, "kind", c.Kind),
		stop:    make(chan struct{}),
		hints:   make(chan store.Hint, 256),
		news:    make(chan compute.Status, 256),
		results: make(chan result, 16),
		link:    make(chan error, 1),
		jobs:    map[string]*job{},
	}
}

// hint never blocks: a lost hint is made good by a look at everything.
func (h *hold) hint(hint store.Hint) {
	select {
	case h.hints <- hint:
	default:
		h.missed.Store(true) // and the full channel wakes run
	}
}

// drop ends the hold. It may be repeated.
func (h *hold) drop() { h.stopOnce.Do(func() { close(h.stop) }) }

func (h *hold) run(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { h.watch(ctx) })
	defer func() {
		cancel(errStopped)
		h.drain(&watch)
	}()
	h.adopt(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.stop:
			return
		case hint := <-h.hints:
			h.hinted(ctx, hint)
		case s := <-h.news:
			h.told(s)
		case r := <-h.results:
			if !h.finished(ctx, r) {
				return
			}
		case err := <-h.link:
			h.linked(ctx, err)
		case <-timer.C:
			h.tick(ctx)
		}
		if h.missed.Swap(false) {
			h.hinted(ctx, store.Hint{ComputeID: h.id})
		}
		h.dispatch(ctx)
		timer.Reset(h.nextTick())
	}
}

// drain waits for steps and watch to end, taking their reports so that none blocks.
func (h *hold) drain(watch *sync.WaitGroup) {
	done := make(chan struct{})
	go func() { h.steps.Wait(); watch.Wait(); close(done) }()
	for {
		select {
		case <-h.results:
		case <-h.news:
		case <-h.link:
		case <-done:
			return
		}
	}
}

// adopt finds the jobs that an earlier holder handed over, and wishes that were missed. What fails is tried again by tick.
func (h *hold) adopt(ctx context.Context) {
	h.pulling = true
	rows, err := h.cfg.Store.HandedJobs(ctx, h.id)
	h.adopted = err == nil
	if err != nil {
		if ctx.Err() == nil {
			h.log.Warn("jobs cannot be read", "error", err)
		}
		return
	}
	for _, r := range rows {
		if j := h.jobs[r.ID]; j != nil {
			h.wished(j, r.Generation)
			continue
		}
		h.jobs[r.ID] = &job{
			id: r.ID, key: h.key(r), ref: compute.Ref(r.Ref), generation: r.Generation, handed: r.Phase != store.Ended, seen: h.now(), due: h.now(), sent: func() {},
		}
	}
}

func (h *hold) hinted(ctx context.Context, hint store.Hint) {
	if hint.JobID == "" {
		h.refresh(ctx)
		h.adopt(ctx)
		return
	}
	j := h.jobs[hint.JobID]
	switch {
	case j == nil:
		h.pulling = true
	case !j.busy:
		j.due = h.now()
	default: // the hint may be of the wish that the step is at work for
		row, err := h.cfg.Store.JobRow(ctx, j.id)
		if err != nil {
			j.again = true
			return
		}
		h.wished(j, row.Generation)
	}
}

// wished sees to a job whose wish changed. A step at work is interrupted: it may be sending a large snapshot for a job
// that is no longer wanted.
func (h *hold) wished(j *job, generation int64) {
	if generation <= j.generation {
		return
	}
	j.generation = generation
	j.due, j.again = h.now(), true
	if j.busy {
		j.interrupt(errWish)
	}
}

// refresh reads the compute again: its slots may have changed, or it is being detached.
func (h *hold) refresh(ctx context.Context) {
	c, err := h.cfg.Store.ComputeByID(ctx, h.id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		h.drop()
	case err == nil:
		h.compute = c
		h.cfg.Fleet.Refresh(c.ID, c.Version())
		if c.State != store.ComputeSucceeded {
			h.drop()
		}
	}
}

// told keeps the newest status of a job. The end of a job is acted on at once, the rest may settle.
func (h *hold) told(s compute.Status) {
	j := h.jobs[s.Key.Job]
	if j == nil || s.Key != j.key {
		return
	}
	if j.status != nil && j.status.Phase == compute.Ended {
		return
	}
	j.status = &s
	switch {
	case s.Phase == compute.Ended, j.due.IsZero():
		j.due = h.now()
		if s.Phase != compute.Ended {
			j.due = j.due.Add(settle)
		}
	case j.due.After(h.now().Add(settle)):
		j.due = h.now().Add(settle)
	}
	j.again = true
}

// finished takes a step's report. It is false when the lease is lost.
func (h *hold) finished(ctx context.Context, r result) bool {
	if r.stale {
		h.log.Info("another server holds the compute now")
		return false
	}
	j := h.jobs[r.id]
	if j == nil {
		return true
	}
	j.busy = false
	if r.done {
		delete(h.jobs, r.id)
		h.pulling = true
		return true
	}
	if r.ended && j.handed {
		j.handed = false
		h.pulling = true
	}
	j.ref = r.ref
	j.generation = max(j.generation, r.generation)
	j.submitted = j.submitted && !r.anew || r.submitted
	if r.environment != "" {
		j.environment = r.environment
	}
	if r.submitted || r.canceled {
		j.seen = h.now()
	}
	h.rights(ctx, r)
	if r.failed {
		j.fails++
	} else {
		j.fails = 0
	}
	newer := j.status != r.given
	if !newer && r.wrote {
		j.status = nil
	}
	switch {
	case newer, j.again:
		j.due = h.now()
	case r.after > 0:
		j.due = h.now().Add(r.after)
	default:
		j.due = time.Time{}
	}
	return true
}

// tick does what only time brings: the queue, what is to be asked about, what is to be released.
func (h *hold) tick(ctx context.Context) {
	now := h.now()
	if !h.poll.IsZero() && !now.Before(h.poll) && h.down.IsZero() {
		h.poll = now.Add(h.pollAfter())
		h.polls++
		h.ask(ctx)
	}
	if now.Before(h.cleanup) {
		return
	}
	h.cleanup = now.Add(2 * time.Second)
	h.pulling = true
	if !h.adopted {
		h.adopt(ctx)
	}
	if h.down.IsZero() {
		h.sweep(ctx)
	}
}

// pollAfter is the time to the next question about all jobs. The first ones after a connect come soon, since what changed
// before Watch began is told by nobody; and a target that does not watch is asked all the time.
func (h *hold) pollAfter() time.Duration {
	if h.polls < 2 || !h.watched.Load() {
		return min(h.cfg.Policy.Poll, time.Second)
	}
	return h.cfg.Policy.Poll
}

func (h *hold) nextTick() time.Duration {
	now := h.now()
	next := h.cleanup
	if !h.poll.IsZero() && h.down.IsZero() && h.poll.Before(next) {
		next = h.poll
	}
	for _, j := range h.jobs {
		if !j.busy && !j.due.IsZero() && j.due.Before(next) {
			next = j.due
		}
	}
	return max(next.Sub(now), time.Millisecond)
}

// dispatch fills free places from the queue and starts a step for every job that has something due.
func (h *hold) dispatch(ctx context.Context) {
	if h.pulling && h.down.IsZero() {
		h.pull(ctx)
	}
	now := h.now()
	for _, j := range h.jobs {
		if j.busy || j.due.IsZero() || j.due.After(now) {
			continue
		}
		stepCtx, interrupt := context.WithCancelCause(ctx)
		j.busy, j.again, j.due, j.interrupt = true, false, time.Time{}, interrupt
		work := step{
			hold: h, compute: h.compute, id: j.id, key: j.key, ref: j.ref, status: j.status, submitted: j.submitted, seen: j.seen,
			environment: j.environment, before: j.before, sent: j.sent, down: h.down, silence: h.silence(), fails: j.fails,
		}
		j.before = nil
		h.steps.Go(func() {
			r := work.do(stepCtx)
			work.sent()
			interrupt(nil)
			h.results <- r
		})
	}
}

// pull takes jobs from the queue, in order, as long as fewer than twice the slots are handed over. Those for which no
// slot may be free are handed over one after the other, so that they wait at the target in the order of the queue.
func (h *hold) pull(ctx context.Context) {
	h.pulling = false
	slots := max(h.compute.Slots, 1)
	handed := 0
	for _, j := range h.jobs {
		if j.handed {
			handed++
		}
	}
	if handed >= 2*slots {
		return
	}
	rows, err := h.cfg.Store.NextJobs(ctx, h.id, 2*slots+len(h.jobs)) // those that are known already may be the first
	if err != nil {
		if ctx.Err() == nil {
			h.log.Warn("the queue cannot be read", "error", err)
		}
		return // the cleanup tick pulls again
	}
	for _, r := range rows {
		if _, known := h.jobs[r.ID]; known {
			continue
		}
		if handed == 2*slots {
			return
		}
		sent := make(chan struct{})
		j := &job{id: r.ID, key: h.key(r), generation: r.Generation, handed: true, seen: h.now(), due: h.now(), sent: sync.OnceFunc(func() { close(sent) })}
		if handed >= slots {
			j.before = h.last
		}
		h.jobs[r.ID], h.last = j, sent
		handed++
	}
}

func (h *hold) key(r store.Job) compute.Key {
	return compute.Key{Server: h.cfg.Server, Compute: h.id, Job: r.ID, Attempt: max(r.Attempt, 1)}
}

func (h *hold) now() time.Time { return h.cfg.Clock.Now() }
