package filter_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking/filter"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func number(f store.Field, key string, op store.Operator, n float64) store.Condition {
	return store.Condition{Field: f, Key: key, Operator: op, Numeric: true, Number: n}
}

func text(f store.Field, key string, op store.Operator, s string) store.Condition {
	return store.Condition{Field: f, Key: key, Operator: op, Text: s}
}

func TestRunFilterMeansWhatMLflowMeans(t *testing.T) {
	for filterText, want := range map[string][]store.Condition{
		"":                   nil,
		"  \n\t ":            nil,
		"metrics.m < 1":      {number(store.Series, "m", store.Less, 1)},
		"metric.m=1":         {number(store.Series, "m", store.Equal, 1)},
		"metrics.m>=-1.5e-3": {number(store.Series, "m", store.GreaterEqual, -1.5e-3)},
		"metrics.m != .5":    {number(store.Series, "m", store.NotEqual, .5)},
		"metrics.m > -.5":    {number(store.Series, "m", store.Greater, -.5)},
		"metrics.m <= 2E+3":  {number(store.Series, "m", store.LessEqual, 2000)},
		"metrics.a.b.c = 1":  {number(store.Series, "a.b.c", store.Equal, 1)},
		"metrics.5 = 5":      {number(store.Series, "5", store.Equal, 5)},
		"metrics.end = 1 and metrics.order > 2 AnD metrics.select < 3": {
			number(store.Series, "end", store.Equal, 1), number(store.Series, "order", store.Greater, 2), number(store.Series, "select", store.Less, 3),
		},
		"metrics.`a/b c-d` = 1":             {number(store.Series, "a/b c-d", store.Equal, 1)},
		`metrics."a b" = 1`:                 {number(store.Series, "a b", store.Equal, 1)},
		"metrics.'a b' = 1":                 {number(store.Series, "a b", store.Equal, 1)},
		"params.p = 'x'":                    {text(store.Param, "p", store.Equal, "x")},
		`parameter.p != "it's"`:             {text(store.Param, "p", store.NotEqual, "it's")},
		"param.p = 'a''b'":                  {text(store.Param, "p", store.Equal, "a''b")},
		"parameters.p = ''":                 {text(store.Param, "p", store.Equal, "")},
		"params.p LIKE '%x_'":               {text(store.Param, "p", store.Like, "%x_")},
		"params.p ilike 'X'":                {text(store.Param, "p", store.ILike, "X")},
		"tags.t IS NULL":                    {{Field: store.Tag, Key: "t", Operator: store.Missing}},
		"tag.t is  not\nnull AND tag.u='1'": {{Field: store.Tag, Key: "t", Operator: store.Present}, text(store.Tag, "u", store.Equal, "1")},
		"params.p = 'x AND y' AND tags.`mlflow.user` = 'AND'": {
			text(store.Param, "p", store.Equal, "x AND y"), text(store.Tag, "mlflow.user", store.Equal, "AND"),
		},
		"tags.mlflow.user = 'me'":           {text(store.Tag, "mlflow.user", store.Equal, "me")},
		"status = 'RUNNING'":                {text(store.Attribute, "status", store.Equal, "RUNNING")},
		"attributes.run_name LIKE 'a%'":     {text(store.Attribute, "run_name", store.Like, "a%")},
		"attr.user_id != 'u'":               {text(store.Attribute, "user_id", store.NotEqual, "u")},
		"run.`Run Name` = 'n'":              {text(store.Attribute, "run_name", store.Equal, "n")},
		"`run name` = 'n'":                  {text(store.Attribute, "run_name", store.Equal, "n")},
		"'Run name' = 'n'":                  {text(store.Attribute, "run_name", store.Equal, "n")},
		"Created > 5":                       {number(store.Attribute, "start_time", store.Greater, 5)},
		"attribute.end_time <= 17":          {number(store.Attribute, "end_time", store.LessEqual, 17)},
		"run_id IN ('a', \"b\",'c')":        {{Field: store.Attribute, Key: "run_id", Operator: store.In, List: []string{"a", "b", "c"}}},
		"attribute.run_id not in ('a')":     {{Field: store.Attribute, Key: "run_id", Operator: store.NotIn, List: []string{"a"}}},
		"dataset.name = 'd'":                {text(store.Dataset, "name", store.Equal, "d")},
		"datasets.context IN ('train')":     {{Field: store.Dataset, Key: "context", Operator: store.In, List: []string{"train"}}},
		"params.größe = 'ü'":                {text(store.Param, "größe", store.Equal, "ü")},
		"artifact_uri LIKE '%/x/artifacts'": {text(store.Attribute, "artifact_uri", store.Like, "%/x/artifacts")},
	} {
		got, err := filter.Parse(filter.Runs(), filterText)
		if err != nil {
			t.Errorf("%s: %v", filterText, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", filterText, diff)
		}
	}
}

func TestFilterFaultsAreTheUsersAndSaid(t *testing.T) {
	for filterText, want := range map[string]string{
		"metrics.m = 'x'":                       "Expected numeric value type for metric. Found 'x'",
		"params.p = 1":                          "Expected a quoted string value for parameter (e.g. 'my-value'). Got value 1",
		"params.p = x":                          "Expected a quoted string value",
		"params.p = `x`":                        "Expected a quoted string value",
		"metrics.m RLIKE 'x'":                   "Invalid comparator 'RLIKE' not one of",
		"metrics.m LIKE 'x'":                    "Invalid comparator 'LIKE'",
		"params.p > 'x'":                        "Invalid comparator '>'",
		"params.p <> 'x'":                       "Invalid comparator '<>'",
		"metrics.m == 1":                        "Invalid comparator '=='",
		"metrics.m BETWEEN 1 AND 2":             "Invalid comparator 'BETWEEN'",
		"metrics.m IS NULL":                     "Invalid comparator 'IS NULL'",
		"status IN ('RUNNING')":                 "Invalid comparator 'IN'",
		"status IS NULL":                        "Invalid comparator 'IS NULL'",
		"start_time LIKE '5'":                   "Invalid comparator 'LIKE'",
		"start_time > '5'":                      "Expected numeric value type for numeric attribute: start_time. Found '5'",
		"metrics.m = +1":                        "Expected numeric value",
		"metrics.m = NaN":                       "Expected numeric value",
		"metrics.m = 1.":                        "Expected numeric value",
		"metrics.m = 1x":                        "Expected numeric value",
		"metrics.m = 0x10":                      "Expected numeric value",
		"metrics.m = 1e999":                     "out of range",
		"metrics.m = ":                          "Found nothing",
		"metrics.m":                             "has no comparator",
		"metrics. = 1":                          "the key is missing",
		"metrics.m = 1 OR metrics.n = 2":        "Invalid clause(s) in filter string",
		"metrics.m = 1 AND":                     "",
		"AND metrics.m = 1":                     "",
		"metrics.m = 1 metrics.n = 2":           "Invalid clause(s) in filter string",
		"metrics.m = 1, metrics.n = 2":          "Invalid clause(s) in filter string",
		"metrics.m = 1; DROP TABLE runs":        "Invalid clause(s) in filter string",
		"metrics.m = 1 -- comment":              "Invalid clause(s) in filter string",
		"(metrics.m = 1)":                       "Invalid clause(s) in filter string",
		"NOT metrics.m = 1":                     "Invalid attribute key 'NOT'",
		"params.p = 'x":                         "Invalid clause(s) in filter string",
		"params.`p = 'x'":                       "Invalid clause(s) in filter string",
		"Metrics.m = 1":                         "Invalid entity type 'Metrics'",
		"nope.m = 1":                            "Invalid entity type 'nope'",
		"nope = 1":                              "Invalid attribute key 'nope'",
		"dataset.size = '1'":                    "Invalid dataset key 'size'",
		"run_id IN ()":                          "non-empty list of quoted strings",
		"run_id IN ('a',)":                      "non-empty list of quoted strings",
		"run_id IN (1)":                         "non-empty list of quoted strings",
		"run_id IN 'a'":                         "non-empty list of quoted strings",
		"run_id IN ('a'":                        "non-empty list of quoted strings",
		"tags.t IS 'x'":                         "Invalid clause(s) in filter string",
		"tags.t NOT 'x'":                        "Invalid clause(s) in filter string",
		"tags.a-b = 'x'":                        "Invalid comparator '-'",
		"params.p = 'x\x00'":                    "not valid text",
		"params.p = '\xff'":                     "not valid text",
		strings.Repeat("x", filter.MaxLength+1): "longer than",
		"params.p LIKE '" + strings.Repeat("%", filter.MaxPattern+1) + "'":            "longer than",
		strings.Repeat("metrics.m = 1 AND ", filter.MaxComparisons) + "metrics.m = 1": "more than",
	} {
		got, err := filter.Parse(filter.Runs(), filterText)
		problem, is := errors.AsType[*workspace.Problem](err)
		if !is || problem.Class != workspace.Invalid {
			t.Errorf("%.80q: want a Problem of class invalid, got %v, %v", filterText, got, err)
			continue
		}
		if !strings.Contains(problem.Message, want) {
			t.Errorf("%.80q: message %q lacks %q", filterText, problem.Message, want)
		}
	}
}

func TestExperimentFilterHasItsOwnWords(t *testing.T) {
	for filterText, ok := range map[string]bool{
		"name LIKE 'e%' AND tags.a = 'b'": true,
		"attribute.name = 'x'":            true,
		"attributes.name = 'x'":           false,
		"experiment_id IN ('1','2')":      true,
		"experiment_id LIKE '1'":          false,
		"creation_time > 5":               true,
		"last_update_time != 5":           true,
		"tag.x IS NOT NULL":               true,
		"name IN ('x')":                   false,
		"metrics.m = 1":                   false,
		"lifecycle_stage = 'active'":      false,
	} {
		_, err := filter.Parse(filter.Experiments(), filterText)
		if (err == nil) != ok {
			t.Errorf("%s: %v", filterText, err)
		}
	}
}

func TestOrders(t *testing.T) {
	got, err := filter.ParseOrder(filter.Runs(), []string{
		"metrics.m DESC", " params.`a b` asc ", "tags.mlflow.user", "start_time Desc", "attribute.`Run Name`", "end_time",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Order{
		{Field: store.Series, Key: "m", Numeric: true, Descending: true},
		{Field: store.Param, Key: "a b"},
		{Field: store.Tag, Key: "mlflow.user"},
		{Field: store.Attribute, Key: "start_time", Numeric: true, Descending: true},
		{Field: store.Attribute, Key: "run_name"},
		{Field: store.Attribute, Key: "end_time", Numeric: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range [][]string{
		{"metrics.m", "metric.m DESC"},
		{"created", "start_time"},
		{"dataset.name"},
		{"nope"},
		{""},
		{"metrics.m UP"},
		{"metrics.m ASC DESC"},
		{"metrics.m, metrics.n"},
		{"metrics.`m"},
		{"a.b.c d"},
		make([]string, filter.MaxOrders+1),
	} {
		_, err := filter.ParseOrder(filter.Runs(), bad)
		if problem, is := errors.AsType[*workspace.Problem](err); !is || problem.Class != workspace.Invalid {
			t.Errorf("%q: want a Problem of class invalid, got %v", bad, err)
		}
	}
	for entry, ok := range map[string]bool{"name": true, "experiment_id DESC": true, "creation_time": true, "tags.x": false} {
		if _, err := filter.ParseOrder(filter.Experiments(), []string{entry}); (err == nil) != ok {
			t.Errorf("experiments by %q: %v", entry, err)
		}
	}
}
