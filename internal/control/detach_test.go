package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func (r *rig) detach(opts DetachOptions) ([]string, error) {
	return r.Detach(r.Context(), r.admin, r.ws, "gpu", opts)
}

func (r *rig) gone(id string) {
	r.Helper()
	if _, err := r.Store.ComputeByID(r.Context(), id); !errors.Is(err, store.ErrNotFound) {
		r.Errorf("the compute is still there: %v", err)
	}
	if _, err := r.Store.Secret(r.Context(), id); !errors.Is(err, store.ErrNotFound) {
		r.Errorf("its secret is still there: %v", err)
	}
}

func TestDetachForgetsSecretsAndClearsTheTarget(t *testing.T) {
	r := newRig(t)
	c := r.attached("gpu", "fake://m1", settings(`{"password":"`+hush+`"}`))
	left, err := r.detach(DetachOptions{})
	if err != nil || len(left) != 0 {
		t.Fatalf("left %v, %v", left, err)
	}
	r.gone(c.ID)
	if n := r.world.Machine("m1").Calls(fake.Remove); n != 1 {
		t.Errorf("the target was cleared %d times", n)
	}
	_, err = r.detach(DetachOptions{})
	r.refused(err, "ResourceNotFound")
	r.attached("gpu", "fake://m1") // attached again, at once
}

func TestDetachRefusesWhileJobsAreUnfinished(t *testing.T) {
	r := newRig(t)
	c := r.attached("gpu", "fake://m1")
	for i, want := range []string{`1 unfinished job: "job0"`, `2 unfinished jobs, "job1" among them`, `3 unfinished jobs, "job2" among them`} {
		r.submitted(fmt.Sprintf("job%d", i))
		_, err := r.detach(DetachOptions{})
		if p := r.refused(err, "ComputeInUse"); p.Message != `compute "gpu" has `+want {
			t.Errorf("message %q", p.Message)
		}
	}
	if row, err := r.Compute(t.Context(), r.admin, r.ws, "gpu"); err != nil || row.State != store.ComputeSucceeded {
		t.Errorf("after a refusal it is %s, %v", row.State, err)
	}
	if _, err := r.detach(DetachOptions{CancelJobs: true}); err != nil {
		t.Fatal(err)
	}
	r.gone(c.ID)
	for i := range 3 {
		if job, err := r.Job(t.Context(), r.admin, r.ws, fmt.Sprintf("job%d", i)); err != nil || job.State != workspace.Canceled || job.ComputeName != "gpu" {
			t.Errorf("job%d of compute %q is %s, %v", i, job.ComputeName, job.State, err)
		}
	}
}

func TestDetachOfATargetThatDoesNotAnswer(t *testing.T) {
	r := newRig(t)
	c := r.attached("gpu", "fake://m1")
	job := r.submitted("job")
	r.force(job, func(j *store.Job) { j.Phase, j.State = store.Submitted, workspace.NotResponding })
	r.world.Machine("m1").Down(true)
	r.Fleet.Forget(c.ID)
	err := r.Store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.SetHealth(t.Context(), c.ID, store.HealthUnreachable, nil, 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.AbandonJob(t.Context(), r.admin, r.ws, "job"); err != nil {
		t.Fatal(err)
	}
	_, err = r.detach(DetachOptions{})
	if p := r.refused(err, "ComputeUnreachable"); !strings.Contains(p.Mend, "--force") {
		t.Errorf("mend %q", p.Mend)
	}
	if row, err := r.Compute(t.Context(), r.admin, r.ws, "gpu"); err != nil || row.State != store.ComputeSucceeded {
		t.Fatalf("after a failure it is %s, %v", row.State, err)
	}
	second := r.submitted("second")
	r.force(second, func(j *store.Job) { j.Phase, j.State = store.Submitted, workspace.NotResponding })
	left, err := r.detach(DetachOptions{Force: true})
	if err != nil || len(left) != 1 || !strings.Contains(left[0], c.ID) {
		t.Errorf("left %q, %v", left, err)
	}
	r.gone(c.ID)
	if job, err := r.Job(t.Context(), r.admin, r.ws, "second"); err != nil || job.State != workspace.Failed || job.Error.Code != "Abandoned" {
		t.Errorf("its job is %s, %v", job.State, err)
	}
}

func TestNoJobIsAcceptedByAComputeThatIsBeingDetached(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	r.world.Machine("m1").Hook(fake.Remove, func(context.Context, compute.Key) error {
		_, err := r.submit("late")
		r.refused(err, "ComputeNotReady")
		return nil
	})
	if _, err := r.detach(DetachOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := r.submit("later")
	r.refused(err, "ResourceNotFound")
}

func TestAJobThatComesAtTheLastMomentStopsTheDetachment(t *testing.T) {
	r := newRig(t)
	c := r.attached("gpu", "fake://m1")
	job := r.submitted("job")
	if _, err := r.clear(t.Context(), c, true); err == nil {
		t.Fatal("a compute with an unfinished job was cleared")
	} else {
		r.refused(err, "ComputeInUse")
	}
	if n := r.world.Machine("m1").Calls(fake.Remove); n != 0 {
		t.Error("its target was cleared")
	}
	if row, err := r.Job(t.Context(), r.admin, r.ws, job.Name); err != nil || row.State.Terminal() {
		t.Errorf("the job is %s, %v", row.State, err)
	}
}
