package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// insertRun stores a run of experiment 1, which it makes if need be, and gives its number.
func insertRun(t *testing.T, s *store.Store, r store.Run) (number int64) {
	t.Helper()
	r.WorkspaceID, r.ExperimentID, r.Stage = "w", 1, store.StageActive
	if r.Status == "" {
		r.Status = "SCHEDULED"
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
		if _, err := tx.Experiment(ctx, "w", 1); errors.Is(err, store.ErrNotFound) {
			if _, err := tx.InsertExperiment(ctx, store.Experiment{WorkspaceID: "w", Name: "e", Stage: store.StageActive}); err != nil {
				return err
			}
		}
		number, err = tx.InsertRun(ctx, r)
		return err
	})
	return number
}

func (e *exam) runRecords(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	n := insertRun(t, s, store.Run{ID: "r", Name: "R"})
	if h := must[store.HistoryRun](t)(s.HistoryRun(ctx, "w", "r")); h.Number != n || h.Experiment != "e" || h.Job != nil || h.Record.Properties != nil {
		t.Errorf("a run without a record: %+v", h)
	}
	want := store.RunRecord{
		State: "Queued", Type: "t", Target: "vm", Hidden: true, Properties: map[string]string{`a "b"`: "ü"},
		RunBody: store.RunBody{
			Name: "n", Script: "s.py", Metric: "acc", TypeV2: json.RawMessage(`{"o":1}`), From: json.RawMessage(`{}`), Definition: json.RawMessage(`{"d":[1]}`),
			Inputs: json.RawMessage(`[]`), Outputs: json.RawMessage(`[{}]`), Error: json.RawMessage(`{"code":"x"}`), Warnings: []store.RunWarning{{Source: "a", Message: "b"}},
		},
	}
	for range 2 { // made, then replaced
		write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.PutRunRecord(ctx, n, want) })
		if d := cmp.Diff(want, must[store.HistoryRun](t)(s.HistoryRun(ctx, "w", "r")).Record); d != "" {
			t.Error(d)
		}
		want.State, want.Hidden, want.Properties, want.Warnings = "", false, nil, nil
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.DeleteTracking(ctx, "w") })
	if _, err := s.HistoryRun(ctx, "w", "r"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

// history has two runs with jobs and a small tree without, of which grandkid began last.
func (e *exam) history(t *testing.T) *store.Store {
	s := e.open(t)
	insertJobs(t, s, job(1, func(j *store.Job) {
		j.Name, j.State, j.ComputeName, j.Properties = "job", workspace.Preparing, "vm", []byte(`{"author":"x"}`)
	}), job(2, func(j *store.Job) { j.Name, j.Properties = "plain", []byte(`null`) }))
	numbers := map[string]int64{}
	for _, r := range []store.Run{
		{ID: "job", Job: true, Name: "J", Start: 5},
		{ID: "plain", Job: true, Name: "P", Start: 6},
		{ID: "top", Name: "T", Status: "RUNNING", UserID: "me", Start: 7},
		{ID: "kid", Name: "K", Status: "FAILED", ParentID: "top", Start: 8, End: 9},
		{ID: "grandkid", Name: "G", ParentID: "kid", Start: 9},
	} {
		numbers[r.ID] = insertRun(t, s, r)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(
			tx.SetRunTags(ctx, numbers["top"], []store.Label{{Key: "a b", Value: "fantastic run"}, {Key: "empty"}}),
			tx.SetRunTags(ctx, numbers["kid"], []store.Label{{Key: "a b", Value: "poor"}}),
			tx.PutRunRecord(ctx, numbers["top"], store.RunRecord{State: "Paused", Type: "own", Target: "local", Properties: map[string]string{"author": "x", `q"'`: "1"}}),
			tx.PutRunRecord(ctx, numbers["kid"], store.RunRecord{State: "Paused"}), // of before it failed
		)
	})
	return s
}

