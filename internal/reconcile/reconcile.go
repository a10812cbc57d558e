// Package reconcile moves what is towards what is wanted. For each compute it holds a lease; the holder owns the
// connection, the queue and the slots of that compute. A step for a job loads its row, does one thing at the target
// outside any transaction, and writes what it saw under the lease's epoch: a stale server's write changes nothing.
// Control writes wishes and hints; this package alone writes what was seen.
//
//	accepted ──► handing ──────────────► submitted ──► ended ──► collected ──► released
//	 in the       perhaps known to       known to       log and    row is        nothing left
//	 queue        its target: Submit     its target     files      terminal      at the target
//	              repeats                               come home
//
// A submitted job of which its target says that it never started is handing again, while it is handed over anew.
// A job that is cancelled while accepted never meets a target; control ends it.
package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/internal/fleet"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Policy is how patient the loop is.
type Policy struct {
	Lease            time.Duration // how long a lease lasts without renewal
	Keep             time.Duration // how long an ended job's folder stays at the target after all is home
	UnreachableAfter time.Duration // a job whose compute cannot be reached for so long has failed; 0: never
	Interval         time.Duration // files and log of a running job come home so often
	Poll             time.Duration // how often jobs are asked about beside what Watch tells
}

// DefaultPolicy suits a small server.
func DefaultPolicy() Policy {
	return Policy{
		Lease:            10 * time.Second,
		Keep:             30 * time.Second,
		UnreachableAfter: 24 * time.Hour,
		Interval:         15 * time.Second,
		Poll:             15 * time.Second,
	}
}

// Config is what a Loop is made of.
type Config struct {
	Store   *store.Store
	Blob    blob.Store
	CAS     *blob.CAS
	Fleet   *fleet.Fleet
	Builder Builder
	// Ended does what else belongs to a job's end, in the transaction that writes it; nil: nothing.
	Ended  func(ctx context.Context, tx *store.Tx, job store.Job) error
	Server string // this server's id, part of every key
	Holder string // this process's id, the holder of leases
	Log    *slog.Logger
	Clock  clock.Source
	Policy Policy
	Fault  *fault.Points
}

// Builder turns a job's row into what a target runs: environment planned, inputs made trees, variables set. It may
// take long (inputs from the blob store are hashed, a tool is fetched) and is called outside any transaction.
type Builder interface {
	Build(ctx context.Context, job store.Job, c store.Compute) (compute.Job, error)
}

// Loop is the reconciler of one server process.
type Loop struct {
	cfg Config

	mu    sync.Mutex
	holds map[string]*hold // by compute
}

// New makes a loop; Run runs it.
func New(cfg Config) *Loop {
	return &Loop{cfg: cfg, holds: map[string]*hold{}}
}

// Run takes leases and works until ctx ends; then it lets its leases go and returns.
func (l *Loop) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hints := l.cfg.Store.Hints(ctx)
	var group sync.WaitGroup
	defer l.letGo()
	defer group.Wait()
	defer cancel(errStopped)

	scan := time.NewTicker(l.cfg.Policy.Lease / 5)
	defer scan.Stop()
	renewed := l.cfg.Clock.Now()
	l.take(ctx, &group)
	for {
		select {
		case <-ctx.Done():
			return nil
		case h, open := <-hints:
			if !open {
				return nil
			}
			l.hint(ctx, h, &group)
		case <-scan.C:
			orphans, ok := l.renew(ctx)
			if ok {
				renewed = l.cfg.Clock.Now()
			} else if l.cfg.Clock.Now().Sub(renewed) > l.cfg.Policy.Lease {
				l.dropAll()
			}
			for _, id := range orphans {
				l.takeOne(ctx, id, &group)
			}
			l.take(ctx, &group)
		}
	}
}

var (
	errStopped   = errors.New("reconcile: the server stops")
	errLeaseLost = errors.New("reconcile: another server holds the compute")
)

// hint wakes the holder of a compute. A wish for a compute that nobody here holds may be ours to take. The zero Hint
// says that hints were lost.
func (l *Loop) hint(ctx context.Context, h store.Hint, group *sync.WaitGroup) {
	if h.Seen {
		return // our own kind of news
	}
	if h.ComputeID == "" {
		l.mu.Lock()
		for id, held := range l.holds {
			held.hint(store.Hint{ComputeID: id})
		}
		l.mu.Unlock()
		l.take(ctx, group)
		return
	}
	l.mu.Lock()
	held := l.holds[h.ComputeID]
	l.mu.Unlock()
	if held != nil {
		held.hint(h)
		return
	}
	l.takeOne(ctx, h.ComputeID, group)
}

