package dataversion

import (
	"context"
	"net/http"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Data is what the routes ask about data; package control has it.
type Data interface {
	PlaceURI(ctx context.Context, ws workspace.Workspace, place string) (string, error)
	Definition(ctx context.Context, ws workspace.Workspace, id string) (control.Definition, error)
	Asset(ctx context.Context, ws workspace.Workspace, collection, name, version string) (store.Document, error)
}

// unregistered begins the name under which azureml-core asks for the definition of every dataset that it was given,
// registered or not (azureml-v1.md §21.1).
const unregistered = "unregistered-"

// datasetRoutes serve azureml-core, which looks here for the definition of a dataset, and for a data asset of another
// client when there is no dataset of a name.
func datasetRoutes(data Data) []api.Route {
	return []api.Route{{
		Method: "GET", Pattern: "/data/v1.0" + api.WorkspacePath + "/dataversion/{name}/versions/{version}", Action: api.ActionWorkspaces + "datasets/read",
		Job: api.JobAny, Dialect: api.DataPlane{}, Handler: func(w http.ResponseWriter, r *http.Request) error { return version(data, w, r) },
	}}
}

func version(data Data, w http.ResponseWriter, r *http.Request) error {
	ws, name := api.WorkspaceOf(r), r.PathValue("name")
	if id, ok := strings.CutPrefix(name, unregistered); ok {
		d, err := data.Definition(r.Context(), ws, id)
		if err != nil {
			return err
		}
		return api.WriteJSON(w, http.StatusOK, map[string]string{"legacyDataflow": d.Dataflow})
	}
	number := r.PathValue("version")
	if number == "None" { // Python's word for no version
		number = ""
	}
	doc, err := data.Asset(r.Context(), ws, "data", name, number)
	if err != nil {
		return err
	}
	p := api.AsObject(doc.Body).Child("properties")
	return api.WriteJSON(w, http.StatusOK, map[string]any{"dataVersion": map[string]string{"dataUri": p.Text("dataUri"), "dataType": p.Text("dataType")}})
}
