package tracking_test

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// entry is one entry of a batch; values are the cells of a row, joined.
func entry(name, kind, columns string, at int64, rows ...string) tracking.SeriesBatch {
	b := tracking.SeriesBatch{Name: name, Kind: kind, Columns: json.RawMessage(columns)}
	for i, row := range rows {
		v := tracking.SeriesValue{ID: fmt.Sprint(name, at, i), Time: at + int64(i)}
		if err := json.Unmarshal([]byte(row), &v.Data); err != nil {
			panic(err)
		}
		b.Values = append(b.Values, v)
	}
	return b
}

func scalar(name string, at int64, values ...float64) tracking.SeriesBatch {
	rows := make([]string, len(values))
	for i, v := range values {
		rows[i] = fmt.Sprintf(`{%q:%v}`, name, v)
	}
	return entry(name, tracking.ScalarSeries, fmt.Sprintf(`{%q:"double"}`, name), at, rows...)
}

func (b *bench) log(t testing.TB, run string, entries ...tracking.SeriesBatch) []tracking.SeriesError {
	t.Helper()
	refused, err := b.LogSeries(t.Context(), b.scope, run, entries)
	if err != nil {
		t.Fatal(err)
	}
	return refused
}

// full is a series as text: kind, columns, and the data of every value.
func (b *bench) full(t testing.TB, run, name string) string {
	t.Helper()
	var all []string
	q := tracking.SeriesQuery{Name: name}
	for {
		s, points, next, err := b.FullSeries(t.Context(), b.scope, run, q)
		if err != nil {
			return "error: " + err.Error()
		}
		for _, p := range points {
			all = append(all, string(p.Data))
		}
		if q.Token = next; next == "" {
			return s.Kind + " " + string(s.Columns) + " " + strings.Join(all, "")
		}
	}
}

