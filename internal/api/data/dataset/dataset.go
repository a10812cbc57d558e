// Package dataset serves Azure's dataset service to azureml-core (azureml-v1.md §21.1): definitions of datasets, with and
// without a name. What a definition says is the client's affair; jobs get their files by package control.
package dataset

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Datasets is what the routes call; package control has it.
type Datasets interface {
	SaveDefinition(ctx context.Context, p workspace.Principal, ws workspace.Workspace, d control.Definition) (control.Definition, error)
	Definition(ctx context.Context, ws workspace.Workspace, id string) (control.Definition, error)
	RegisterDataset(ctx context.Context, p workspace.Principal, ws workspace.Workspace, d control.Dataset, another bool) (control.Dataset, error)
	Dataset(ctx context.Context, ws workspace.Workspace, name, version string) (control.Dataset, error)
	DatasetOf(ctx context.Context, ws workspace.Workspace, definitionID string) (d control.Dataset, ok bool, err error)
	Datasets(ctx context.Context, ws workspace.Workspace, page store.Page) ([]control.Dataset, error)
	DescribeDataset(ctx context.Context, p workspace.Principal, ws workspace.Workspace, d control.Dataset) (control.Dataset, error)
	UnregisterDataset(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error
}

type handlers struct{ datasets Datasets }

// Routes is dataset's part of the route table. A job may look at all datasets and save definitions, which is how its
// script uses data; names are not its to give.
func Routes(datasets Datasets) []api.Route {
	h := handlers{datasets}
	base := "/dataset/v1.0" + api.WorkspacePath
	read, write, remove := api.ActionWorkspaces+"datasets/read", api.ActionWorkspaces+"datasets/write", api.ActionWorkspaces+"datasets/delete"
	table := []api.Route{
		{Method: "POST", Pattern: base + "/saveddatasets", Action: write, Job: api.JobAny, Handler: h.save},
		{Method: "GET", Pattern: base + "/saveddatasets/{id}", Action: read, Job: api.JobAny, Handler: h.saved},
		{Method: "GET", Pattern: base + "/datasets", Action: read, Job: api.JobAny, Handler: h.list},
		{Method: "POST", Pattern: base + "/datasets", Action: write, Handler: h.register},
		{Method: "GET", Pattern: base + "/datasets/query/{query}", Action: read, Job: api.JobAny, Handler: h.query},
		{Method: "PUT", Pattern: base + "/datasets/{id}", Action: write, Handler: h.describe},
		{Method: "DELETE", Pattern: base + "/datasets/{name}", Action: remove, Handler: h.unregister},
	}
	for i := range table {
		table[i].Dialect = api.DataPlane{}
	}
	return table
}

// savedDataset is a definition on the wire.
type savedDataset struct {
	ID          string          `json:"id"`
	Type        string          `json:"datasetType"`
	Dataflow    string          `json:"dataflowJson"`
	Properties  json.RawMessage `json:"properties"`
	DataChanged bool            `json:"dataChanged"`
}

func savedView(d control.Definition) savedDataset {
	return savedDataset{ID: d.ID, Type: d.Type, Dataflow: d.Dataflow, Properties: object(d.Properties)}
}

// object is a JSON object that is never null.
func object(b json.RawMessage) json.RawMessage {
	if len(b) == 0 || string(b) == "null" {
		return json.RawMessage("{}")
	}
	return b
}

func (h handlers) save(w http.ResponseWriter, r *http.Request) error {
	var req savedDataset
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	d, err := h.datasets.SaveDefinition(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), control.Definition{Type: req.Type, Dataflow: req.Dataflow, Properties: req.Properties})
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, savedView(d))
}

