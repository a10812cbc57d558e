// Package filter reads MLflow's search grammar (mlflow.md §9), filter strings and order_by entries, each in one of several
// vocabularies, and the filters and orders of Azure's run history (azureml-v1.md §25). It turns them into the store's
// conditions, clauses and orders, and never touches SQL. A fault of the user is always a
// *workspace.Problem of class Invalid. The tracking package is its only caller.
package filter

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The limits of one search. They keep a query within what both databases plan and run without harm.
const (
	MaxLength      = 64 << 10 // bytes of a filter
	MaxComparisons = 100
	MaxValues      = 10_000 // in one list
	MaxPattern     = 4096   // bytes of a LIKE pattern
	MaxOrders      = 20
)

// Parse reads a filter in a vocabulary. An empty filter has no conditions and means everything.
func Parse(v Vocabulary, text string) ([]store.Condition, error) {
	if len(text) > MaxLength {
		return nil, invalid("the filter is longer than %d bytes", MaxLength)
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, invalid("the filter is not valid text")
	}
	s := &scanner{text: text}
	var out []store.Condition
	for s.skip(); !s.end(); s.skip() {
		if len(out) > 0 {
			if !s.keyword("AND") {
				return nil, s.stray()
			}
			s.skip()
		}
		c, err := comparison(v, s)
		if err != nil {
			return nil, err
		}
		if out = append(out, c); len(out) > MaxComparisons {
			return nil, invalid("the filter has more than %d comparisons", MaxComparisons)
		}
	}
	return out, nil
}

func comparison(v Vocabulary, s *scanner) (store.Condition, error) {
	name, err := s.identifier()
	if err != nil {
		return store.Condition{}, err
	}
	t, err := v.term(name)
	if err != nil {
		return store.Condition{}, err
	}
	s.skip()
	op, err := s.operator()
	if err != nil {
		return store.Condition{}, err
	}
	c := store.Condition{Field: t.field, Key: t.key, Operator: op, Numeric: t.numeric}
	if !t.allows(op) {
		return c, t.refuse(op)
	}
	s.skip()
	switch op {
	case store.Missing, store.Present:
		return c, nil
	case store.In, store.NotIn:
		c.List, err = s.list()
		return c, err
	}
	return c, s.value(t, &c)
}

// value reads a number or a string, whichever the term wants.
func (s *scanner) value(t term, c *store.Condition) error {
	if !t.numeric {
		text, ok, err := s.quoted()
		if err != nil {
			return err
		}
		if !ok {
			return invalid("Expected a quoted string value for %s (e.g. 'my-value'). Got value %s", t.what, s.word())
		}
		if (c.Operator == store.Like || c.Operator == store.ILike) && len(text) > MaxPattern {
			return invalid("the pattern is longer than %d bytes", MaxPattern)
		}
		c.Text = text
		return nil
	}
	n, ok, err := s.number()
	if err != nil {
		return err
	}
	if !ok {
		return invalid("Expected numeric value type for %s. Found %s", t.what, s.word())
	}
	c.Number = n
	return nil
}

// ParseOrder reads an order_by list in a vocabulary. Two entries with one key are refused.
func ParseOrder(v Vocabulary, entries []string) ([]store.Order, error) {
	if len(entries) > MaxOrders {
		return nil, invalid("order_by has more than %d entries", MaxOrders)
	}
	out := make([]store.Order, 0, len(entries))
	for _, e := range entries {
		o, err := order(v, e)
		if err != nil {
			return nil, err
		}
		for _, p := range out {
			if p.Field == o.Field && p.Key == o.Key {
				return nil, invalid("`order_by` contains duplicate fields: %s", strings.TrimSpace(e))
			}
		}
		out = append(out, o)
	}
	return out, nil
}

func order(v Vocabulary, entry string) (store.Order, error) {
	bad := invalid("Invalid order_by clause '%s'", clip(entry))
	if len(entry) > MaxPattern || !utf8.ValidString(entry) || strings.ContainsRune(entry, 0) {
		return store.Order{}, bad
	}
	s := &scanner{text: entry}
	s.skip()
	name, err := s.identifier()
	if err != nil {
		return store.Order{}, bad
	}
	t, err := v.term(name)
	if err != nil {
		return store.Order{}, err
	}
	if !t.sortable {
		return store.Order{}, invalid("Invalid order_by key '%s'", clip(strings.TrimSpace(entry)))
	}
	o := store.Order{Field: t.field, Key: t.key, Numeric: t.numeric}
	s.skip()
	if s.keyword("DESC") {
		o.Descending = true
	} else {
		s.keyword("ASC")
	}
	if s.skip(); !s.end() {
		return store.Order{}, bad
	}
	return o, nil
}

func invalid(format string, args ...any) *workspace.Problem {
	return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidFilter", Message: fmt.Sprintf(format, args...)}
}

func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
