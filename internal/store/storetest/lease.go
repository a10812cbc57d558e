package storetest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func (e *exam) leaseOneHolder(t *testing.T) {
	s := e.open(t)
	epoch, ok := acquire(t, s, "c", "a", time.Minute)
	if !ok || epoch < 1 {
		t.Fatalf("epoch %d, %v", epoch, ok)
	}
	if _, ok := acquire(t, s, "c", "b", time.Minute); ok {
		t.Fatal("two holders")
	}
	if again, ok := acquire(t, s, "c", "a", time.Minute); !ok || again != epoch {
		t.Fatalf("the holder took it again under epoch %d, %v", again, ok)
	}
	if _, ok := acquire(t, s, "d", "b", time.Minute); !ok {
		t.Fatal("another compute is held too")
	}
}

func (e *exam) leaseEpoch(t *testing.T) {
	s := e.open(t)
	last := int64(0)
	for n := range 6 {
		holder := fmt.Sprint(n)
		epoch, ok := acquire(t, s, "c", holder, time.Minute)
		if !ok || epoch <= last {
			t.Fatalf("epoch %d after %d, %v", epoch, last, ok)
		}
		last = epoch
		write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.ReleaseLease(ctx, "c", holder) })
	}
	// Giving back what another has changes nothing.
	acquire(t, s, "c", "a", time.Minute)
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.ReleaseLease(ctx, "c", "b") })
	if _, ok := acquire(t, s, "c", "b", time.Minute); ok {
		t.Fatal("a stranger gave the lease back")
	}
}

func (e *exam) leaseFreeAll(t *testing.T) {
	s := e.open(t)
	old, _ := acquire(t, s, "c", "a", time.Minute)
	acquire(t, s, "d", "b", time.Minute)
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.FreeLeases(ctx) })
	for _, compute := range []string{"c", "d"} {
		if epoch, ok := acquire(t, s, compute, "new", time.Minute); !ok || epoch <= old {
			t.Errorf("%s: epoch %d after %d, %v", compute, epoch, old, ok)
		}
	}
}

func (e *exam) leasePaused(t *testing.T) {
	url := e.fresh(t)
	a, b := Open(t, url), Open(t, url)
	insertJobs(t, a, job(1))
	old, _ := acquire(t, a, "c", "a", 30*time.Millisecond)
	j := must[store.Job](t)(a.JobByID(t.Context(), id(1)))
	// a sleeps past its time, and b takes over.
	var taken int64
	eventually(t, "b takes the lease that ran out", func() (ok bool) {
		taken, ok = acquire(t, b, "c", "b", time.Minute)
		return ok
	})
	if taken <= old {
		t.Fatalf("epoch %d after %d", taken, old)
	}
	// a wakes up.
	j.State = workspace.Failed
	if update(t, a, j, store.Guard{ComputeID: "c", Holder: "a", Epoch: old}) {
		t.Error("the sleeper's write was taken")
	}
	write(t, a, func(ctx context.Context, tx *store.Tx) error {
		held, err := tx.Renew(ctx, "a", time.Minute)
		if len(held) != 0 {
			t.Errorf("the sleeper still holds %+v", held)
		}
		return err
	})
	if _, ok := acquire(t, a, "c", "a", time.Minute); ok {
		t.Error("the sleeper took a lease that runs")
	}
	if got := must[store.Job](t)(b.JobByID(t.Context(), id(1))); got.State != workspace.Queued {
		t.Errorf("state %s", got.State)
	}
}

func (e *exam) leaseRenew(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	acquire(t, s, "c1", "a", time.Millisecond)
	acquire(t, s, "c2", "a", time.Minute)
	acquire(t, s, "c3", "b", time.Minute)
	before := must[store.Lease](t)(s.LeaseOf(ctx, "c2"))
	var held []store.Lease
	write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
		held, err = tx.Renew(ctx, "a", time.Hour)
		return err
	})
	if len(held) != 2 {
		t.Fatalf("%+v", held)
	}
	for _, l := range held {
		if l.Holder != "a" || l.Epoch != 1 || l.Expires < before.Expires+int64(50*time.Minute/time.Millisecond) {
			t.Errorf("%+v", l)
		}
	}
	if list := must[[]store.Lease](t)(s.Held(ctx, "b")); len(list) != 1 || list[0].ComputeID != "c3" {
		t.Errorf("%+v", list)
	}
	if skew := before.Expires - time.Now().Add(time.Minute).UnixMilli(); max(skew, -skew) > 5000 {
		t.Errorf("the database's clock is %d ms off", skew)
	}
}

func (e *exam) leaseFree(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		for _, c := range []store.Compute{
			{ID: "idle", Due: nil}, {ID: "jobs"}, {ID: "self", Due: new(int64(5))}, {ID: "held", Due: new(int64(5))}, {ID: "late", Due: new(int64(5))},
		} {
			c.WorkspaceID, c.Name = "w", c.ID
			if err := tx.InsertCompute(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
	insertJobs(t, s, job(1, func(j *store.Job) { j.ComputeID = "jobs" }), job(2, func(j *store.Job) { j.ComputeID = "idle"; j.Due = nil }))
	acquire(t, s, "held", "a", time.Minute)
	acquire(t, s, "late", "a", time.Millisecond)
	eventually(t, "the lease of late runs out", func() bool {
		return cmp.Equal(must[[]string](t)(s.Free(ctx)), []string{"jobs", "late", "self"})
	})
}

// Two servers take and lose one lease as fast as they can. At any time at most one of them works, and every write that
// was taken was made by the holder of its time, in the order of the epochs.
func (e *exam) leaseFight(t *testing.T) {
	url := e.fresh(t)
	servers := []*store.Store{Open(t, url), Open(t, url)}
	insertJobs(t, servers[0], job(1))
	ctx := t.Context()
	var turns [2]atomic.Int64
	end := time.Now().Add(10 * time.Second)
	fighting := func() bool { return time.Now().Before(end) && (turns[0].Load() < 5 || turns[1].Load() < 5) }
	var wg sync.WaitGroup
	for n, s := range servers {
		wg.Go(func() {
			holder := fmt.Sprint("server", n)
			for fighting() {
				epoch, ok := acquire(t, s, "c", holder, 5*time.Millisecond)
				if !ok {
					continue
				}
				turns[n].Add(1)
				g := store.Guard{ComputeID: "c", Holder: holder, Epoch: epoch}
				for fighting() { // work until the lease is lost
					changed := false
					err := s.Write(ctx, func(tx *store.Tx) error {
						j, err := tx.JobByID(ctx, id(1))
						if err != nil {
							return err
						}
						var last int64
						if j.Ref != "" {
							if _, err := fmt.Sscan(j.Ref, &last); err != nil {
								return err
							}
						}
						j.Ref = fmt.Sprint(epoch)
						changed, err = tx.UpdateJob(ctx, j, g)
						if changed && last > epoch {
							t.Errorf("a write under epoch %d was taken after one under %d", epoch, last)
						}
						return err
					})
					if err != nil {
						t.Error(err)
					}
					if !changed || err != nil {
						break
					}
					time.Sleep(time.Millisecond) // a loop that does nothing else starves the other on one SQLite file
				}
			}
		})
	}
	wg.Wait()
	if turns[0].Load() < 5 || turns[1].Load() < 5 {
		t.Fatalf("turns %d and %d: one server starves", turns[0].Load(), turns[1].Load())
	}
}
