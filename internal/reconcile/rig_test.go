package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/fleet"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "rapid.checks" })
	if !chosen { // each world has a database of its own
		_ = flag.Set("rapid.checks", "12")
	}
	goleak.VerifyTestMain(m)
}

// rig is a store, a fake machine attached as one compute, and servers that work for it.
type rig struct {
	*testing.T
	store   *store.Store
	blob    blob.Store
	world   *fake.World
	machine *fake.Machine
	driver  compute.Driver
	compute store.Compute
	policy  Policy
	build   builder // nil: the job's command and environment as they are

	system clock.Source
	ahead  atomic.Int64 // how far the servers' clock is ahead, in nanoseconds
	looked atomic.Int64 // how often it was read
}

type builder func(ctx context.Context, row store.Job) (compute.Job, error)

// Build makes the rig's own builder the reconciler's.
func (b builder) Build(ctx context.Context, row store.Job, _ store.Compute) (compute.Job, error) {
	return b(ctx, row)
}

func plain(_ context.Context, row store.Job) (compute.Job, error) {
	var spec workspace.JobSpec
	err := json.Unmarshal(row.Spec, &spec)
	job := compute.Job{Name: row.Name, Command: spec.Command, Timeout: time.Duration(spec.Timeout) * time.Second}
	if len(spec.Environment) > 0 {
		job.Environment = &compute.Environment{}
		err = json.Unmarshal(spec.Environment, job.Environment)
	}
	return job, err
}

// newRig makes a rig without a server.
func newRig(t *testing.T, limits compute.Limits) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{T: t, system: clock.System(), world: fake.New(limits), build: plain, policy: Policy{
		Lease: 2 * time.Second, Keep: time.Hour, UnreachableAfter: time.Hour, Interval: 100 * time.Millisecond, Poll: 50 * time.Millisecond,
	}}
	r.machine, r.driver = r.world.Machine("m"), r.world.Driver()
	t.Cleanup(r.world.Close)
	var err error
	if r.store, err = store.Open(t.Context(), store.Config{URL: "sqlite:" + filepath.Join(dir, "db")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.store.Close() })
	if r.blob, err = blob.NewDisk(filepath.Join(dir, "blobs")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.blob.(*blob.Disk).Close() })
	now := r.clock().Millis()
	r.compute = store.Compute{
		ID: "c1", WorkspaceID: "w", Name: "gpu", Kind: "fake", Settings: json.RawMessage(`{"machine":"m"}`), State: store.ComputeSucceeded,
		Health: store.HealthUnknown, Slots: 2, Created: now, Modified: now, Due: &now,
	}
	r.write(func(ctx context.Context, tx *store.Tx) error { return tx.InsertCompute(ctx, r.compute) })
	return r
}

func (r *rig) clock() clock.Source {
	c := r.system
	c.Now = func() time.Time {
		r.looked.Add(1)
		return time.Now().UTC().Add(time.Duration(r.ahead.Load()))
	}
	return c
}

// pass makes time pass for the servers, and wakes them.
func (r *rig) pass(d time.Duration) {
	r.ahead.Add(int64(d))
	r.write(func(_ context.Context, tx *store.Tx) error { tx.Hint(r.compute.ID, ""); return nil })
}

func (r *rig) write(fn func(ctx context.Context, tx *store.Tx) error) {
	r.Helper()
	ctx := context.WithoutCancel(r.Context())
	if err := r.store.Write(ctx, func(tx *store.Tx) error { return fn(ctx, tx) }); err != nil {
		r.Fatal(err)
	}
}

