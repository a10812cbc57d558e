// Package metric serves the second version of Azure's metrics service: values logged in batches, and read back as they
// were logged (azureml-v1.md §7). Package tracking keeps them where MLflow's clients find the numbers among them.
// Package api/all puts the routes into the router.
package metric

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/tracking"
)

type handlers struct{ tracking *tracking.Tracking }

// Routes is this service's part of the route table.
func Routes(t *tracking.Tracking) []api.Route {
	h := handlers{t}
	run := "/metric/v2.0" + api.WorkspacePath + "/runs/{run}"
	read, write := api.ActionWorkspaces+"experiments/runs/read", api.ActionWorkspaces+"experiments/runs/write"
	table := []api.Route{
		{Method: "POST", Pattern: run + "/batch", Action: write, Handler: h.batch},
		{Method: "POST", Pattern: run + "/list", Action: read, Handler: h.list},
		{Method: "POST", Pattern: run + "/full", Action: read, Handler: h.full},
	}
	for i := range table {
		table[i].Job, table[i].Dialect = api.JobHandler, api.DataPlane{} // the scope keeps a job to its run and those below
	}
	return table
}

func (h handlers) scope(r *http.Request) (tracking.Scope, error) {
	return h.tracking.Scope(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r).ID, "")
}

// metric is one entry of a batch, and what a whole metric is shown as.
type metric struct {
	DataContainerID string          `json:"dataContainerId,omitempty"`
	Name            string          `json:"name"`
	Columns         json.RawMessage `json:"columns"`
	Value           []value         `json:"value"`
	Properties      properties      `json:"properties"`
	Token           *string         `json:"continuationToken"`
}

type properties struct {
	Kind string `json:"uxMetricType"`
}

type value struct {
	ID      *string         `json:"metricId"`
	Created string          `json:"createdUtc"`
	Step    *int64          `json:"step"`
	Data    json.RawMessage `json:"data"`
}

// entry is a refused entry of a batch.
type entry struct {
	Metric metric `json:"metric"`
	Error  struct {
		Error api.ErrorBody `json:"error"`
	} `json:"errorResponse"`
}

// batch logs values. Entries that do not fit are told of, and the others logged all the same: the client prints what it is
// told and goes on.
func (h handlers) batch(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Values []metric `json:"values"`
	}
	if err := decode(r, &req); err != nil {
		return err
	}
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	batch := make([]tracking.SeriesBatch, len(req.Values))
	for i, m := range req.Values {
		if batch[i], err = m.tracked(); err != nil {
			return err
		}
	}
	refused, err := h.tracking.LogSeries(r.Context(), s, r.PathValue("run"), batch)
	if err != nil {
		return err
	}
	errors := make([]entry, len(refused))
	for i, e := range refused {
		errors[i].Metric = req.Values[e.Entry]
		errors[i].Error.Error = api.Body(e.Problem)
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"errors": errors})
}

func (m metric) tracked() (tracking.SeriesBatch, error) {
	b := tracking.SeriesBatch{Name: m.Name, Kind: m.Properties.Kind, Columns: m.Columns, Values: make([]tracking.SeriesValue, len(m.Value))}
	for i, v := range m.Value {
		at, err := api.ReadTime(v.Created)
		if err != nil {
			return b, err
		}
		b.Values[i] = tracking.SeriesValue{Time: at.UnixMicro(), Step: v.Step}
		if v.ID != nil {
			b.Values[i].ID = *v.ID
		}
		if err := api.Decode(v.Data, &b.Values[i].Data); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Token string `json:"continuationToken"`
	}
	if err := decode(r, &req); err != nil {
		return err
	}
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	list, next, err := h.tracking.ListSeries(r.Context(), s, r.PathValue("run"), req.Token)
	if err != nil {
		return err
	}
	type definition struct {
		Key struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"metricKey"`
		Columns json.RawMessage `json:"columns"`
	}
	views := make([]definition, len(list))
	for i, m := range list {
		views[i].Key.Name, views[i].Columns = m.Name, m.Columns
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"value": views, "continuationToken": api.OrNull(next)})
}

func (h handlers) full(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Name  string  `json:"metricName"`
		Start *string `json:"startTime"`
		End   *string `json:"endTime"`
		Token string  `json:"continuationToken"`
	}
	if err := decode(r, &req); err != nil {
		return err
	}
	q := tracking.SeriesQuery{Name: req.Name, Token: req.Token}
	for _, t := range []struct {
		text *string
		to   *int64
	}{{req.Start, &q.Start}, {req.End, &q.End}} {
		if t.text == nil {
			continue
		}
		at, err := api.ReadTime(*t.text)
		if err != nil {
			return err
		}
		*t.to = at.UnixMicro()
	}
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	run := r.PathValue("run")
	m, points, next, err := h.tracking.FullSeries(r.Context(), s, run, q)
	if err != nil {
		return err
	}
	v := metric{DataContainerID: "dcid." + run, Name: m.Name, Columns: m.Columns, Value: make([]value, len(points)), Properties: properties{m.Kind}, Token: api.OrNull(next)}
	for i, p := range points {
		v.Value[i] = value{Created: time.UnixMicro(p.Time).UTC().Format(api.TimeFormat), Step: p.Step, Data: p.Data}
	}
	return api.WriteJSON(w, http.StatusOK, v)
}
