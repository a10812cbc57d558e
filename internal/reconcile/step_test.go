package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestJobRunsOnceAndItsLogIsKept(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	job := r.submit("hello")
	row := r.state(job, workspace.Completed)
	if row.ExitCode == nil || *row.ExitCode != 0 || row.Error != nil || row.Phase != store.Collected || row.Ended == 0 {
		t.Errorf("row: %+v", row)
	}
	if got := r.logOf(job); got != "hello\n" {
		t.Errorf("log %q", got)
	}
	r.once(job)
	r.health(store.Healthy)
}

func TestEndsMeanWhatTheySay(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	for _, tc := range []struct {
		name, command string
		state         workspace.State
		code          int // -1: none
		problem       string
	}{
		{"good", "exit 0", workspace.Completed, 0, ""},
		{"bad", "exit 3", workspace.Failed, 3, "CommandFailed"},
		{"files", "write outputs/a.txt hello\nexit 0", workspace.Completed, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			row := r.state(r.submit(tc.name, command(tc.command)), tc.state)
			if code := row.ExitCode; code == nil && tc.code != -1 || code != nil && *code != tc.code {
				t.Errorf("exit code %v", code)
			}
			if (row.Error == nil) != (tc.problem == "") || row.Error != nil && row.Error.Code != tc.problem {
				t.Errorf("error %v", row.Error)
			}
		})
	}
	files, err := r.store.JobFiles(t.Context(), r.byName("files").ID)
	if err != nil || len(files) != 1 || files[0].Path != "a.txt" {
		t.Errorf("files %+v, %v", files, err)
	}
	timed := r.submit("timed", command("sleep 60"), func(_ *store.Job, s *workspace.JobSpec) { s.Timeout = 1 })
	if row := r.state(timed, workspace.Failed); row.Error.Code != "TimedOut" {
		t.Errorf("timed out: %v", row.Error)
	}
	lost := r.submit("lost", command("wait never"))
	r.state(lost, workspace.Running)
	r.machine.Lose(r.key(lost))
	if row := r.state(lost, workspace.Failed); row.ExitCode != nil || row.Error == nil {
		t.Errorf("lost: %v", row.Error)
	}
}

func (r *rig) byName(name string) store.Job {
	r.Helper()
	row, err := r.store.Job(r.Context(), "w", name)
	if err != nil {
		r.Fatal(err)
	}
	return row
}

func TestLostAnswerToSubmitStartsNothingTwice(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.machine.LoseAnswer(fake.Submit, 1)
	r.serve("a")
	job := r.submit("job")
	r.state(job, workspace.Completed)
	r.once(job)
}

func TestCrashAfterHandingIsMarkedIsTakenUpByTheNextServer(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("target knows it: %v", known), func(t *testing.T) {
			r := newRig(t, compute.Limits{})
			job := r.submit("job", command("wait go\nexit 4"))
			r.force(job, func(row *store.Job) { row.Phase, row.State, row.Attempt = store.Handing, workspace.Starting, 1 })
			if known {
				target := r.open()
				if _, err := target.Submit(t.Context(), compute.Job{Key: r.key(job), Epoch: 1, Command: "wait go\nexit 4"}); err != nil {
					t.Fatal(err)
				}
			}
			r.serve("b")
			r.state(job, workspace.Running)
			r.machine.Signal("go")
			if row := r.state(job, workspace.Failed); row.ExitCode == nil || *row.ExitCode != 4 {
				t.Errorf("row %+v", row)
			}
			r.once(job)
			if n := r.machine.Calls(fake.Submit); known && n != 1 {
				t.Errorf("the next server submitted a job that ran: %d calls", n)
			}
		})
	}
}

