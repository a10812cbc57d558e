package history

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// waitForMetrics answers when what was logged before can be read, in its order. Clients come to it after they logged.
func (h handlers) waitForMetrics(w http.ResponseWriter, r *http.Request) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	if err := h.Tracking.SortSeries(r.Context(), s, r.PathValue("run")); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, nil)
}

// What the older metrics service is asked for: runs, and perhaps one metric (azureml-v1.md §23).
var (
	runInFilter    = regexp.MustCompile(`(?i)\bRunId eq ["']?([A-Za-z0-9][\w.\-]*)`)
	metricInFilter = regexp.MustCompile(`(?i)\bname eq ["']?([^"'()]+?)["']?(?: and | or |\)|$)`)
)

// maxQueriedRuns bounds one question; a client asks for 50 runs at a time.
const maxQueriedRuns = 500

// queryMetrics answers in the form of the older metrics service, which the widgets draw their curves from. There is one
// entry for each metric, with its newest values.
func (h handlers) queryMetrics(w http.ResponseWriter, r *http.Request) error {
	var p page
	if err := api.DecodeJSON(r, &p); err != nil {
		return err
	}
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	asked := runInFilter.FindAllStringSubmatch(p.Filter, maxQueriedRuns+1)
	if len(asked) == 0 || len(asked) > maxQueriedRuns {
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidFilter", Target: "filter", Message: fmt.Sprintf("the filter must name 1 to %d runs", maxQueriedRuns), Mend: "write it as RunId eq ID or RunId eq ID",
		}
	}
	only := ""
	if m := metricInFilter.FindStringSubmatch(p.Filter); m != nil {
		only = m[1]
	}
	entries := []olderMetric{}
	for _, m := range asked {
		of, err := h.olderMetrics(r, s, m[1], only)
		if err != nil {
			return err
		}
		entries = append(entries, of...)
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"value": entries, "continuationToken": nil})
}

// olderMetric is a metric in the form of the older service.
type olderMetric struct {
	RunID    string            `json:"runId"`
	ID       string            `json:"metricId"`
	Type     string            `json:"metricType"`
	Created  string            `json:"createdUtc"`
	Name     string            `json:"name"`
	NumCells int               `json:"numCells"`
	Location any               `json:"dataLocation"`
	Cells    []json.RawMessage `json:"cells"`
	Schema   olderSchema       `json:"schema"`
}

type olderSchema struct {
	Count      int             `json:"numProperties"`
	Properties []olderProperty `json:"properties"`
}

type olderProperty struct {
	ID   string `json:"propertyId"`
	Name string `json:"name"`
	Type string `json:"type"`
}

func (h handlers) olderMetrics(r *http.Request, s tracking.Scope, run, only string) ([]olderMetric, error) {
	list, _, err := h.Tracking.ListSeries(r.Context(), s, run, "")
	if err != nil {
		return nil, err
	}
	var out []olderMetric
	for _, m := range list {
		if only != "" && m.Name != only {
			continue
		}
		_, values, _, err := h.Tracking.FullSeries(r.Context(), s, run, tracking.SeriesQuery{Name: m.Name})
		if err != nil {
			return nil, err
		}
		if len(values) > 0 {
			out = append(out, older(s.WorkspaceID, run, m, values))
		}
	}
	return out, nil
}

func older(ws, run string, m tracking.Series, values []tracking.SeriesPoint) olderMetric {
	o := olderMetric{
		RunID: run, ID: authn.UUID(ws, "metric", run, m.Name), Type: m.Kind, Created: api.FormatTime(values[0].Time / 1000), Name: m.Name,
		NumCells: len(values), Cells: make([]json.RawMessage, len(values)),
	}
	for i, v := range values {
		o.Cells[i] = v.Data
	}
	for name, kind := range api.AsObject(m.Columns) {
		var text string
		_ = json.Unmarshal(kind, &text) // types are texts
		if strings.EqualFold(text, "artifact") {
			o.Location = api.AsObject(values[0].Data)[name]
		}
		o.Schema.Properties = append(o.Schema.Properties, olderProperty{name, m.Name, text})
	}
	o.Schema.Count = len(o.Schema.Properties)
	return o
}
