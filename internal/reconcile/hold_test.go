package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestSilentTargetIsShownAndForgiven(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	job := r.submit("job", command("wait go"))
	r.state(job, workspace.Running)
	r.machine.Down(true)
	r.health(store.HealthUnreachable)
	queued := r.submit("queued")
	if row := r.row(job.ID); row.State != workspace.Running {
		t.Errorf("without patience it is %s", row.State)
	}
	r.pass(patience + time.Second)
	row := r.state(job, workspace.NotResponding)
	if row.Reason == nil || row.Reason.Code != "ComputeUnreachable" {
		t.Errorf("reason %v", row.Reason)
	}
	r.machine.Down(false)
	r.state(job, workspace.Running)
	r.health(store.Healthy)
	r.machine.Signal("go")
	r.state(job, workspace.Completed)
	r.state(queued, workspace.Completed)
	r.once(job)
}

func TestSilentTargetCostsNoProcessorTime(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	r.state(r.submit("job", command("wait go")), workspace.Running)
	r.machine.Down(true)
	r.health(store.HealthUnreachable)
	before := r.looked.Load()
	wait := time.NewTimer(300 * time.Millisecond)
	<-wait.C
	if n := r.looked.Load() - before; n > 200 {
		t.Errorf("the clock was read %d times in 0.3 s of silence", n)
	}
}

func TestJobOfASilentTargetIsGivenUpByPolicyAlone(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.policy.Keep = time.Millisecond
	stop := r.serve("a")
	job := r.submit("job", command("echo begun\nwait never"))
	r.state(job, workspace.Running)
	r.machine.Down(true)
	r.health(store.HealthUnreachable)
	r.pass(r.policy.UnreachableAfter / 2)
	r.state(job, workspace.NotResponding)
	stop() // the policy counts over a restart
	r.serve("b")
	r.pass(r.policy.UnreachableAfter/2 + time.Minute)
	r.eventually("patience of the new server", func() bool { r.pass(patience); return r.row(job.ID).State.Terminal() })
	if row := r.row(job.ID); row.State != workspace.Failed || row.Error.Code != "ComputeUnreachable" {
		t.Fatalf("it is %s: %v", row.State, row.Error)
	}
	// When the target is back, what still runs there is ended and taken away.
	r.machine.Down(false)
	r.eventually("an empty target", func() bool { r.pass(time.Minute); return len(r.machine.Jobs()) == 0 })
	r.eventually("a released row", func() bool { return r.row(job.ID).Phase == store.Released })
	r.once(job)
}

func TestEndedJobsAreReleasedAfterTheirTime(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.policy.Keep = 10 * time.Minute
	r.serve("a")
	stuck, job := r.submit("stuck"), r.submit("job")
	r.state(stuck, workspace.Completed)
	r.state(job, workspace.Completed)
	if n := len(r.machine.Jobs()); n != 2 {
		t.Fatalf("the target knows %d jobs", n)
	}
	r.machine.Hook(fake.Release, func(_ context.Context, key compute.Key) error {
		if key == r.key(stuck) {
			return &workspace.Problem{Code: "Odd", Message: "this one cannot be released"}
		}
		return nil
	})
	r.pass(11 * time.Minute)
	r.until(job, "released", func(row store.Job) bool { return row.Phase == store.Released && row.Due == nil })
	if row := r.row(stuck.ID); row.Phase != store.Collected {
		t.Errorf("the one that cannot be released is %s", row.Phase)
	}
	r.machine.Hook(fake.Release, nil)
	r.until(stuck, "released", func(row store.Job) bool { r.pass(3 * time.Second); return row.Phase == store.Released })
}

