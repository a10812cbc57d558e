// Package mlflow is MLflow's REST API, tracking and artifacts, as its own client speaks it (mlflow.md §1–§6). It decodes,
// calls package tracking, and encodes. The same table is mounted for the default workspace and, by its ARM path, for every
// workspace, where Microsoft's MLflow plug-in looks for it. Package api/all puts the table into the router.
package mlflow

import (
	"context"
	"net/http"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is what the handlers need.
type Config struct {
	Tracking *tracking.Tracking
	// Default gives the workspace that is meant where the path names none.
	Default func(ctx context.Context) (workspace.Workspace, error)
}

type handlers struct{ Config }

// Version is the version of MLflow whose API this is.
const Version = "3.17.2"

// The places where the API is mounted.
var mounts = []string{"/mlflow", "/mlflow/v1.0" + api.WorkspacePath, "/mlflow/v2.0" + api.WorkspacePath}

// The roots below each mount; browsers use the second.
var roots = []string{"/api/2.0", "/ajax-api/2.0"}

// proxy is where artifacts are, below a root.
const proxy = "/mlflow-artifacts/artifacts"

// Routes is the route table of this API.
func Routes(cfg Config) []api.Route {
	h := &handlers{cfg}
	var table []api.Route
	for _, m := range mounts {
		for _, root := range roots {
			for _, r := range h.tracking() {
				r.Pattern, r.Job, r.Dialect = m+root+r.Pattern, api.JobHandler, Dialect{}
				table = append(table, r)
			}
		}
		for _, r := range h.side() {
			r.Pattern, r.Dialect = m+r.Pattern, Dialect{}
			table = append(table, r)
		}
	}
	return table
}

// The rights, in ARM's words.
const (
	readExperiments   = api.ActionWorkspaces + "experiments/read"
	writeExperiments  = api.ActionWorkspaces + "experiments/write"
	deleteExperiments = api.ActionWorkspaces + "experiments/delete"
	readRuns          = api.ActionWorkspaces + "experiments/runs/read"
	writeRuns         = api.ActionWorkspaces + "experiments/runs/write"
	deleteRuns        = api.ActionWorkspaces + "experiments/runs/delete"
	readArtifacts     = api.ActionWorkspaces + "artifacts/read"
	writeArtifacts    = api.ActionWorkspaces + "artifacts/write"
	deleteArtifacts   = api.ActionWorkspaces + "artifacts/delete"
)

// The limits of JSON bodies, in bytes. MLflow's own limit is for log-batch; the datasets' is above what their fields allow
// in one dataset.
const (
	smallBody = 2 << 20
	batchBody = 1 << 20
	inputBody = 32 << 20
)

func (h *handlers) tracking() []api.Route {
	get, post := http.MethodGet, http.MethodPost
	return []api.Route{
		{Method: post, Pattern: "/mlflow/experiments/create", Action: writeExperiments, Handler: handle(h, smallBody, h.createExperiment)},
		{Method: get, Pattern: "/mlflow/experiments/get", Action: readExperiments, Handler: handle(h, smallBody, h.getExperiment)},
		{Method: get, Pattern: "/mlflow/experiments/get-by-name", Action: readExperiments, Handler: handle(h, smallBody, h.getExperimentByName)},
		{Method: post, Pattern: "/mlflow/experiments/search", Action: readExperiments, Handler: handle(h, smallBody, h.searchExperiments)},
		{Method: get, Pattern: "/mlflow/experiments/search", Action: readExperiments, Handler: handle(h, smallBody, h.searchExperiments)},
		{Method: post, Pattern: "/mlflow/experiments/update", Action: writeExperiments, Handler: handle(h, smallBody, h.updateExperiment)},
		{Method: post, Pattern: "/mlflow/experiments/delete", Action: deleteExperiments, Handler: handle(h, smallBody, h.deleteExperiment)},
		{Method: post, Pattern: "/mlflow/experiments/restore", Action: writeExperiments, Handler: handle(h, smallBody, h.restoreExperiment)},
		{Method: post, Pattern: "/mlflow/experiments/set-experiment-tag", Action: writeExperiments, Handler: handle(h, smallBody, h.setExperimentTag)},
		{Method: post, Pattern: "/mlflow/experiments/delete-experiment-tag", Action: writeExperiments, Handler: handle(h, smallBody, h.deleteExperimentTag)},
		{Method: post, Pattern: "/mlflow/experiments/search-datasets", Action: readExperiments, Handler: handle(h, smallBody, h.searchDatasets)},

		{Method: post, Pattern: "/mlflow/runs/create", Action: writeRuns, Handler: handle(h, smallBody, h.createRun)},
		{Method: get, Pattern: "/mlflow/runs/get", Action: readRuns, Handler: handle(h, smallBody, h.getRun)},
		{Method: post, Pattern: "/mlflow/runs/update", Action: writeRuns, Handler: handle(h, smallBody, h.updateRun)},
		{Method: post, Pattern: "/mlflow/runs/delete", Action: deleteRuns, Handler: handle(h, smallBody, h.deleteRun)},
		{Method: post, Pattern: "/mlflow/runs/restore", Action: writeRuns, Handler: handle(h, smallBody, h.restoreRun)},
		{Method: post, Pattern: "/mlflow/runs/search", Action: readRuns, Stream: true, Handler: h.searchRuns},
		{Method: post, Pattern: "/mlflow/runs/log-metric", Action: writeRuns, Handler: handle(h, smallBody, h.logMetric)},
		{Method: post, Pattern: "/mlflow/runs/log-parameter", Action: writeRuns, Handler: handle(h, smallBody, h.logParam)},
		{Method: post, Pattern: "/mlflow/runs/log-batch", Action: writeRuns, Handler: handle(h, batchBody, h.logBatch)},
		{Method: post, Pattern: "/mlflow/runs/set-tag", Action: writeRuns, Handler: handle(h, smallBody, h.setTag)},
		{Method: post, Pattern: "/mlflow/runs/delete-tag", Action: writeRuns, Handler: handle(h, smallBody, h.deleteTag)},
		{Method: post, Pattern: "/mlflow/runs/log-inputs", Action: writeRuns, Handler: handle(h, inputBody, h.logInputs)},
		{Method: post, Pattern: "/mlflow/runs/outputs", Action: writeRuns, Handler: handle(h, smallBody, h.logOutputs)},
		{Method: post, Pattern: "/mlflow/runs/log-model", Action: writeRuns, Handler: handle(h, smallBody, h.logModel)},

		{Method: get, Pattern: "/mlflow/metrics/get-history", Action: readRuns, Handler: handle(h, smallBody, h.getHistory)},
		{Method: get, Pattern: "/mlflow/metrics/get-history-bulk-interval", Action: readRuns, Handler: handle(h, smallBody, h.getHistoryBulk)},
		{Method: get, Pattern: "/mlflow/artifacts/list", Action: readArtifacts, Handler: handle(h, smallBody, h.listArtifacts)},

		{Method: post, Pattern: "/mlflow/logged-models/search", Action: readRuns, Handler: handle(h, smallBody, h.searchLoggedModels)},

		{Method: get, Pattern: proxy, Action: readArtifacts, Handler: handle(h, smallBody, h.listFolder)},
		{Method: get, Pattern: proxy + "/{path...}", Action: readArtifacts, Stream: true, Handler: h.getArtifact},
		{Method: http.MethodPut, Pattern: proxy + "/{path...}", Action: writeArtifacts, Stream: true, Handler: h.putArtifact},
		{Method: http.MethodDelete, Pattern: proxy + "/{path...}", Action: deleteArtifacts, Handler: h.deleteArtifact},
		{Method: post, Pattern: "/mlflow-artifacts/mpu/create/{path...}", Action: writeArtifacts, Handler: noMultipart},
		{Method: post, Pattern: "/mlflow-artifacts/mpu/complete/{path...}", Action: writeArtifacts, Handler: noMultipart},
		{Method: post, Pattern: "/mlflow-artifacts/mpu/abort/{path...}", Action: writeArtifacts, Handler: noMultipart},
		{Method: get, Pattern: "/mlflow-artifacts/presigned/{path...}", Action: readArtifacts, Handler: noMultipart},
	}
}

// side is what lies beside the API's root: nothing in it is anybody's.
func (h *handlers) side() []api.Route {
	return []api.Route{
		{Method: http.MethodGet, Pattern: "/health", Public: "says that the server answers", Handler: text("OK")},
		{Method: http.MethodGet, Pattern: "/version", Public: "names the version of the API", Handler: text(Version)},
		{Method: http.MethodGet, Pattern: "/api/3.0/mlflow/server-info", Public: "names the abilities of the API", Handler: serverInfo},
	}
}

func text(s string) api.Handler {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err := w.Write([]byte(s))
		return err
	}
}

