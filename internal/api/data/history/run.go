package history

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func (h handlers) get(w http.ResponseWriter, r *http.Request) error {
	run, err := h.run(r, r.PathValue("run"))
	if err != nil {
		return err
	}
	return h.write(w, r, run)
}

func (h handlers) write(w http.ResponseWriter, r *http.Request, run store.HistoryRun) error {
	v, err := h.view(r, run)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, v)
}

// data is a run as azure-ai-ml asks for it (azureml-v2.md §10).
func (h handlers) data(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		RunID string `json:"runId"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	run, err := h.run(r, req.RunID)
	if err != nil {
		return err
	}
	v, err := h.view(r, run)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"runMetadata": v, "runDefinition": raw(run.Record.Definition, map[string]any{}), "jobSpecification": map[string]any{}})
}

// createRun is what clients send of a run. Null leaves a field as it is (azureml-v1.md §6.1). The addresses for canceling
// and diagnosing are never a client's to say: other people's clients send their tokens there.
type createRun struct {
	RunID             string          `json:"runId"`
	ParentRunID       *string         `json:"parentRunId"`
	Status            *string         `json:"status"`
	StartTimeUTC      *clientTime     `json:"startTimeUtc"`
	EndTimeUTC        *clientTime     `json:"endTimeUtc"`
	Name              string          `json:"name"`
	DisplayName       *string         `json:"displayName"`
	Description       *string         `json:"description"`
	Hidden            *bool           `json:"hidden"`
	RunType           *string         `json:"runType"`
	RunTypeV2         json.RawMessage `json:"runTypeV2"`
	Target            *string         `json:"target"`
	ScriptName        string          `json:"scriptName"`
	PrimaryMetricName string          `json:"primaryMetricName"`
	Tags              map[string]any  `json:"tags"`
	Properties        map[string]any  `json:"properties"`
	InputDatasets     json.RawMessage `json:"inputDatasets"`
	OutputDatasets    json.RawMessage `json:"outputDatasets"`
	RunDefinition     json.RawMessage `json:"runDefinition"`
	CreatedFrom       json.RawMessage `json:"createdFrom"`
}

func (c createRun) patch() tracking.RunPatch {
	return tracking.RunPatch{
		ID: c.RunID, Parent: c.ParentRunID, Status: c.Status, Start: c.StartTimeUTC.millis(), End: c.EndTimeUTC.millis(),
		DisplayName: c.DisplayName, Description: c.Description, Hidden: c.Hidden, Type: c.RunType, Target: c.Target,
		Tags: textsOf(c.Tags), Properties: textsOf(c.Properties),
		Body: store.RunBody{
			Name: c.Name, Script: c.ScriptName, Metric: c.PrimaryMetricName, TypeV2: given(c.RunTypeV2), From: given(c.CreatedFrom),
			Definition: given(c.RunDefinition), Inputs: given(c.InputDatasets), Outputs: given(c.OutputDatasets),
		},
	}
}

// given is JSON that a client sent; null is not.
func given(b json.RawMessage) json.RawMessage {
	if string(b) == "null" {
		return nil
	}
	return b
}

// patch makes or changes a run. Tags and properties are added to those there are; the status of a job is not its
// client's to say and is passed over.
func (h handlers) patch(w http.ResponseWriter, r *http.Request) error {
	var req createRun
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	req.RunID = r.PathValue("run")
	list, err := h.patchRuns(r, []createRun{req})
	if err != nil {
		return err
	}
	if err := h.wholeJob(r, &list[0]); err != nil {
		return err
	}
	return h.write(w, r, list[0])
}

func (h handlers) patchRuns(r *http.Request, reqs []createRun) ([]store.HistoryRun, error) {
	s, err := h.scope(r)
	if err != nil {
		return nil, err
	}
	experiment, err := h.experimentName(r, s)
	if err != nil {
		return nil, err
	}
	patches := make([]tracking.RunPatch, len(reqs))
	for i, req := range reqs {
		patches[i] = req.patch()
	}
	return h.Tracking.PatchRuns(r.Context(), s, experiment, api.PrincipalOf(r).Name, patches)
}

// patchBatch makes or changes several runs, all or none (azureml-v1.md §25).
func (h handlers) patchBatch(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Runs []createRun `json:"runs"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	list, err := h.patchRuns(r, req.Runs)
	if err != nil {
		return err
	}
	views := make(map[string]any, len(list))
	for _, run := range list {
		if views[run.ID], err = h.view(r, run); err != nil {
			return err
		}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"runs": views, "errors": map[string]any{}})
}

func (h handlers) deleteTags(w http.ResponseWriter, r *http.Request) error {
	var keys []string
	if err := api.DecodeJSON(r, &keys); err != nil {
		return err
	}
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	run, err := h.Tracking.DeleteTags(r.Context(), s, r.PathValue("run"), keys)
	if err != nil {
		return err
	}
	if err := h.wholeJob(r, &run); err != nil {
		return err
	}
	return h.write(w, r, run)
}

// token gives the credential of a run, for a client that holds an older one of it (azureml-v1.md §6.4).
func (h handlers) token(w http.ResponseWriter, r *http.Request) error {
	run, err := h.run(r, r.PathValue("run"))
	if err != nil {
		return err
	}
	if workspace.State(run.State()).Terminal() {
		return &workspace.Problem{
			Class: workspace.Conflict, Code: "RunEnded", Target: run.ID, Message: "run " + run.ID + " has ended, and its token with it", Mend: "use your own token",
		}
	}
	var token workspace.Secret
	var expires time.Time
	if run.Job != nil {
		token, expires = h.Tokens.JobToken(run.Job.ID, max(run.Job.Attempt, 1))
	} else {
		token, expires = h.Tokens.RunToken(run.WorkspaceID, run.ID)
	}
	w.Header().Set("Cache-Control", "no-store")
	return api.WriteJSON(w, http.StatusOK, map[string]string{"token": token.Reveal(), "expiryTimeUtc": expires.UTC().Format(api.TimeFormat)})
}

// cancel wishes the end of a run's job. A run without one is ended by its client, whose wish it becomes.
func (h handlers) cancel(w http.ResponseWriter, r *http.Request) error {
	run, err := h.run(r, r.PathValue("run"))
	if err != nil {
		return err
	}
	if run.Job != nil {
		err = h.Jobs.CancelJob(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), run.ID)
	} else {
		err = h.take(r, []event{{Name: eventPrefix + "Canceled", Data: eventData{RunID: run.ID}}})
	}
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, nil)
}

// textsOf makes texts of what clients send as tags and properties.
func textsOf(m map[string]any) map[string]string {
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			out[k] = ""
		case string:
			out[k] = v
		case bool:
			out[k] = strconv.FormatBool(v)
		default:
			b, _ := json.Marshal(v) // it was JSON when it came
			out[k] = string(b)
		}
	}
	return out
}

// page is the part of an address or a body that asks for a page of a list.
type page struct {
	Filter string `json:"filter"`
	Order  string `json:"orderby"`
	Top    int    `json:"top"`
	Token  string `json:"continuationToken"`
}

// pageOf reads a page from an address (azureml-v1.md §6.4).
func pageOf(q url.Values) page {
	top, _ := strconv.Atoi(q.Get("$top")) // what is no number is as good as none
	order := q.Get("$orderby")
	if direction := q.Get("$sortorder"); direction != "" && order != "" {
		order += " " + direction
	}
	return page{Filter: q.Get("$filter"), Order: order, Top: top, Token: q.Get("$continuationToken")}
}
