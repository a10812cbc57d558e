package reconcile

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// TestEveryAcknowledgedJobEndsOnce lets chance do to servers, target and jobs what the world does, and then mends
// everything: each job has ended, was started once at most, and says how it ended truly.
func TestEveryAcknowledgedJobEndsOnce(t *testing.T) {
	one := rapid.Custom(func(rt *rapid.T) event {
		return event{
			what:  rapid.SampledFrom([]string{"submit", "submit", "submit", "cancel", "restart", "down", "up", "unheard", "full", "throttled", "steal", "pass", "flood"}).Draw(rt, "what"),
			code:  rapid.IntRange(0, 2).Draw(rt, "code"),
			work:  rapid.SampledFrom([]string{"", "sleep 0.02", "write outputs/a b"}).Draw(rt, "work"),
			which: rapid.IntRange(0, 100).Draw(rt, "which"),
			verb:  rapid.SampledFrom([]fake.Verb{fake.Submit, fake.Status, fake.Cancel, fake.Collect, fake.Logs, fake.Release}).Draw(rt, "verb"),
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		events := rapid.SliceOfN(one, 5, 25).Draw(rt, "events")
		if !t.Run("world", func(t *testing.T) { endsOnce(t, events) }) {
			rt.FailNow()
		}
	})
}

type event struct {
	what  string
	code  int
	work  string
	which int
	verb  fake.Verb
}

// promise is what the test knows of a job.
type promise struct {
	store.Job
	code     int
	canceled bool
}

func endsOnce(t *testing.T, events []event) {
	r := newRig(t, compute.Limits{})
	r.policy.Lease = 300 * time.Millisecond
	var jobs []*promise
	servers := 0
	stop := r.serve("server-0")
	for _, e := range events {
		switch e.what {
		case "submit":
			text := fmt.Sprintf("echo x\n%s\nexit %d", e.work, e.code)
			jobs = append(jobs, &promise{Job: r.submit(fmt.Sprintf("job%d", len(jobs)), command(text)), code: e.code})
		case "cancel":
			if len(jobs) > 0 {
				j := jobs[e.which%len(jobs)]
				j.canceled = true
				r.cancel(j.Job)
			}
		case "restart":
			stop()
			servers++
			stop = r.serve(fmt.Sprintf("server-%d", servers))
		case "down":
			r.machine.Down(true)
		case "up":
			r.machine.Down(false)
		case "unheard":
			r.machine.LoseAnswer(e.verb, 1)
		case "full":
			r.machine.Fail(fake.Submit, fake.Full())
		case "throttled":
			r.machine.Throttle(fake.Submit, time.Second)
		case "steal": // another server may take over under the nose of this one
			servers++
			stop = r.serve(fmt.Sprintf("server-%d", servers))
			r.write(func(ctx context.Context, tx *store.Tx) error {
				lease, err := tx.LeaseOf(ctx, r.compute.ID)
				if errors.Is(err, store.ErrNotFound) {
					return nil
				}
				return errors.Join(err, tx.ReleaseLease(ctx, r.compute.ID, lease.Holder))
			})
		case "pass":
			r.pass(time.Second)
		case "flood":
			r.pass(0)
		}
	}
	r.machine.Down(false)
	for _, j := range jobs {
		r.eventually(j.Name+" ends", func() bool {
			r.pass(time.Second)
			return r.row(j.ID).State.Terminal()
		}, func() string { return fmt.Sprintf("%+v", r.row(j.ID)) })
		row := r.row(j.ID)
		started := r.machine.Started(r.key(j.Job))
		switch {
		case row.State == workspace.Canceled && j.canceled && started <= 1:
		case row.State == workspace.Completed && j.code == 0 && started == 1, row.State == workspace.Failed && j.code != 0 && started == 1:
			if row.ExitCode == nil || *row.ExitCode != j.code {
				t.Errorf("%s: exit code %v, wanted %d", j.Name, row.ExitCode, j.code)
			}
			if got := r.logOf(j.Job); got != "x\n" {
				t.Errorf("%s: log %q", j.Name, got)
			}
		default:
			t.Errorf("%s (exit %d, canceled %v) is %s after %d starts: %v", j.Name, j.code, j.canceled, row.State, started, row.Error)
		}
	}
}
