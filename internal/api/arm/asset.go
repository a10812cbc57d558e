package arm

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Assets is what the routes of assets call; package control has it.
type Assets interface {
	PutAsset(ctx context.Context, p workspace.Principal, ws workspace.Workspace, collection, name, version string, body json.RawMessage) (store.Document, bool, error)
	Asset(ctx context.Context, ws workspace.Workspace, collection, name, version string) (store.Document, error)
	Assets(ctx context.Context, ws workspace.Workspace, collection, name string, page store.Page) ([]store.Document, error)
	AssetNames(ctx context.Context, ws workspace.Workspace, collection string, page store.Page) ([]store.Document, error)
	PutAssetContainer(ctx context.Context, p workspace.Principal, ws workspace.Workspace, collection, name string, body json.RawMessage) (store.Document, bool, error)
	AssetContainer(ctx context.Context, ws workspace.Workspace, collection, name string) (container, latest store.Document, err error)
	DeleteAsset(ctx context.Context, p workspace.Principal, ws workspace.Workspace, collection, name, version string) error
	CodeByHash(ctx context.Context, ws workspace.Workspace, hash string) (doc store.Document, ok bool, err error)
	NewUpload() string
}

func (h handlers) assetRoutes() []api.Route {
	var table []api.Route
	for _, c := range control.AssetCollections {
		one, versions := ws("/"+c+"/{name}"), ws("/"+c+"/{name}/versions")
		version := versions + "/{version}"
		read, write, remove := act(c+"/read"), act(c+"/write"), act(c+"/delete")
		table = append(table,
			api.Route{Method: "GET", Pattern: ws("/" + c), Action: read, Handler: h.listContainers(c)},
			api.Route{Method: "GET", Pattern: one, Action: read, Handler: h.getContainer(c)},
			api.Route{Method: "PUT", Pattern: one, Action: write, Handler: h.putContainer(c)},
			api.Route{Method: "GET", Pattern: versions, Action: read, Handler: h.listVersions(c)},
			api.Route{Method: "GET", Pattern: version, Action: read, Handler: h.getVersion(c)},
			api.Route{Method: "PUT", Pattern: version, Action: write, Stream: c == "codes", Handler: h.putVersion(c)},
			api.Route{Method: "DELETE", Pattern: version, Action: remove, Handler: h.deleteVersion(c)},
		)
	}
	return table
}

func (h handlers) getVersion(c string) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		doc, err := h.Assets.Asset(r.Context(), api.WorkspaceOf(r), c, r.PathValue("name"), r.PathValue("version"))
		if err != nil {
			return err
		}
		view, err := versionView(r, doc)
		if err != nil {
			return err
		}
		return api.WriteJSON(w, http.StatusOK, view)
	}
}

func (h handlers) putVersion(c string) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		body, err := api.ReadObject(r)
		if err != nil {
			return err
		}
		doc, created, err := h.Assets.PutAsset(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), c, r.PathValue("name"), r.PathValue("version"), body.JSON())
		if err != nil {
			return err
		}
		view, err := versionView(r, doc)
		if err != nil {
			return err
		}
		status := http.StatusOK
		if created {
			status = http.StatusCreated
		}
		return api.WriteJSON(w, status, view)
	}
}

func (h handlers) deleteVersion(c string) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := h.Assets.DeleteAsset(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), c, r.PathValue("name"), r.PathValue("version"))
		if err != nil && api.ProblemOf(r, err).Class == workspace.NotFound {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		if err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
}

// listVersions is newest first, which is what "@latest" rests on. Archived versions are left out unless asked for.
func (h handlers) listVersions(c string) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if c == "codes" && r.URL.Query().Has("hash") {
			return h.codesByHash(w, r)
		}
		q := r.URL.Query()
		n := pageSize(q, 100)
		docs, err := h.Assets.Assets(r.Context(), api.WorkspaceOf(r), c, r.PathValue("name"), store.Page{After: q.Get("$skip"), Limit: min(n+1, 1000)})
		if err != nil {
			return err
		}
		docs, more := cut(docs, min(n, 999))
		next := ""
		if more {
			next = docs[len(docs)-1].ID
		}
		views := []api.Object{}
		for _, doc := range docs {
			view, err := versionView(r, doc)
			if err != nil {
				return err
			}
			if listed(view, q.Get("listViewType")) {
				views = append(views, view)
			}
		}
		return list(w, r, views, next)
	}
}

func listed(view api.Object, viewType string) bool {
	archived := string(view.Child("properties")["isArchived"]) == "true"
	switch {
	case same(viewType, "All"):
		return true
	case same(viewType, "ArchivedOnly"):
		return archived
	}
	return !archived
}