func TestQueueKeepsOrderAndPriorityAndBoundsWhatIsHandedOver(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.setSlots(1)
	var jobs []store.Job
	for i := range 8 {
		jobs = append(jobs, r.submit(fmt.Sprintf("job%d", i), command(fmt.Sprintf("wait go%d", i)), func(j *store.Job, _ *workspace.JobSpec) {
			if i == 6 {
				j.Priority = 3
			}
		}))
	}
	want := append([]store.Job{jobs[6]}, slices.Concat(jobs[:6], jobs[7:])...)
	r.serve("a")
	for i, job := range want {
		r.state(job, workspace.Running)
		alive := 0
		for _, j := range jobs {
			if r.row(j.ID).Phase != store.Accepted && !r.row(j.ID).State.Terminal() {
				alive++
			}
		}
		if alive > 2 {
			t.Errorf("%d jobs are handed over for one slot", alive)
		}
		for _, later := range want[i+1:] {
			if r.machine.Started(r.key(later)) != 0 {
				t.Errorf("%s was started before %s", later.Name, job.Name)
			}
		}
		r.machine.Signal("go" + strings.TrimPrefix(job.Name, "job"))
		r.state(job, workspace.Completed)
	}
}

func (r *rig) setSlots(n int) {
	r.Helper()
	r.compute.Slots, r.compute.Settings = n, json.RawMessage(fmt.Sprintf(`{"machine":"m","slots":%d}`, n))
	r.write(func(ctx context.Context, tx *store.Tx) error { return tx.UpdateCompute(ctx, r.compute) })
}

func TestLargeSnapshotDoesNotHoldUpTheQueue(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.setSlots(2)
	block := hold1()
	big := r.submit("big")
	r.machine.Hook(fake.Submit, func(ctx context.Context, key compute.Key) error {
		if key == r.key(big) {
			return block.call(ctx, key)
		}
		return nil
	})
	r.serve("a")
	for i := range 6 {
		r.state(r.submit(fmt.Sprintf("small%d", i)), workspace.Completed)
	}
	block.release()
	r.state(big, workspace.Completed)
}

func TestStaleServerWritesNothing(t *testing.T) {
	r := newRig(t, compute.Limits{})
	stop := r.serve("a")
	block := hold1()
	job := r.submit("job", command("write outputs/a b\nexit 5"))
	r.machine.Hook(fake.Collect, block.call)
	<-block.entered
	r.write(func(ctx context.Context, tx *store.Tx) error { // as if it had slept beyond its lease
		if err := tx.ReleaseLease(ctx, r.compute.ID, "a"); err != nil {
			return err
		}
		_, ok, err := tx.Acquire(ctx, r.compute.ID, "b", time.Minute)
		if err == nil && !ok {
			t.Error("the lease is not free")
		}
		return err
	})
	block.release()
	stop()
	if row := r.row(job.ID); row.State != workspace.Finalizing || row.Error != nil {
		t.Errorf("the stale server wrote %s, %v", row.State, row.Error)
	}
	r.machine.Hook(fake.Collect, nil)
	r.serve("b")
	if row := r.state(job, workspace.Failed); *row.ExitCode != 5 {
		t.Errorf("exit code %d", *row.ExitCode)
	}
	r.once(job)
}

func TestTargetThatKnowsAHigherEpochIsTakenUpAgain(t *testing.T) {
	r := newRig(t, compute.Limits{})
	target := r.open() // as after the database was restored from a backup
	if err := target.Cancel(t.Context(), compute.Handle{Key: compute.Key{Server: "srv", Compute: r.compute.ID, Job: "old", Attempt: 1}}, 3); err != nil {
		t.Fatal(err)
	}
	r.serve("a")
	job := r.submit("job")
	r.state(job, workspace.Completed)
	lease, err := r.store.LeaseOf(t.Context(), r.compute.ID)
	if err != nil || lease.Epoch != 3 || lease.Holder != "a" {
		t.Errorf("lease %+v, %v", lease, err)
	}
}

func TestStoppedServerFreesItsLeasesAtOnce(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.policy.Lease = time.Hour
	stop := r.serve("a")
	r.state(r.submit("one"), workspace.Completed)
	stop()
	r.serve("b")
	r.state(r.submit("two"), workspace.Completed)
}

