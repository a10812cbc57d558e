// Package artifact serves Azure's artifact service to azureml-core (azureml-v1.md §8): what files a run or an upload has,
// where each is fetched from, and where new ones go. The files themselves travel by the blob service. Artifacts of runs
// are the same blobs that MLflow's clients and jobs know.
package artifact

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Artifacts is what the routes call; package tracking has it.
type Artifacts interface {
	Scope(ctx context.Context, p workspace.Principal, workspaceID, artifactBase string) (tracking.Scope, error)
	ArtifactBlob(ctx context.Context, s tracking.Scope, a tracking.Artifact, use tracking.ArtifactUse) (string, error)
	ArtifactsBelow(ctx context.Context, name, token string) ([]blob.Info, string, error)
	StatAzureArtifact(ctx context.Context, name string) (blob.Info, error)
}

// Models tells of the files of registered models; package control has it.
type Models interface {
	ModelPlace(ctx context.Context, ws workspace.Workspace, id string) (string, error)
	HasModelFiles(ctx context.Context, ws workspace.Workspace, artifact string) (bool, error)
}

type handlers struct {
	artifacts Artifacts
	models    Models
	sign      func(authn.Signature) string
	clock     clock.Source
}

// Routes is artifact's part of the route table. What a job's credential reaches is tracking's to say.
func Routes(artifacts Artifacts, models Models, sign func(authn.Signature) string, c clock.Source) []api.Route {
	h := handlers{artifacts, models, sign, c}
	base := "/artifact/v2.0" + api.WorkspacePath + "/artifacts"
	read, write := api.ActionWorkspaces+"artifacts/read", api.ActionWorkspaces+"artifacts/write"
	table := []api.Route{
		{Method: "GET", Pattern: base + "/{origin}/{container}", Action: read, Handler: h.list},
		{Method: "GET", Pattern: base + "/prefix/contentinfo/{origin}/{container}", Action: read, Handler: h.listContent},
		{Method: "GET", Pattern: base + "/prefix/contentinfo/{origin}/{container}/{path...}", Action: read, Handler: h.listContent},
		{Method: "GET", Pattern: base + "/contentinfo/{origin}/{container}/{path...}", Action: read, Handler: h.content},
		{Method: "GET", Pattern: base + "/metadata/{origin}/{container}/{path...}", Action: read, Handler: h.get},
		{Method: "GET", Pattern: base + "/write/{origin}/{container}/{path...}", Action: write, Handler: h.write},
		{Method: "POST", Pattern: base + "/batch/metadata/{origin}/{container}", Action: write, Handler: h.create},
	}
	for i := range table {
		table[i].Job = api.JobHandler
		table[i].Dialect = api.DataPlane{}
	}
	return table
}

// The times for which signed URLs are good. A download begins soon after its URL was asked for; an upload or a log that
// is appended to may take long.
const (
	downloadTime = time.Hour
	uploadTime   = 24 * time.Hour
)

// maxPaths is how many artifacts one request may announce; the client sends 50.
const maxPaths = 1000

func named(r *http.Request) tracking.Artifact {
	return tracking.Artifact{Origin: r.PathValue("origin"), Container: r.PathValue("container"), Path: strings.TrimRight(r.PathValue("path"), "/")}
}

// place is where an artifact lies in the blob store, or those below it.
func (h handlers) place(r *http.Request, a tracking.Artifact, use tracking.ArtifactUse) (string, error) {
	ws, p := api.WorkspaceOf(r), api.PrincipalOf(r)
	if a.Origin == control.ModelOrigin {
		return h.modelPlace(r, a, use)
	}
	if use == tracking.ReadArtifact {
		if p.Job != "" && a.Run() != "" {
			if registered, err := h.models.HasModelFiles(r.Context(), ws, a.String()); err != nil || registered {
				return blobOf(ws, a), err // models are for the whole workspace, whichever run made them
			}
		}
	}
	s, err := h.artifacts.Scope(r.Context(), p, ws.ID, "")
	if err != nil {
		return "", err
	}
	return h.artifacts.ArtifactBlob(r.Context(), s, a, use)
}

func blobOf(ws workspace.Workspace, a tracking.Artifact) string {
	return containerOf(ws) + a.String()
}

func containerOf(ws workspace.Workspace) string {
	return "c/" + tracking.ArtifactContainer(ws.ID) + "/"
}

// modelPlace is where the files of a model lie that azureml-core did not register: Model/NAME:VERSION/FILES.
func (h handlers) modelPlace(r *http.Request, a tracking.Artifact, use tracking.ArtifactUse) (string, error) {
	a, err := a.Check()
	if err != nil {
		return "", err
	}
	if use != tracking.ReadArtifact {
		return "", &workspace.Problem{Class: workspace.Denied, Code: "ModelIsFixed", Target: a.String(), Message: "the files of a registered model stay as they are", Mend: "register a new version"}
	}
	place, err := h.models.ModelPlace(r.Context(), api.WorkspaceOf(r), a.Container)
	if err != nil {
		return "", err
	}
	parent := place[:strings.LastIndexByte(place, '/')+1]
	if name := parent + a.Path; name == place || strings.HasPrefix(name, place+"/") {
		return name, nil
	}
	return "", &workspace.Problem{Class: workspace.NotFound, Code: "ArtifactNotFound", Target: a.String(), Message: "the model has no file " + a.Path, Mend: "ask for the names of its asset"}
}