// TestJobThatNeverStartedIsNotLostWhileItIsHandedOverAnew: the target takes away what it knows of it, and then the hand-over is
// broken off.
func TestJobThatNeverStartedIsNotLostWhileItIsHandedOverAnew(t *testing.T) {
	r := newRig(t, compute.Limits{})
	job := r.submit("job")
	r.force(job, func(row *store.Job) { row.Phase, row.State, row.Attempt = store.Submitted, workspace.Starting, 1 })
	r.machine.Stillborn(r.key(job))
	r.machine.Fail(fake.Submit, fake.Unreachable())
	r.serve("b")
	r.state(job, workspace.Completed)
	r.once(job)
	if n := r.machine.Calls(fake.Submit); n != 2 {
		t.Errorf("%d submits, wanted one that is broken off and one that is not", n)
	}
}

// force writes a row as a server wrote it that is gone.
func (r *rig) force(job store.Job, change func(*store.Job)) {
	r.Helper()
	row := r.row(job.ID)
	change(&row)
	r.write(func(ctx context.Context, tx *store.Tx) error { return tx.ForceJob(ctx, row) })
	r.write(func(ctx context.Context, tx *store.Tx) error { // ForceJob counts as a wish; this is none
		row := r.row(job.ID)
		row.ObservedGeneration = row.Generation
		return tx.ForceJob(ctx, row)
	})
}

func (r *rig) open() compute.Target {
	r.Helper()
	target, err := r.driver.Open(r.Context(), r.compute.Settings, compute.Env{Server: "srv", Compute: r.compute.ID, Log: r.log(), Clock: r.clock()})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = target.Close() })
	return target
}

func TestServerThatStopsLeavesJobsToTheNext(t *testing.T) {
	r := newRig(t, compute.Limits{})
	stop := r.serve("a")
	job := r.submit("job", command("echo one\nwait go\necho two"))
	r.state(job, workspace.Running)
	stop()
	r.machine.Signal("go")
	r.serve("b")
	r.state(job, workspace.Completed)
	r.once(job)
	if got := r.logOf(job); got != "one\ntwo\n" {
		t.Errorf("log %q", got)
	}
}

func TestCancelBeforeTheTargetIsMetNeverMeetsIt(t *testing.T) {
	r := newRig(t, compute.Limits{})
	block := hold1()
	r.build = func(ctx context.Context, _ store.Job) (compute.Job, error) {
		return compute.Job{}, block.call(ctx, compute.Key{})
	}
	r.serve("a")
	job := r.submit("job")
	<-block.entered
	r.cancel(job)
	if row := r.row(job.ID); row.State != workspace.Canceled || row.Phase != store.Released {
		t.Errorf("after the cancel it is %s, %s", row.State, row.Phase)
	}
	r.eventually("the building is interrupted", func() bool { return block.ended.Load() == 1 })
	r.state(job, workspace.Canceled)
	if n := r.machine.Calls(fake.Submit); n != 0 {
		t.Errorf("%d submits", n)
	}
}

func TestCancelInterruptsALongSubmit(t *testing.T) {
	r := newRig(t, compute.Limits{})
	block := hold1()
	r.machine.Hook(fake.Submit, block.call)
	r.serve("a")
	job := r.submit("job")
	<-block.entered
	r.cancel(job)
	row := r.state(job, workspace.Canceled)
	if block.ended.Load() == 0 {
		t.Error("the submit was not interrupted")
	}
	if n := r.machine.Started(r.key(job)); n != 0 {
		t.Errorf("it was started %d times", n)
	}
	if row.Phase != store.Collected {
		t.Errorf("the fence at the target is not taken away: phase %s", row.Phase)
	}
	r.machine.Hook(fake.Submit, nil)
	target := r.open()
	if _, err := target.Submit(t.Context(), compute.Job{Key: r.key(job), Epoch: 1, Command: "exit 0"}); err != nil {
		t.Fatal(err)
	}
	if n := r.machine.Started(r.key(job)); n != 0 {
		t.Error("a late submit of the cancelled key starts the job")
	}
}