// serverInfo says what the client may use; a multipart flag becomes true when its calls are served.
func serverInfo(w http.ResponseWriter, _ *http.Request) error {
	return api.WriteJSON(w, http.StatusOK, map[string]any{
		"store_type": "SqlStore", "workspaces_enabled": false, "trace_archival_enabled": false,
		"multipart_uploads_enabled": false, "multipart_downloads_enabled": false,
		"presigned_upload_run_id_supported": false, "presigned_upload_model_id_supported": false,
		"features_enabled": map[string]any{},
	})
}

// scope is what the caller may see here, and how it reaches the server.
func (h *handlers) scope(r *http.Request) (tracking.Scope, error) {
	p, ws := api.PrincipalOf(r), api.WorkspaceOf(r).ID
	if ws == "" {
		ws = p.Workspace
	}
	if ws == "" {
		d, err := h.Default(r.Context())
		if err != nil {
			return tracking.Scope{}, err
		}
		ws = d.ID
	}
	return h.Tracking.Scope(r.Context(), p, ws, artifactBase(r))
}

// artifactBase begins the URLs of artifacts: absolute, because Microsoft's plug-in and MLflow's own client both take
// that (mlflow.md §6), and by the host that the client used, because in a job that is the way back.
func artifactBase(r *http.Request) string {
	path := r.URL.EscapedPath()
	for _, root := range roots {
		if mount, _, found := strings.Cut(path, root+"/"); found {
			return api.BaseURL(r) + mount + roots[0] + proxy + "/"
		}
	}
	return api.BaseURL(r) + mounts[0] + roots[0] + proxy + "/"
}
