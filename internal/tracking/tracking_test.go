package tracking_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/store/storetest"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a Tracking on an empty database, and what a test needs around it.
type bench struct {
	*tracking.Tracking
	store *store.Store
	scope tracking.Scope
}

const base = "https://h:1/mlflow/api/2.0/mlflow-artifacts/artifacts/"

func open(t testing.TB, url string) *bench {
	t.Helper()
	st := storetest.Open(t, url)
	b := &bench{Tracking: tracking.New(tracking.Config{Store: st, Clock: clock.System()}), store: st}
	var err error
	b.scope, err = b.Scope(t.Context(), workspace.Principal{Kind: "administrator"}, "w1", base)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sqliteFile(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "t.db") }

// promises are what holds on both databases.
var promises = []struct {
	name string
	test func(t *testing.T, b *bench)
}{
	{"ExperimentsAreCountedPerWorkspace", experimentsAreCountedPerWorkspace},
	{"DeletedExperimentRefusesWritesAndComesBackWithItsRuns", deletedExperimentRefusesWritesAndComesBackWithItsRuns},
	{"MetricsKeepHistoryAndLatest", metricsKeepHistoryAndLatest},
	{"BulkHistoryKeepsTheEndsOfEachRun", bulkHistoryKeepsTheEndsOfEachRun},
	{"ParamsAreWrittenOnce", paramsAreWrittenOnce},
	{"RunNameIsTheTag", runNameIsTheTag},
	{"JobMovesTheStatusOfItsRun", jobMovesTheStatusOfItsRun},
	{"JobCredentialReachesItsTreeOnly", jobCredentialReachesItsTreeOnly},
	{"ParentsInARingEnd", parentsInARingEnd},
	{"InputsOutputsAndModels", inputsOutputsAndModels},
	{"WorkspaceIsForgottenAlone", workspaceIsForgottenAlone},
	{"ConcurrentBatchesLoseNothing", concurrentBatchesLoseNothing},
	{"SearchTable", searchTable},
	{"SearchPages", searchPages},
	{"ExperimentSearchTable", experimentSearchTable},
	{"SearchAgreesWithModel", searchAgreesWithModel},
	{"PatchMakesARunAndAddsToIt", patchMakesARunAndAddsToIt},
	{"EventsMoveARunOfAClient", eventsMoveARunOfAClient},
	{"LastWordOfAStatusCounts", lastWordOfAStatusCounts},
	{"JobAndItsRunHaveOneNameAndTheSameTags", jobAndItsRunHaveOneNameAndTheSameTags},
	{"ChildrenKnowTheirRoot", childrenKnowTheirRoot},
	{"PagesOfRunsLoseNothing", pagesOfRunsLoseNothing},
	{"JobPatchesItsTreeOnly", jobPatchesItsTreeOnly},
	{"ExperimentsAreFoundByBothNames", experimentsAreFoundByBothNames},
	{"NumbersAreMetricsToEverybody", numbersAreMetricsToEverybody},
	{"OtherValuesAreKeptAsTheyCame", otherValuesAreKeptAsTheyCame},
	{"EntriesThatDoNotFitAreLeftOut", entriesThatDoNotFitAreLeftOut},
	{"ABatchThatComesAgainAddsNothing", aBatchThatComesAgainAddsNothing},
	{"BatchesThatOvertakeEachOtherAreOrdered", batchesThatOvertakeEachOtherAreOrdered},
	{"StepsOfTheClientStay", stepsOfTheClientStay},
	{"TimesBoundASeries", timesBoundASeries},
	{"LongSeriesComeInPages", longSeriesComeInPages},
}

func TestOnSQLite(t *testing.T) { keep(t, sqliteFile) }

func TestOnPostgres(t *testing.T) { keep(t, storetest.StartPostgres(t, "-c fsync=off").Fresh) }

func keep(t *testing.T, fresh func(testing.TB) string) {
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) { p.test(t, open(t, fresh(t))) })
	}
}