func (h handlers) saved(w http.ResponseWriter, r *http.Request) error {
	d, err := h.datasets.Definition(r.Context(), api.WorkspaceOf(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, savedView(d))
}

// registered is a version of a dataset on the wire: what is said of the name, and its definition as the latest.
type registered struct {
	ID          string            `json:"datasetId"`
	Name        string            `json:"name"`
	Description *string           `json:"description"`
	Tags        map[string]string `json:"tags"`
	Type        string            `json:"datasetType"`
	Visible     bool              `json:"isVisible"`
	Created     string            `json:"createdTime"`
	Modified    string            `json:"modifiedTime"`
	Latest      version           `json:"latest"`
}

type version struct {
	ID         string          `json:"datasetId"`
	Version    string          `json:"versionId"` // an integer
	Saved      string          `json:"savedDatasetId"`
	Properties json.RawMessage `json:"properties"`
	Created    string          `json:"createdTime"`
	Modified   string          `json:"modifiedTime"`
	Dataflow   string          `json:"dataflow"`
}

// request is what clients send of it; times and ids of theirs are null or ours anyway.
type request struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Tags        map[string]string `json:"tags"`
	Type        string            `json:"datasetType"`
	Latest      struct {
		Version    string          `json:"versionId"`
		Properties json.RawMessage `json:"properties"`
		Dataflow   string          `json:"dataflow"`
	} `json:"latest"`
}

func view(d control.Dataset) registered {
	created, modified := api.FormatTime(d.Created), api.FormatTime(d.Modified)
	if d.Tags == nil {
		d.Tags = map[string]string{}
	}
	return registered{
		ID: d.ID, Name: d.Name, Description: api.OrNull(d.Description), Tags: d.Tags, Type: d.Definition.Type, Visible: true, Created: created, Modified: modified,
		Latest: version{d.ID, strconv.Itoa(d.Version), d.Definition.ID, object(d.Definition.Properties), created, modified, d.Definition.Dataflow},
	}
}

func (h handlers) register(w http.ResponseWriter, r *http.Request) error {
	var req request
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	another, _ := strconv.ParseBool(r.URL.Query().Get("ifExistsOk")) // what is no truth value is false
	d, err := h.datasets.RegisterDataset(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), control.Dataset{
		Name: req.Name, Description: req.Description, Tags: req.Tags,
		Definition: control.Definition{Type: req.Type, Dataflow: req.Latest.Dataflow, Properties: req.Latest.Properties},
	}, another)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, view(d))
}

// describe changes description and tags of the version that the client holds.
func (h handlers) describe(w http.ResponseWriter, r *http.Request) error {
	var req request
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	d, err := h.datasets.Dataset(r.Context(), api.WorkspaceOf(r), req.Name, req.Latest.Version)
	if err != nil {
		return err
	}
	if d.ID != r.PathValue("id") {
		return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidDataset", Target: "name", Message: "the dataset of that id has another name", Mend: "look it up again with Dataset.get_by_name"}
	}
	d.Description, d.Tags = req.Description, req.Tags
	if d, err = h.datasets.DescribeDataset(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), d); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, view(d))
}

// query finds by name, which is for one, or by the id of a definition, which is for a list; what is asked for is one
// segment of the path: name=NAME or savedDatasetId=ID.
func (h handlers) query(w http.ResponseWriter, r *http.Request) error {
	by, value, _ := strings.Cut(r.PathValue("query"), "=")
	switch by {
	case "name":
		d, err := h.datasets.Dataset(r.Context(), api.WorkspaceOf(r), value, r.URL.Query().Get("versionId"))
		if err != nil {
			return err
		}
		return api.WriteJSON(w, http.StatusOK, view(d))
	case "savedDatasetId":
		d, ok, err := h.datasets.DatasetOf(r.Context(), api.WorkspaceOf(r), value)
		if err != nil {
			return err
		}
		views := []registered{}
		if ok {
			views = append(views, view(d))
		}
		return api.WriteJSON(w, http.StatusOK, map[string]any{"value": views, "continuationToken": nil})
	}
	return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidQuery", Target: by, Message: "datasets cannot be found by that", Mend: "ask by name or savedDatasetId"}
}

func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("pageSize"))
	if err != nil || limit <= 0 || limit > 500 {
		limit = 100
	}
	list, err := h.datasets.Datasets(r.Context(), api.WorkspaceOf(r), store.Page{After: q.Get("continuationToken"), Limit: limit + 1})
	if err != nil {
		return err
	}
	next := ""
	if len(list) > limit {
		list = list[:limit]
		next = list[limit-1].Name
	}
	views := make([]registered, len(list))
	for i, d := range list {
		views[i] = view(d)
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"value": views, "continuationToken": api.OrNull(next)})
}

func (h handlers) unregister(w http.ResponseWriter, r *http.Request) error {
	if err := h.datasets.UnregisterDataset(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
