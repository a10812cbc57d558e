package fake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// scope is an attachment, as a machine tells them apart.
type scope struct{ server, compute string }

// Machine is one fake machine. It is safe for concurrent use.
type Machine struct {
	name   string
	limits compute.Limits
	ctx    context.Context //nolint:containedctx // the life of the world, under which jobs run
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	faults    faults
	slots     int
	gpus      int
	jobs      map[compute.Key]*job
	queue     []*job
	epochs    map[scope]int64
	channels  map[string]chan struct{}
	started   map[compute.Key]int
	watchers  map[*watcher]bool
	made      map[string]bool      // environments
	stillborn map[compute.Key]bool // accepted, and never started
	closed    bool
}

// job is one job. It is guarded by Machine.mu.
type job struct {
	compute.Job
	phase   compute.Phase
	reason  *workspace.Problem
	hidden  time.Time // from Status, until then
	began   time.Time
	log     []byte
	prepare []byte
	files   []file
	exit    *compute.Exit
	changed chan struct{}   // closed and renewed at each change
	ctx     context.Context //nolint:containedctx // the life of the job
	cancel  context.CancelCauseFunc
	holds   bool // a slot
}

type file struct {
	output string
	compute.File
	content []byte
}

type watcher struct {
	scope scope
	news  chan compute.Status
}

var (
	errCanceled = errors.New("fake: canceled")
	errTimedOut = errors.New("fake: timed out")
	errLost     = errors.New("fake: lost")
)

func newMachine(name string, limits compute.Limits) *Machine {
	ctx, stop := context.WithCancel(context.Background())
	return &Machine{
		name: name, limits: limits, ctx: ctx, stop: stop, slots: 2,
		faults: faults{
			broken: make(chan struct{}), next: map[Verb][]error{}, always: map[Verb]error{}, unheard: map[Verb]int{},
			hooks: map[Verb]func(context.Context, compute.Key) error{}, calls: map[Verb]int{}, gap: limits.SubmitGap,
		},
		jobs: map[compute.Key]*job{}, epochs: map[scope]int64{}, channels: map[string]chan struct{}{}, started: map[compute.Key]int{},
		watchers: map[*watcher]bool{}, made: map[string]bool{},
	}
}

func (m *Machine) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.stop()
	m.wg.Wait()
}

func (m *Machine) resize(slots, gpus int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slots == 0 {
		slots = 2
	}
	m.slots, m.gpus = slots, gpus
	m.dispatch()
}

// Signal lets every job go on that waits for a channel by "wait NAME", now or later.
func (m *Machine) Signal(name string) {
	ch := m.channel(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-ch:
	default:
		close(ch)
	}
}

func (m *Machine) channel(name string) chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	ch := m.channels[name]
	if ch == nil {
		ch = make(chan struct{})
		m.channels[name] = ch
	}
	return ch
}

// Started tells how often the command of a key was started; more than once is what must never be.
func (m *Machine) Started(key compute.Key) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.started[key]
}

// Jobs lists the keys of the jobs that the machine knows, in no order. What is over and not released is among them.
func (m *Machine) Jobs() []compute.Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []compute.Key
	for k := range m.jobs {
		out = append(out, k)
	}
	return out
}

// Lose ends a job without anybody knowing how, as when its supervisor was killed.
func (m *Machine) Lose(key compute.Key) { m.end(key, errLost) }

// Forget lets the machine forget a job, running or not, as engines do whose memory is short.
func (m *Machine) Forget(key compute.Key) {
	m.end(key, errLost)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.jobs, key)
}

var notStarted = &workspace.Problem{Code: compute.NotStarted, Message: "the fake accepted the job and never started it", Mend: "it is submitted again"}

// Stillborn lets the machine know a job that it accepted and never started, until it is submitted again. Whether that succeeds
// or fails, it knows nothing of it any more, as an engine that takes the remains away first.
func (m *Machine) Stillborn(key compute.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stillborn == nil {
		m.stillborn = map[compute.Key]bool{}
	}
	m.stillborn[key] = true
}

func (m *Machine) end(key compute.Key, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if j := m.jobs[key]; j != nil {
		j.cancel(why)
		if j.phase == compute.Waiting {
			m.finish(j, exitOf(j, why, 0))
		}
	}
}

// fence notes an epoch and tells whether it is a stale one. m.mu is held.
func (m *Machine) fence(s scope, epoch int64) bool {
	if m.limits.NoEpoch {
		return false
	}
	if epoch < m.epochs[s] {
		return true
	}
	m.epochs[s] = epoch
	return false
}