func (e *exam) historyFilters(t *testing.T) {
	s, ctx := e.history(t), t.Context()
	eq := func(f store.HistoryField, text string) store.Clause {
		return store.Clause{Field: f, Operator: store.Equal, Text: text}
	}
	keyed := func(f store.HistoryField, key string, op store.Operator, text string) store.Clause {
		return store.Clause{Field: f, Key: key, Operator: op, Text: text}
	}
	null := func(c store.Clause) store.Clause { c.Null = true; return c }
	for _, c := range []struct {
		filter store.Clause
		want   []string
	}{
		{eq(store.HistoryID, "kid"), []string{"kid"}},
		{store.Clause{Field: store.HistoryID, Operator: store.In, List: []string{"kid", "top", "none"}}, []string{"kid", "top"}},
		{null(eq(store.HistoryParent, "")), []string{"top", "plain", "job"}},
		{eq(store.HistoryParent, "top"), []string{"kid"}},
		{store.Clause{Field: store.HistoryParent, Operator: store.NotEqual, Text: "top"}, []string{"grandkid", "top", "plain", "job"}},
		{eq(store.HistoryRoot, "top"), []string{"grandkid", "kid", "top"}},
		{eq(store.HistoryStatus, "Preparing"), []string{"job"}},
		{eq(store.HistoryStatus, "Paused"), []string{"top"}},
		{eq(store.HistoryStatus, "Failed"), []string{"kid"}},
		{eq(store.HistoryStatus, "NotStarted"), []string{"grandkid"}},
		{eq(store.HistoryType, "own"), []string{"top"}},
		{eq(store.HistoryType, store.ScriptRun), []string{"plain", "job"}},
		{eq(store.HistoryTarget, "vm"), []string{"job"}},
		{eq(store.HistoryTarget, "local"), []string{"top"}},
		{eq(store.HistoryName, "T"), []string{"top"}},
		{eq(store.HistoryUser, "me"), []string{"top"}},
		{store.Clause{Field: store.HistoryStarted, Operator: store.GreaterEqual, Time: 8}, []string{"grandkid", "kid"}},
		{store.Clause{Field: store.HistoryEnded, Operator: store.Less, Time: 10}, []string{"kid"}},
		{null(store.Clause{Field: store.HistoryEnded, Operator: store.NotEqual}), []string{"kid"}},
		{store.Clause{Field: store.HistoryCreated, Operator: store.Less, Time: 1}, nil},
		{keyed(store.HistoryTag, "a b", store.Equal, "fantastic run"), []string{"top"}},
		{keyed(store.HistoryTag, "a b", store.NotEqual, "fantastic run"), []string{"kid"}},
		{keyed(store.HistoryTag, "a b", store.Present, ""), []string{"kid", "top"}},
		{null(keyed(store.HistoryTag, "empty", store.Equal, "")), []string{"top"}},
		{null(keyed(store.HistoryTag, "a b", store.Equal, "")), nil},
		{keyed(store.HistoryProperty, "author", store.Equal, "x"), []string{"top", "job"}},
		{keyed(store.HistoryProperty, `q"'`, store.Present, ""), []string{"top"}},
		{store.Clause{Join: "AND", Of: []store.Clause{
			keyed(store.HistoryProperty, "author", store.Equal, "x"),
			{Join: "OR", Of: []store.Clause{eq(store.HistoryStatus, "Paused"), eq(store.HistoryStatus, "Failed")}},
		}}, []string{"top"}},
	} {
		got := runIDs(must[[]store.HistoryRun](t)(s.HistoryRuns(ctx, store.HistoryQuery{WorkspaceID: "w", Filter: &c.filter, Orders: []store.HistoryOrder{{Field: store.HistoryStarted, Descending: true}}, Limit: 10})))
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%+v: %s", c.filter, d)
		}
	}
}

