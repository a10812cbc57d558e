package store

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Lists of jobs must cost what a page holds. A change of an index or a filter that makes SQLite read all jobs, or sort
// them, shows here before it shows with 100,000 jobs.
func TestEveryListOfJobsWalksAnIndexInOrder(t *testing.T) {
	s, err := Open(t.Context(), Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	some := []workspace.State{workspace.Completed, workspace.Running}
	for _, c := range []struct {
		f     JobFilter
		index string
	}{
		{JobFilter{}, "jobs_list (workspace_id=? AND archived=? AND id<?)"},
		{JobFilter{IncludeArchived: true}, "jobs_list (workspace_id=? AND archived=? AND id<?)"},
		{JobFilter{WithBody: true}, "jobs_list (workspace_id=? AND archived=? AND id<?)"},
		{JobFilter{States: some}, "jobs_state (workspace_id=? AND state=? AND archived=? AND id<?)"},
		{JobFilter{ComputeID: "c"}, "jobs_compute (compute_id=? AND state=? AND archived=? AND id<?)"},
		{JobFilter{ComputeID: "c", States: some}, "jobs_compute (compute_id=? AND state=? AND archived=? AND id<?)"},
		{JobFilter{Experiment: "e"}, "jobs_experiment (workspace_id=? AND experiment=? AND archived=? AND id<?)"},
		{JobFilter{ParentID: "p"}, "jobs_parent (parent_id=? AND id<?)"},
	} {
		query, args := c.f.query("w", Page{After: "x"})
		type step struct {
			id, parent, unused int64
			detail             string
		}
		steps, err := many(t.Context(), s.reads, func(s *step) []any { return []any{&s.id, &s.parent, &s.unused, &s.detail} }, "EXPLAIN QUERY PLAN "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for _, s := range steps {
			plan = append(plan, s.detail)
		}
		text := strings.Join(plan, "\n")
		if !strings.Contains(text, c.index) {
			t.Errorf("%+v does not use %s:\n%s", c.f, c.index, text)
		}
		for _, d := range plan {
			if d == "SCAN j" || d == "SCAN jobs" || strings.HasPrefix(d, "SCAN jobs ") {
				t.Errorf("%+v reads all jobs:\n%s", c.f, text)
			}
		}
		if strings.Count(text, "USE TEMP B-TREE FOR ORDER BY") > 1 { // one is the order of the page itself
			t.Errorf("%+v sorts what an index could give in order:\n%s", c.f, text)
		}
	}
}
