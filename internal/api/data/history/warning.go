package history

import (
	"net/http"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/store"
)

const (
	// maxPreparing is how much of the log of preparing is looked through for warnings: package managers may say a lot.
	maxPreparing = 256 << 10
	// maxWarnings is how many of them are told.
	maxWarnings = 20
)

// warnings are a run's, and once its job is over those of the making of its environment. Both clients print them at the end
// of what they stream. Of the log they come from, they show what stood there when they looked, which is often nothing.
func (h handlers) warnings(r *http.Request, run store.HistoryRun) ([]store.RunWarning, error) {
	list := warnings(run)
	if run.Job == nil || !run.Job.State.Terminal() {
		return list, nil
	}
	log := &bounded{room: maxPreparing}
	if _, err := h.Jobs.JobLog(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), run.ID, "prepare", 0, false, log); err != nil && !log.full {
		return nil, err
	}
	return append(list, warningsOf(log.Bytes())...), nil
}

// warningsOf finds the warnings in a log of preparing: lines, and parts of the first, which tells in one how the environment
// is made.
func warningsOf(log []byte) []store.RunWarning {
	var list []store.RunWarning
	first, rest, _ := strings.Cut(string(log), "\n")
	for _, said := range append(strings.Split(first, "; "), strings.Split(rest, "\n")...) {
		text, found := strings.CutPrefix(strings.TrimSpace(said), "warning: ")
		w := store.RunWarning{Source: "environment", Message: "environment: " + text}
		if found && !slices.Contains(list, w) && len(list) < maxWarnings {
			list = append(list, w)
		}
	}
	return list
}
