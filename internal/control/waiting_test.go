package control

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// health writes how a compute answers, as its holder does.
func (r *rig) health(c store.Compute, h store.Health, why *workspace.Problem) {
	r.Helper()
	err := r.Store.Write(r.Context(), func(tx *store.Tx) error {
		tx.Saw(c.ID, "")
		return tx.SetHealth(r.Context(), c.ID, h, why, 1)
	})
	if err != nil {
		r.Fatal(err)
	}
}

var silent = &workspace.Problem{Code: "ConnectionTimedOut", Message: "m1 cannot be reached", Cause: "it did not answer", Mend: "look at it"}

func TestListTellsWhyJobsWaitAndAtWhichPlace(t *testing.T) {
	r := newRig(t)
	gpu := r.attached("gpu", "fake://m1")
	r.attached("cpu", "fake://m2")
	r.submitted("first")
	r.submitted("second")
	r.submitted("elsewhere", `"computeId":"azureml:cpu"`)
	r.submitted("urgent", `"queueSettings":{"priority":"high"}`)
	r.force(r.submitted("full"), func(j *store.Job) { j.Reason = &workspace.Problem{Code: "DiskFull", Message: "no room"} })
	r.force(r.submitted("runs"), func(j *store.Job) { j.Phase, j.State = store.Submitted, workspace.Running })
	r.force(r.submitted("done"), func(j *store.Job) { j.Phase, j.State, j.Due = store.Collected, workspace.Completed, nil })
	type told struct {
		Code     string
		Position int
	}
	list := func() map[string]told {
		t.Helper()
		jobs, err := r.Jobs(t.Context(), r.admin, r.ws, store.JobFilter{}, store.Page{})
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]told{}
		for _, j := range jobs {
			code := ""
			if j.Reason != nil {
				code = j.Reason.Code
			}
			all[j.Name] = told{code, j.Position}
		}
		return all
	}
	want := map[string]told{
		"urgent": {"WaitsForSlot", 1}, "first": {"WaitsForSlot", 2}, "second": {"WaitsForSlot", 3}, "full": {"DiskFull", 4},
		"elsewhere": {"WaitsForSlot", 1}, "runs": {}, "done": {},
	}
	if d := cmp.Diff(want, list()); d != "" {
		t.Error(d)
	}
	r.health(gpu, store.HealthUnreachable, silent)
	for _, name := range []string{"urgent", "first", "second"} {
		want[name] = told{"ComputeUnhealthy", want[name].Position}
	}
	if d := cmp.Diff(want, list()); d != "" {
		t.Errorf("with the compute away: %s", d)
	}
	job, err := r.Job(t.Context(), r.admin, r.ws, "second")
	if err != nil || job.Position != 3 || job.Reason.Error() != "waits for compute gpu, which is unreachable: m1 cannot be reached: it did not answer. Look at it" {
		t.Errorf("%+v, %v", job.Reason, err)
	}
}

func TestWatchTellsEachNewReasonOnce(t *testing.T) {
	r := newRig(t)
	gpu := r.attached("gpu", "fake://m1")
	r.submitted("job")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	over := errors.New("over")
	steps := []struct {
		code string
		next func()
	}{
		{"WaitsForSlot", func() { r.health(gpu, store.HealthUnreachable, silent) }},
		{"ComputeUnhealthy", func() {
			r.health(gpu, store.HealthUnreachable, silent) // no news
			r.submitted("another")
			r.health(gpu, store.Healthy, nil)
		}},
		{"WaitsForSlot", nil},
	}
	err := r.WatchJob(ctx, r.admin, r.ws, "job", func(j store.Job) error {
		if j.Reason == nil || j.Reason.Code != steps[0].code || j.Position != 1 {
			t.Fatalf("told %v at place %d, wanted %s", j.Reason, j.Position, steps[0].code)
		}
		next := steps[0].next
		if steps = steps[1:]; next == nil {
			return over
		}
		next()
		return nil
	})
	if !errors.Is(err, over) {
		t.Errorf("%v; still to come: %d", err, len(steps))
	}
}
