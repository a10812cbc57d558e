package history

import (
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// experiment is the one that the path names, by name or by id.
func (h handlers) experiment(r *http.Request, s tracking.Scope) (store.Experiment, error) {
	ws := s.WorkspaceID
	return h.Tracking.FindExperiment(r.Context(), s, r.PathValue("experiment"), func(name string) string { return ExperimentID(ws, name) })
}

var looksLikeID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// experimentName is the name of the experiment that a run shall be made in, which need not be there yet. An id is of one
// that is, and where the path names none the run itself must be there.
func (h handlers) experimentName(r *http.Request, s tracking.Scope) (string, error) {
	named, byID := r.PathValue("experiment"), strings.Contains(r.Pattern, "/experimentids/")
	switch run := r.PathValue("run"); {
	case named == "" && run != "":
		_, err := h.Tracking.HistoryRun(r.Context(), s, run)
		return "", err
	case s.Run != "", !byID && !looksLikeID.MatchString(named):
		return named, nil
	case run != "":
		if _, err := h.Tracking.HistoryRun(r.Context(), s, run); err == nil {
			return named, nil // it stays where it is
		}
	}
	e, err := h.experiment(r, s)
	if !byID && errors.Is(err, &workspace.Problem{Code: "ResourceNotFound"}) {
		return named, nil // a name that only looks like an id
	}
	return e.Name, err
}

// experimentView is an experiment as the history shows it (azureml-v1.md §6.1).
func experimentView(e store.Experiment) map[string]any {
	tags, description := tracking.PeoplesExperimentTags(e)
	v := map[string]any{
		"experimentId": ExperimentID(e.WorkspaceID, e.Name), "name": e.Name, "description": api.OrNull(description), "createdUtc": api.FormatTime(e.Created),
		"tags": tags, "archivedTime": nil, "latestCreatedRunUtc": nil, "artifactLocation": api.OrNull(e.ArtifactLocation),
	}
	if e.Stage == store.StageDeleted {
		v["archivedTime"] = api.FormatTime(e.Updated)
	}
	return v
}

func (h handlers) getExperiment(w http.ResponseWriter, r *http.Request) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	e, err := h.experiment(r, s)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, experimentView(e))
}

// createExperiment makes an experiment, or gives the one that has the name.
func (h handlers) createExperiment(w http.ResponseWriter, r *http.Request) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	e, err := h.Tracking.EnsureExperiment(r.Context(), s, r.PathValue("experiment"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, experimentView(e))
}

func (h handlers) patchExperiment(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Name        *string        `json:"name"`
		Description *string        `json:"description"`
		Archive     *bool          `json:"archive"`
		Tags        map[string]any `json:"tags"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	return h.changeExperiment(w, r, tracking.ExperimentPatch{Name: req.Name, Description: req.Description, Archived: req.Archive, Tags: textsOf(req.Tags)}, func(e store.Experiment) any {
		return experimentView(e)
	})
}

func (h handlers) untagExperiment(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Tags []string `json:"tags"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	return h.changeExperiment(w, r, tracking.ExperimentPatch{Remove: req.Tags}, func(store.Experiment) any {
		return map[string]any{"errors": map[string]any{}}
	})
}

func (h handlers) changeExperiment(w http.ResponseWriter, r *http.Request, p tracking.ExperimentPatch, answer func(store.Experiment) any) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	e, err := h.experiment(r, s)
	if err != nil {
		return err
	}
	if e, err = h.Tracking.PatchExperiment(r.Context(), s, e, p); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, answer(e))
}

// deleteExperiment removes an empty experiment from sight; one with runs is refused, as Azure does.
func (h handlers) deleteExperiment(w http.ResponseWriter, r *http.Request) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	e, err := h.experiment(r, s)
	if err != nil {
		return err
	}
	runs, _, err := h.Tracking.ListRuns(r.Context(), s, tracking.Listing{Experiment: &e.ID, Limit: 1})
	if err != nil {
		return err
	}
	if len(runs) > 0 {
		return &workspace.Problem{
			Class: workspace.Conflict, Code: "ExperimentNotEmpty", Target: e.Name, Message: "experiment " + e.Name + " has runs",
			Mend: "archive it: Experiment.archive() hides it with its runs",
		}
	}
	archived := true
	if _, err := h.Tracking.PatchExperiment(r.Context(), s, e, tracking.ExperimentPatch{Archived: &archived}); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, nil)
}

// listExperiments lists experiments; archived ones when the view asks for them (azureml-v1.md §6.4).
func (h handlers) listExperiments(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		page
		View string `json:"viewType"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	q := tracking.ExperimentSearch{Filter: req.Filter, Limit: req.Top, Token: req.Token}
	if q.Limit <= 0 || q.Limit > tracking.MaxListing {
		q.Limit = tracking.MaxListing
	}
	switch strings.ToLower(req.View) {
	case "", "default", "activeonly":
		q.Stage = store.StageActive
	case "archivedonly":
		q.Stage = store.StageDeleted
	}
	list, next, err := h.Tracking.ListExperiments(r.Context(), s, q)
	if err != nil {
		return err
	}
	views := make([]map[string]any, len(list))
	for i, e := range list {
		views[i] = experimentView(e)
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"value": views, "continuationToken": api.OrNull(next)})
}
