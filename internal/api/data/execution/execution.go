// Package execution serves Azure's execution service to azureml-core: runs that are submitted to a compute, and runs that the
// client starts on its own computer (azureml-v1.md §6.1, §10).
package execution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Runs is what the routes call; package control has it.
type Runs interface {
	SubmitRun(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, r control.ScriptRun) (job store.Job, created bool, err error)
	LocalRun(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, r control.ScriptRun, way control.LocalWay) ([]byte, error)
	RegisterRunOutputs(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error
}

// Auth signs what a run on the client's computer is handed; package authn has it.
type Auth interface {
	Sign(s authn.Signature) string
	RunToken(workspaceID, run string) (token workspace.Secret, expires time.Time)
}

type handlers struct {
	runs  Runs
	auth  Auth
	clock clock.Source
}

// Routes is execution's part of the route table. A job's credential starts no runs, which is said in words of its own because
// submit_child is documented. The last route is ours, for the program that moves a run on the client's computer.
func Routes(runs Runs, auth Auth, c clock.Source) []api.Route {
	h := handlers{runs, auth, c}
	base, write := "/execution/v1.0"+api.WorkspacePath+"/experiments/{experiment}", api.ActionWorkspaces+"experiments/runs/submit/action"
	table := []api.Route{
		{Method: "POST", Pattern: base + "/snapshotrun", Action: write, Job: api.JobHandler, Handler: people(h.submit)},
		{Method: "POST", Pattern: base + "/localrun", Action: write, Job: api.JobHandler, Handler: people(h.local)},
		{Method: "POST", Pattern: base + "/startrun", Action: write, Job: api.JobHandler, Handler: people(h.zipped)},
		{Method: "POST", Pattern: base + "/runs/{run}/outputs", Action: api.ActionWorkspaces + "experiments/runs/write", Job: api.JobVariable("run"), Handler: h.outputs},
	}
	for i := range table {
		table[i].Dialect = api.DataPlane{}
	}
	return table
}

// people keeps a handler from the credentials of jobs: what a job submits could run anywhere in the workspace, and read and
// write all data there.
func people(submit api.Handler) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if p := api.PrincipalOf(r); p.Job != "" {
			return &workspace.Problem{
				Class: workspace.Denied, Code: "JobsSubmitNoRuns", Target: p.Name, Message: "a job cannot submit further runs",
				Cause: "the credential of " + p.Name + " reaches its own run and those below it, and no compute",
				Mend:  "do the work in the job and log it with run.child_run() or create_children(), or submit from outside, with the run as the parent: Run.get(ws, id).submit_child(config)",
			}
		}
		return submit(w, r)
	}
}

// submission is what the client sends of a run. Its id is the client's too, and comes in the query.
type submission struct {
	Configuration json.RawMessage
	SnapshotID    string `json:"SnapshotId"`
	ParentRunID   string `json:"ParentRunId"`
}

func (s submission) run(r *http.Request) control.ScriptRun {
	return control.ScriptRun{Experiment: r.PathValue("experiment"), Parent: s.ParentRunID, Snapshot: s.SnapshotID, Definition: s.Configuration}
}

// submit takes a run for a compute. The same id again is the same run: the client repeats what it got no answer to.
func (h handlers) submit(w http.ResponseWriter, r *http.Request) error {
	var s submission
	if err := api.DecodeJSON(r, &s); err != nil {
		return err
	}
	job, _, err := h.runs.SubmitRun(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.URL.Query().Get("runId"), s.run(r))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"runId": job.Name})
}

// signTime is for how long what is signed for a run on the client's computer is good: its script may take long.
const signTime = 31 * 24 * time.Hour

// local answers with the zip file that the client unpacks over a copy of the project and starts.
func (h handlers) local(w http.ResponseWriter, r *http.Request) error {
	s, err := readDefinition(r)
	if err != nil {
		return err
	}
	ws, name, run := api.WorkspaceOf(r), r.URL.Query().Get("runId"), s.run(r)
	way := control.LocalWay{
		Service: api.BaseURL(r), ExperimentID: authn.UUID(ws.ID, "experiment", run.Experiment),
		Sign: func(container, blob, verbs string) string {
			return h.auth.Sign(authn.Signature{Container: container, Blob: blob, Verbs: verbs, Expires: h.clock.Now().Add(signTime)})
		},
	}
	way.Token, way.Expires = h.auth.RunToken(ws.ID, name)
	file, err := h.runs.LocalRun(r.Context(), api.PrincipalOf(r), ws, name, run, way)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(file)
	return err
}

// readDefinition reads the part definition.json of a form. The other part is the client's folder of configurations, which the
// definition holds already.
func readDefinition(r *http.Request) (s submission, err error) {
	unread := func(cause string) error {
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidForm", Message: "the run's definition cannot be read", Cause: cause, Mend: "send a form with a file definition.json, as azureml-core does",
		}
	}
	form, err := r.MultipartReader()
	if err != nil {
		return s, unread(err.Error())
	}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return s, unread("the form has no such file")
		}
		if err != nil {
			return s, fmt.Errorf("execution: form: %w", err)
		}
		if part.FileName() != "definition.json" {
			continue
		}
		b, err := io.ReadAll(part)
		if err != nil {
			return s, fmt.Errorf("execution: form: %w", err)
		}
		return s, api.Decode(b, &s)
	}
}

// outputs registers what a run that has ended well wrote for it.
func (h handlers) outputs(w http.ResponseWriter, r *http.Request) error {
	if err := h.runs.RegisterRunOutputs(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("run")); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{})
}

// zipped is how the client submits when it was told by a variable to send all at once.
func (h handlers) zipped(http.ResponseWriter, *http.Request) error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedZip", Message: "runs are not submitted as one zip file here", Mend: "unset AML_FORCE_EXECUTE_WITH_ZIP",
	}
}