func numbersAreMetricsToEverybody(t *testing.T, b *bench) {
	ctx := t.Context()
	b.patch(t, tracking.RunPatch{ID: "r"})
	b.log(t, "r", scalar("acc", 1_000_000, 0.9), scalar("acc", 2_000_000, 0.95), entry("n", tracking.ScalarSeries, `{"n":"integer"}`, 1, `{"n":7}`))
	history, _, err := b.History(ctx, b.scope, "r", "acc", 10, "")
	if d := cmp.Diff([]store.Point{{Key: "acc", Value: 0.9, Timestamp: 1000, Step: 0}, {Key: "acc", Value: 0.95, Timestamp: 2000, Step: 1}}, history); d != "" || err != nil {
		t.Error(d, err)
	}
	if err := b.Log(ctx, b.scope, "r", tracking.Batch{Metrics: []store.Point{{Key: "flow", Value: 2.5, Timestamp: 3, Step: 4}, {Key: "acc", Value: 1, Timestamp: 3000, Step: 2}}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"acc":  `azureml.v1.scalar {"acc":"double"} {"acc":0.9}{"acc":0.95}{"acc":1}`,
		"n":    `azureml.v1.scalar {"n":"integer"} {"n":7}`,
		"flow": `azureml.v1.scalar {"flow":"double"} {"flow":2.5}`,
	} {
		if got := b.full(t, "r", name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	list, next, err := b.ListSeries(ctx, b.scope, "r", "")
	if err != nil || next != "" || len(list) != 3 || list[0].Name != "acc" || list[1].Name != "flow" || string(list[2].Columns) != `{"n":"integer"}` {
		t.Errorf("%v, %q, %v", list, next, err)
	}
	_, _, _, err = b.FullSeries(ctx, b.scope, "r", tracking.SeriesQuery{Name: "none"})
	refused(t, err, workspace.NotFound, "no metric none")
	// Whole numbers make place for others.
	b.log(t, "r", entry("n", tracking.ScalarSeries, `{"n":"double"}`, 5000, `{"n":7.5}`))
	b.log(t, "r", entry("n", tracking.ScalarSeries, `{"n":"int"}`, 9000, `{"n":8}`))
	if got := b.full(t, "r", "n"); got != `azureml.v1.scalar {"n":"double"} {"n":7}{"n":7.5}{"n":8}` {
		t.Error(got)
	}
	b.log(t, "r", entry("odd", tracking.ScalarSeries, `{"odd":"float"}`, 1000, `{"odd":"NaN"}`, `{"odd":"-Infinity"}`, `{"odd":0}`))
	if got := b.full(t, "r", "odd"); got != `azureml.v1.scalar {"odd":"double"} {"odd":"NaN"}{"odd":-1.7976931348623157e+308}{"odd":0}` {
		t.Error(got)
	}
}

func otherValuesAreKeptAsTheyCame(t *testing.T, b *bench) {
	b.patch(t, tracking.RunPatch{ID: "r"})
	table := `{"z":"integer","a":"string"}` // in the client's order
	b.log(t, "r",
		entry("tb", "azureml.v1.table", table, 1, `{"z":1,"a":"x"}`), entry("l", "azureml.v1.list", `{"l":"double"}`, 1, `{"l":3}`, `{"l":1}`),
		entry("tb", "azureml.v1.table", table, 2, `{"z":2,"a":"y"}`), entry("s", tracking.ScalarSeries, `{"s":"string"}`, 1, `{"s":"text"}`),
		entry("img", "azureml.v2.image", `{"img":"Artifact"}`, 1, `{"img":"aml://artifactId/ExperimentRun/dcid.r/p.png"}`))
	for name, want := range map[string]string{
		"tb":  `azureml.v1.table {"z":"integer","a":"string"} {"a":"x","z":1}{"a":"y","z":2}`,
		"l":   `azureml.v1.list {"l":"double"} {"l":3}{"l":1}`,
		"s":   `azureml.v1.scalar {"s":"string"} {"s":"text"}`,
		"img": `azureml.v2.image {"img":"Artifact"} {"img":"aml://artifactId/ExperimentRun/dcid.r/p.png"}`,
	} {
		if got := b.full(t, "r", name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func entriesThatDoNotFitAreLeftOut(t *testing.T, b *bench) {
	b.patch(t, tracking.RunPatch{ID: "r"})
	b.log(t, "r", scalar("a", 1000, 1), entry("tb", "azureml.v1.table", `{"x":"integer"}`, 1, `{"x":1}`))
	errs := b.log(t, "r",
		scalar("a", 2000, 2), // 0: fits
		entry("a", tracking.ScalarSeries, `{"a":"string"}`, 3000, `{"a":"text"}`),            // 1
		entry("a", "azureml.v1.list", `{"a":"double"}`, 4000, `{"a":1}`),                     // 2
		entry("tb", "azureml.v1.table", `{"x":"integer","y":"integer"}`, 2, `{"x":1,"y":2}`), // 3
		entry("tb", "azureml.v1.table", `{"x":"boolean"}`, 3, `{"x":true}`),                  // 4
		entry("", tracking.ScalarSeries, `{"":"double"}`, 3, `{"":1}`),                       // 5
		entry("c", tracking.ScalarSeries, `[]`, 3, `{"c":1}`),                                // 6
		entry("d", tracking.ScalarSeries, `{"d":"double"}`, 3, `{"e":1}`),                    // 7
		entry("e", tracking.ScalarSeries, `{"e":"double"}`, 3, `{"e":"words"}`),              // 8
		scalar("f", 3000, 3),                        // 9: fits
		scalar(strings.Repeat("long", 70), 3000, 3), // 10
		entry("g", tracking.ScalarSeries, `{"g":"double","g":"double"}`, 3, `{"g":1}`), // 11
		scalar("f", 4000, 4), // 12: fits
	)
	var at []int
	for _, e := range errs {
		at = append(at, e.Entry)
		if e.Problem.Class != workspace.Invalid {
			t.Errorf("%d: %v", e.Entry, e.Problem)
		}
	}
	slices.Sort(at)
	if d := cmp.Diff([]int{1, 2, 3, 4, 5, 6, 7, 8, 10, 11}, at); d != "" {
		t.Error(d, errs)
	}
	for name, want := range map[string]string{"a": `{"a":1}{"a":2}`, "f": `{"f":3}{"f":4}`, "tb": `{"x":1}`} {
		if got := b.full(t, "r", name); !strings.HasSuffix(got, " "+want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func aBatchThatComesAgainAddsNothing(t *testing.T, b *bench) {
	b.patch(t, tracking.RunPatch{ID: "r"})
	batch := []tracking.SeriesBatch{scalar("a", 1000, 1, 2), entry("l", "azureml.v1.list", `{"l":"double"}`, 1, `{"l":3}`)}
	for range 3 {
		b.log(t, "r", batch...)
	}
	b.patch(t, tracking.RunPatch{ID: "other"})
	b.log(t, "other", batch...)
	for _, run := range []string{"r", "other"} {
		if got := b.full(t, run, "a") + b.full(t, run, "l"); got != `azureml.v1.scalar {"a":"double"} {"a":1}{"a":2}azureml.v1.list {"l":"double"} {"l":3}` {
			t.Errorf("%s: %s", run, got)
		}
	}
	// Values without ids cannot be told from new ones.
	for i := range batch {
		for j := range batch[i].Values {
			batch[i].Values[j].ID = ""
		}
	}
	for range 2 {
		b.log(t, "r", batch[1])
	}
	if got := b.full(t, "r", "l"); !strings.HasSuffix(got, `{"l":3}{"l":3}{"l":3}`) {
		t.Error(got)
	}
}

// batchesThatOvertakeEachOtherAreOrdered: the client sends batches side by side, and the order in which values were logged
// is that of their times.
func batchesThatOvertakeEachOtherAreOrdered(t *testing.T, b *bench) {
	b.patch(t, tracking.RunPatch{ID: "r"})
	const size, batches = 10, 9
	batch := func(n int) []tracking.SeriesBatch {
		var out []tracking.SeriesBatch
		for i := range size {
			at := int64(1_000_000 + 20*(n*size+i)) // many in one millisecond
			out = append(out, scalar("a", at, float64(n*size+i)), entry("l", "azureml.v1.table", `{"l":"integer"}`, at, fmt.Sprintf(`{"l":%d}`, n*size+i)))
		}
		return out
	}
	for i, n := range []int{0, 3, 1, 2, 6, 5, 4, 8, 7} {
		b.log(t, "r", batch(n)...)
		if i == 5 { // a client waits in the middle, and goes on
			if err := b.SortSeries(t.Context(), b.scope, "r"); err != nil {
				t.Fatal(err)
			}
		}
	}
	var points, rows strings.Builder
	for i := range size * batches {
		fmt.Fprintf(&points, `{"a":%d}`, i)
		fmt.Fprintf(&rows, `{"l":%d}`, i)
	}
	if got := b.full(t, "r", "a"); got != `azureml.v1.scalar {"a":"double"} `+points.String() {
		t.Errorf("points: %s", got)
	}
	if got := b.full(t, "r", "l"); got != `azureml.v1.table {"l":"integer"} `+rows.String() {
		t.Errorf("rows: %s", got)
	}
	history, _, err := b.History(t.Context(), b.scope, "r", "a", 1000, "")
	if err != nil || len(history) != size*batches {
		t.Fatal(len(history), err)
	}
	for i, p := range history {
		if p.Step != int64(i) || p.Value != float64(i) {
			t.Fatalf("point %d is %+v", i, p)
		}
	}
	run, err := b.Run(t.Context(), b.scope, "r")
	if err != nil || run.Data.Metrics[0].Value != size*batches-1 {
		t.Errorf("the latest value: %+v, %v", run.Data.Metrics, err)
	}
}

func stepsOfTheClientStay(t *testing.T, b *bench) {
	b.patch(t, tracking.RunPatch{ID: "r"})
	stepped := func(at int64, step int64, v float64) tracking.SeriesBatch {
		s := scalar("a", at, v)
		s.Values[0].Step = &step
		return s
	}
	b.log(t, "r", stepped(3000, 30, 3), stepped(4000, 40, 4))
	b.log(t, "r", stepped(1000, 10, 1)) // late
	history, _, err := b.History(t.Context(), b.scope, "r", "a", 10, "")
	if d := cmp.Diff([]store.Point{{Key: "a", Value: 1, Timestamp: 1, Step: 10}, {Key: "a", Value: 3, Timestamp: 3, Step: 30}, {Key: "a", Value: 4, Timestamp: 4, Step: 40}}, history); d != "" || err != nil {
		t.Error(d, err)
	}
	// MLflow's points of the same name keep theirs, also when older values come after them.
	b.log(t, "r", scalar("b", 9_000_000, 9))
	if err := b.Log(t.Context(), b.scope, "r", tracking.Batch{Metrics: []store.Point{{Key: "b", Value: 5, Timestamp: 9500, Step: 77}}}); err != nil {
		t.Fatal(err)
	}
	b.log(t, "r", scalar("b", 8_000_000, 8))
	history, _, err = b.History(t.Context(), b.scope, "r", "b", 10, "")
	if err != nil || len(history) != 3 || history[2].Step != 77 || history[0].Value != 8 {
		t.Errorf("%v, %v", history, err)
	}
}

func timesBoundASeries(t *testing.T, b *bench) {
	b.patch(t, tracking.RunPatch{ID: "r"})
	b.log(t, "r", scalar("a", 1_000_000, 1), scalar("a", 2_000_000, 2), scalar("a", 3_000_000, 3),
		entry("l", "azureml.v1.list", `{"l":"integer"}`, 1_000_000, `{"l":1}`), entry("l", "azureml.v1.list", `{"l":"integer"}`, 2_000_000, `{"l":2}`), entry("l", "azureml.v1.list", `{"l":"integer"}`, 3_000_000, `{"l":3}`))
	for _, name := range []string{"a", "l"} {
		for _, q := range []struct {
			start, end int64
			want       int
		}{{0, 0, 3}, {2_000_000, 0, 2}, {0, 2_000_000, 2}, {1_500_000, 2_500_000, 1}, {4_000_000, 0, 0}} {
			_, points, next, err := b.FullSeries(t.Context(), b.scope, "r", tracking.SeriesQuery{Name: name, Start: q.start, End: q.end})
			if err != nil || next != "" || len(points) != q.want {
				t.Errorf("%s from %d to %d: %d values, %q, %v", name, q.start, q.end, len(points), next, err)
			}
		}
	}
}

func longSeriesComeInPages(t *testing.T, b *bench) {
	b.patch(t, tracking.RunPatch{ID: "r"})
	const n = 10_050
	values, rows := make([]float64, n), make([]string, n)
	for i := range n {
		values[i], rows[i] = float64(i), `{"l":1}`
	}
	b.log(t, "r", scalar("a", 1, values...), entry("l", "azureml.v1.list", `{"l":"integer"}`, 1, rows...))
	for _, name := range []string{"a", "l"} {
		if got := strings.Count(b.full(t, "r", name), "{") - 1; got != n {
			t.Errorf("%s: %d values", name, got)
		}
	}
	_, _, _, err := b.FullSeries(t.Context(), b.scope, "r", tracking.SeriesQuery{Name: "a", Token: "x"})
	refused(t, err, workspace.Invalid, "page token")
}

// TestTablesBecomeArtifacts: what is no number is seen by MLflow's clients as a table among the run's artifacts.
func TestTablesBecomeArtifacts(t *testing.T) {
	b := open(t, sqliteFile(t))
	disk, err := blob.NewDisk(filepath.Join(t.TempDir(), "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	files := tracking.RunFiles{Store: disk, Rows: b.store}
	read := func(name string) string {
		t.Helper()
		r, _, err := files.Get(t.Context(), tracking.ArtifactPrefix("w1", "r")+name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	b.patch(t, tracking.RunPatch{ID: "r"})
	b.log(t, "r", scalar("acc", 1000, 1), entry("tb", "azureml.v1.table", `{"z":"integer","a":"string"}`, 1, `{"z":1,"a":"x"}`), entry("../up", "azureml.v1.list", `{"../up":"double"}`, 1, `{"../up":3}`),
		entry("img", "azureml.v2.image", `{"img":"Artifact"}`, 1, `{"img":"aml://artifactId/x"}`))
	page, err := files.List(t.Context(), tracking.ArtifactPrefix("w1", "r"), "", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range page.Blobs {
		names = append(names, strings.TrimPrefix(f.Name, tracking.ArtifactPrefix("w1", "r")))
	}
	slices.Sort(names)
	if d := cmp.Diff([]string{tracking.SeriesFile("../up"), "metrics/tb.json"}, names); d != "" || strings.Contains(names[0], "/../") {
		t.Error(d, names)
	}
	if got := read("metrics/tb.json"); got != `{"columns":["z","a"],"data":[[1,"x"]]}` {
		t.Error(got)
	}
	b.log(t, "r", entry("tb", "azureml.v1.table", `{"z":"integer","a":"string"}`, 9, `{"z":2,"a":"\"y\""}`))
	if got := read("metrics/tb.json"); got != `{"columns":["z","a"],"data":[[1,"x"],[2,"\"y\""]]}` {
		t.Errorf("after another row: %s", got)
	}
}

func TestSeriesFilesArePathsAndDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"a", "a/b", "a_b", "a:b", "a?b", "..", "../x", "/x", "x/", "x//y", `x\y`, "ü b", "a%2e", "x\x01", strings.Repeat("l", 250)} {
		f := tracking.SeriesFile(name)
		if other, taken := seen[f]; taken {
			t.Errorf("%q and %q are one file", name, other)
		}
		seen[f] = name
		if clean := filepath.ToSlash(filepath.Clean(f)); clean != f || strings.ContainsAny(f, `\%?:`) || !strings.HasPrefix(f, "metrics/") {
			t.Errorf("%q is filed at %q", name, f)
		}
	}
	if got := tracking.SeriesFile("val/acc"); got != "metrics/val/acc.json" {
		t.Errorf("a plain name is changed: %s", got)
	}
}
