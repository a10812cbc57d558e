package batch

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
)

func TestQueueIsReadByOurOwnMark(t *testing.T) {
	const text = "17|PENDING|Priority|moorage:s/c/JOB.1\n18|RUNNING|None|moorage:s/other/JOB.1\n19|RUNNING|None|\n" +
		"20|PENDING|(ReqNodeNotAvail, UnavailableNodes:n1)|moorage:s/c/NEXT.2\n21|RUNNING|None|moorage:s/c/JOB.1\nslurm_load_jobs error\n"
	got := parseQueue(text, "moorage:s/c/")
	if len(got) != 2 {
		t.Fatalf("got %v", got)
	}
	if e := got["JOB.1"]; len(e.ids) != 2 || e.state != "RUNNING" {
		t.Errorf("asked twice: %+v", e)
	}
	if p := got["NEXT.2"].reason(); p.Cause != "a node that it needs is not available" || p.Mend == "" {
		t.Errorf("reason: %+v", p)
	}
}

func TestEveryReasonIsInPlainWords(t *testing.T) {
	for word := range reasons {
		if p := (entry{ids: []string{"1"}, state: "PENDING", word: word}).reason(); p.Cause == "" || p.Mend == "" || strings.Contains(p.Cause, word) && len(word) > 9 {
			t.Errorf("%s: %+v", word, p)
		}
	}
	for word, want := range map[string]string{"QOSMaxJobsPerUserLimit": "limit", "AssocGrpGRES": "limit", "SomethingNew": "Slurm says SomethingNew"} {
		if p := (entry{ids: []string{"1"}, state: "PENDING", word: word}).reason(); !strings.Contains(p.Cause, want) || p.Mend == "" {
			t.Errorf("%s: %+v", word, p)
		}
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for _, c := range []struct{ settings, says string }{
		{`{"address": "slurm+ssh://h", "folder": "relative"}`, "not an absolute path"},
		{`{"address": "ssh://h", "folder": "/x"}`, "not the address of a Slurm login node"},
		{`{"address": "slurm+telnet://h", "folder": "/x"}`, "not the address of a Slurm login node"},
		{`{"address": "slurm+ssh://h", "folder": "/x", "options": "--hold"}`, "not valid"},
		{`{"address": "slurm+ssh://h", "folder": "/x", "colour": 1}`, "not valid"},
		{`[]`, "not valid"},
	} {
		_, err := driver.Open(t.Context(), json.RawMessage(c.settings), compute.Env{Clock: clock.System(), Keeper: func(string, string) (compute.Program, error) {
			return compute.Program{}, errors.New("none")
		}})
		if !errors.Is(err, compute.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.settings, err)
		}
	}
}

func FuzzQueue(f *testing.F) {
	f.Add("17|PENDING|Priority|moorage:s/c/JOB.1\n")
	f.Add("|||moorage:s/c/\n\n|")
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range parseQueue(text, "moorage:s/c/") {
			if len(e.ids) == 0 || e.reason().Cause == "" {
				t.Errorf("an entry without an id or a reason: %+v", e)
			}
		}
	})
}
