package tracking_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// searchTable is the table of mlflow.md §9 over five runs: what each filter finds, by name.
func searchTable(t *testing.T, b *bench) {
	ctx := t.Context()
	id := b.experiment(t, "e")
	in := func(name, context string) []store.DatasetInput {
		return []store.DatasetInput{{Dataset: store.DatasetRow{Name: name, Digest: "d" + name, SourceType: "local", Source: "s"}, Tags: []store.Label{label("mlflow.data.context", context)}}}
	}
	point := func(v float64) store.Point { return tracking.PointOf("m", v, 1, 1) }
	runs := map[string]string{}
	for i, r := range []struct {
		name  string
		batch tracking.Batch
		data  []store.DatasetInput
	}{
		{"a", tracking.Batch{Metrics: []store.Point{point(0.5)}, Params: []store.Label{label("p", "Adam_1")}, Tags: []store.Label{label("t.u", "x")}}, in("ds", "train")},
		{"b", tracking.Batch{Metrics: []store.Point{point(2)}, Params: []store.Label{label("p", "adam%1")}, Tags: []store.Label{label("t.u", "[y]*?")}}, in("ds2", "eval")},
		{"c", tracking.Batch{Metrics: []store.Point{point(math.NaN())}, Params: []store.Label{label("p", "SGD")}}, nil},
		{"d", tracking.Batch{Metrics: []store.Point{point(math.Inf(1))}, Params: []store.Label{label("a b", "1")}}, nil},
		{"e", tracking.Batch{Metrics: []store.Point{tracking.PointOf("m", 9, 1, 1), tracking.PointOf("m", -1, 1, 2)}}, nil},
	} {
		runs[r.name] = b.run(t, tracking.NewRun{ExperimentID: id, Name: r.name, UserID: "u" + r.name, Start: int64(100 + i)}, r.batch)
		if err := b.LogInputs(ctx, b.scope, runs[r.name], r.data, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.UpdateRun(ctx, b.scope, runs["b"], tracking.RunUpdate{Status: "FINISHED", End: 500}); err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]string{
		"":                                  "e d c b a",
		"metrics.m < 1":                     "e a",
		"metrics.m = 0.5":                   "a",
		"metrics.m != 0.5":                  "e d c b",
		"metrics.m > 1":                     "d b",
		"metrics.m >= -1":                   "e d b a",
		"metrics.none != 1":                 "",
		"params.p LIKE 'adam%'":             "b",
		"params.p ILIKE 'adam%'":            "b a",
		"params.p LIKE 'Adam_1'":            "a",
		"params.p LIKE '%dam_1'":            "b a",
		"params.p LIKE 'adam'":              "",
		"params.p != 'SGD'":                 "b a",
		"params.p IS NULL":                  "e d",
		"params.p IS NOT NULL":              "c b a",
		"params.`a b` = '1'":                "d",
		"tags.t.u = 'x'":                    "a",
		"tags.t.u LIKE '[y]*_'":             "b",
		"tags.t.u LIKE '[x]'":               "",
		"tags.t.u LIKE '*'":                 "",
		"tags.t.u IS NULL":                  "e d c",
		"status = 'RUNNING'":                "e d c a",
		"status = 'running'":                "",
		"attributes.end_time > 1.5":         "b",
		"end_time != 1":                     "b",
		"start_time >= 103 AND created<104": "d",
		"run_name = 'c'":                    "c",
		"tags.mlflow.runName = 'c'":         "c",
		"run_id IN ('" + runs["a"] + "', '" + runs["e"] + "')":          "e a",
		"run_id NOT IN ('" + runs["a"] + "')":                           "e d c b",
		"user_id LIKE 'u%' AND user_id != 'ua'":                         "e d c b",
		"artifact_uri LIKE 'https://h:1/%/" + runs["b"] + "/artifacts'": "b",
		"dataset.name = 'ds'":                                           "a",
		"dataset.name LIKE 'ds%'":                                       "b a",
		"dataset.name IN ('ds', 'ds2')":                                 "b a",
		"dataset.name NOT IN ('ds')":                                    "b",
		"dataset.digest = 'dds2'":                                       "b",
		"dataset.context = 'train'":                                     "a",
		"metrics.m > 0 AND params.p ILIKE '%1' AND tags.t.u = 'x'":      "a",
	} {
		if got := b.names(t, tracking.RunSearch{Experiments: []int64{0, id}, Filter: filter}); got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
	for orders, want := range map[string]string{
		"metrics.m":                      "e a b d c",
		"metrics.m DESC":                 "d b a e c",
		"params.p":                       "a c b e d",
		"params.p DESC":                  "b c a e d",
		"end_time DESC":                  "b e d c a",
		"start_time":                     "a b c d e",
		"metrics.none":                   "e d c b a",
		"attribute.status|run_name DESC": "b e d c a",
		"tags.t.u DESC|user_id":          "a b c d e",
	} {
		if got := b.names(t, tracking.RunSearch{Experiments: []int64{id}, OrderBy: strings.Split(orders, "|")}); got != want {
			t.Errorf("by %s: %q, want %q", orders, got, want)
		}
	}
	if got := b.names(t, tracking.RunSearch{}); got != "" {
		t.Errorf("no experiments: %s", got)
	}
}

func searchPages(t *testing.T, b *bench) {
	var want []string
	for i := range 7 {
		name := strconv.Itoa(i)
		b.run(t, tracking.NewRun{Name: name, Start: int64(10 - i)}, tracking.Batch{})
		want = append(want, name)
	}
	var got []string
	pages := 0
	for token := ""; ; pages++ {
		next, err := b.SearchRuns(t.Context(), b.scope, tracking.RunSearch{Experiments: []int64{0}, Limit: 3, Token: token}, func(list []tracking.CompleteRun) error {
			for _, r := range list {
				got = append(got, r.Name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if token = next; token == "" {
			break
		}
	}
	if !slices.Equal(got, want) || pages != 2 {
		t.Errorf("%v after %d tokens", got, pages)
	}
	for _, token := range []string{"x", "bnVsbA", "eyJvZmZzZXQiOiAtMX0="} {
		_, err := b.SearchRuns(t.Context(), b.scope, tracking.RunSearch{Experiments: []int64{0}, Limit: 3, Token: token}, nil)
		refused(t, err, workspace.Invalid, "Invalid page token")
	}
}

func experimentSearchTable(t *testing.T, b *bench) {
	ctx := t.Context()
	for _, name := range []string{"e1", "E2", "f"} {
		if _, err := b.CreateExperiment(ctx, b.scope, tracking.NewExperiment{Name: name, Tags: []store.Label{label("n", name)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.DeleteExperiment(ctx, b.scope, 3); err != nil {
		t.Fatal(err)
	}
	find := func(stage, filter string, orders ...string) string {
		list, _, err := b.SearchExperiments(ctx, b.scope, tracking.ExperimentSearch{Stage: stage, Filter: filter, OrderBy: orders, Limit: 10})
		if err != nil {
			t.Fatalf("%s: %v", filter, err)
		}
		var names []string
		for _, e := range list {
			names = append(names, e.Name)
		}
		return strings.Join(names, " ")
	}
	for filter, want := range map[string]string{
		"":                           "Default E2 e1",
		"name LIKE 'e%'":             "e1",
		"name ILIKE 'e%'":            "E2 e1",
		"name != 'e1'":               "Default E2",
		"tags.n = 'E2'":              "E2",
		"tags.n IS NULL":             "Default",
		"experiment_id IN ('0','2')": "Default E2",
		"experiment_id = '1'":        "e1",
		"experiment_id = 'x'":        "",
		"creation_time > 1.5":        "Default E2 e1",
		"last_update_time < 1":       "",
	} {
		if got := find(store.StageActive, filter, "name"); got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
	if got := find(store.StageDeleted, ""); got != "f" {
		t.Errorf("deleted: %s", got)
	}
	if got := find("", "", "experiment_id DESC"); got != "f E2 e1 Default" {
		t.Errorf("all: %s", got)
	}
	list, next, err := b.SearchExperiments(ctx, b.scope, tracking.ExperimentSearch{OrderBy: []string{"name"}, Limit: 3})
	if err != nil || len(list) != 3 || next == "" {
		t.Fatalf("%v %q %v", list, next, err)
	}
	list, next, err = b.SearchExperiments(ctx, b.scope, tracking.ExperimentSearch{OrderBy: []string{"name"}, Limit: 3, Token: next})
	if err != nil || len(list) != 1 || list[0].Name != "f" || next != "" {
		t.Errorf("%v %q %v", list, next, err)
	}
}

// model is a run as the property test knows it.
type model struct {
	name, param, tag string
	hasParam, hasTag bool
	metric           float64
	hasMetric        bool
}

// searchAgreesWithModel draws runs and filters and wants the database to find what a few lines of Go find.
func searchAgreesWithModel(t *testing.T, b *bench) {
	words := []string{"a", "A", "ab", "b%", "a_b", "[a]", "*", "", "ü", `\`}
	numbers := []float64{-1, 0, 0.5, 2, math.NaN(), math.Inf(1)}
	id := b.experiment(t, "e")
	var runs []model
	rapid.Check(t, func(rt *rapid.T) {
		if len(runs) < 60 {
			m := model{name: fmt.Sprintf("r%03d", len(runs)), hasParam: rapid.Bool().Draw(rt, "p"), hasTag: rapid.Bool().Draw(rt, "t"), hasMetric: rapid.Bool().Draw(rt, "m")}
			m.param, m.tag, m.metric = rapid.SampledFrom(words).Draw(rt, "param"), rapid.SampledFrom(words).Draw(rt, "tag"), rapid.SampledFrom(numbers).Draw(rt, "metric")
			var batch tracking.Batch
			if m.hasParam {
				batch.Params = []store.Label{label("k", m.param)}
			}
			if m.hasTag {
				batch.Tags = []store.Label{label("k", m.tag)}
			}
			if m.hasMetric {
				batch.Metrics = []store.Point{tracking.PointOf("k", m.metric, 1, 1)}
			}
			b.run(t, tracking.NewRun{ExperimentID: id, Name: m.name, Start: int64(1000 - len(runs))}, batch)
			runs = append(runs, m)
		}
		var texts []string
		var tests []func(model) bool
		for range rapid.IntRange(0, 3).Draw(rt, "comparisons") {
			text, test := comparison(rt, words)
			texts, tests = append(texts, text), append(tests, test)
		}
		order := rapid.SampledFrom([]string{"", "metrics.k", "metrics.k DESC", "params.k", "tags.k DESC"}).Draw(rt, "order")
		var want []string
		for _, m := range sorted(runs, order) {
			if !slices.ContainsFunc(tests, func(test func(model) bool) bool { return !test(m) }) {
				want = append(want, m.name)
			}
		}
		q := tracking.RunSearch{Experiments: []int64{id}, Filter: strings.Join(texts, " AND ")}
		if order != "" {
			q.OrderBy = []string{order}
		}
		if got := b.names(t, q); got != strings.Join(want, " ") {
			rt.Fatalf("%s by %s:\n got %s\nwant %s\n%+v", q.Filter, order, got, strings.Join(want, " "), runs)
		}
	})
}

func comparison(t *rapid.T, words []string) (string, func(model) bool) {
	if rapid.Bool().Draw(t, "on metric") {
		op := rapid.SampledFrom([]string{"=", "!=", "<", "<=", ">", ">="}).Draw(t, "op")
		n := rapid.SampledFrom([]float64{-1, 0, 0.5, 2, 3}).Draw(t, "number")
		return fmt.Sprintf("metrics.k %s %v", op, n), func(m model) bool {
			if math.IsNaN(m.metric) {
				return m.hasMetric && op == "!="
			}
			c := cmp.Compare(m.metric, n)
			return m.hasMetric && map[string]bool{"=": c == 0, "!=": c != 0, "<": c < 0, "<=": c <= 0, ">": c > 0, ">=": c >= 0}[op]
		}
	}
	entity := rapid.SampledFrom([]string{"params", "tags"}).Draw(t, "entity")
	value := func(m model) (string, bool) {
		if entity == "params" {
			return m.param, m.hasParam
		}
		return m.tag, m.hasTag
	}
	op := rapid.SampledFrom([]string{"=", "!=", "LIKE", "ILIKE", "IS NULL", "IS NOT NULL"}).Draw(t, "op")
	word := rapid.SampledFrom(append([]string{"%", "_", "a%", "%b%", "%_%", "[%", "__"}, words...)).Draw(t, "word")
	test := func(m model) bool {
		v, has := value(m)
		switch op {
		case "IS NULL":
			return !has
		case "IS NOT NULL":
			return has
		case "=":
			return has && v == word
		case "!=":
			return has && v != word
		case "ILIKE":
			return has && like([]rune(strings.ToLower(v)), []rune(strings.ToLower(word)))
		}
		return has && like([]rune(v), []rune(word))
	}
	if strings.HasPrefix(op, "IS") {
		return entity + ".k " + op, test
	}
	return fmt.Sprintf("%s.k %s '%s'", entity, op, word), test
}

func like(s, pattern []rune) bool {
	switch {
	case len(pattern) == 0:
		return len(s) == 0
	case pattern[0] == '%':
		return like(s, pattern[1:]) || len(s) > 0 && like(s[1:], pattern)
	}
	return len(s) > 0 && (pattern[0] == '_' || pattern[0] == s[0]) && like(s[1:], pattern[1:])
}

// sorted orders runs as mlflow.md §9 says; the runs come newest first.
func sorted(runs []model, order string) []model {
	out := slices.Clone(runs)
	key, direction, _ := strings.Cut(order, " ")
	sign := 1
	if direction == "DESC" {
		sign = -1
	}
	slices.SortStableFunc(out, func(a, b model) int {
		switch key {
		case "metrics.k":
			class := func(m model) int {
				switch {
				case !m.hasMetric:
					return 2
				case math.IsNaN(m.metric):
					return 1
				}
				return 0
			}
			if class(a) != 0 || class(b) != 0 {
				return cmp.Compare(class(a), class(b))
			}
			return sign * cmp.Compare(a.metric, b.metric)
		case "params.k":
			return byText(a.param, b.param, a.hasParam, b.hasParam, sign)
		case "tags.k":
			return byText(a.tag, b.tag, a.hasTag, b.hasTag, sign)
		}
		return 0
	})
	return out
}

func byText(a, b string, hasA, hasB bool, sign int) int {
	switch {
	case hasA && hasB:
		return sign * strings.Compare(a, b)
	case hasA:
		return -1
	case hasB:
		return 1
	}
	return 0
}
