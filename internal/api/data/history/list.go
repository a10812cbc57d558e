package history

import (
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/tracking"
)

// queryRuns lists the runs of an experiment by a filter (azureml-v1.md §25).
func (h handlers) queryRuns(w http.ResponseWriter, r *http.Request) error {
	var p page
	if err := api.DecodeJSON(r, &p); err != nil {
		return err
	}
	return h.listExperiment(w, r, p)
}

func (h handlers) listRuns(w http.ResponseWriter, r *http.Request) error {
	return h.listExperiment(w, r, pageOf(r.URL.Query()))
}

func (h handlers) listExperiment(w http.ResponseWriter, r *http.Request, p page) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	e, err := h.experiment(r, s)
	if err != nil {
		return err
	}
	return h.list(w, r, s, tracking.Listing{Experiment: &e.ID}, p)
}

func (h handlers) children(w http.ResponseWriter, r *http.Request) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	return h.list(w, r, s, tracking.Listing{Parent: r.PathValue("run")}, pageOf(r.URL.Query()))
}

// onCompute lists the runs of a compute, in any experiment.
func (h handlers) onCompute(w http.ResponseWriter, r *http.Request) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	return h.list(w, r, s, tracking.Listing{Target: r.PathValue("compute")}, pageOf(r.URL.Query()))
}

// list writes a page of runs. Newer clients follow nextLink and older ones send the token; the key is left out on the last
// page, since there are clients that follow null (azureml-v1.md §2).
func (h handlers) list(w http.ResponseWriter, r *http.Request, s tracking.Scope, l tracking.Listing, p page) error {
	l.Filter, l.Order, l.Limit, l.Token = p.Filter, p.Order, p.Top, p.Token
	runs, next, err := h.Tracking.ListRuns(r.Context(), s, l)
	if err != nil {
		return err
	}
	views := make([]map[string]any, len(runs))
	for i, run := range runs {
		if views[i], err = h.view(r, run); err != nil {
			return err
		}
	}
	body := map[string]any{"value": views, "continuationToken": api.OrNull(next)}
	if next != "" && r.Method == http.MethodGet {
		q := r.URL.Query()
		q.Set("$continuationToken", next)
		body["nextLink"] = api.BaseURL(r) + r.URL.EscapedPath() + "?" + q.Encode()
	}
	return api.WriteJSON(w, http.StatusOK, body)
}
