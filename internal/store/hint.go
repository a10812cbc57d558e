package store

import (
	"context"
	"slices"
	"sync"
)

// Hint says that something about a compute or one of its jobs was written. It is only a hint: it may come twice, and a
// reader must not rely on it. The zero Hint says that hints were lost and everything may have changed.
type Hint struct {
	ComputeID string `json:"c,omitempty"`
	JobID     string `json:"j,omitempty"`
	// Seen marks news of what was seen at a target, which concerns those who watch. Other hints are wishes, which
	// concern the holder of the compute's lease as well.
	Seen bool `json:"s,omitempty"`
}

// Hint gives a hint of a wish after this transaction was committed: to everyone in this process at once, and to other
// servers on the same PostgreSQL soon after.
func (tx *Tx) Hint(computeID, jobID string) { tx.hint(Hint{ComputeID: computeID, JobID: jobID}) }

// Saw is Hint for news of what was seen.
func (tx *Tx) Saw(computeID, jobID string) {
	tx.hint(Hint{ComputeID: computeID, JobID: jobID, Seen: true})
}

func (tx *Tx) hint(h Hint) {
	if slices.Contains(tx.hints, h) {
		return
	}
	tx.hints = append(tx.hints, h)
}

// Hints gives every hint from now on until ctx ends or the Store is closed; then the channel is closed. A slow reader
// gets one zero Hint for those that it missed.
func (s *Store) Hints(ctx context.Context) <-chan Hint {
	return s.hub.subscribe(ctx)
}

// hints that wait for one reader, beyond which they are folded into one zero Hint.
const hintBuffer = 256

type hub struct {
	mu     sync.Mutex
	closed bool
	subs   map[*subscriber]struct{}
}

type subscriber struct {
	ch   chan Hint
	stop func() bool
}

func (h *hub) subscribe(ctx context.Context) <-chan Hint {
	s := &subscriber{ch: make(chan Hint, hintBuffer)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || ctx.Err() != nil {
		close(s.ch)
		return s.ch
	}
	if h.subs == nil {
		h.subs = map[*subscriber]struct{}{}
	}
	h.subs[s] = struct{}{}
	s.stop = context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(s)
	})
	return s.ch
}

func (h *hub) drop(s *subscriber) {
	if _, ok := h.subs[s]; ok {
		delete(h.subs, s)
		close(s.ch)
	}
}

func (h *hub) send(hints []Hint) {
	if len(hints) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		for _, hint := range hints {
			s.push(hint)
		}
	}
}

// push never blocks. The last free place only ever takes the zero Hint; while that one waits at the end, what comes is
// covered by it, since the reader has yet to take it.
func (s *subscriber) push(hint Hint) {
	switch cap(s.ch) - len(s.ch) {
	case 0:
	case 1:
		s.ch <- Hint{}
	default:
		s.ch <- hint
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.subs {
		s.stop()
		h.drop(s)
	}
}