// serve starts a server; stop ends it in good order, as the end of the test does.
func (r *rig) serve(holder string) (stop func()) {
	r.Helper()
	targets := fleet.New(fleet.Config{
		Drivers: []compute.Driver{r.driver}, Server: "srv", Log: r.log(), Clock: r.clock(),
		Settings: func(ctx context.Context, id string) (fleet.Settings, error) {
			c, err := r.store.ComputeByID(ctx, id)
			return fleet.Settings{Kind: c.Kind, JSON: c.Settings, Version: c.Version()}, err
		},
	})
	loop := New(Config{
		Store: r.store, Blob: r.blob, Fleet: targets, Builder: builder(func(ctx context.Context, row store.Job) (compute.Job, error) { return r.build(ctx, row) }),
		Server: "srv", Holder: holder, Log: r.log(), Clock: r.clock(), Policy: r.policy,
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := loop.Run(ctx); err != nil {
			r.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait(); targets.Close() })
	r.Cleanup(stop)
	return stop
}

func (r *rig) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(r.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// submit accepts a job as control does.
func (r *rig) submit(name string, change ...func(*store.Job, *workspace.JobSpec)) store.Job {
	r.Helper()
	now := r.clock().Millis()
	row := store.Job{
		ID: r.system.NewID(), WorkspaceID: "w", Name: name, ComputeID: r.compute.ID, State: workspace.Queued, Priority: 2, Created: now, Due: &now, ObservedGeneration: 1,
	}
	spec := workspace.JobSpec{Command: "echo " + name}
	for _, c := range change {
		c(&row, &spec)
	}
	row.Spec, _ = json.Marshal(spec)
	r.write(func(ctx context.Context, tx *store.Tx) error {
		tx.Hint(row.ComputeID, row.ID)
		return tx.InsertJob(ctx, row)
	})
	return row
}

func command(text string) func(*store.Job, *workspace.JobSpec) {
	return func(_ *store.Job, s *workspace.JobSpec) { s.Command = text }
}

// cancel wishes a job's end as control does.
func (r *rig) cancel(row store.Job) {
	r.Helper()
	r.write(func(ctx context.Context, tx *store.Tx) error {
		ended, err := tx.CancelQueued(ctx, row.ID)
		if err == nil && !ended {
			_, err = tx.WishCancel(ctx, row.ID)
		}
		tx.Hint(row.ComputeID, row.ID)
		return err
	})
}

func (r *rig) row(id string) store.Job {
	r.Helper()
	row, err := r.store.JobByID(context.WithoutCancel(r.Context()), id)
	if err != nil {
		r.Fatal(err)
	}
	return row
}

// until waits for a job to be as wanted.
func (r *rig) until(job store.Job, what string, ok func(store.Job) bool) store.Job {
	r.Helper()
	var row store.Job
	r.eventually(what, func() bool { row = r.row(job.ID); return ok(row) }, func() string {
		return fmt.Sprintf("job %s: state %s, phase %s, wish %s, reason %v, error %v", row.Name, row.State, row.Phase, row.Wish, row.Reason, row.Error)
	})
	return row
}

func (r *rig) state(job store.Job, s workspace.State) store.Job {
	r.Helper()
	return r.until(job, "state "+string(s), func(row store.Job) bool {
		if row.State.Terminal() && row.State != s {
			r.Fatalf("job %s is %s (%v), wanted %s", row.Name, row.State, row.Error, s)
		}
		return row.State == s
	})
}

// eventually waits for a condition.
func (r *rig) eventually(what string, ok func() bool, say ...func() string) {
	r.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			for _, s := range say {
				what += "; " + s()
			}
			r.Fatalf("not in time: %s", what)
		}
	}
}

func (r *rig) key(job store.Job) compute.Key {
	return compute.Key{Server: "srv", Compute: r.compute.ID, Job: job.ID, Attempt: 1}
}

func (r *rig) once(job store.Job) {
	r.Helper()
	if n := r.machine.Started(r.key(job)); n != 1 {
		r.Errorf("job %s was started %d times", job.Name, n)
	}
}

func (r *rig) health(want store.Health) store.Compute {
	r.Helper()
	var c store.Compute
	r.eventually("compute "+string(want), func() bool {
		var err error
		if c, err = r.store.ComputeByID(r.Context(), r.compute.ID); err != nil {
			r.Fatal(err)
		}
		return c.Health == want
	})
	return c
}

// logOf is what a client reads of a job's log after its end.
func (r *rig) logOf(job store.Job) string {
	r.Helper()
	row := r.row(job.ID)
	if row.LogInline != nil {
		return string(row.LogInline)
	}
	var b bytes.Buffer
	if _, err := (tracking.JobLog{Blob: r.blob}).Read(r.Context(), row, 0, &b); err != nil {
		r.Fatal(err)
	}
	return b.String()
}

// held is a hook that holds calls until it is let go, and ends with their context.
type held struct {
	entered, released chan struct{}
	once, enterOnce   sync.Once
	ended             atomic.Int32 // calls whose context ended
}

func hold1() *held { return &held{entered: make(chan struct{}), released: make(chan struct{})} }

func (h *held) call(ctx context.Context, _ compute.Key) error {
	h.enterOnce.Do(func() { close(h.entered) })
	select {
	case <-h.released:
		return nil
	case <-ctx.Done():
		h.ended.Add(1)
		return context.Cause(ctx)
	}
}

func (h *held) release() { h.once.Do(func() { close(h.released) }) }
