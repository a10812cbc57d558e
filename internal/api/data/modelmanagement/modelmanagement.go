// Package modelmanagement serves Azure's model registry to azureml-core (azureml-v1.md §11): models, which azure-ai-ml
// sees as well, and the assets that name their files. The files are artifacts; package artifact tells where they are.
package modelmanagement

import (
	"context"
	"net/http"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Models is what the routes call; package control has it.
type Models interface {
	KeepModelAsset(ctx context.Context, p workspace.Principal, ws workspace.Workspace, a control.ModelAsset) (control.ModelAsset, error)
	ModelAsset(ctx context.Context, ws workspace.Workspace, id string) (control.ModelAsset, error)
	RegisterModel(ctx context.Context, p workspace.Principal, ws workspace.Workspace, m control.Model) (control.Model, error)
	Model(ctx context.Context, ws workspace.Workspace, id string) (control.Model, error)
	Models(ctx context.Context, ws workspace.Workspace, f control.ModelFilter, page store.Page) (list []control.Model, next string, err error)
	UpdateModel(ctx context.Context, p workspace.Principal, ws workspace.Workspace, id string, change func(*control.Model) error) (control.Model, error)
	DeleteModel(ctx context.Context, p workspace.Principal, ws workspace.Workspace, id string) error
}

// Artifacts tells what artifacts a principal may name; package tracking has it.
type Artifacts interface {
	Scope(ctx context.Context, p workspace.Principal, workspaceID, artifactBase string) (tracking.Scope, error)
	ArtifactBlob(ctx context.Context, s tracking.Scope, a tracking.Artifact, use tracking.ArtifactUse) (string, error)
}

type handlers struct {
	models    Models
	artifacts Artifacts
	tenant    string
}

// Routes is modelmanagement's part of the route table. A job may look at all models and register files of its own run;
// it neither changes nor deletes what there is. tenant is the server's.
func Routes(models Models, artifacts Artifacts, tenant string) []api.Route {
	h := handlers{models, artifacts, tenant}
	base := "/modelmanagement/v1.0" + api.WorkspacePath
	read, write, remove := api.ActionWorkspaces+"models/read", api.ActionWorkspaces+"models/write", api.ActionWorkspaces+"models/delete"
	table := []api.Route{
		{Method: "POST", Pattern: base + "/assets", Action: write, Job: api.JobHandler, Handler: h.keepAsset},
		{Method: "GET", Pattern: base + "/assets/{id}", Action: read, Job: api.JobAny, Handler: h.asset},
		{Method: "POST", Pattern: base + "/models", Action: write, Job: api.JobAny, Handler: h.register},
		{Method: "GET", Pattern: base + "/models", Action: read, Job: api.JobAny, Handler: h.list},
		{Method: "GET", Pattern: base + "/models/{id}", Action: read, Job: api.JobAny, Handler: h.get},
		{Method: "PATCH", Pattern: base + "/models/{id}", Action: write, Handler: h.patch},
		{Method: "DELETE", Pattern: base + "/models/{id}", Action: remove, Handler: h.remove},
	}
	for i := range table {
		table[i].Dialect = dialect{}
	}
	return table
}

// dialect is the data plane's error with code, status and details outside of "error" too, where the client's model of an
// error from this service has them: it takes a model for absent by that status alone.
type dialect struct{}

type errorBody struct {
	Error       api.ErrorBody     `json:"error"`
	Code        string            `json:"code"`
	Status      int               `json:"statusCode"`
	Message     string            `json:"message"`
	Details     []errorDetail     `json:"details"`
	Correlation map[string]string `json:"correlation"`
}

type errorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// WriteProblem implements api.Dialect.
func (dialect) WriteProblem(w http.ResponseWriter, r *http.Request, p *workspace.Problem) {
	api.CommonHeaders(w, r, p)
	w.Header().Set("x-ms-error-code", p.Code)
	status := api.Status(p.Class)
	_ = api.WriteJSON(w, status, errorBody{
		Error: api.Body(p), Code: p.Code, Status: status, Message: p.Error(), Details: []errorDetail{{p.Code, p.Error()}},
		Correlation: map[string]string{"RequestId": api.RequestID(r)},
	})
}

var _ api.Dialect = dialect{}

// asset is the wire's form of what names the files of a model.
type asset struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Run        *string        `json:"runid"`
	Artifacts  []artifactName `json:"artifacts"`
	Tags       any            `json:"kvTags"`
	Properties any            `json:"properties"`
	Created    string         `json:"createdTime"`
}

type artifactName struct {
	ID     *string `json:"id"`
	Prefix *string `json:"prefix"`
}

func assetView(a control.ModelAsset) asset {
	out := asset{ID: a.ID, Name: a.Name, Run: api.OrNull(a.Run), Tags: map[string]string{}, Properties: map[string]string{}, Created: api.FormatTime(a.Created)}
	for _, n := range a.Artifacts {
		out.Artifacts = append(out.Artifacts, artifactName{api.OrNull(n.ID), api.OrNull(n.Prefix)})
	}
	return out
}

func (h handlers) keepAsset(w http.ResponseWriter, r *http.Request) error {
	var req asset
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	a := control.ModelAsset{Name: req.Name, Run: text(req.Run)}
	for _, n := range req.Artifacts {
		a.Artifacts = append(a.Artifacts, control.ArtifactName{ID: text(n.ID), Prefix: text(n.Prefix)})
	}
	if err := h.mayName(r, a); err != nil {
		return err
	}
	a, err := h.models.KeepModelAsset(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), a)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, assetView(a))
}

// mayName keeps a job from opening another run's artifacts to itself by making a model of them, and anybody from naming
// what is no artifact.
func (h handlers) mayName(r *http.Request, a control.ModelAsset) error {
	s, err := h.artifacts.Scope(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r).ID, "")
	if err != nil {
		return err
	}
	for _, n := range a.Artifacts {
		origin, rest, _ := strings.Cut(n.ID+n.Prefix, "/")
		container, path, _ := strings.Cut(rest, "/")
		if _, err := h.artifacts.ArtifactBlob(r.Context(), s, tracking.Artifact{Origin: origin, Container: container, Path: path}, tracking.ReadArtifact); err != nil {
			return err
		}
	}
	return nil
}

func (h handlers) asset(w http.ResponseWriter, r *http.Request) error {
	a, err := h.models.ModelAsset(r.Context(), api.WorkspaceOf(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, assetView(a))
}

func (h handlers) get(w http.ResponseWriter, r *http.Request) error {
	m, err := h.models.Model(r.Context(), api.WorkspaceOf(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, h.view(r, m))
}

func (h handlers) remove(w http.ResponseWriter, r *http.Request) error {
	if err := h.models.DeleteModel(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h handlers) principalID(r *http.Request, name string) string {
	return authn.UUID(api.WorkspaceOf(r).ID, name)
}
