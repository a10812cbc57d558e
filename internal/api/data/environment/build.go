package environment

import (
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// image tells what the image of an environment would be. The client is told of none in a registry: it would ask for it there itself.
func (h handlers) image(w http.ResponseWriter, r *http.Request) error {
	v, err := h.environments.Environment(r.Context(), api.WorkspaceOf(r), r.PathValue("name"), r.PathValue("version"))
	if err != nil {
		return err
	}
	docker, ingredients := api.AsObject(v.Definition).Child("docker"), map[string]string{}
	if text := docker.Text("baseDockerfile"); text != "" {
		ingredients["dockerfile"] = text
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{
		"imageExistsInRegistry": false,
		"ingredients":           ingredients,
		"dockerImage": map[string]any{
			"name":     docker.Text("baseImage"),
			"registry": map[string]any{"address": nil, "username": nil, "password": nil},
		},
		"pythonEnvironment": map[string]any{"interpreterPath": api.AsObject(v.Definition).Child("python").Text("interpreterPath"), "condaEnvironmentPath": nil},
	})
}

// recipe would give scripts that build the environment on the client's own machine.
func recipe(http.ResponseWriter, *http.Request) error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "NoRecipe", Target: "recipe", Message: "this server gives no recipe for building an environment on the client's machine",
		Mend: "write it with env.save_to_directory(…) and give its conda file to conda, or submit with target=\"local\"",
	}
}

// build begins to make the environment ahead, on the compute that is named; without one there is nothing to do. The client
// takes 202 alone for success.
func (h handlers) build(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	build, err := h.environments.BuildEnvironment(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), name, r.PathValue("version"), r.PathValue("compute"))
	if err != nil {
		return err
	}
	if build == "" {
		build = none
	}
	location := buildURL(r, name, build)
	w.Header().Set("Location", location)
	return api.WriteJSON(w, http.StatusAccepted, map[string]string{"location": location})
}

// none is the id of a build without a compute, and nothing its log. No job has the name.
const (
	none    = "~"
	nothing = "No image is built of this environment: it is made on each compute when the first job there needs it, and kept there for the next ones.\n" +
		"To have it made ahead, name the compute: env.build(ws, image_build_compute=\"NAME\").\n"
)

func buildURL(r *http.Request, name, build string) string {
	return api.BaseURL(r) + "/environment/v2.0" + api.WorkspaceOf(r).Path() + "/environments/" + url.PathEscape(name) + "/builds/" + url.PathEscape(build)
}

// logTime is how long the signed URL of a build's log is good for.
const logTime = time.Hour

func logGrant(r *http.Request) api.Grant {
	return logOf(r.PathValue("sub")+"/"+r.PathValue("rg")+"/"+r.PathValue("ws"), r.PathValue("build"))
}

func logOf(ws, build string) api.Grant {
	return api.Grant{Container: "build log of " + ws, Blob: build, Verb: "r"}
}

// built tells how a build is. The client waits while it is Queued or Running, and reads the log without a credential.
func (h handlers) built(w http.ResponseWriter, r *http.Request) error {
	ws, build := api.WorkspaceOf(r), r.PathValue("build")
	status := "Succeeded"
	if build != none {
		state, err := h.environments.EnvironmentBuild(r.Context(), api.PrincipalOf(r), ws, build)
		if err != nil {
			return err
		}
		status = buildStatus(state)
	}
	g := logOf(ws.Subscription+"/"+ws.ResourceGroup+"/"+ws.Name, build)
	query := h.sign(authn.Signature{Container: g.Container, Blob: g.Blob, Verbs: g.Verb, Expires: h.clock.Now().Add(logTime)})
	return api.WriteJSON(w, http.StatusOK, map[string]string{"status": status, "logUrl": buildURL(r, r.PathValue("name"), build) + "/log?" + query})
}

func buildStatus(s workspace.State) string {
	switch s {
	case workspace.Completed:
		return "Succeeded"
	case workspace.Failed:
		return "Failed"
	case workspace.Canceled:
		return "Canceled"
	case workspace.Queued:
		return "Queued"
	}
	return "Running"
}

// log is the log of making the environment or its image, as far as it is there.
func (h handlers) log(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.PathValue("build") == none {
		_, err := io.WriteString(w, nothing)
		return err
	}
	return h.environments.EnvironmentBuildLog(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("build"), w)
}
