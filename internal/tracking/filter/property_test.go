package filter_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking/filter"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// written makes a random comparison, in random dress, with what it must mean.
func written(t *rapid.T) (string, store.Condition) {
	blank := rapid.SampledFrom([]string{"", " ", "  ", "\t", "\n"})
	space := rapid.SampledFrom([]string{" ", "   ", "\n"})
	dress := func(word string) string {
		if rapid.Bool().Draw(t, "lower") {
			return strings.ToLower(word)
		}
		return word
	}
	key := rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_.]{0,12}[a-z]`).Draw(t, "key")
	spelt := key
	if rapid.Bool().Draw(t, "quoted key") {
		key += rapid.SampledFrom([]string{"", " ", "-", "/", ":"}).Draw(t, "rare")
		q := rapid.SampledFrom([]string{"`", `"`, "'"}).Draw(t, "quote")
		spelt = q + key + q
	}
	if rapid.Bool().Draw(t, "metric") {
		op := rapid.SampledFrom([]store.Operator{"=", "!=", "<", "<=", ">", ">="}).Draw(t, "op")
		n := rapid.Float64Range(-1e300, 1e300).Draw(t, "number")
		entity := rapid.SampledFrom([]string{"metric", "metrics"}).Draw(t, "entity")
		text := fmt.Sprintf("%s.%s%s%s%s%s", entity, spelt, blank.Draw(t, "b"), op, blank.Draw(t, "b"), strconv.FormatFloat(n, 'g', -1, 64))
		return text, store.Condition{Field: store.Series, Key: key, Operator: op, Numeric: true, Number: n}
	}
	c := store.Condition{Field: store.Tag, Key: key}
	entity := rapid.SampledFrom([]string{"tag", "tags"}).Draw(t, "entity")
	c.Operator = rapid.SampledFrom([]store.Operator{"=", "!=", "LIKE", "ILIKE", "IS NULL", "IS NOT NULL"}).Draw(t, "op")
	if c.Operator == store.Missing || c.Operator == store.Present {
		return entity + "." + spelt + " " + strings.ReplaceAll(dress(string(c.Operator)), " ", space.Draw(t, "s")), c
	}
	c.Text = strings.NewReplacer("'", "", `"`, "", "\x00", "").Replace(rapid.StringN(0, 20, 80).Draw(t, "value"))
	q := rapid.SampledFrom([]string{`"`, "'"}).Draw(t, "quote")
	return entity + "." + spelt + space.Draw(t, "s") + dress(string(c.Operator)) + blank.Draw(t, "b") + q + c.Text + q, c
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var texts []string
		var want []store.Condition
		for range rapid.IntRange(0, 5).Draw(t, "comparisons") {
			text, c := written(t)
			texts, want = append(texts, text), append(want, c)
		}
		text := strings.Join(texts, rapid.SampledFrom([]string{" AND ", " and ", "\nAnd\t"}).Draw(t, "and"))
		got, err := filter.Parse(filter.Runs(), text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", text, diff)
		}
	})
}

// FuzzParse holds for any bytes: no panic, a fault is a Problem of class invalid with printable text, and what is read
// consists of known operators and valid text.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "metrics.m >= -1.5e-3 AND params.`a b` LIKE '%x_' and tags.t IS NOT NULL", "run_id IN ('a', \"b\")", "dataset.name NOT IN ('x')",
		"'''", "a.`", "(", "metrics.\xff = 1", "params.p = '' ''", "is is is", "not in ('", "start_time=1AND end_time=2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, v := range []filter.Vocabulary{filter.Runs(), filter.Experiments()} {
			got, err := filter.Parse(v, text)
			if err != nil {
				if p, is := errors.AsType[*workspace.Problem](err); !is || p.Class != workspace.Invalid || !utf8.ValidString(p.Message) {
					t.Fatalf("%q: %#v", text, err)
				}
				continue
			}
			for _, c := range got {
				if c.Key == "" || !utf8.ValidString(c.Text) || strings.ContainsRune(c.Text, 0) {
					t.Fatalf("%q: %#v", text, c)
				}
			}
			_, _ = filter.ParseOrder(v, []string{text})
		}
	})
}
