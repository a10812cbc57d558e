// Package environment serves Azure's environment service to azureml-core (azureml-v1.md §12, §25): environments by name and
// version, in the client's own form. The same ones are visible to clients of v2 over ARM.
//
// Where the server has a builder, the image of a Dockerfile is built once for all jobs. Everything else that an environment
// asks for is made on each compute when the first job there needs it; a build on a compute makes it ahead.
package environment

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Environments is what the routes call; package control has it.
type Environments interface {
	Environment(ctx context.Context, ws workspace.Workspace, name, version string) (control.EnvironmentVersion, error)
	NewestEnvironments(ctx context.Context, ws workspace.Workspace, after string) (list []control.EnvironmentVersion, next string, err error)
	RegisterEnvironment(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, version string, body json.RawMessage) (control.EnvironmentVersion, error)
	LabelEnvironment(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, version string, labels []string) error
	LabelledEnvironment(ctx context.Context, ws workspace.Workspace, name, label string) (control.EnvironmentVersion, error)
	BuildEnvironment(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, version, compute string) (build string, err error)
	EnvironmentBuild(ctx context.Context, p workspace.Principal, ws workspace.Workspace, build string) (workspace.State, error)
	EnvironmentBuildLog(ctx context.Context, p workspace.Principal, ws workspace.Workspace, build string, w io.Writer) error
}

type handlers struct {
	environments Environments
	sign         func(authn.Signature) string
	clock        clock.Source
}

// Routes is the environment service's part of the route table.
func Routes(e Environments, sign func(authn.Signature) string, c clock.Source) []api.Route {
	h := handlers{e, sign, c}
	read, write, build := api.ActionWorkspaces+"environments/read", api.ActionWorkspaces+"environments/write", api.ActionWorkspaces+"environments/build/action"
	first, second := "/environment/v1.0"+api.WorkspacePath+"/environments", "/environment/v2.0"+api.WorkspacePath+"/environments"
	table := []api.Route{{Method: "GET", Pattern: first, Action: read, Handler: h.list}}
	for _, one := range []string{"/{name}", "/{name}/versions/{version}"} {
		table = append(table,
			api.Route{Method: "GET", Pattern: first + one, Action: read, Handler: h.get},
			api.Route{Method: "PUT", Pattern: first + one, Action: write, Handler: h.put},
			api.Route{Method: "GET", Pattern: first + one + "/image", Action: read, Handler: h.image},
			api.Route{Method: "POST", Pattern: first + one + "/recipe", Action: build, Handler: recipe},
			api.Route{Method: "POST", Pattern: second + one + "/image", Action: build, Handler: h.build},
			api.Route{Method: "POST", Pattern: second + one + "/imageoncompute/{compute}", Action: build, Handler: h.build},
		)
	}
	table = append(table,
		api.Route{Method: "GET", Pattern: first + "/{name}/labels/{label}", Action: read, Handler: h.labelled},
		api.Route{Method: "PUT", Pattern: first + "/{name}/versions/{version}/metadata", Action: write, Handler: h.label},
		api.Route{Method: "GET", Pattern: second + "/{name}/builds/{build}", Action: read, Handler: h.built},
		api.Route{Method: "GET", Pattern: second + "/{name}/builds/{build}/log", Action: api.ActionWorkspaces + "jobs/read", Stream: true, Signed: logGrant, Handler: h.log},
	)
	for i := range table {
		table[i].Dialect = api.DataPlane{}
	}
	return table
}

func (h handlers) get(w http.ResponseWriter, r *http.Request) error {
	v, err := h.environments.Environment(r.Context(), api.WorkspaceOf(r), r.PathValue("name"), r.PathValue("version"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, view(v))
}

func (h handlers) put(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadObject(r)
	if err != nil {
		return err
	}
	v, err := h.environments.RegisterEnvironment(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"), r.PathValue("version"), body.JSON())
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, view(v)) // never 201: the client knows no other success
}

func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	list, next, err := h.environments.NewestEnvironments(r.Context(), api.WorkspaceOf(r), r.URL.Query().Get("continuation"))
	if err != nil {
		return err
	}
	views := make([]api.Object, len(list))
	for i, v := range list {
		views[i] = view(v)
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"value": views, "continuationToken": api.OrNull(next)})
}

// view is a version as the client reads it. It needs python, docker and spark, and looks for the rest.
func view(v control.EnvironmentVersion) api.Object {
	o := api.AsObject(v.Definition)
	o.Set("name", v.Name)
	o.Set("version", v.Version)
	for _, section := range []string{"environmentVariables", "python", "docker", "spark"} {
		o.Fill(section, struct{}{})
	}
	for _, field := range []string{"inferencingStackVersion", "r"} {
		if !o.Has(field) {
			o.Set(field, nil)
		}
	}
	return o
}

func (h handlers) labelled(w http.ResponseWriter, r *http.Request) error {
	v, err := h.environments.LabelledEnvironment(r.Context(), api.WorkspaceOf(r), r.PathValue("name"), r.PathValue("label"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, view(v))
}

func (h handlers) label(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Labels []string `json:"Labels"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	err := h.environments.LabelEnvironment(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"), r.PathValue("version"), req.Labels)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, struct{}{})
}
