package tracking_test

import (
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func jobMovesTheStatusOfItsRun(t *testing.T, b *bench) {
	ctx := t.Context()
	write := func(fn func(tx *store.Tx) error) {
		t.Helper()
		if err := b.store.Write(ctx, fn); err != nil {
			t.Fatal(err)
		}
	}
	write(func(tx *store.Tx) error {
		return tracking.CreateJobRun(ctx, tx, tracking.JobRun{
			WorkspaceID: "w1", Name: "my.job_1", Experiment: "exp", DisplayName: "shown", User: "me", Tags: map[string]string{"a": "b"}, Created: 100,
		})
	})
	check := func(state workspace.State, status string, end int64) {
		t.Helper()
		write(func(tx *store.Tx) error {
			return tracking.SetJobRunState(ctx, tx, store.Job{WorkspaceID: "w1", Name: "my.job_1", State: state, Started: 150, Ended: 900})
		})
		r, err := b.UpdateRun(ctx, b.scope, "my.job_1", tracking.RunUpdate{Status: "FINISHED", End: 5})
		if err != nil || r.Status != status || r.End != end || r.Start != 150 {
			t.Errorf("%s: %s %d–%d, %v", state, r.Status, r.Start, r.End, err)
		}
	}
	check(workspace.Queued, "SCHEDULED", 0)
	check(workspace.Running, "RUNNING", 0)
	check(workspace.NotResponding, "RUNNING", 0)
	check(workspace.CancelRequested, "RUNNING", 0)
	check(workspace.Canceled, "KILLED", 900)
	check(workspace.Failed, "FAILED", 900)
	check(workspace.Completed, "FINISHED", 900)
	r, err := b.Run(ctx, b.scope, "my.job_1")
	if err != nil || r.Name != "shown" || r.UserID != "me" || !strings.HasPrefix(r.URI, base) || !strings.HasSuffix(r.URI, "/my.job_1/artifacts") {
		t.Errorf("%+v, %v", r, err)
	}
	write(func(tx *store.Tx) error {
		return tracking.SetJobRunState(ctx, tx, store.Job{WorkspaceID: "w1", Name: "without-a-run"})
	})
}

func jobCredentialReachesItsTreeOnly(t *testing.T, b *bench) {
	ctx := t.Context()
	for _, name := range []string{"mine", "theirs"} {
		if err := b.store.Write(ctx, func(tx *store.Tx) error {
			return tracking.CreateJobRun(ctx, tx, tracking.JobRun{WorkspaceID: "w1", Name: name, Experiment: "exp", Created: 1})
		}); err != nil {
			t.Fatal(err)
		}
	}
	job, err := b.Scope(ctx, workspace.Principal{Kind: "job", Job: "01J", Name: "mine", Workspace: "w1"}, "w1", base)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Scope(ctx, workspace.Principal{Kind: "job", Job: "01J", Name: "mine", Workspace: "w1"}, "w2", base)
	refused(t, err, workspace.Denied, "another workspace")

	tag := tracking.Batch{Tags: []store.Label{label("k", "v")}}
	if err := b.Log(ctx, job, "mine", tag); err != nil {
		t.Error(err)
	}
	refused(t, b.Log(ctx, job, "theirs", tag), workspace.Denied, "reaches no other run")
	_, err = b.Run(ctx, job, "theirs")
	refused(t, err, workspace.Denied, "reaches no other run")

	child, err := b.CreateRun(ctx, job, tracking.NewRun{ExperimentID: job.Experiment, Name: "child", Tags: []store.Label{label("mlflow.parentRunId", "mine")}})
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := b.CreateRun(ctx, job, tracking.NewRun{ExperimentID: job.Experiment, Name: "grandchild", Tags: []store.Label{label("mlflow.parentRunId", child.ID)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Log(ctx, job, grandchild.ID, tag); err != nil {
		t.Error(err)
	}
	for _, tags := range [][]store.Label{nil, {label("mlflow.parentRunId", "theirs")}, {label("mlflow.parentRunId", "nobody")}} {
		_, err := b.CreateRun(ctx, job, tracking.NewRun{ExperimentID: job.Experiment, Tags: tags})
		refused(t, err, workspace.Denied, "only runs below its own run")
	}
	_, err = b.CreateRun(ctx, job, tracking.NewRun{ExperimentID: 0, Tags: []store.Label{label("mlflow.parentRunId", "mine")}})
	refused(t, err, workspace.Denied, "only the experiment that it was submitted to")

	mine := *b
	mine.scope = job
	if got := mine.names(t, tracking.RunSearch{Experiments: []int64{job.Experiment}, OrderBy: []string{"run_name"}}); got != "child grandchild mine" {
		t.Errorf("a job finds %s", got)
	}
	if _, err := b.ExperimentByName(ctx, job, "exp"); err != nil {
		t.Error(err)
	}
	_, err = b.ExperimentByName(ctx, job, "Default")
	refused(t, err, workspace.Denied, "only the experiment")
	refused(t, b.DeleteExperiment(ctx, job, job.Experiment), workspace.Denied, "")
	list, _, err := b.SearchExperiments(ctx, job, tracking.ExperimentSearch{Limit: 10})
	if err != nil || len(list) != 1 || list[0].Name != "exp" {
		t.Errorf("%v, %v", list, err)
	}
}

func parentsInARingEnd(t *testing.T, b *bench) {
	ctx := t.Context()
	x := b.run(t, tracking.NewRun{}, tracking.Batch{})
	y := b.run(t, tracking.NewRun{}, tracking.Batch{Tags: []store.Label{label("mlflow.parentRunId", x)}})
	if err := b.Log(ctx, b.scope, x, tracking.Batch{Tags: []store.Label{label("mlflow.parentRunId", y)}}); err != nil {
		t.Fatal(err)
	}
	if under, err := b.store.RunUnder(ctx, "w1", y, "elsewhere"); under || err != nil {
		t.Errorf("%v, %v", under, err)
	}
	if under, err := b.store.RunUnder(ctx, "w1", y, x); !under || err != nil {
		t.Errorf("%v, %v", under, err)
	}
	if err := b.DeleteTag(ctx, b.scope, x, "mlflow.parentRunId"); err != nil {
		t.Fatal(err)
	}
	if under, err := b.store.RunUnder(ctx, "w1", x, y); under || err != nil {
		t.Errorf("%v, %v", under, err)
	}
}
