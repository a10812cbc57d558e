package keeper

import (
	"container/list"
	"sync"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

// known remembers which objects the target has, as far as this connection knows. It is bounded; forgetting costs only a
// question. The target has the last word: it answers a submit with what is missing.
type known struct {
	mu    sync.Mutex
	order *list.List // of snapshot.Hash, last used first
	at    map[snapshot.Hash]*list.Element
}

const maxKnown = 100_000

func newKnown() *known {
	return &known{order: list.New(), at: map[snapshot.Hash]*list.Element{}}
}

func (k *known) has(h snapshot.Hash) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.at[h]
	if ok {
		k.order.MoveToFront(e)
	}
	return ok
}

func (k *known) add(h snapshot.Hash) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e, ok := k.at[h]; ok {
		k.order.MoveToFront(e)
		return
	}
	k.at[h] = k.order.PushFront(h)
	if k.order.Len() > maxKnown {
		last := k.order.Back()
		delete(k.at, last.Value.(snapshot.Hash))
		k.order.Remove(last)
	}
}

func (k *known) forget(h snapshot.Hash) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e, ok := k.at[h]; ok {
		k.order.Remove(e)
		delete(k.at, h)
	}
}
