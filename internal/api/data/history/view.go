package history

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// view is a run as the history shows it (azureml-v1.md §6.2). Empty objects are there because clients break without them.
func (h handlers) view(r *http.Request, run store.HistoryRun) (map[string]any, error) {
	ws := api.WorkspaceOf(r)
	root, err := h.Tracking.Root(r.Context(), run)
	if err != nil {
		return nil, err
	}
	tags, description := tracking.PeoplesTags(run)
	user := h.person(ws.ID, run.UserID)
	b := run.Record.RunBody
	v := map[string]any{
		"runId": run.ID, "runUuid": authn.UUID(ws.ID, "run", run.ID), "runNumber": number(run.Run),
		"rootRunId": root, "rootRunUuid": authn.UUID(ws.ID, "run", root), "parentRunId": api.OrNull(run.ParentID),
		"experimentId": ExperimentID(ws.ID, run.Experiment), "dataContainerId": dataContainer(run.ID),
		"name": api.OrNull(b.Name), "displayName": run.Name, "description": api.OrNull(description), "status": string(shown(r, run)),
		"createdUtc": api.FormatTime(run.CreatedAt()), "startTimeUtc": nil, "endTimeUtc": nil, "createdBy": user, "userId": user["userObjectId"],
		"hidden":  run.Record.Hidden || run.Job != nil && run.Job.Archived,
		"runType": api.OrNull(run.Record.Type), "runTypeV2": raw(b.TypeV2, map[string]any{"orchestrator": "Execution", "traits": []string{}, "attribution": nil}),
		"properties": texts(tracking.Properties(run)), "tags": tags, "target": api.OrNull(target(run)), "scriptName": api.OrNull(b.Script),
		"primaryMetricName": api.OrNull(b.Metric), "createdFrom": raw(b.From, nil), "runDefinition": raw(b.Definition, nil),
		"inputDatasets": raw(b.Inputs, []any{}), "outputDatasets": raw(b.Outputs, []any{}), "inputs": map[string]any{}, "outputs": outputs(run),
		"warnings": warnings(run), "error": nil, "token": nil, "cancelUri": nil, "diagnosticsUri": nil,
	}
	if run.Run.Job {
		v["runType"] = cmp.Or(run.Record.Type, store.ScriptRun)
		v["cancelUri"] = runURL(r, run) + "/cancel"
	}
	addTimes(v, run)
	addError(v, run)
	return v, nil
}

// person is who made a run.
func (h handlers) person(ws, name string) map[string]string {
	return map[string]string{"userName": name, "userObjectId": authn.UUID(ws, name), "userTenantId": h.Tokens.Tenant()}
}

// number counts runs up in the order of their making, as clients expect of it. It fits a number of JavaScript.
func number(r store.Run) int64 { return r.Number >> 10 }

func dataContainer(run string) string { return "dcid." + run }

// ExperimentID is the id by which Azure's clients know an experiment of a workspace.
func ExperimentID(ws, name string) string { return authn.UUID(ws, "experiment", name) }

// runURL is where a run is, as the caller reaches the server.
func runURL(r *http.Request, run store.HistoryRun) string {
	return api.BaseURL(r) + "/history/v1.0" + api.WorkspaceOf(r).Path() + "/experiments/" + url.PathEscape(run.Experiment) + "/runs/" + url.PathEscape(run.ID)
}

// raw is JSON that a client wrote, or what stands for it.
func raw(b json.RawMessage, otherwise any) any {
	if len(b) == 0 || string(b) == "null" {
		return otherwise
	}
	return b
}

func texts(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// addTimes adds when a run began and ended, once it did.
func addTimes(v map[string]any, run store.HistoryRun) {
	start, end := run.Start, run.End
	if run.Job != nil {
		start, end = run.Job.Started, run.Job.Ended
	} else if store.AzureStates[run.State()] == tracking.Scheduled {
		start = 0
	}
	if start > 0 {
		v["startTimeUtc"] = api.FormatTime(start)
	}
	if end > 0 {
		v["endTimeUtc"] = api.FormatTime(end)
	}
}

// addError adds why a run failed: the job's error, with what the script said of it as a detail, or what its client said.
func addError(v map[string]any, run store.HistoryRun) {
	said := saidError(run.Record.Error)
	switch failed := run.State() == string(workspace.Failed); {
	case failed && run.Job == nil && said != nil:
		v["error"] = map[string]any{"error": said}
	case failed && run.Job != nil && run.Job.Error != nil:
		details := []any{}
		if said != nil {
			details = append(details, said)
		}
		v["error"] = map[string]any{"error": map[string]any{
			// The message holds cause and mend, which clients show.
			"code": run.Job.Error.Code, "message": run.Job.Error.Error(), "messageParameters": map[string]string{}, "details": details, "target": run.Job.Error.Target,
		}}
	}
}

// saidError is the error that a client reported, with the details that every error needs (azureml-v1.md §25).
func saidError(b json.RawMessage) api.Object {
	if len(b) == 0 {
		return nil
	}
	e := api.AsObject(b)
	if inner := e.Child("error"); len(inner) > 0 {
		e = inner
	}
	e.Fill("code", "UserError")
	e.Fill("details", []any{})
	return e
}

// target is the compute that a run is on, by the name that its client used.
func target(run store.HistoryRun) string {
	if run.Record.Target != "" || run.Job == nil {
		return run.Record.Target
	}
	var doc struct {
		ComputeID string `json:"computeId"`
	}
	_ = json.Unmarshal(run.Job.Doc, &doc) // without it there is no name
	if name := doc.ComputeID[lastSlash(doc.ComputeID)+1:]; name != "" {
		return name
	}
	return run.Job.ComputeName
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}

// outputs names the job's outputs. All are of a data type, models too: the client then resolves them by the one service
// that this server has for it.
func outputs(run store.HistoryRun) map[string]any {
	out := map[string]any{}
	if run.Job == nil {
		return out
	}
	var spec workspace.JobSpec
	if json.Unmarshal(run.Job.Spec, &spec) != nil {
		return out
	}
	for _, o := range spec.Outputs {
		kind := "uri_file"
		if o.Folder {
			kind = "uri_folder"
		}
		out[o.Name] = map[string]string{"assetId": "azureml://jobs/" + run.Job.Name + "/outputs/" + o.Name, "type": kind}
	}
	return out
}

// warnings are what clients said, and why a job waits; they are printed at the end of a stream.
func warnings(run store.HistoryRun) []store.RunWarning {
	list := append([]store.RunWarning{}, run.Record.Warnings...)
	if j := run.Job; j != nil && j.Reason != nil && !j.State.Terminal() {
		list = append(list, store.RunWarning{Source: "moorage", Message: j.Reason.Error()})
	}
	return list
}

// shown is the status of a run. The older clients, which name a run's experiment, take Finalizing for an end
// (azureml-v1.md §6.2): to them a job that is bringing its outputs home is running.
func shown(r *http.Request, run store.HistoryRun) workspace.State {
	state := workspace.State(run.State())
	if state == workspace.Finalizing && r.PathValue("experiment") != "" {
		return workspace.Running
	}
	return state
}
