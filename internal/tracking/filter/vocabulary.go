package filter

import (
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
)

// Vocabulary says which identifiers one kind of search knows, and what each may be compared with. It is data.
type Vocabulary struct {
	entities   map[string]entity
	attributes map[string]attribute
}

// entity is what the word before the dot means.
type entity struct {
	field     store.Field
	what      string // in messages
	operators []store.Operator
	numeric   bool
	unsorted  bool
	keys      []string // nil = any key
}

// attribute is a column by one of its names.
type attribute struct {
	key      string
	numeric  bool
	listed   bool // IN and NOT IN are allowed
	patterns bool // LIKE and ILIKE are allowed
	unsorted bool
}

// term is an identifier resolved in a vocabulary.
type term struct {
	field     store.Field
	key       string
	what      string
	numeric   bool
	sortable  bool
	operators []store.Operator
}

var (
	onNumbers = []store.Operator{store.Equal, store.NotEqual, store.Less, store.LessEqual, store.Greater, store.GreaterEqual}
	onText    = []store.Operator{store.Equal, store.NotEqual, store.Like, store.ILike}
	onLabels  = append(slices.Clone(onText), store.Missing, store.Present)
	onDataset = append(slices.Clone(onText), store.In, store.NotIn)
)

// Runs is the vocabulary of runs/search.
func Runs() Vocabulary {
	metric := entity{field: store.Series, what: "metric", operators: onNumbers, numeric: true}
	param := entity{field: store.Param, what: "parameter", operators: onLabels}
	tag := entity{field: store.Tag, what: "tag", operators: onLabels}
	dataset := entity{field: store.Dataset, what: "dataset", operators: onDataset, unsorted: true, keys: []string{"name", "digest", "context"}}
	own := entity{field: store.Attribute}
	start := attribute{key: "start_time", numeric: true}
	name := attribute{key: "run_name", patterns: true}
	return Vocabulary{
		entities: map[string]entity{
			"metric": metric, "metrics": metric,
			"param": param, "params": param, "parameter": param, "parameters": param,
			"tag": tag, "tags": tag,
			"dataset": dataset, "datasets": dataset,
			"attribute": own, "attributes": own, "attr": own, "run": own, "": own,
		},
		attributes: map[string]attribute{
			"run_id":       {key: "run_id", listed: true, patterns: true},
			"run_name":     name,
			"run name":     name,
			"Run name":     name,
			"Run Name":     name,
			"user_id":      {key: "user_id", patterns: true},
			"status":       {key: "status", patterns: true},
			"artifact_uri": {key: "artifact_uri", patterns: true},
			"start_time":   start,
			"created":      start,
			"Created":      start,
			"end_time":     {key: "end_time", numeric: true},
		},
	}
}

// Experiments is the vocabulary of experiments/search.
func Experiments() Vocabulary {
	tag := entity{field: store.Tag, what: "tag", operators: onLabels, unsorted: true}
	own := entity{field: store.Attribute}
	return Vocabulary{
		entities: map[string]entity{"tag": tag, "tags": tag, "attribute": own, "": own},
		attributes: map[string]attribute{
			"name":             {key: "name", patterns: true},
			"experiment_id":    {key: "experiment_id", listed: true},
			"creation_time":    {key: "creation_time", numeric: true},
			"last_update_time": {key: "last_update_time", numeric: true},
		},
	}
}

func (v Vocabulary) term(n name) (term, error) {
	e, known := v.entities[n.entity]
	if !known {
		return term{}, invalid("Invalid entity type '%s'. Valid values are %s", clip(n.entity), list(v.entities))
	}
	if e.field != store.Attribute {
		if e.keys != nil && !slices.Contains(e.keys, n.key) {
			return term{}, invalid("Invalid %s key '%s' specified. Valid keys are '%s'", e.what, clip(n.key), strings.Join(e.keys, "', '"))
		}
		return term{field: e.field, key: n.key, what: e.what, numeric: e.numeric, sortable: !e.unsorted, operators: e.operators}, nil
	}
	a, known := v.attributes[n.key]
	if !known {
		return term{}, invalid("Invalid attribute key '%s' specified. Valid keys are %s", clip(n.key), list(v.attributes))
	}
	t := term{field: store.Attribute, key: a.key, numeric: a.numeric, sortable: !a.unsorted, what: "attribute " + a.key}
	switch {
	case a.numeric:
		t.what = "numeric attribute: " + a.key
		t.operators = onNumbers
	default:
		t.operators = []store.Operator{store.Equal, store.NotEqual}
		if a.patterns {
			t.operators = slices.Clone(onText)
		}
		if a.listed {
			t.operators = append(t.operators, store.In, store.NotIn)
		}
	}
	return t, nil
}

func (t term) allows(op store.Operator) bool { return slices.Contains(t.operators, op) }

func (t term) refuse(op store.Operator) error {
	words := make([]string, len(t.operators))
	for i, o := range t.operators {
		words[i] = string(o)
	}
	return invalid("Invalid comparator '%s' not one of '%s' for %s", clip(string(op)), strings.Join(words, "', '"), t.what)
}

func list[T any](m map[string]T) string {
	words := make([]string, 0, len(m))
	for w := range m {
		if w != "" {
			words = append(words, "'"+w+"'")
		}
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}