func (b *bench) experiment(t testing.TB, name string) int64 {
	t.Helper()
	id, err := b.CreateExperiment(t.Context(), b.scope, tracking.NewExperiment{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *bench) run(t testing.TB, n tracking.NewRun, batch tracking.Batch) string {
	t.Helper()
	run, err := b.CreateRun(t.Context(), b.scope, n)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Log(t.Context(), b.scope, run.ID, batch); err != nil {
		t.Fatal(err)
	}
	return run.ID
}

func (b *bench) names(t testing.TB, q tracking.RunSearch) string {
	t.Helper()
	var names []string
	if q.Limit == 0 {
		q.Limit = 1000
	}
	_, err := b.SearchRuns(t.Context(), b.scope, q, func(list []tracking.CompleteRun) error {
		for _, r := range list {
			names = append(names, r.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s %q: %v", q.Filter, q.OrderBy, err)
	}
	return strings.Join(names, " ")
}

func label(k, v string) store.Label { return store.Label{Key: k, Value: v} }

// refused wants a Problem of a class whose message holds a text.
func refused(t testing.TB, err error, class workspace.Class, text string) {
	t.Helper()
	p, is := errors.AsType[*workspace.Problem](err)
	if !is || p.Class != class || !strings.Contains(p.Message, text) {
		t.Errorf("want a %q problem with %q, got %v", class, text, err)
	}
}

func experimentsAreCountedPerWorkspace(t *testing.T, b *bench) {
	ctx := t.Context()
	other, err := b.Scope(ctx, workspace.Principal{Kind: "administrator"}, "w2", base)
	if err != nil {
		t.Fatal(err)
	}
	if a, c := b.experiment(t, "a"), b.experiment(t, "c"); a != 1 || c != 2 {
		t.Errorf("ids are %d and %d", a, c)
	}
	if id, err := b.CreateExperiment(ctx, other, tracking.NewExperiment{Name: "a"}); err != nil || id != 1 {
		t.Errorf("first of another workspace: %d, %v", id, err)
	}
	for _, s := range []tracking.Scope{b.scope, other} {
		e, err := b.Experiment(ctx, s, 0)
		if err != nil || e.Name != "Default" || e.Stage != store.StageActive {
			t.Errorf("%+v, %v", e, err)
		}
	}
	_, err = b.CreateExperiment(ctx, b.scope, tracking.NewExperiment{Name: "a"})
	refused(t, err, workspace.Conflict, "Experiment(name=a) already exists")
	refused(t, b.RenameExperiment(ctx, b.scope, 2, "a"), workspace.Conflict, "already exists")
	if _, err := b.Experiment(ctx, other, 2); err == nil {
		t.Error("a workspace sees another's experiment")
	}
}

func deletedExperimentRefusesWritesAndComesBackWithItsRuns(t *testing.T, b *bench) {
	ctx := t.Context()
	id := b.experiment(t, "e")
	run := b.run(t, tracking.NewRun{ExperimentID: id, Name: "r"}, tracking.Batch{})
	if err := b.DeleteExperiment(ctx, b.scope, id); err != nil {
		t.Fatal(err)
	}
	_, err := b.CreateRun(ctx, b.scope, tracking.NewRun{ExperimentID: id})
	refused(t, err, workspace.Invalid, "must be in the 'active' state. Current state is deleted")
	refused(t, b.SetExperimentTag(ctx, b.scope, id, label("k", "v")), workspace.Invalid, "must be in the 'active' state")
	refused(t, b.Log(ctx, b.scope, run, tracking.Batch{Tags: []store.Label{label("k", "v")}}), workspace.Invalid, "must be in the 'active' state")
	_, err = b.CreateExperiment(ctx, b.scope, tracking.NewExperiment{Name: "e"})
	refused(t, err, workspace.Conflict, "already exists")
	if got := b.names(t, tracking.RunSearch{Experiments: []int64{id}, Stage: store.StageActive}); got != "" {
		t.Errorf("active runs: %s", got)
	}
	if err := b.RestoreExperiment(ctx, b.scope, id); err != nil {
		t.Fatal(err)
	}
	if got := b.names(t, tracking.RunSearch{Experiments: []int64{id}, Stage: store.StageActive}); got != "r" {
		t.Errorf("active runs: %s", got)
	}
}

func runNameIsTheTag(t *testing.T, b *bench) {
	ctx := t.Context()
	tagOf := func(id string) (name, tag string) {
		r, err := b.Run(ctx, b.scope, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range r.Data.Tags {
			if l.Key == "mlflow.runName" {
				tag = l.Value
			}
		}
		return r.Name, tag
	}
	random := b.run(t, tracking.NewRun{}, tracking.Batch{})
	if name, tag := tagOf(random); name == "" || name != tag {
		t.Errorf("random name %q, tag %q", name, tag)
	}
	tagged := b.run(t, tracking.NewRun{Tags: []store.Label{label("mlflow.runName", "n")}}, tracking.Batch{})
	if name, tag := tagOf(tagged); name != "n" || tag != "n" {
		t.Errorf("%q, %q", name, tag)
	}
	_, err := b.CreateRun(ctx, b.scope, tracking.NewRun{Name: "a", Tags: []store.Label{label("mlflow.runName", "b")}})
	refused(t, err, workspace.Invalid, "but with different values")
	if err := b.Log(ctx, b.scope, tagged, tracking.Batch{Tags: []store.Label{label("mlflow.runName", "m")}}); err != nil {
		t.Fatal(err)
	}
	if name, tag := tagOf(tagged); name != "m" || tag != "m" {
		t.Errorf("after the tag: %q, %q", name, tag)
	}
	if _, err := b.UpdateRun(ctx, b.scope, tagged, tracking.RunUpdate{Name: "o"}); err != nil {
		t.Fatal(err)
	}
	if name, tag := tagOf(tagged); name != "o" || tag != "o" {
		t.Errorf("after the update: %q, %q", name, tag)
	}
}

func inputsOutputsAndModels(t *testing.T, b *bench) {
	ctx := t.Context()
	run, same := b.run(t, tracking.NewRun{}, tracking.Batch{}), b.run(t, tracking.NewRun{}, tracking.Batch{})
	in := store.DatasetInput{Dataset: store.DatasetRow{Name: "ds", Digest: "dg", SourceType: "local", Source: "s", Schema: "{}", Profile: "{}"}, Tags: []store.Label{label("mlflow.data.context", "train")}}
	for _, id := range []string{run, run, same} {
		if err := b.LogInputs(ctx, b.scope, id, []store.DatasetInput{in}, []store.RunModel{{ModelID: "m-in"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.LogOutputs(ctx, b.scope, run, []store.RunModel{{ModelID: "m-out", Step: 3}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.LogModel(ctx, b.scope, run, `{"artifact_path":"m","flavors":{},"utc_time_created":"now","run_id":"`+run+`"}`); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, b.LogModel(ctx, b.scope, run, `{"artifact_path":"m"}`), workspace.Invalid, "missing mandatory fields: {'flavors', 'run_id', 'utc_time_created'}")
	refused(t, b.LogModel(ctx, b.scope, run, `[]`), workspace.Invalid, "is not a valid JSON")
	got, err := b.Run(ctx, b.scope, run)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.DatasetInput{in}, got.Data.Datasets); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]store.RunModel{{ModelID: "m-in"}}, got.Data.Inputs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]store.RunModel{{ModelID: "m-out", Step: 3}}, got.Data.Outputs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	history, err := b.store.RunTag(ctx, got.Number, "mlflow.log-model.history")
	if err != nil || strings.Count(history, `"artifact_path":"m"`) != 2 {
		t.Errorf("%s, %v", history, err)
	}
	list, err := b.Datasets(ctx, b.scope, []int64{0})
	if diff := cmp.Diff([]store.DatasetSummary{{Name: "ds", Digest: "dg", Context: "train"}}, list); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func workspaceIsForgottenAlone(t *testing.T, b *bench) {
	ctx := t.Context()
	kept := *b
	kept.scope, _ = b.Scope(ctx, workspace.Principal{Kind: "administrator"}, "w2", base)
	full := tracking.Batch{Metrics: []store.Point{tracking.PointOf("m", 1, 1, 1)}, Params: []store.Label{label("p", "1")}, Tags: []store.Label{label("t", "1")}}
	gone, stays := b.run(t, tracking.NewRun{}, full), kept.run(t, tracking.NewRun{}, full)
	if err := b.store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteTracking(ctx, "w1") }); err != nil {
		t.Fatal(err)
	}
	_, err := b.Run(ctx, b.scope, gone)
	refused(t, err, workspace.NotFound, "not found")
	r, err := b.Run(ctx, kept.scope, stays)
	if err != nil || len(r.Data.Metrics) != 1 || len(r.Data.Params) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