func TestCancelEndsAJobInEachPhase(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	running := []store.Job{r.submit("one", command("wait a")), r.submit("two", command("wait b"))}
	for _, j := range running {
		r.state(j, workspace.Running)
	}
	waiting := r.submit("waiting")
	row := r.until(waiting, "a reason", func(j store.Job) bool {
		return j.State == workspace.Queued && j.Phase == store.Submitted && j.Reason != nil
	})
	if row.Reason.Code != "WaitingForSlot" {
		t.Errorf("reason %v", row.Reason)
	}
	r.cancel(waiting)
	r.state(waiting, workspace.Canceled)
	for _, j := range running {
		r.cancel(j)
		r.cancel(j) // twice is once
		r.state(j, workspace.Canceled)
	}
	if n := r.machine.Started(r.key(waiting)); n != 0 {
		t.Error("the waiting job was started")
	}
}

func TestCancelOfAJobThatEndedChangesNothing(t *testing.T) {
	r := newRig(t, compute.Limits{})
	block := hold1()
	r.machine.Hook(fake.Collect, block.call)
	r.serve("a")
	job := r.submit("job", command("write outputs/a b"))
	<-block.entered
	r.cancel(job)
	block.release()
	if row := r.state(job, workspace.Completed); row.ExitCode == nil || *row.ExitCode != 0 {
		t.Errorf("row %+v", row)
	}
}

func TestCancelReachesATargetWithoutFences(t *testing.T) {
	r := newRig(t, compute.Limits{NoFence: true, SubmitGap: 50 * time.Millisecond})
	r.serve("a")
	job := r.submit("job", command("wait never"))
	r.until(job, "handed over", func(store.Job) bool { return len(r.machine.Jobs()) == 1 })
	r.cancel(job)
	r.state(job, workspace.Canceled)
	target := r.open()
	r.eventually("its end at the target", func() bool { // which hides it for a while
		s, err := target.Status(t.Context(), []compute.Handle{{Key: r.key(job)}})
		return err == nil && s[0].Phase == compute.Ended
	})
}

func TestErrorsOfSubmitAreWhatTheContractSays(t *testing.T) {
	invalid := &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{Class: workspace.Invalid, Code: "BadJob", Message: "m", Mend: "n"}}
	t.Run("invalid ends it", func(t *testing.T) {
		r := newRig(t, compute.Limits{})
		r.machine.Fail(fake.Submit, invalid)
		r.serve("a")
		job := r.submit("job")
		if row := r.state(job, workspace.Failed); row.Error.Code != "BadJob" || r.machine.Started(r.key(job)) != 0 {
			t.Errorf("error %v", row.Error)
		}
	})
	for name, err := range map[string]error{"full": fake.Full(), "denied": fake.Denied(), "throttled": throttled(time.Hour), "unreachable": fake.Unreachable(), "odd": errors.New("odd")} {
		t.Run(name+" waits with its reason, then runs", func(t *testing.T) {
			r := newRig(t, compute.Limits{})
			r.machine.FailAlways(fake.Submit, err)
			r.serve("a")
			job := r.submit("job")
			row := r.until(job, "a reason", func(j store.Job) bool { return j.State == workspace.Queued && j.Reason != nil })
			if want := problem(err).Code; row.Reason.Code != want {
				t.Errorf("reason %q, wanted %q", row.Reason.Code, want)
			}
			if name == "denied" {
				r.health(store.HealthDenied)
			}
			r.machine.FailAlways(fake.Submit, nil)
			r.pass(2 * time.Hour)
			if name == "throttled" { // the step may report after the time has passed, and waits from then on
				r.until(job, "its end", func(j store.Job) bool {
					r.pass(2 * time.Hour)
					return j.State.Terminal()
				})
			}
			r.state(job, workspace.Completed)
			r.once(job)
			r.health(store.Healthy)
		})
	}
	t.Run("what never works is given up and fenced", func(t *testing.T) {
		r := newRig(t, compute.Limits{})
		r.machine.FailAlways(fake.Submit, errors.New("odd"))
		r.serve("a")
		job := r.submit("job")
		for range 2 * tries {
			r.pass(time.Minute)
			n := r.machine.Calls(fake.Submit)
			r.eventually("another try", func() bool { return r.machine.Calls(fake.Submit) > n || r.row(job.ID).State.Terminal() })
			if r.row(job.ID).State.Terminal() {
				break
			}
		}
		if row := r.state(job, workspace.Failed); row.Error == nil || !strings.Contains(row.Error.Cause, "odd") {
			t.Errorf("error %v", row.Error)
		}
		if n := r.machine.Calls(fake.Submit); n != tries+1 {
			t.Errorf("tried %d times", n)
		}
	})
}

