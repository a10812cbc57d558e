package control

import (
	"errors"
	"testing"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestDeletedWorkspaceTakesItsJobsAndRunsWithIt(t *testing.T) {
	r := newRig(t)
	kept := r.ws
	r.attached("gpu", "fake://m1")
	r.submitted("stays")
	other, created, err := r.CreateWorkspace(t.Context(), r.admin, workspace.Workspace{Subscription: "s", ResourceGroup: "g", Name: "other"})
	if err != nil || !created {
		t.Fatal(created, err)
	}
	r.ws = other
	r.attached("gpu", "fake://m2")
	r.submitted("goes", `"experimentName":"trial"`)
	p := r.refused(r.DeleteWorkspace(t.Context(), r.admin, other), "WorkspaceInUse")
	if p.Message != `workspace "other" has 1 attached compute: "gpu"` {
		t.Errorf("message %q", p.Message)
	}
	if _, err := r.Store.Run(t.Context(), other.ID, "goes"); err != nil {
		t.Fatalf("the job has no run before: %v", err)
	}
	if _, err := r.detach(DetachOptions{CancelJobs: true}); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteWorkspace(t.Context(), r.admin, other); err != nil {
		t.Fatal(err)
	}
	_, err = r.Workspace(t.Context(), "s", "g", "other")
	r.refused(err, "ResourceNotFound")
	_, runErr := r.Store.Run(t.Context(), other.ID, "goes")
	_, jobErr := r.Store.Job(t.Context(), other.ID, "goes")
	_, experimentErr := r.Store.ExperimentByName(t.Context(), other.ID, "trial")
	for what, err := range map[string]error{"run": runErr, "job": jobErr, "experiment": experimentErr} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("its %s is still there: %v", what, err)
		}
	}
	if _, err := r.Store.Run(t.Context(), kept.ID, "stays"); err != nil {
		t.Errorf("the run of another workspace: %v", err)
	}
}