func TestTargetThatDoesNotWatchIsAskedOften(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.driver = blind{r.driver}
	r.policy.Poll, r.policy.Interval = time.Hour, time.Hour
	r.serve("a")
	job := r.submit("job", command("wait go"))
	r.state(job, workspace.Running)
	r.machine.Signal("go")
	r.state(job, workspace.Completed)
	r.once(job)
}

// blind is a driver whose targets do not watch.
type blind struct{ compute.Driver }

func (b blind) Open(ctx context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	t, err := b.Driver.Open(ctx, settings, env)
	return struct{ compute.Target }{t}, err
}

func TestFloodOfHintsLosesNoWish(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.policy.Interval, r.policy.Poll = time.Hour, time.Hour // nothing but hints tells of a cancel
	r.serve("a")
	jobs := []store.Job{r.submit("one", command("wait never")), r.submit("two", command("wait never"))}
	for _, j := range jobs {
		r.state(j, workspace.Running)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 200 {
				r.write(func(_ context.Context, tx *store.Tx) error {
					for n := range 20 {
						tx.Hint(r.compute.ID, fmt.Sprintf("unknown-%d-%d-%d", i, k, n))
					}
					return nil
				})
			}
		})
	}
	for _, j := range jobs {
		r.cancel(j)
	}
	wg.Wait()
	for _, j := range jobs {
		r.state(j, workspace.Canceled)
	}
}

func TestZeroHintMakesEverybodyLook(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.policy.Interval, r.policy.Poll = time.Hour, time.Hour
	r.serve("a")
	job := r.submit("one", command("wait never"))
	r.state(job, workspace.Running)
	r.write(func(ctx context.Context, tx *store.Tx) error { // a wish without its hint
		_, err := tx.WishCancel(ctx, job.ID)
		return err
	})
	r.write(func(_ context.Context, tx *store.Tx) error { tx.Hint("", ""); return nil })
	r.state(job, workspace.Canceled)
}

func TestHintOfAJobsOwnAcceptanceDoesNotInterruptIt(t *testing.T) {
	r := newRig(t, compute.Limits{})
	block := hold1()
	r.machine.Hook(fake.Submit, block.call)
	r.serve("a")
	job := r.submit("job")
	<-block.entered
	r.write(func(_ context.Context, tx *store.Tx) error { tx.Hint(job.ComputeID, job.ID); return nil })
	r.write(func(_ context.Context, tx *store.Tx) error { tx.Hint(job.ComputeID, ""); return nil })
	block.release()
	r.state(job, workspace.Completed)
	if block.ended.Load() != 0 {
		t.Error("its submit was interrupted")
	}
}

func TestNewSettingsReopenTheTarget(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	r.health(store.Healthy)
	r.eventually("a watch", func() bool { return r.machine.Calls(fake.Watch) == 1 })
	c, err := r.store.ComputeByID(t.Context(), r.compute.ID)
	if err != nil {
		t.Fatal(err)
	}
	c.Modified++
	r.write(func(ctx context.Context, tx *store.Tx) error { tx.Hint(c.ID, ""); return tx.UpdateCompute(ctx, c) })
	r.eventually("another target, watched", func() bool { return r.world.Opened() == 2 && r.machine.Calls(fake.Watch) == 2 })
	r.state(r.submit("job"), workspace.Completed)
}

func TestDetachedComputeIsLetGo(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	r.health(store.Healthy)
	c, err := r.store.ComputeByID(t.Context(), r.compute.ID)
	if err != nil {
		t.Fatal(err)
	}
	c.State = store.ComputeDeleting
	r.write(func(ctx context.Context, tx *store.Tx) error { tx.Hint(c.ID, ""); return tx.UpdateCompute(ctx, c) })
	r.eventually("a free lease", func() bool {
		lease, err := r.store.LeaseOf(t.Context(), c.ID)
		return err == nil && lease.Holder == ""
	})
	c.State = store.ComputeSucceeded // the detachment failed
	r.write(func(ctx context.Context, tx *store.Tx) error { tx.Hint(c.ID, ""); return tx.UpdateCompute(ctx, c) })
	r.state(r.submit("job"), workspace.Completed)
}

