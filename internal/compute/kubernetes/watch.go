package kubernetes

import (
	"context"
	"reflect"
	"sync"

	"github.com/moorage-ml/moorage/internal/compute"
)

// ear is one who watches. Changes of one job that were not taken yet are one.
type ear struct {
	mu    sync.Mutex
	names map[string]bool
	err   error
	wake  chan struct{}
}

func (e *ear) fail(err error) {
	e.mu.Lock()
	e.err = err
	e.mu.Unlock()
	e.poke()
}

func (e *ear) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// hear tells those who watch that something about a Job changed.
func (t *Target) hear(name string) {
	if name == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := range t.ears {
		e.mu.Lock()
		e.names[name] = true
		e.mu.Unlock()
		e.poke()
	}
}

// Watch tells of changes as the cluster and the agents in pods do. It ends when the cluster's watch is lost.
func (t *Target) Watch(ctx context.Context, fn func(compute.Status)) error {
	e := &ear{names: map[string]bool{}, wake: make(chan struct{}, 1)}
	t.mu.Lock()
	t.ears[e] = true
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.ears, e)
		t.mu.Unlock()
	}()
	if err := t.look(ctx); err != nil {
		return err
	}
	last := map[string]compute.Status{}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-e.wake:
		}
		e.mu.Lock()
		names, err := e.names, e.err
		e.names = map[string]bool{}
		e.mu.Unlock()
		if err != nil {
			return t.failed(ctx, err)
		}
		for name := range names {
			w := t.jobs.one(name)
			if w == nil {
				delete(last, name)
				continue
			}
			key, ok := t.key(w.Meta)
			if !ok || t.unheard(w) {
				continue
			}
			s := t.state(w, key)
			if was, told := last[name]; told && reflect.DeepEqual(was, s) {
				continue
			}
			last[name] = s
			fn(s)
		}
	}
}

// unheard tells that a pod of the job runs and was not reached yet: there is no news in that.
func (t *Target) unheard(w *work) bool {
	for _, n := range t.all(w) {
		select {
		case <-n.tried:
		default:
			return true
		}
	}
	return false
}