func (e *exam) historyPages(t *testing.T) {
	s, ctx := e.history(t), t.Context()
	// Every field can be an order; what has no value comes last.
	for f, first := range map[store.HistoryField]string{
		store.HistoryID: "grandkid", store.HistoryName: "grandkid", store.HistoryStarted: "job", store.HistoryEnded: "kid", store.HistoryStatus: "kid",
		store.HistoryTarget: "top", store.HistoryType: "plain", store.HistoryParent: "grandkid", store.HistoryUser: "plain", store.HistoryCreated: "",
	} {
		got := runIDs(must[[]store.HistoryRun](t)(s.HistoryRuns(ctx, store.HistoryQuery{
			WorkspaceID: "w", Experiment: new(int64(1)), Orders: []store.HistoryOrder{{Field: f}, {Field: store.HistoryID, Descending: true}}, Limit: 10,
		})))
		if len(got) != 5 || first != "" && got[0] != first {
			t.Errorf("by %s: %v, want %s first", f, got, first)
		}
	}
	for _, c := range []struct {
		query store.HistoryQuery
		want  []string
	}{
		{store.HistoryQuery{Parent: "top", Limit: 5}, []string{"kid"}},
		{store.HistoryQuery{Under: "kid", Limit: 5}, []string{"grandkid", "kid"}},
		{store.HistoryQuery{Offset: 1, Limit: 2}, []string{"kid", "top"}},
		{store.HistoryQuery{Newest: 1, Limit: 5}, nil},
		{store.HistoryQuery{Experiment: new(int64(2)), Limit: 5}, nil},
	} {
		c.query.WorkspaceID, c.query.Orders = "w", []store.HistoryOrder{{Field: store.HistoryStarted, Descending: true}}
		if d := cmp.Diff(c.want, runIDs(must[[]store.HistoryRun](t)(s.HistoryRuns(ctx, c.query)))); d != "" {
			t.Errorf("%+v: %s", c.query, d)
		}
	}
	for id, want := range map[string]string{"grandkid": "top", "top": "top"} {
		if got := must[string](t)(s.RunRoot(ctx, "w", id)); got != want {
			t.Errorf("root of %s: %s", id, got)
		}
	}
	if h := must[store.HistoryRun](t)(s.HistoryRun(ctx, "w", "job")); h.Job == nil || h.State() != "Preparing" || string(h.Job.Properties) != `{"author":"x"}` {
		t.Errorf("the job of a run: %+v", h.Job)
	}
}

func runIDs(list []store.HistoryRun) (out []string) {
	for _, h := range list {
		out = append(out, h.ID)
	}
	return out
}

func (e *exam) series(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	n := insertRun(t, s, store.Run{ID: "r"})
	grow := func(m store.MetricSeries) (out store.MetricSeries) {
		write(t, s, func(ctx context.Context, tx *store.Tx) (err error) { out, err = tx.GrowSeries(ctx, n, m); return err })
		return out
	}
	first := grow(store.MetricSeries{Key: "t", Kind: "k", Columns: []byte(`{"b":"x","a":"y"}`), Size: 2})
	second := grow(store.MetricSeries{Key: "t", Kind: "other", Columns: []byte(`{}`), Size: 3, Filed: 1, Stepped: true})
	want := store.MetricSeries{Key: "t", Number: first.Number, Kind: "k", Columns: []byte(`{"b":"x","a":"y"}`), Size: 5, Filed: 1, Stepped: true}
	if d := cmp.Diff(want, second); d != "" {
		t.Error(d)
	}
	grow(store.MetricSeries{Key: "s", Columns: []byte(`{}`), Size: 1, Filed: 1})
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(
			tx.ChangeColumns(ctx, n, "t", []byte(`{"c":"z"}`)),
			tx.AddRows(ctx, first.Number, []store.SeriesRow{{Moment: 30, At: 0, Data: []byte(`3`)}, {Moment: 10, At: 1, Data: []byte(`1`)}, {Moment: 30, At: 2, Data: []byte(`4`)}, {Moment: 20, At: 3, Data: []byte(`2`)}}),
		)
	})
	want.Columns = []byte(`{"c":"z"}`)
	if d := cmp.Diff(map[string]store.MetricSeries{"t": want}, must[map[string]store.MetricSeries](t)(s.SeriesOf(ctx, n, []string{"t", "none"}))); d != "" {
		t.Error(d)
	}
	if l := must[[]store.MetricSeries](t)(s.UnfiledSeries(ctx, n)); len(l) != 1 || l[0].Key != "t" {
		t.Error(l)
	}
	var all string
	if err := s.EachRow(ctx, first.Number, func(r store.SeriesRow) error { all += string(r.Data); return nil }); err != nil || all != "1234" {
		t.Errorf("rows in the order of their times: %s, %v", all, err)
	}
	if l := must[[]store.SeriesRow](t)(s.Rows(ctx, first.Number, store.SeriesRow{Moment: 30, At: 0}, 5)); len(l) != 1 || string(l[0].Data) != "4" {
		t.Errorf("a page: %v", l)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.FiledSeries(ctx, n, "t", 5) })
	if l := must[[]store.MetricSeries](t)(s.UnfiledSeries(ctx, n)); len(l) != 0 {
		t.Error(l)
	}
	if l := must[[]store.MetricSeries](t)(s.AllSeries(ctx, n)); len(l) != 2 || l[0].Key != "s" {
		t.Error(l)
	}
	for i, want := range []bool{true, false} {
		write(t, s, func(ctx context.Context, tx *store.Tx) error {
			if fresh, err := tx.TakeBatch(ctx, n, "id"); err != nil || fresh != want {
				t.Errorf("batch taken for the %d. time: %v, %v", i+1, fresh, err)
			}
			return nil
		})
	}
}

