package filter_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking/filter"
)

// inWords is a clause as text, for tests.
func inWords(c store.Clause) string {
	if c.Join != "" {
		parts := make([]string, len(c.Of))
		for i, of := range c.Of {
			parts[i] = inWords(of)
		}
		return "(" + strings.Join(parts, " "+c.Join+" ") + ")"
	}
	name := string(c.Field)
	if c.Key != "" {
		name += "/" + c.Key
	}
	switch {
	case c.Operator == store.Present:
		return "has " + name
	case c.Operator == store.In:
		return name + " IN " + strings.Join(c.List, "|")
	case c.Null:
		return name + " " + string(c.Operator) + " null"
	}
	return name + " " + string(c.Operator) + " [" + c.Text + "]"
}

// TestHistoryFiltersAreReadAsTheClientWritesThem: the texts are azureml-core's own (azureml-v1.md §25).
func TestHistoryFiltersAreReadAsTheClientWritesThem(t *testing.T) {
	for text, want := range map[string]string{
		"(ParentRunId eq null)":      "parent = null",
		"RunId eq a_1":               "id = [a_1]",
		"RunId eq a or RunId eq b-2": "id IN a|b-2",
		"(Status eq Completed)":      "status = [Completed]",
		`((Tags/quality eq "fantastic run") and (Properties/author eq "x") and (ParentRunId eq null))`: "(tag/quality = [fantastic run] AND property/author = [x] AND parent = null)",
		"(Tags/k k ne null or Tags/k k eq null)":                                                       "has tag/k k",
		"(Properties/k ne null or Properties/k eq null)":                                               "has property/k",
		"(Tags/k ne null or Tags/j eq null)":                                                           "(tag/k != null OR tag/j = null)",
		"(Tags/a eq null)":                                                                             "tag/a = null",
		`(Tags/a eq "null")`:                                                                           "tag/a = [null]",
		"(RunType eq automl or Properties/azureml.runsource eq automl)":                                "(type = [automl] OR property/azureml.runsource = [automl])",
		`(Tags/a eq "he said "yes" (twice)")`:                                                          `tag/a = [he said "yes" (twice)]`,
		`(Tags/a eq "")`:                                                                               "tag/a = []",
		`(Tags/a eq 'it''s')`:                                                                          "tag/a = [it's]",
		`Tags/a (b) eq "x" AND Status ne Failed`:                                                       "(tag/a (b) = [x] AND status != [Failed])",
		"(CreatedUtc ge 2026-11-24 08:34:23.000001)":                                                   "created >= [2026-11-24 08:34:23.000001]",
		"(RootRunId eq r and RunId ne c)":                                                              "(root = [r] AND id != [c])",
		"(Target eq my vm)":                                                                            "target = [my vm]",
		"Status eq A and Status eq B or Status eq C":                                                   "((status = [A] AND status = [B]) OR status = [C])",
		"Status eq A and (Status eq B or Status eq C)":                                                 "(status = [A] AND (status = [B] OR status = [C]))",
		"(name eq my exp (1))":                                                                         "name = [my exp (1)]",
		"  (  ( Status   eq   Completed )  )  ":                                                        "status = [Completed]",
		"(StartTimeUtc gt 2026-11-24T08:34:23Z and EndTimeUtc lt 2027-01-01)":                          "(started > [2026-11-24T08:34:23Z] AND ended < [2027-01-01])",
	} {
		c, err := filter.ParseHistory(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := inWords(*c); got != want {
			t.Errorf("%s\n  read %s\n  want %s", text, got, want)
		}
	}
	if c, err := filter.ParseHistory("  "); c != nil || err != nil {
		t.Errorf("no filter: %v, %v", c, err)
	}
}

func TestHistoryTimesAreUTCUnlessTheySay(t *testing.T) {
	for text, want := range map[string]int64{
		"CreatedUtc ge 2026-11-24T08:34:23.151000Z":        1795509263151,
		"CreatedUtc ge 2026-11-24 08:34:23.151":            1795509263151,
		"CreatedUtc ge 2026-11-24 09:34:23.151000+01:00":   1795509263151,
		`CreatedUtc ge "2026-11-24T08:34:23.151000+00:00"`: 1795509263151,
		"CreatedUtc ge 2026-11-24":                         1795478400000,
	} {
		c, err := filter.ParseHistory(text)
		if err != nil || c.Time != want {
			t.Errorf("%s: %v, %v, want %d", text, c, err, want)
		}
	}
}

func TestFaultyHistoryFiltersAreRefusedWithAMend(t *testing.T) {
	for _, text := range []string{
		"(", ")", "Status", "Status eq", "Status eq ", "(Status eq A", "Status eq A)", `Tags/a eq "x`, "Nothing eq 1", "Status/x eq 1", "Status like x",
		"CreatedUtc ge yesterday", "Status gt null", "(Status eq A) nor (Status eq B)", "(Status eq A) and",
		strings.Repeat("(", 60) + "Status eq A" + strings.Repeat(")", 60), strings.Repeat("Status eq A or ", 500) + "Status eq A", "RunId eq " + strings.Repeat("a", 300<<10),
	} {
		c, err := filter.ParseHistory(text)
		if err == nil {
			t.Errorf("%.60s: read as %s", text, inWords(*c))
			continue
		}
		if !strings.Contains(err.Error(), ". ") || len(err.Error()) > 800 {
			t.Errorf("%.60s: no mend, or too long: %v", text, err)
		}
	}
	many := strings.TrimSuffix(strings.Repeat("RunId eq some_run_12345 or ", 5000), " or ")
	if c, err := filter.ParseHistory(many); err != nil || len(c.List) != 5000 {
		t.Errorf("5000 ids: %v", err)
	}
}

func TestHistoryOrders(t *testing.T) {
	got, err := filter.ParseHistoryOrder("StartTimeUtc desc, RunId")
	want := []store.HistoryOrder{{Field: store.HistoryStarted, Descending: true}, {Field: store.HistoryID}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err, d)
	}
	for _, text := range []string{"Nothing", "RunId sideways", "RunId asc now", "RootRunId"} {
		if _, err := filter.ParseHistoryOrder(text); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

func TestExperimentFiltersAreConjunctions(t *testing.T) {
	got, err := filter.ParseHistoryExperiments("((name eq my exp) and (Tags/k eq v) and (Tags/z ne null or Tags/z eq null))")
	want := []store.Condition{
		{Field: store.Attribute, Key: "name", Operator: store.Equal, Text: "my exp"},
		{Field: store.Tag, Key: "k", Operator: store.Equal, Text: "v"},
		{Field: store.Tag, Key: "z", Operator: store.Present},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err, d)
	}
	for _, text := range []string{"Status eq Completed", "(name eq a or name eq b)", "name eq null", "name gt a"} {
		if _, err := filter.ParseHistoryExperiments(text); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

// FuzzParseHistory: whatever comes, the parser ends, and what it reads is bounded.
func FuzzParseHistory(f *testing.F) {
	for _, seed := range []string{
		"(ParentRunId eq null)", `((Tags/q eq "a b") and (Status eq Completed))`, "(Tags/k ne null or Tags/k eq null)", "RunId eq a or RunId eq b", "(CreatedUtc ge 2026-11-24 08:34:23)", "((", `"`, "a eq 'b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := filter.ParseHistory(text)
		if err == nil && c != nil && len(inWords(*c)) > 64*len(text)+64 {
			t.Errorf("%q became %d bytes", text, len(inWords(*c)))
		}
	})
}