// view is an artifact without its content.
func view(a tracking.Artifact, created time.Time, etag string) map[string]any {
	return map[string]any{
		"artifactId": a.String(), "origin": a.Origin, "container": a.Container, "path": a.Path, "etag": `"` + etag + `"`,
		"createdTime": created.UTC().Format(api.TimeFormat), "dataPath": nil,
	}
}

// contentView tells where an artifact is fetched from, or goes to.
func contentView(a tracking.Artifact, uri string) map[string]any {
	return map[string]any{"contentUri": uri, "origin": a.Origin, "container": a.Container, "path": a.Path}
}

// download is the URL of a blob of the store. It needs no host name but the one by which the client came.
func (h handlers) download(r *http.Request, name string) string {
	container, path, _ := strings.Cut(strings.TrimPrefix(name, "c/"), "/")
	query := h.sign(authn.Signature{Container: container, Blob: path, Verbs: "r", Expires: h.clock.Now().Add(downloadTime)})
	return api.DownloadURL(r, container, path, query)
}

func (h handlers) upload(r *http.Request, name string) string {
	container, path, _ := strings.Cut(strings.TrimPrefix(name, "c/"), "/")
	query := h.sign(authn.Signature{Container: container, Blob: path, Verbs: "rcw", Expires: h.clock.Now().Add(uploadTime)})
	return api.BlobURL(r, container, path, query)
}

// page writes what lies below the named artifact, each as item shows it.
func (h handlers) page(w http.ResponseWriter, r *http.Request, item func(a tracking.Artifact, b blob.Info) map[string]any) error {
	a := named(r)
	name, err := h.place(r, a, tracking.ReadArtifact)
	if err != nil {
		return err
	}
	blobs, next, err := h.artifacts.ArtifactsBelow(r.Context(), name, r.URL.Query().Get("continuationToken"))
	if err != nil {
		return err
	}
	views := make([]map[string]any, len(blobs))
	for i, b := range blobs {
		one := a
		one.Path = strings.TrimPrefix(a.Path+strings.TrimPrefix(b.Name, name), "/")
		views[i] = item(one, b)
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"value": views, "continuationToken": api.OrNull(next), "nextLink": nil})
}

func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	return h.page(w, r, func(a tracking.Artifact, b blob.Info) map[string]any { return view(a, b.Modified, b.ETag) })
}

func (h handlers) listContent(w http.ResponseWriter, r *http.Request) error {
	return h.page(w, r, func(a tracking.Artifact, b blob.Info) map[string]any { return contentView(a, h.download(r, b.Name)) })
}

// found is an artifact that is there.
func (h handlers) found(r *http.Request) (tracking.Artifact, blob.Info, error) {
	a := named(r)
	name, err := h.place(r, a, tracking.ReadArtifact)
	if err != nil {
		return a, blob.Info{}, err
	}
	info, err := h.artifacts.StatAzureArtifact(r.Context(), name)
	return a, info, err
}

func (h handlers) get(w http.ResponseWriter, r *http.Request) error {
	a, info, err := h.found(r)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, view(a, info.Modified, info.ETag))
}

func (h handlers) content(w http.ResponseWriter, r *http.Request) error {
	a, info, err := h.found(r)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, contentView(a, h.download(r, info.Name)))
}

// write gives a new URL for a blob that the client writes to; it asks when an append failed (azureml-v1.md §20).
func (h handlers) write(w http.ResponseWriter, r *http.Request) error {
	a := named(r)
	name, err := h.place(r, a, tracking.WriteArtifact)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, contentView(a, h.upload(r, name)))
}

// create announces artifacts and tells where their bytes go. An artifact is there when its bytes are.
func (h handlers) create(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Paths []struct {
			Path string `json:"path"`
		} `json:"paths"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	if len(req.Paths) > maxPaths {
		return &workspace.Problem{Class: workspace.TooLarge, Code: "TooManyPaths", Target: "paths", Message: "more than 1000 artifacts in one request", Mend: "announce them in parts"}
	}
	artifacts, content := map[string]any{}, map[string]any{}
	for _, p := range req.Paths {
		a := named(r)
		a.Path = p.Path
		name, err := h.place(r, a, tracking.WriteArtifact)
		if err != nil {
			return err
		}
		artifacts[p.Path] = view(a, h.clock.Now(), "0x0")
		content[p.Path] = contentView(a, h.upload(r, name))
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"artifacts": artifacts, "artifactContentInformation": content, "errors": map[string]any{}})
}