func versionView(r *http.Request, doc store.Document) (api.Object, error) {
	body, err := control.AssetBody(doc)
	if err != nil {
		return nil, err
	}
	o := api.Object(body)
	p := o.Child("properties")
	withoutNulls(p)
	p.Fill("properties", map[string]string{})
	p.Fill("tags", map[string]string{})
	p.Fill("isArchived", false)
	p.Fill("isAnonymous", false)
	p.Set("provisioningState", "Succeeded")
	switch doc.Collection {
	case "models":
		p.Fill("flavors", map[string]any{}) // the client breaks without it (azureml-v2.md §3)
		p.Fill("stage", "")
	case "environments":
		p.Fill("osType", "Linux")
		p.Fill("environmentType", "UserCreated")
	}
	o.Set("properties", p)
	o.Set("systemData", systemData(doc.Created, doc.Modified, doc.CreatedBy, doc.ModifiedBy))
	place := api.WorkspaceOf(r).Path() + "/" + doc.Collection + "/" + doc.Name + "/versions/" + doc.Version
	return envelope(o, place, doc.Version, "/"+doc.Collection+"/versions"), nil
}

// getContainer tells the latest version and the next number of an asset, from which clients make versions.
func (h handlers) getContainer(c string) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		view, err := h.containerView(r, c, r.PathValue("name"))
		if err != nil {
			return err
		}
		return api.WriteJSON(w, http.StatusOK, view)
	}
}

func (h handlers) putContainer(c string) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		body, err := api.ReadObject(r)
		if err != nil {
			return err
		}
		_, created, err := h.Assets.PutAssetContainer(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), c, r.PathValue("name"), body.JSON())
		if err != nil {
			return err
		}
		view, err := h.containerView(r, c, r.PathValue("name"))
		if err != nil {
			return err
		}
		status := http.StatusOK
		if created {
			status = http.StatusCreated
		}
		return api.WriteJSON(w, status, view)
	}
}

func (h handlers) listContainers(c string) api.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		q := r.URL.Query()
		n := pageSize(q, 100)
		docs, err := h.Assets.AssetNames(r.Context(), api.WorkspaceOf(r), c, store.Page{After: q.Get("$skip"), Limit: min(n+1, 1000)})
		if err != nil {
			return err
		}
		docs, more := cut(docs, min(n, 999))
		next := ""
		if more {
			next = docs[len(docs)-1].Name
		}
		views := []api.Object{}
		for _, doc := range docs {
			view, err := h.containerView(r, c, doc.Name)
			if err != nil {
				return err
			}
			if listed(view, q.Get("listViewType")) {
				views = append(views, view)
			}
		}
		return list(w, r, views, next)
	}
}

// containerView is what a client said of the asset as a whole, with what follows from its versions laid over.
func (h handlers) containerView(r *http.Request, c, name string) (api.Object, error) {
	container, latest, err := h.Assets.AssetContainer(r.Context(), api.WorkspaceOf(r), c, name)
	if err != nil {
		return nil, err
	}
	o := api.AsObject(container.Body)
	p := o.Child("properties")
	withoutNulls(p)
	p.Fill("isArchived", false)
	p.Fill("tags", map[string]string{})
	p.Fill("properties", map[string]string{})
	p.Set("provisioningState", "Succeeded")
	p.Set("nextVersion", "1")
	about := container
	if latest.Name != "" {
		next, err := h.nextVersion(r, latest)
		if err != nil {
			return nil, err
		}
		p.Set("latestVersion", latest.Version)
		p.Set("nextVersion", next)
		if c == "data" {
			p.Set("dataType", api.AsObject(latest.Body).Child("properties").Text("dataType"))
		}
		if about.Name == "" || latest.Modified > about.Modified {
			about = latest
		}
	}
	o.Set("properties", p)
	o.Set("systemData", systemData(about.Created, about.Modified, about.CreatedBy, about.ModifiedBy))
	return envelope(o, api.WorkspaceOf(r).Path()+"/"+c+"/"+name, name, "/"+c), nil
}

// nextVersion is one more than the highest number among the newest versions; versions that are no numbers do not count.
func (h handlers) nextVersion(r *http.Request, latest store.Document) (string, error) {
	if n, err := strconv.Atoi(latest.Version); err == nil && n < 1<<30 {
		return strconv.Itoa(n + 1), nil
	}
	docs, err := h.Assets.Assets(r.Context(), api.WorkspaceOf(r), latest.Collection, latest.Name, store.Page{Limit: 1000})
	highest := 0
	for _, d := range docs {
		if n, err := strconv.Atoi(d.Version); err == nil && n < 1<<30 {
			highest = max(highest, n)
		}
	}
	return strconv.Itoa(highest + 1), err
}