func TestLongLogComesHomeInPiecesAndWhole(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	line := "echo " + strings.Repeat("x", 999)
	job := r.submit("job", command(strings.Repeat(line+"\n", 20)+"wait go\n"+strings.Repeat(line+"\n", 20)))
	r.state(job, workspace.Running)
	r.eventually("a piece at home", func() bool {
		page, err := r.blob.List(t.Context(), "joblog/", "", "", 0)
		return err == nil && len(page.Blobs) > 0
	})
	r.machine.Signal("go")
	row := r.state(job, workspace.Completed)
	if got, want := r.logOf(job), strings.Repeat(strings.Repeat("x", 999)+"\n", 40); got != want || row.LogSize != int64(len(want)) {
		t.Errorf("%d bytes of %d, the row says %d", len(got), len(want), row.LogSize)
	}
	if page, err := r.blob.List(t.Context(), "joblog/", "", "", 0); err != nil || len(page.Blobs) != 0 {
		t.Errorf("pieces are left: %v, %v", page.Blobs, err)
	}
}

func TestShortLogOfALongJobLeavesNoPieces(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	job := r.submit("job", command("echo one\nwait go\necho two"))
	r.state(job, workspace.Running)
	pieces := func() int {
		page, err := r.blob.List(t.Context(), "joblog/", "", "", 0)
		if err != nil {
			t.Fatal(err)
		}
		return len(page.Blobs)
	}
	r.eventually("a piece at home", func() bool { return pieces() > 0 })
	r.machine.Signal("go")
	r.state(job, workspace.Completed)
	if got := r.logOf(job); got != "one\ntwo\n" || pieces() != 0 {
		t.Errorf("log %q, %d pieces are left", got, pieces())
	}
}

func TestEnvironmentsAreRowsOfTheirCompute(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	with := func(hash string, steps ...string) func(*store.Job, *workspace.JobSpec) {
		return func(_ *store.Job, s *workspace.JobSpec) {
			e := compute.Environment{Hash: hash}
			for _, step := range steps {
				e.Steps = append(e.Steps, compute.Step{Args: []string{step}})
			}
			s.Environment, _ = json.Marshal(e)
		}
	}
	phase := func(hash string) store.PreparedEnvironment {
		e, err := r.store.PreparedEnvironment(t.Context(), r.compute.ID, hash)
		if err != nil {
			return store.PreparedEnvironment{}
		}
		return e
	}
	good := r.submit("good", with("h1", "wait built", "echo 3.11 in place of 3.10"))
	r.state(good, workspace.Preparing)
	r.eventually("preparing", func() bool { return phase("h1").Phase == "preparing" })
	r.machine.Signal("built")
	r.state(good, workspace.Completed)
	if e := phase("h1"); e.Phase != "ready" || e.LastUsed == 0 || len(e.Spec) == 0 || e.Problem != nil {
		t.Errorf("made: %+v", e)
	}
	var said strings.Builder
	if _, err := (tracking.JobLog{Blob: r.blob}).ReadPreparing(t.Context(), good, 0, &said); err != nil || said.String() != "3.11 in place of 3.10\n" {
		t.Errorf("what was said in making it is gone from a job that went well: %q, %v", said.String(), err)
	}
	bad := r.submit("bad", with("h2", "echo no such package", "exit 1"))
	r.state(bad, workspace.Failed)
	if e := phase("h2"); e.Phase != "failed" || e.Problem == nil || e.Problem.Cause == "" {
		t.Errorf("failed: %+v", e)
	}
	r.state(r.submit("plain"), workspace.Completed)
	if all, err := r.store.PreparedEnvironments(t.Context(), r.compute.ID); err != nil || len(all) != 2 {
		t.Errorf("%d rows, %v", len(all), err)
	}
}
