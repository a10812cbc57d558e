package fake

import (
	"context"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Verb names a call.
type Verb string

// The verbs.
const (
	Open    Verb = "open"
	Probe   Verb = "probe"
	Submit  Verb = "submit"
	Status  Verb = "status"
	Cancel  Verb = "cancel"
	Logs    Verb = "logs"
	Collect Verb = "collect"
	Release Verb = "release"
	Watch   Verb = "watch"
	Remove  Verb = "remove"
)

// faults is how a machine misbehaves. It is guarded by Machine.mu.
type faults struct {
	down     bool
	broken   chan struct{} // closed while down
	denied   bool
	slow     time.Duration
	next     map[Verb][]error // of the next calls, before they have an effect
	always   map[Verb]error
	unheard  map[Verb]int // so many answers are lost after the effect
	hooks    map[Verb]func(context.Context, compute.Key) error
	gap      time.Duration
	findings []workspace.Problem
	calls    map[Verb]int
}

// Down makes the machine unreachable, and reachable again. Logs that are followed and watching end; jobs go on.
func (m *Machine) Down(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if down == m.faults.down {
		return
	}
	m.faults.down = down
	if down {
		close(m.faults.broken)
		return
	}
	m.faults.broken = make(chan struct{})
}

// Deny makes the machine refuse the credentials of every call.
func (m *Machine) Deny(denied bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.denied = denied
}

// Slow makes every call take so long.
func (m *Machine) Slow(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.slow = d
}

// Fail makes the next call of a verb fail with err, without an effect; called again, the one after it too.
func (m *Machine) Fail(v Verb, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.next[v] = append(m.faults.next[v], err)
}

// FailAlways makes every call of a verb fail with err, without an effect, until it is nil.
func (m *Machine) FailAlways(v Verb, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.always[v] = err
}

// Throttle makes the next call of a verb fail as throttled.
func (m *Machine) Throttle(v Verb, after time.Duration) {
	m.Fail(v, &compute.Error{Kind: compute.ErrThrottled, After: after, Problem: workspace.Problem{
		Class: workspace.Throttled, Code: "Throttled", Message: "the fake machine asks to be left alone for a while", Mend: "nothing needs doing: the server waits",
	}})
}

// LoseAnswer makes the next n calls of a verb have their effect and then fail as unreachable: what a crash or a cut line
// just after the side effect looks like.
func (m *Machine) LoseAnswer(v Verb, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.unheard[v] += n
}

// Hook has fn called at each call of a verb, before its effect, outside any lock: it may block, end the world of the test,
// or give the call's error. Nil takes the hook away. For verbs about many jobs or none the key is empty.
func (m *Machine) Hook(v Verb, fn func(ctx context.Context, key compute.Key) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.hooks[v] = fn
}

// Gap hides each job from Status for a while after its submit, as engines do that answer from a cache.
func (m *Machine) Gap(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.gap = d
}

// Find gives what Probe tells as findings.
func (m *Machine) Find(findings ...workspace.Problem) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults.findings = findings
}

// Calls tells how often a verb was called.
func (m *Machine) Calls(v Verb) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.faults.calls[v]
}

// enter is the beginning of every call: what goes wrong before its effect.
func (m *Machine) enter(ctx context.Context, v Verb, key compute.Key) error {
	m.mu.Lock()
	m.faults.calls[v]++
	slow, hook := m.faults.slow, m.faults.hooks[v]
	m.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
		}
	}
	if hook != nil {
		if err := hook(ctx, key); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.faults.down:
		return Unreachable()
	case m.faults.denied:
		return Denied()
	case m.faults.always[v] != nil:
		return m.faults.always[v]
	}
	if queue := m.faults.next[v]; len(queue) > 0 {
		m.faults.next[v] = queue[1:]
		return queue[0]
	}
	return nil
}

// leave is the end of every call: what goes wrong after its effect.
func (m *Machine) leave(v Verb) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.faults.down {
		return Unreachable()
	}
	if m.faults.unheard[v] > 0 {
		m.faults.unheard[v]--
		return Unreachable()
	}
	return nil
}
