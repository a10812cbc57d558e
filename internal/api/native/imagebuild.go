package native

import (
	"context"
	"io"
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Builds is what the routes of image builds call; package control has it.
type Builds interface {
	ImageBuilds(ctx context.Context, p workspace.Principal, ws workspace.Workspace, page store.Page) ([]store.ImageBuild, error)
	BuildEnvironment(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, version, compute string) (build string, err error)
	EnvironmentBuild(ctx context.Context, p workspace.Principal, ws workspace.Workspace, build string) (workspace.State, error)
	EnvironmentBuildLog(ctx context.Context, p workspace.Principal, ws workspace.Workspace, build string, w io.Writer) error
	CancelEnvironmentBuild(ctx context.Context, p workspace.Principal, ws workspace.Workspace, build string) error
}

func (h handlers) buildRoutes() []api.Route {
	read, build := act("environments/read"), act("environments/build/action")
	return []api.Route{
		{Method: "GET", Pattern: ws("/imagebuilds"), Action: read, Handler: h.listBuilds},
		{Method: "POST", Pattern: ws("/imagebuilds"), Action: build, Handler: h.newBuild},
		{Method: "GET", Pattern: ws("/imagebuilds/{build}"), Action: read, Handler: h.showBuild},
		{Method: "GET", Pattern: ws("/imagebuilds/{build}/log"), Action: act("jobs/read"), Stream: true, Handler: h.buildLog},
		{Method: "POST", Pattern: ws("/imagebuilds/{build}/cancel"), Action: build, Handler: h.cancelBuild},
	}
}

// listBuilds lists the builds of images, a page at a time by their ids.
func (h handlers) listBuilds(w http.ResponseWriter, r *http.Request) error {
	rows, err := h.Builds.ImageBuilds(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), store.Page{After: r.URL.Query().Get("after")})
	if err != nil {
		return err
	}
	type build struct {
		Build    string             `json:"build"`
		Phase    string             `json:"phase"`
		Image    string             `json:"image,omitempty"`
		Digest   string             `json:"digest,omitempty"`
		Problem  *workspace.Problem `json:"problem,omitempty"`
		Started  string             `json:"started,omitempty"`
		Ended    string             `json:"ended,omitempty"`
		LastUsed string             `json:"last_used"`
	}
	list, next := make([]build, len(rows)), ""
	for i, b := range rows {
		list[i] = build{"image-" + b.Hash, b.Phase, b.Image, b.Digest, b.Problem, moment(b.Started), moment(b.Ended), moment(b.LastUsed)}
		next = b.Hash
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"builds": list, "next": next})
}

// newBuild has an environment made ahead. The build is empty when there is nothing to make.
func (h handlers) newBuild(w http.ResponseWriter, r *http.Request) error {
	var in struct{ Environment, Version, Compute string }
	if err := api.DecodeJSON(r, &in); err != nil {
		return err
	}
	build, err := h.Builds.BuildEnvironment(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), in.Environment, in.Version, in.Compute)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusAccepted, map[string]string{"build": build})
}

func (h handlers) showBuild(w http.ResponseWriter, r *http.Request) error {
	state, err := h.Builds.EnvironmentBuild(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("build"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"build": r.PathValue("build"), "state": state})
}

func (h handlers) buildLog(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	return h.Builds.EnvironmentBuildLog(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("build"), w)
}

func (h handlers) cancelBuild(w http.ResponseWriter, r *http.Request) error {
	if err := h.Builds.CancelEnvironmentBuild(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("build")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
