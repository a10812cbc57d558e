// Package dataversion serves two calls of Azure's data service. azure-ai-ml needs one to download the outputs of a job:
// from the ids that the run history gave, where they lie. azureml-core asks by the other for the definition of a dataset.
package dataversion

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Jobs is what the routes call; package control has it.
type Jobs interface {
	Job(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (store.Job, error)
}

// Routes is dataversion's part of the route table.
func Routes(jobs Jobs, data Data) []api.Route {
	return append(datasetRoutes(data), api.Route{
		Method: "POST", Pattern: "/data/v1.0" + api.WorkspacePath + "/dataversion/batchGetResolvedUris", Action: api.ActionWorkspaces + "data/read",
		Dialect: api.ARM{}, Handler: func(w http.ResponseWriter, r *http.Request) error { return resolve(jobs, data, w, r) },
	})
}

var assetID = regexp.MustCompile(`^azureml://jobs/([^/]+)/outputs/([^/]+)$`)

// resolve answers those ids that it knows and leaves out the others, as the client expects.
func resolve(jobs Jobs, data Data, w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Values []string `json:"values"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	if len(req.Values) > 1000 {
		return &workspace.Problem{Class: workspace.TooLarge, Code: "TooManyValues", Target: "values", Message: "more than 1000 ids in one request", Mend: "ask in parts"}
	}
	ws := api.WorkspaceOf(r)
	found := map[string]map[string]string{}
	for _, id := range req.Values {
		m := assetID.FindStringSubmatch(id)
		if m == nil {
			continue
		}
		job, err := jobs.Job(r.Context(), api.PrincipalOf(r), ws, m[1])
		if err != nil {
			if api.ProblemOf(r, err).Class == workspace.NotFound {
				continue
			}
			return err
		}
		at, kind := place(job, m[2])
		uri, err := data.PlaceURI(r.Context(), ws, at)
		if err != nil {
			return err
		}
		if uri != "" {
			found[id] = map[string]string{"uri": uri, "type": kind}
		}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"values": found})
}

// place is where an output of a job lies in the blob store; empty if there is none of that name.
func place(job store.Job, output string) (at, kind string) {
	var spec workspace.JobSpec
	if json.Unmarshal(job.Spec, &spec) != nil {
		return "", ""
	}
	for _, o := range spec.Outputs {
		if o.Name != output {
			continue
		}
		kind = "uri_file"
		if o.Folder {
			kind = "uri_folder"
		}
		return o.Prefix, kind
	}
	return "", ""
}