// accept takes a job unless it is known. m.mu is held.
func (m *Machine) accept(spec compute.Job) error {
	if m.jobs[spec.Key] != nil {
		return nil
	}
	if m.closed {
		return Unreachable()
	}
	if spec.GPUs > m.gpus {
		return failure(compute.ErrInvalid, "NotEnoughGPUs", fmt.Sprintf("the job asks for %d GPUs and the fake machine has %d", spec.GPUs, m.gpus))
	}
	j := &job{Job: spec, phase: compute.Waiting, changed: make(chan struct{}), hidden: time.Now().Add(m.faults.gap)}
	j.ctx, j.cancel = context.WithCancelCause(m.ctx)
	m.jobs[spec.Key] = j
	m.queue = append(m.queue, j)
	m.dispatch()
	if j.phase == compute.Waiting {
		j.reason = &workspace.Problem{
			Class: workspace.Unavailable, Code: "WaitingForSlot", Warning: true, Message: fmt.Sprintf("the job waits for one of %d slots", m.slots),
			Mend: "nothing needs doing",
		}
		m.tell(j)
	}
	return nil
}

// dispatch starts what there is room for, in the order of coming. m.mu is held.
func (m *Machine) dispatch() {
	for len(m.queue) > 0 {
		slots, gpus := m.slots, m.gpus
		for _, j := range m.jobs {
			if j.holds {
				slots--
				gpus -= j.GPUs
			}
		}
		j := m.queue[0]
		if slots < 1 || gpus < j.GPUs {
			return
		}
		m.queue = m.queue[1:]
		j.holds = true
		m.move(j, compute.Preparing)
		m.wg.Go(func() { m.run(j) })
	}
}

// move changes a job's phase. m.mu is held.
func (m *Machine) move(j *job, p compute.Phase) {
	j.phase, j.reason = p, nil
	if p == compute.Running {
		j.began = time.Now()
		m.started[j.Key]++
	}
	m.tell(j)
}

// finish ends a job and starts the next. m.mu is held.
func (m *Machine) finish(j *job, x compute.Exit) {
	x.Ended, x.LogSize, x.LogDropped, x.Files = time.Now(), int64(len(j.log)), 0, len(j.files) > 0
	if len(j.log) <= 8<<10 {
		x.Log = slices.Clone(j.log)
	}
	j.exit, j.holds = &x, false
	m.queue = slices.DeleteFunc(m.queue, func(q *job) bool { return q == j })
	m.move(j, compute.Ended)
	j.cancel(nil)
	m.dispatch()
}

// tell wakes who follows and who watches. m.mu is held.
func (m *Machine) tell(j *job) {
	close(j.changed)
	j.changed = make(chan struct{})
	for w := range m.watchers {
		if w.scope != (scope{j.Key.Server, j.Key.Compute}) {
			continue
		}
		select {
		case w.news <- m.status(j):
		default: // a watcher that does not listen has lost its connection
			delete(m.watchers, w)
			close(w.news)
		}
	}
}

// status tells how a job is. m.mu is held.
func (m *Machine) status(j *job) compute.Status {
	s := compute.Status{Key: j.Key, Ref: ref(j.Key), Phase: j.phase, Reason: j.reason, Started: j.began, LogSize: int64(len(j.log))}
	if j.phase == compute.Preparing && j.Environment != nil {
		s.Env = j.Environment.Hash
	}
	if j.exit != nil {
		x := *j.exit
		s.Exit = &x
	}
	return s
}

func ref(key compute.Key) compute.Ref { return compute.Ref("fake:" + key.String()) }

// exitOf makes the record of an end.
func exitOf(j *job, why error, code int) compute.Exit {
	p := func(code, message string) *workspace.Problem {
		return &workspace.Problem{Code: code, Message: message, Cause: "the fake's language says so", Mend: "look at the test"}
	}
	switch {
	case errors.Is(why, errCanceled):
		return compute.Exit{Outcome: compute.Canceled, Code: -1, Signal: "TERM"}
	case errors.Is(why, errTimedOut):
		return compute.Exit{Outcome: compute.TimedOut, Code: -1, Signal: "TERM", Problem: p("TimedOut", fmt.Sprintf("the job ran longer than %s", j.Timeout))}
	case why != nil:
		return compute.Exit{Outcome: compute.Lost, Code: -1, Problem: p("SupervisorKilled", "how the command ended is not known")}
	case code != 0:
		return compute.Exit{Outcome: compute.Failed, Code: code, Problem: p("CommandFailed", fmt.Sprintf("the command ended with exit code %d", code))}
	}
	return compute.Exit{Outcome: compute.Succeeded}
}
