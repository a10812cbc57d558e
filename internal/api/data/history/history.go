// Package history serves Azure's run history, as far as azure-ai-ml asks it: how a run is, where its log is, what it
// brought home, and changes of its names and tags (azureml-v2.md §10). Runs are jobs here; what MLflow logs is served
// by its own dialect.
package history

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Jobs is what the routes call; package control has it.
type Jobs interface {
	Job(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (store.Job, error)
	Jobs(ctx context.Context, p workspace.Principal, ws workspace.Workspace, f store.JobFilter, page store.Page) ([]store.Job, error)
	DescribeJob(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, d control.JobDescription) (store.Job, error)
	JobLog(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, stream string, from int64, follow bool, w io.Writer) (int64, error)
	Compute(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (store.Compute, error)
}

type handlers struct {
	jobs  Jobs
	sign  func(authn.Signature) string
	clock clock.Source
}

// Routes is history's part of the route table.
func Routes(jobs Jobs, sign func(authn.Signature) string, c clock.Source) []api.Route {
	h := handlers{jobs, sign, c}
	base := "/history/v1.0" + api.WorkspacePath
	read, write := api.ActionWorkspaces+"jobs/read", api.ActionWorkspaces+"experiments/runs/write"
	var table []api.Route
	// The same run is named alone, by its experiment's name, or by its experiment's id.
	for _, under := range []string{"", "/experiments/{experiment}", "/experimentids/{experiment}"} {
		run := base + under + "/runs/{run}"
		table = append(table,
			api.Route{Method: "GET", Pattern: run, Action: read, Job: api.JobVariable("run"), Handler: h.get},
			api.Route{Method: "PATCH", Pattern: run, Action: write, Job: api.JobVariable("run"), Handler: h.patch},
			api.Route{Method: "GET", Pattern: run + "/details", Action: read, Job: api.JobVariable("run"), Handler: h.details},
			api.Route{Method: "GET", Pattern: run + "/children", Action: read, Job: api.JobVariable("run"), Handler: h.children},
		)
	}
	table = append(table,
		api.Route{Method: "POST", Pattern: base + "/rundata", Action: read, Job: api.JobHandler, Handler: h.data},
		api.Route{Method: "GET", Pattern: base + "/runs/{run}/logs/{file}", Action: read, Job: api.JobVariable("run"), Stream: true, Signed: logGrant, Handler: h.log},
	)
	for i := range table {
		table[i].Dialect = api.ARM{}
	}
	return table
}

// logTime is how long the signed URL of a log is good for. Clients ask for a new one with every look at the run.
const logTime = time.Hour

// logName is the one name that the client streams (azureml-v2.md §10).
const logName = "std_log.txt"

func logGrant(r *http.Request) api.Grant {
	return logOf(r.PathValue("sub")+"/"+r.PathValue("rg")+"/"+r.PathValue("ws"), r.PathValue("run"))
}

func logOf(ws, run string) api.Grant {
	return api.Grant{Container: "log of " + ws, Blob: run, Verb: "r"}
}

func (h handlers) logURL(r *http.Request, job store.Job) string {
	ws := api.WorkspaceOf(r)
	g := logOf(ws.Subscription+"/"+ws.ResourceGroup+"/"+ws.Name, job.Name)
	query := h.sign(authn.Signature{Container: g.Container, Blob: g.Blob, Verbs: g.Verb, Expires: h.clock.Now().Add(logTime)})
	return api.BaseURL(r) + "/history/v1.0" + ws.Path() + "/runs/" + url.PathEscape(job.Name) + "/logs/" + logName + "?" + query
}

func (h handlers) job(r *http.Request, name string) (store.Job, error) {
	return h.jobs.Job(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), name)
}

func (h handlers) get(w http.ResponseWriter, r *http.Request) error {
	job, err := h.job(r, r.PathValue("run"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, runView(r, job))
}

// runView is a run as the history shows it. Empty objects are there because the client breaks without them.
func runView(r *http.Request, job store.Job) map[string]any {
	ws := api.WorkspaceOf(r)
	v := map[string]any{
		"runId": job.Name, "runUuid": authn.UUID(job.ID), "rootRunId": job.Name, "experimentId": authn.UUID(ws.ID, "experiment", job.Experiment),
		"displayName": job.DisplayName, "status": string(job.State), "runType": "azureml.scriptrun", "createdUtc": moment(job.Created),
		"createdBy":  map[string]string{"userName": job.CreatedBy, "userObjectId": authn.UUID(ws.ID, job.CreatedBy)},
		"userId":     authn.UUID(ws.ID, job.CreatedBy),
		"properties": object(job.Properties), "tags": object(job.Tags), "inputs": map[string]any{}, "outputs": outputs(job), "warnings": []any{},
	}
	if job.Started > 0 {
		v["startTimeUtc"] = moment(job.Started)
	}
	if job.Ended > 0 {
		v["endTimeUtc"] = moment(job.Ended)
	}
	if job.Error != nil && job.State == workspace.Failed {
		v["error"] = map[string]any{"error": errorOf(job)}
	}
	return v
}

// errorOf is a failed job's error. Its message holds cause and mend, which the client shows.
func errorOf(job store.Job) map[string]any {
	return map[string]any{"code": job.Error.Code, "message": job.Error.Error(), "messageParameters": map[string]string{}, "details": []any{}, "target": job.Error.Target}
}

func moment(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000000Z") }

func object(b json.RawMessage) map[string]any {
	var o map[string]any
	if json.Unmarshal(b, &o) != nil || o == nil {
		return map[string]any{}
	}
	return o
}

// outputs names the job's outputs. All are of a data type, models too: the client then resolves them by the one service
// that this server has for it.
func outputs(job store.Job) map[string]any {
	out := map[string]any{}
	var spec workspace.JobSpec
	if json.Unmarshal(job.Spec, &spec) != nil {
		return out
	}
	for _, o := range spec.Outputs {
		kind := "uri_file"
		if o.Folder {
			kind = "uri_folder"
		}
		out[o.Name] = map[string]string{"assetId": "azureml://jobs/" + job.Name + "/outputs/" + o.Name, "type": kind}
	}
	return out
}

func (h handlers) details(w http.ResponseWriter, r *http.Request) error {
	job, err := h.job(r, r.PathValue("run"))
	if err != nil {
		return err
	}
	v := map[string]any{
		"runId": job.Name, "target": h.target(r, job), "status": string(h.shown(job)), "services": map[string]any{}, "properties": object(job.Properties),
		"inputDatasets": []any{}, "outputDatasets": []any{}, "runDefinition": map[string]any{}, "warnings": warnings(job), "submittedBy": job.CreatedBy,
		"logFiles": map[string]string{"user_logs/" + logName: h.logURL(r, job)},
	}
	if job.Started > 0 {
		v["startTimeUtc"] = moment(job.Started)
	}
	if job.Ended > 0 {
		v["endTimeUtc"] = moment(job.Ended)
	}
	if job.Error != nil && job.State == workspace.Failed {
		v["error"] = map[string]any{"error": errorOf(job)}
	}
	return api.WriteJSON(w, http.StatusOK, v)
}

// settling is for how long a run that ended is shown as Finalizing. The client prints a log only after it saw the run
// in progress once, and looks again after two seconds: without this the log of a job that takes less is never seen.
const settling = 1500 * time.Millisecond

func (h handlers) shown(job store.Job) workspace.State {
	if job.State.Terminal() && h.clock.Millis()-job.Ended < settling.Milliseconds() {
		return workspace.Finalizing
	}
	return job.State
}

// target is the compute that the job named, or nothing for the default one.
func (h handlers) target(r *http.Request, job store.Job) string {
	var doc struct {
		ComputeID string `json:"computeId"`
	}
	_ = json.Unmarshal(job.Doc, &doc) // without it there is no name
	for i := len(doc.ComputeID) - 1; i >= 0; i-- {
		if doc.ComputeID[i] == '/' {
			return doc.ComputeID[i+1:]
		}
	}
	return doc.ComputeID
}

// warnings tell why a job waits; the client prints them at the end of a stream.
func warnings(job store.Job) []map[string]string {
	list := []map[string]string{}
	if job.Reason != nil && !job.State.Terminal() {
		list = append(list, map[string]string{"source": "moorage", "message": job.Reason.Error()})
	}
	return list
}

func (h handlers) children(w http.ResponseWriter, r *http.Request) error {
	job, err := h.job(r, r.PathValue("run"))
	if err != nil {
		return err
	}
	rows, err := h.jobs.Jobs(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), store.JobFilter{ParentID: job.ID, IncludeArchived: true}, store.Page{
		After: r.URL.Query().Get("$continuationToken"), Limit: 500,
	})
	if err != nil {
		return err
	}
	views := make([]map[string]any, len(rows))
	for i, row := range rows {
		views[i] = runView(r, row)
	}
	body := map[string]any{"value": views}
	if len(rows) == 500 {
		q := r.URL.Query()
		q.Set("$continuationToken", rows[len(rows)-1].ID)
		body["nextLink"] = api.BaseURL(r) + r.URL.EscapedPath() + "?" + q.Encode()
	}
	return api.WriteJSON(w, http.StatusOK, body)
}

func (h handlers) data(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		RunID string `json:"runId"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	if err := api.OwnRun(api.PrincipalOf(r), req.RunID); err != nil {
		return err
	}
	job, err := h.job(r, req.RunID)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"runMetadata": runView(r, job), "runDefinition": map[string]any{}, "jobSpecification": map[string]any{}})
}

// patch changes names and tags; tags and properties are added to those there are. The state of a job is not its
// client's to say, so a status is passed over.
func (h handlers) patch(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		DisplayName *string        `json:"displayName"`
		Tags        map[string]any `json:"tags"`
		Properties  map[string]any `json:"properties"`
		Hidden      *bool          `json:"hidden"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	job, err := h.jobs.DescribeJob(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("run"), control.JobDescription{
		DisplayName: req.DisplayName, Tags: texts(req.Tags), Properties: texts(req.Properties), Archived: req.Hidden, Merge: true,
	})
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, runView(r, job))
}

func texts(m map[string]any) map[string]string {
	if m == nil {
		return nil
	}
	out := map[string]string{}
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