// renew prolongs every lease and drops the holds of those that are gone. orphans are computes whose lease is ours and for
// which nothing works here. It is false when the store does not answer.
func (l *Loop) renew(ctx context.Context) (orphans []string, ok bool) {
	limited, cancel := context.WithTimeout(ctx, l.cfg.Policy.Lease/2)
	defer cancel()
	var leases []store.Lease
	err := l.cfg.Store.Write(limited, func(tx *store.Tx) (err error) {
		leases, err = tx.Renew(limited, l.cfg.Holder, l.cfg.Policy.Lease)
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			l.cfg.Log.Warn("leases cannot be renewed", "error", err)
		}
		return nil, false
	}
	held := map[string]int64{}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lease := range leases {
		held[lease.ComputeID] = lease.Epoch
		if l.holds[lease.ComputeID] == nil {
			orphans = append(orphans, lease.ComputeID)
		}
	}
	for id, h := range l.holds {
		if epoch, ok := held[id]; !ok || epoch != h.epoch {
			h.drop()
		}
	}
	return orphans, true
}

// dropAll gives up every hold: the store was silent for longer than a lease lasts, so others may hold them.
func (l *Loop) dropAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.holds {
		h.drop()
	}
}

// take acquires every lease that is free.
func (l *Loop) take(ctx context.Context, group *sync.WaitGroup) {
	free, err := l.cfg.Store.Free(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.cfg.Log.Warn("computes cannot be listed", "error", err)
		}
		return
	}
	for _, id := range free {
		l.takeOne(ctx, id, group)
	}
}

func (l *Loop) takeOne(ctx context.Context, computeID string, group *sync.WaitGroup) {
	l.mu.Lock()
	_, held := l.holds[computeID]
	l.mu.Unlock()
	if held {
		return
	}
	c, err := l.cfg.Store.ComputeByID(ctx, computeID)
	if err != nil || c.State != store.ComputeSucceeded || c.Alias != "" {
		return // being attached, being detached, or gone
	}
	var epoch int64
	var ok bool
	err = l.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		epoch, ok, err = tx.Acquire(ctx, computeID, l.cfg.Holder, l.cfg.Policy.Lease)
		return err
	})
	if err != nil || !ok {
		return // the next scan tries again
	}
	h := newHold(l, c, epoch)
	l.mu.Lock()
	l.holds[computeID] = h
	l.mu.Unlock()
	group.Go(func() {
		h.run(ctx)
		l.giveBack(ctx, computeID)
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.holds, computeID)
	})
}

// giveBack frees the lease of a hold that ended before the server does, if it is still ours: whoever takes it next, this
// server included, gets a higher epoch. The compute is not taken anew before that.
func (l *Loop) giveBack(ctx context.Context, computeID string) {
	if ctx.Err() != nil {
		return // letGo frees all at once
	}
	err := l.cfg.Store.Write(ctx, func(tx *store.Tx) error { return tx.ReleaseLease(ctx, computeID, l.cfg.Holder) })
	if err != nil && ctx.Err() == nil {
		l.cfg.Log.Warn("a lease could not be given back; it is taken up again or expires", "error", err)
	}
}

// letGo frees the leases at a graceful stop, so that another server need not wait for them to expire.
func (l *Loop) letGo() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := l.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		held, err := tx.Held(ctx, l.cfg.Holder)
		for _, lease := range held {
			err = errors.Join(err, tx.ReleaseLease(ctx, lease.ComputeID, l.cfg.Holder))
		}
		return err
	})
	if err != nil {
		l.cfg.Log.Warn("leases could not be let go; they expire", "error", err)
	}
}

// problem is what a person should know of an error.
func problem(err error) *workspace.Problem {
	if p, ok := errors.AsType[*workspace.Problem](err); ok {
		return p
	}
	return &workspace.Problem{Code: "InternalError", Message: "the server failed", Cause: err.Error(), Mend: "see the server's log; the job is tried again"}
}
