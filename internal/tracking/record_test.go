package tracking_test

import (
	"encoding/json"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func (b *bench) patch(t testing.TB, p tracking.RunPatch) store.HistoryRun {
	t.Helper()
	run, err := b.PatchRun(t.Context(), b.scope, "exp", "me", p)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func (b *bench) history(t testing.TB, id string) store.HistoryRun {
	t.Helper()
	run, err := b.HistoryRun(t.Context(), b.scope, id)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func (b *bench) tell(t testing.TB, events ...tracking.RunEvent) {
	t.Helper()
	if err := b.Events(t.Context(), b.scope, events); err != nil {
		t.Fatal(err)
	}
}

// job inserts a job with its run, as a submit does.
func (b *bench) job(t testing.TB, name string, tags map[string]string, properties string) {
	t.Helper()
	text, err := json.Marshal(tags)
	if err != nil {
		t.Fatal(err)
	}
	err = b.store.Write(t.Context(), func(tx *store.Tx) error {
		job := store.Job{ID: "01J" + name, WorkspaceID: "w1", Name: name, DisplayName: name, Experiment: "exp", State: workspace.Queued, Tags: text, Properties: json.RawMessage(properties)}
		if err := tx.InsertJob(t.Context(), job); err != nil {
			return err
		}
		return tracking.CreateJobRun(t.Context(), tx, tracking.JobRun{WorkspaceID: "w1", Name: name, Experiment: "exp", Tags: tags, Created: 100})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func patchMakesARunAndAddsToIt(t *testing.T, b *bench) {
	name, description := "shown", "words"
	run := b.patch(t, tracking.RunPatch{
		ID: "r1", DisplayName: &name, Description: &description, Target: new("local"), Tags: map[string]string{"a": "1", "b": "2"}, Properties: map[string]string{"p": "1"},
		Body: store.RunBody{Name: "n", Script: "s.py"},
	})
	if run.State() != "NotStarted" || run.Experiment != "exp" || run.Name != "shown" || run.UserID != "me" || run.Record.Target != "local" {
		t.Errorf("made: %+v", run)
	}
	run = b.patch(t, tracking.RunPatch{ID: "r1", Tags: map[string]string{"b": "3", "c": ""}, Properties: map[string]string{"q": "2", "p": "1"}, Hidden: new(true), Body: store.RunBody{Metric: "acc"}})
	tags, said := tracking.PeoplesTags(run)
	if d := cmp.Diff(map[string]string{"a": "1", "b": "3", "c": ""}, tags); d != "" || said != "words" {
		t.Errorf("tags: %s, description %q", d, said)
	}
	if d := cmp.Diff(map[string]string{"p": "1", "q": "2"}, tracking.Properties(run)); d != "" {
		t.Error(d)
	}
	if !run.Record.Hidden || run.Record.Script != "s.py" || run.Record.Metric != "acc" || run.Name != "shown" {
		t.Errorf("changed: %+v", run.Record)
	}
	_, err := b.PatchRun(t.Context(), b.scope, "exp", "me", tracking.RunPatch{ID: "r1", Properties: map[string]string{"p": "2"}})
	refused(t, err, workspace.Invalid, "cannot change")
	// MLflow's clients see the same run.
	seen, err := b.Run(t.Context(), b.scope, "r1")
	if err != nil || seen.Name != "shown" || seen.Status != "SCHEDULED" || seen.Data.Tags == nil {
		t.Errorf("to MLflow: %+v, %v", seen, err)
	}
	run, err = b.DeleteTags(t.Context(), b.scope, "r1", []string{"a", "nothing", "mlflow.runName"})
	if tags, _ := tracking.PeoplesTags(run); err != nil || tags["a"] != "" || len(tags) != 2 || run.Name != "shown" {
		t.Errorf("after deleting: %v, %v", tags, err)
	}
	for _, bad := range []tracking.RunPatch{{}, {ID: "../x"}, {ID: "x", Status: new("Happy")}, {ID: "x", Tags: map[string]string{" ": "x"}}} {
		_, err := b.PatchRun(t.Context(), b.scope, "exp", "me", bad)
		if p, is := errors.AsType[*workspace.Problem](err); !is || p.Class != workspace.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func eventsMoveARunOfAClient(t *testing.T, b *bench) {
	b.patch(t, tracking.RunPatch{ID: "r"})
	for _, step := range []struct {
		event  tracking.RunEvent
		state  string
		mlflow string
		start  int64
		end    int64
	}{
		{tracking.RunEvent{Name: "Queued", Time: 5}, "Queued", "SCHEDULED", 0, 0},
		{tracking.RunEvent{Name: "Start", Time: 10}, "Running", "RUNNING", 10, 0},
		{tracking.RunEvent{Name: "Heartbeat", Time: 11}, "Running", "RUNNING", 10, 0},
		{tracking.RunEvent{Name: "CancelRequested", Time: 12}, "CancelRequested", "RUNNING", 10, 0},
		{tracking.RunEvent{Name: "Error", Error: json.RawMessage(`{"error":{"code":"X"}}`)}, "CancelRequested", "RUNNING", 10, 0},
		{tracking.RunEvent{Name: "Failed", Time: 20}, "Failed", "FAILED", 10, 20},
		{tracking.RunEvent{Name: "Completed", Time: 30}, "Failed", "FAILED", 10, 20}, // what has ended stays so
		{tracking.RunEvent{Name: "Start", Time: 40}, "Failed", "FAILED", 10, 20},
	} {
		step.event.Run = "r"
		b.tell(t, step.event)
		run := b.history(t, "r")
		if run.State() != step.state || run.Status != step.mlflow || step.start != 0 && run.Start != step.start || run.End != step.end {
			t.Errorf("after %s: %s, %s, %d–%d", step.event.Name, run.State(), run.Status, run.Start, run.End)
		}
	}
	if run := b.history(t, "r"); string(run.Record.Error) != `{"error":{"code":"X"}}` {
		t.Errorf("error: %s", run.Record.Error)
	}
	for range 150 {
		b.tell(t, tracking.RunEvent{Run: "r", Name: "Warning", Warning: store.RunWarning{Source: "s", Message: "m"}})
	}
	if n := len(b.history(t, "r").Record.Warnings); n != 100 {
		t.Errorf("%d warnings are kept", n)
	}
	if err := b.Events(t.Context(), b.scope, []tracking.RunEvent{{Run: "none", Name: "Start"}}); err == nil {
		t.Error("an event of no run was taken")
	}
}

// lastWordOfAStatusCounts: a status that MLflow's client set is not hidden behind an older one of Azure's.
func lastWordOfAStatusCounts(t *testing.T, b *bench) {
	b.patch(t, tracking.RunPatch{ID: "r", Status: new("Paused")})
	if _, err := b.UpdateRun(t.Context(), b.scope, "r", tracking.RunUpdate{Status: "FINISHED", End: 9}); err != nil {
		t.Fatal(err)
	}
	if got := b.history(t, "r").State(); got != "Completed" {
		t.Errorf("status is %s", got)
	}
	// A run that only MLflow knows has a status in Azure's words too.
	id := b.run(t, tracking.NewRun{ExperimentID: 0}, tracking.Batch{})
	if run := b.history(t, id); run.State() != "Running" || run.Experiment != "Default" {
		t.Errorf("MLflow's run: %s in %s", run.State(), run.Experiment)
	}
}

func jobAndItsRunHaveOneNameAndTheSameTags(t *testing.T, b *bench) {
	ctx := t.Context()
	b.job(t, "j", map[string]string{"from": "submit"}, `{"fixed":"1"}`)
	b.patch(t, tracking.RunPatch{
		ID: "j", DisplayName: new("nice"), Status: new("Completed"), End: 5, Hidden: new(true), Tags: map[string]string{"v1": "a"}, Properties: map[string]string{"more": "2"},
	})
	if err := b.Log(ctx, b.scope, "j", tracking.Batch{Tags: []store.Label{label("mlflow.user", "x"), label("flow", "b")}}); err != nil {
		t.Fatal(err)
	}
	b.tell(t, tracking.RunEvent{Run: "j", Name: "Completed"}, tracking.RunEvent{Run: "j", Name: "Warning", Warning: store.RunWarning{Message: "careful"}})
	run := b.history(t, "j")
	want := map[string]string{"from": "submit", "v1": "a", "flow": "b"}
	tags, _ := tracking.PeoplesTags(run)
	if d := cmp.Diff(want, tags); d != "" {
		t.Error(d)
	}
	job, err := b.store.Job(ctx, "w1", "j")
	if err != nil {
		t.Fatal(err)
	}
	var kept map[string]string
	if err := json.Unmarshal(job.Tags, &kept); err != nil || !cmp.Equal(want, kept) {
		t.Errorf("the job's tags: %s, %v", job.Tags, err)
	}
	if job.DisplayName != "nice" || !job.Archived || job.State != workspace.Queued || run.State() != "Queued" || run.End != 0 || run.Name != "nice" || len(run.Record.Warnings) != 1 {
		t.Errorf("job %+v, run %+v", job, run)
	}
	if d := cmp.Diff(map[string]string{"fixed": "1", "more": "2"}, tracking.Properties(run)); d != "" {
		t.Error(d)
	}
	_, err = b.PatchRun(ctx, b.scope, "exp", "me", tracking.RunPatch{ID: "j", Properties: map[string]string{"fixed": "2"}})
	refused(t, err, workspace.Invalid, "cannot change")
	// And the reverse: what the job is given, its run has.
	had := job
	job.DisplayName, job.Tags = "other", json.RawMessage(`{"v1":"c"}`)
	if err := b.store.Write(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.DescribeJob(ctx, job), tracking.DescribeJobRun(ctx, tx, had, job))
	}); err != nil {
		t.Fatal(err)
	}
	seen, err := b.Run(ctx, b.scope, "j")
	if err != nil || seen.Name != "other" {
		t.Errorf("%+v, %v", seen, err)
	}
	got := map[string]string{}
	for _, l := range seen.Data.Tags {
		got[l.Key] = l.Value
	}
	if got["v1"] != "c" || got["from"] != "" || got["flow"] != "" || got["mlflow.runName"] != "other" {
		t.Errorf("the run's tags: %v", got)
	}
	if _, err := b.DeleteTags(ctx, b.scope, "j", []string{"v1"}); err != nil {
		t.Fatal(err)
	}
	if job, err = b.store.Job(ctx, "w1", "j"); err != nil || string(job.Tags) != "{}" {
		t.Errorf("the job's tags in the end: %s, %v", job.Tags, err)
	}
}

func childrenKnowTheirRoot(t *testing.T, b *bench) {
	ctx := t.Context()
	b.patch(t, tracking.RunPatch{ID: "top"})
	list, err := b.PatchRuns(ctx, b.scope, "exp", "me", []tracking.RunPatch{{ID: "k1", Parent: new("top")}, {ID: "k2", Parent: new("top")}, {ID: "g", Parent: new("k1")}})
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	for _, run := range append(list, b.history(t, "top")) {
		if root, err := b.Root(ctx, run); root != "top" || err != nil {
			t.Errorf("root of %s: %s, %v", run.ID, root, err)
		}
	}
	children, next, err := b.ListRuns(ctx, b.scope, tracking.Listing{Parent: "top", Order: "RunId"})
	if err != nil || len(children) != 2 || children[0].ID != "k1" || next != "" {
		t.Errorf("%v, %q, %v", children, next, err)
	}
	// All or none.
	if _, err := b.PatchRuns(ctx, b.scope, "exp", "me", []tracking.RunPatch{{ID: "new"}, {ID: "k1", Properties: map[string]string{"a": "1"}}, {ID: "k1", Properties: map[string]string{"a": "2"}}}); err == nil {
		t.Error("a property was changed")
	}
	if _, err := b.HistoryRun(ctx, b.scope, "new"); err == nil {
		t.Error("half a batch was kept")
	}
}

func pagesOfRunsLoseNothing(t *testing.T, b *bench) {
	ctx := t.Context()
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		b.patch(t, tracking.RunPatch{ID: id, Tags: map[string]string{"t": "x"}})
	}
	var got []string
	l := tracking.Listing{Filter: `(Tags/t eq "x")`, Order: "RunId desc", Limit: 2}
	for page := range 4 {
		runs, next, err := b.ListRuns(ctx, b.scope, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range runs {
			got = append(got, r.ID)
		}
		if page == 0 {
			for now := time.Now().UnixMilli(); time.Now().UnixMilli() == now; { // runs are told apart by the millisecond of their making
				runtime.Gosched()
			}
			b.patch(t, tracking.RunPatch{ID: "zz", Tags: map[string]string{"t": "x"}}) // comes meanwhile, and would come first
		}
		if l.Token = next; next == "" {
			break
		}
	}
	if d := cmp.Diff([]string{"e", "d", "c", "b", "a"}, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []tracking.Listing{{Token: "x"}, {Filter: "("}, {Order: "up"}, {Parent: "none"}} {
		if _, _, err := b.ListRuns(ctx, b.scope, bad); err == nil {
			t.Errorf("%+v was answered", bad)
		}
	}
}

func jobPatchesItsTreeOnly(t *testing.T, b *bench) {
	ctx := t.Context()
	b.job(t, "mine", nil, `{}`)
	b.job(t, "theirs", nil, `{}`)
	b.patch(t, tracking.RunPatch{ID: "lone"})
	job, err := b.Scope(ctx, workspace.Principal{Kind: "job", Job: "01Jmine", Name: "mine", Workspace: "w1"}, "w1", base)
	if err != nil {
		t.Fatal(err)
	}
	lone, err := b.Scope(ctx, workspace.Principal{Kind: "run", Job: "lone", Name: "lone", Workspace: "w1"}, "w1", base)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []workspace.Principal{{Kind: "job", Job: "x", Name: "lone", Workspace: "w1"}, {Kind: "run", Job: "mine", Name: "mine", Workspace: "w1"}} {
		if _, err := b.Scope(ctx, p, "w1", base); err == nil {
			t.Errorf("%+v has a scope", p)
		}
	}
	for _, c := range []struct {
		scope tracking.Scope
		patch tracking.RunPatch
		ok    bool
	}{
		{job, tracking.RunPatch{ID: "mine", Tags: map[string]string{"a": "b"}}, true},
		{job, tracking.RunPatch{ID: "theirs", Tags: map[string]string{"a": "b"}}, false},
		{job, tracking.RunPatch{ID: "kid", Parent: new("mine")}, true},
		{job, tracking.RunPatch{ID: "grandkid", Parent: new("kid")}, true},
		{job, tracking.RunPatch{ID: "stray"}, false},
		{job, tracking.RunPatch{ID: "stray", Parent: new("theirs")}, false},
		{lone, tracking.RunPatch{ID: "lone", Tags: map[string]string{"a": "b"}}, true},
		{lone, tracking.RunPatch{ID: "lonekid", Parent: new("lone")}, true},
		{lone, tracking.RunPatch{ID: "mine"}, false},
	} {
		run, err := b.PatchRun(ctx, c.scope, "another", "job", c.patch)
		if (err == nil) != c.ok {
			t.Errorf("%s with parent %v: %v", c.patch.ID, c.patch.Parent, err)
		}
		if err == nil && run.Experiment != "exp" {
			t.Errorf("%s is in %s", run.ID, run.Experiment)
		}
	}
	if err := b.Events(ctx, job, []tracking.RunEvent{{Run: "lone", Name: "Completed"}}); err == nil {
		t.Error("a job moved another's run")
	}
	runs, _, err := b.ListRuns(ctx, job, tracking.Listing{Order: "RunId"})
	if err != nil || len(runs) != 3 || runs[0].ID != "grandkid" || runs[2].ID != "mine" {
		t.Errorf("a job sees %v, %v", runs, err)
	}
}

func experimentsAreFoundByBothNames(t *testing.T, b *bench) {
	ctx := t.Context()
	id := func(name string) string { return "id-of-" + name }
	made, err := b.EnsureExperiment(ctx, b.scope, "x y")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.EnsureExperiment(ctx, b.scope, "x y"); err != nil || again.ID != made.ID {
		t.Errorf("%+v, %v", again, err)
	}
	for _, key := range []string{"x y", "id-of-x y", "id-of-x y"} {
		if e, err := b.FindExperiment(ctx, b.scope, key, id); err != nil || e.ID != made.ID {
			t.Errorf("by %s: %+v, %v", key, e, err)
		}
	}
	_, err = b.FindExperiment(ctx, b.scope, "id-of-none", id)
	refused(t, err, workspace.NotFound, "id-of-none")
	e, err := b.PatchExperiment(ctx, b.scope, made, tracking.ExperimentPatch{Description: new("words"), Tags: map[string]string{"a": "1", "b": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	e, err = b.PatchExperiment(ctx, b.scope, e, tracking.ExperimentPatch{Remove: []string{"a", "none"}, Name: new("renamed")})
	tags, description := tracking.PeoplesExperimentTags(e)
	if err != nil || description != "words" || !cmp.Equal(tags, map[string]string{"b": "2"}) || e.Name != "renamed" {
		t.Errorf("%+v, %v", e, err)
	}
	list, _, err := b.ListExperiments(ctx, b.scope, tracking.ExperimentSearch{Filter: "(name eq renamed) and (Tags/b eq 2)", Limit: 5})
	if err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if e, err = b.PatchExperiment(ctx, b.scope, e, tracking.ExperimentPatch{Archived: new(true)}); err != nil || e.Stage != store.StageDeleted {
		t.Errorf("%+v, %v", e, err)
	}
	_, err = b.PatchRun(ctx, b.scope, "renamed", "me", tracking.RunPatch{ID: "late"})
	refused(t, err, workspace.Invalid, "is deleted")
	if e, err = b.PatchExperiment(ctx, b.scope, e, tracking.ExperimentPatch{Archived: new(false)}); err != nil || e.Stage != store.StageActive {
		t.Errorf("%+v, %v", e, err)
	}
	// The old id stays the renamed one's until another experiment has the name.
	if e, err = b.FindExperiment(ctx, b.scope, "id-of-x y", id); err != nil || e.ID != made.ID {
		t.Errorf("%+v, %v", e, err)
	}
	other, err := b.EnsureExperiment(ctx, b.scope, "x y")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if e, err = b.FindExperiment(ctx, b.scope, "id-of-x y", id); err != nil || e.ID != other.ID {
			t.Errorf("%+v, %v", e, err)
		}
	}
}
