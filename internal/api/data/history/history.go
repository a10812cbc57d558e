// Package history serves Azure's run history: experiments, and the runs in them with what their clients say and ask of
// them (azureml-v1.md §6, azureml-v2.md §10). A run may be a job's, MLflow's or a client's own; package tracking keeps
// them all as one thing, and package control adds what only a job has. Package api/all puts the routes into the router.
package history

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Jobs is what of package control the routes call.
type Jobs interface {
	Job(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (store.Job, error)
	CancelJob(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error
	JobLog(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, stream string, from int64, follow bool, w io.Writer) (int64, error)
}

// Tokens makes the credentials of runs; package authn has it.
type Tokens interface {
	Sign(s authn.Signature) string
	JobToken(jobID string, attempt int) (workspace.Secret, time.Time)
	RunToken(workspaceID, run string) (workspace.Secret, time.Time)
	Tenant() string
}

// Config is what the handlers need.
type Config struct {
	Jobs     Jobs
	Tracking *tracking.Tracking
	Tokens   Tokens
	Clock    clock.Source
}

type handlers struct{ Config }

// The rights, in ARM's words.
const (
	readExperiments   = api.ActionWorkspaces + "experiments/read"
	writeExperiments  = api.ActionWorkspaces + "experiments/write"
	deleteExperiments = api.ActionWorkspaces + "experiments/delete"
	readRuns          = api.ActionWorkspaces + "experiments/runs/read"
	writeRuns         = api.ActionWorkspaces + "experiments/runs/write"
)

// Routes is history's part of the route table.
func Routes(cfg Config) []api.Route {
	h := handlers{cfg}
	base := "/history/v1.0" + api.WorkspacePath
	table := h.experiments(base)
	// The same run is named alone, by its experiment's name, or by its experiment's id (azureml-v1.md §6.1).
	for _, under := range []string{"", "/experiments/{experiment}", "/experimentids/{experiment}"} {
		table = append(table, h.runs(base+under+"/runs/{run}")...)
		table = append(table,
			api.Route{Method: "PATCH", Pattern: base + under + "/batch/runs", Action: writeRuns, Handler: h.patchBatch},
			api.Route{Method: "POST", Pattern: base + under + "/batch/events", Action: writeRuns, Handler: h.eventBatch},
		)
	}
	table = append(table,
		api.Route{Method: "GET", Pattern: base + "/computes/{compute}/runs", Action: readRuns, Handler: h.onCompute},
		api.Route{Method: "POST", Pattern: base + "/rundata", Action: readRuns, Handler: h.data},
		api.Route{Method: "GET", Pattern: base + "/runs/{run}/logs/{file}", Action: readRuns, Job: api.JobVariable("run"), Stream: true, Signed: logGrant, Handler: h.log},
	)
	for i := range table {
		table[i].Dialect = api.DataPlane{}
		if table[i].Job == api.JobNone && table[i].Action != cancelJobs {
			table[i].Job = api.JobHandler // by tracking.Scope: the job's own run, and those below it
		}
	}
	return table
}

const cancelJobs = api.ActionWorkspaces + "jobs/cancel/action"

// runs are the routes of one run.
func (h handlers) runs(run string) []api.Route {
	return []api.Route{
		{Method: "GET", Pattern: run, Action: readRuns, Handler: h.get},
		{Method: "PATCH", Pattern: run, Action: writeRuns, Handler: h.patch},
		{Method: "GET", Pattern: run + "/details", Action: readRuns, Handler: h.details},
		{Method: "GET", Pattern: run + "/children", Action: readRuns, Handler: h.children},
		{Method: "POST", Pattern: run + "/events", Action: writeRuns, Handler: h.event},
		{Method: "DELETE", Pattern: run + "/tags", Action: writeRuns, Handler: h.deleteTags},
		{Method: "GET", Pattern: run + "/token", Action: readRuns, Handler: h.token}, // azureml-core gets it, other clients post
		{Method: "POST", Pattern: run + "/token", Action: writeRuns, Handler: h.token},
		{Method: "GET", Pattern: run + "/metricsingest/wait", Action: readRuns, Handler: h.waitForMetrics},
		{Method: "POST", Pattern: run + "/cancel", Action: cancelJobs, Handler: h.cancel},
	}
}

// experiments are the routes of experiments and of what is in them.
func (h handlers) experiments(base string) []api.Route {
	table := []api.Route{
		{Method: "POST", Pattern: base + "/experiments:query", Action: readExperiments, Handler: h.listExperiments},
		{Method: "POST", Pattern: base + "/experiments/{experiment}", Action: writeExperiments, Handler: h.createExperiment},
		{Method: "POST", Pattern: base + "/experimentids/{experiment}/tags:delete", Action: writeExperiments, Handler: h.untagExperiment},
		{Method: "DELETE", Pattern: base + "/experimentids/{experiment}", Action: deleteExperiments, Handler: h.deleteExperiment},
	}
	for _, under := range []string{"/experiments/{experiment}", "/experimentids/{experiment}"} {
		e := base + under
		table = append(table,
			api.Route{Method: "GET", Pattern: e, Action: readExperiments, Handler: h.getExperiment},
			api.Route{Method: "PATCH", Pattern: e, Action: writeExperiments, Handler: h.patchExperiment},
			api.Route{Method: "GET", Pattern: e + "/runs", Action: readRuns, Handler: h.listRuns},
			api.Route{Method: "POST", Pattern: e + "/runs:query", Action: readRuns, Handler: h.queryRuns},
			api.Route{Method: "POST", Pattern: e + "/metrics:query", Action: readRuns, Handler: h.queryMetrics},
		)
	}
	return table
}

// scope is what the caller may see here.
func (h handlers) scope(r *http.Request) (tracking.Scope, error) {
	return h.Tracking.Scope(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r).ID, "")
}

// run is the run that the path names, and its job whole if it has one.
func (h handlers) run(r *http.Request, id string) (store.HistoryRun, error) {
	s, err := h.scope(r)
	if err != nil {
		return store.HistoryRun{}, err
	}
	run, err := h.Tracking.HistoryRun(r.Context(), s, id)
	if err != nil {
		return run, err
	}
	return run, h.wholeJob(r, &run)
}

// wholeJob adds what the row of a run's job does not have: its specification, and why it waits.
func (h handlers) wholeJob(r *http.Request, run *store.HistoryRun) error {
	if run.Job == nil {
		return nil
	}
	job, err := h.Jobs.Job(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), run.ID)
	run.Job = &job
	return err
}