func (e *exam) chunks(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	n := insertRun(t, s, store.Run{ID: "r"})
	get := func() store.MetricSeries {
		return must[map[string]store.MetricSeries](t)(s.SeriesOf(ctx, n, []string{"a"}))["a"]
	}
	for i, c := range []struct{ moment, unsorted int64 }{{10, 0}, {30, 0}, {30, 0}, {20, 4}, {25, 4}, {5, 1}, {40, 1}} {
		write(t, s, func(ctx context.Context, tx *store.Tx) error {
			m, err := tx.GrowSeries(ctx, n, store.MetricSeries{Key: "a", Columns: []byte(`{}`), Size: 3})
			if err != nil {
				return err
			}
			return tx.AddChunk(ctx, m, n, store.Chunk{Moment: c.moment, At: int64(3 * i), Size: 3})
		})
		if got := get().Unsorted; got != c.unsorted {
			t.Errorf("after chunk %d: unsorted from %d, want %d", i, got, c.unsorted)
		}
	}
	if l := must[[]store.MetricSeries](t)(s.UnsortedSeries(ctx, n)); len(l) != 1 {
		t.Error(l)
	}
	m := get()
	want := []store.Chunk{{Moment: 20, At: 9, Size: 3}, {Moment: 25, At: 12, Size: 3}, {Moment: 40, At: 18, Size: 3}}
	if d := cmp.Diff(want, slices.DeleteFunc(must[[]store.Chunk](t)(s.Chunks(ctx, m.Number, 9)), func(c store.Chunk) bool { return c.Moment == 5 })); d != "" {
		t.Error(d)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(tx.PutChunks(ctx, m.Number, 9, want[:1]), tx.MarkSorted(ctx, n, m))
	})
	if l := must[[]store.Chunk](t)(s.Chunks(ctx, m.Number, 0)); len(l) != 4 || get().Unsorted != 0 {
		t.Errorf("%v, %+v", l, get())
	}
	if err := s.Write(ctx, func(tx *store.Tx) error { return tx.MarkSorted(ctx, n, m) }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a series that is not as it was seen: %v", err)
	}
}

func (e *exam) takenPoints(t *testing.T) {
	s := e.open(t)
	n := insertRun(t, s, store.Run{ID: "r"})
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		return tx.LogPoints(ctx, n, []store.Point{{Key: "a", Value: 1, Timestamp: 10, Step: 0}, {Key: "a", Value: 2, Timestamp: 20, Step: 1}, {Key: "a", Value: 3, Timestamp: 30, Step: 2}, {Key: "b", Timestamp: 30}})
	})
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		for _, c := range []struct {
			from int64
			n    int
		}{{1, 1}, {1, 3}, {-1, 3}} {
			if l, err := tx.TakePoints(ctx, n, "a", c.from, c.n); l != nil || err != nil {
				t.Errorf("%+v: %v, %v", c, l, err)
			}
		}
		l, err := tx.TakePoints(ctx, n, "a", 1, 2)
		if d := cmp.Diff([]store.Point{{Key: "a", Value: 2, Timestamp: 20, Step: 1}, {Key: "a", Value: 3, Timestamp: 30, Step: 2}}, l); d != "" || err != nil {
			t.Errorf("%s, %v", d, err)
		}
		return nil
	})
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		return tx.SetLatest(ctx, n, store.Point{Key: "a", Value: 1, Timestamp: 10, NaN: true})
	})
	if l := must[[]store.Point](t)(s.Latest(t.Context(), n)); l[0] != (store.Point{Key: "a", Value: 1, Timestamp: 10, NaN: true}) {
		t.Errorf("the latest: %v", l)
	}
	if l := must[[]store.Point](t)(s.History(t.Context(), n, "a", nil, 9)); len(l) != 1 {
		t.Errorf("left: %v", l)
	}
	if l := must[[]store.Point](t)(s.History(t.Context(), n, "b", nil, 9)); len(l) != 1 {
		t.Errorf("of another metric: %v", l)
	}
}