func throttled(after time.Duration) error {
	return &compute.Error{Kind: compute.ErrThrottled, After: after, Problem: workspace.Problem{Class: workspace.Throttled, Code: "Throttled", Message: "slowly"}}
}

func TestErrorsAboutARunningJobDoNotEndIt(t *testing.T) {
	r := newRig(t, compute.Limits{})
	broken := &workspace.Problem{Class: workspace.Invalid, Code: "Odd", Message: "odd"}
	r.machine.FailAlways(fake.Collect, broken)
	r.serve("a")
	job := r.submit("job", command("write outputs/a b\nwait go"))
	r.state(job, workspace.Running)
	for range 3 {
		n := r.machine.Calls(fake.Collect)
		r.eventually("interim collecting", func() bool { r.pass(time.Minute); return r.machine.Calls(fake.Collect) > n })
	}
	if row := r.row(job.ID); row.State != workspace.Running {
		t.Fatalf("it is %s: %v", row.State, row.Error)
	}
	r.machine.FailAlways(fake.Collect, nil)
	r.machine.Signal("go")
	r.state(job, workspace.Completed)
}

func TestJobThatTheTargetForgotIsLostWithTheLogThatIsHome(t *testing.T) {
	r := newRig(t, compute.Limits{})
	r.serve("a")
	job := r.submit("job", command("echo begun\nwait never"))
	r.state(job, workspace.Running)
	r.eventually("a piece of the log at home", func() bool {
		page, err := r.blob.List(t.Context(), "joblog/", "", "", 0)
		return err == nil && len(page.Blobs) == 1
	})
	r.machine.Forget(r.key(job))
	row := r.state(job, workspace.Failed)
	if row.Error.Code != "JobLost" && row.Error.Code != "SupervisorKilled" {
		t.Errorf("error %v", row.Error)
	}
	if got := r.logOf(job); got != "begun\n" {
		t.Errorf("log %q", got)
	}
	if page, err := r.blob.List(t.Context(), "joblog/", "", "", 0); err != nil || len(page.Blobs) != 0 {
		t.Errorf("pieces are left: %v, %v", page.Blobs, err)
	}
	r.once(job)
}

func TestFilesThatAreGoneFailAJobWithItsExitCode(t *testing.T) {
	r := newRig(t, compute.Limits{})
	block := hold1()
	r.machine.Hook(fake.Collect, block.call)
	r.serve("a")
	job := r.submit("job", command("write outputs/a b\nexit 0"))
	<-block.entered
	r.machine.Forget(r.key(job))
	block.release()
	row := r.state(job, workspace.Failed)
	if row.Error.Code != "OutputsLost" || row.ExitCode == nil || *row.ExitCode != 0 {
		t.Errorf("error %v, exit code %v", row.Error, row.ExitCode)
	}
}

func TestMissingWithinTheKindsGapIsNoVerdict(t *testing.T) {
	r := newRig(t, compute.Limits{SubmitGap: 300 * time.Millisecond})
	r.serve("a")
	job := r.submit("job", command("wait go"))
	r.until(job, "several questions", func(store.Job) bool { return r.machine.Calls(fake.Status) > 5 })
	r.machine.Signal("go")
	r.state(job, workspace.Completed)
	r.once(job)
}
