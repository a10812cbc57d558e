package arm

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Jobs is what the routes of jobs call; package control has it.
type Jobs interface {
	SubmitJob(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, properties json.RawMessage) (job store.Job, created bool, err error)
	DescribeJob(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, d control.JobDescription) (store.Job, error)
	Job(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (store.Job, error)
	Jobs(ctx context.Context, p workspace.Principal, ws workspace.Workspace, f store.JobFilter, page store.Page) ([]store.Job, error)
	CancelJob(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error
}

func (h handlers) jobRoutes() []api.Route {
	one := ws("/jobs/{name}")
	return []api.Route{
		{Method: "GET", Pattern: ws("/jobs"), Action: act("jobs/read"), Handler: h.listJobs},
		{Method: "GET", Pattern: one, Action: act("jobs/read"), Job: api.JobVariable("name"), Handler: h.getJob},
		{Method: "PUT", Pattern: one, Action: act("jobs/write"), Handler: h.putJob},
		{Method: "PATCH", Pattern: one, Action: act("jobs/write"), Handler: h.patchJob},
		{Method: "DELETE", Pattern: one, Action: act("jobs/delete"), Handler: h.deleteJob},
		{Method: "POST", Pattern: one + "/cancel", Action: act("jobs/cancel/action"), Handler: h.cancelJob},
		{Method: "GET", Pattern: one + "/cancelOperation", Action: act("jobs/read"), Handler: h.cancelOperation},
	}
}

// putJob submits, or, for a job that is there, changes what may change: its names, tags and place in the archive.
func (h handlers) putJob(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadObject(r)
	if err != nil {
		return err
	}
	properties := body.Child("properties")
	p, ws, name := api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name")
	job, created, err := h.Jobs.SubmitJob(r.Context(), p, ws, name, properties.JSON())
	if err != nil {
		return err
	}
	status := http.StatusCreated
	if !created {
		status = http.StatusOK
		if job, err = h.Jobs.DescribeJob(r.Context(), p, ws, name, description(properties)); err != nil {
			return err
		}
	}
	return api.WriteJSON(w, status, jobView(r, job))
}

func (h handlers) patchJob(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadObject(r)
	if err != nil {
		return err
	}
	job, err := h.Jobs.DescribeJob(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"), description(body.Child("properties")))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, jobView(r, job))
}

// description reads what may change of a job that is there.
func description(properties api.Object) control.JobDescription {
	var d control.JobDescription
	if properties.Has("displayName") {
		name := properties.Text("displayName")
		d.DisplayName = &name
	}
	if properties.Has("tags") {
		d.Tags = texts(properties["tags"])
	}
	if properties.Has("properties") {
		d.Properties = texts(properties["properties"])
	}
	if properties.Has("isArchived") {
		archived := string(properties["isArchived"]) == "true"
		d.Archived = &archived
	}
	return d
}

// texts reads an object of texts; other values are written as JSON writes them, and null as "".
func texts(b json.RawMessage) map[string]string {
	out := map[string]string{}
	for k, v := range api.AsObject(b) {
		var s string
		if json.Unmarshal(v, &s) != nil {
			s = string(v)
		}
		out[k] = s
	}
	return out
}

func (h handlers) getJob(w http.ResponseWriter, r *http.Request) error {
	job, err := h.Jobs.Job(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, jobView(r, job))
}

func (h handlers) listJobs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	n := pageSize(q, 100)
	f := store.JobFilter{WithBody: true, Experiment: q.Get("experimentName"), JobType: q.Get("jobType")}
	switch {
	case same(q.Get("listViewType"), "All"):
		f.IncludeArchived = true
	case same(q.Get("listViewType"), "ArchivedOnly"):
		f.OnlyArchived = true
	}
	rows, err := h.Jobs.Jobs(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), f, store.Page{After: q.Get("$skip"), Limit: min(n+1, 1000)})
	if err != nil {
		return err
	}
	rows, more := cut(rows, min(n, 999))
	next := ""
	if more {
		next = rows[len(rows)-1].ID
	}
	views := make([]api.Object, len(rows))
	for i, row := range rows {
		views[i] = jobView(r, row)
	}
	return list(w, r, views, next)
}

// jobView is the document with what the server knows laid over.
func jobView(r *http.Request, job store.Job) api.Object {
	place := api.WorkspaceOf(r)
	p := api.AsObject(job.Doc)
	withoutNulls(p)
	p.Set("jobType", job.JobType)
	p.Set("status", string(job.State))
	p.Set("displayName", job.DisplayName)
	p.Set("experimentName", job.Experiment)
	p.Set("tags", texts(job.Tags))
	properties := texts(job.Properties)
	if job.Reason != nil && !job.State.Terminal() {
		properties["moorage.reason"] = job.Reason.Error()
	}
	p.Set("properties", properties)
	p.Set("isArchived", job.Archived)
	if !p.Has("computeId") && !isLocal(p) && job.ComputeName != "" {
		p.Set("computeId", place.Path()+"/computes/"+job.ComputeName)
	}
	p.Set("services", map[string]map[string]string{
		"Tracking": {"jobServiceType": "Tracking", "endpoint": "azureml://" + r.Host + "/mlflow/v1.0" + place.Path() + "?"},
		// The client appends "&tid=…" and no '?' of its own (azureml-v2.md §9).
		"Studio": {"jobServiceType": "Studio", "endpoint": api.BaseURL(r) + "/ui/jobs/" + job.Name + "?wsid=" + place.Path()},
	})
	if outputs := p.Child("outputs"); outputs.Has("default") { // it sends clients down the wrong log path (azureml-v2.md §10)
		delete(outputs, "default")
		p.Set("outputs", outputs)
	}
	doc := api.Object{}
	doc.Set("properties", p)
	doc.Set("systemData", systemData(job.Created, job.Created, job.CreatedBy, ""))
	return envelope(doc, place.Path()+"/jobs/"+job.Name, job.Name, "/jobs")
}

// isLocal tells whether the client asked for compute="local", which it recognises by the absence of computeId.
func isLocal(properties api.Object) bool {
	for name := range properties.Child("resources").Child("properties") {
		if same(name, "IsLocal") {
			return true
		}
	}
	return false
}

// cancelJob wishes the end of a job. The place to ask is the job's own.
func (h handlers) cancelJob(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if err := h.Jobs.CancelJob(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), name); err != nil {
		return err
	}
	w.Header().Set("Location", api.BaseURL(r)+api.WorkspaceOf(r).Path()+"/jobs/"+name+"/cancelOperation")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// cancelOperation is 202 until the job is over, as ARM's operations by Location are.
func (h handlers) cancelOperation(w http.ResponseWriter, r *http.Request) error {
	job, err := h.Jobs.Job(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	if job.State.Terminal() {
		return api.WriteJSON(w, http.StatusOK, map[string]any{})
	}
	w.Header().Set("Location", api.BaseURL(r)+api.WorkspaceOf(r).Path()+"/jobs/"+job.Name+"/cancelOperation")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// deleteJob archives: the record of a job is kept, and its name stays taken.
func (h handlers) deleteJob(w http.ResponseWriter, r *http.Request) error {
	archived := true
	_, err := h.Jobs.DescribeJob(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"), control.JobDescription{Archived: &archived})
	if err != nil && api.ProblemOf(r, err).Class == workspace.NotFound {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
