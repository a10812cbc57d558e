package arm

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Connections is what the routes of connections call; package control has it.
type Connections interface {
	PutConnection(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, body json.RawMessage) (store.Document, error)
	Connection(ctx context.Context, ws workspace.Workspace, name string) (store.Document, error)
	ConnectionPassword(ctx context.Context, ws workspace.Workspace, name string) (workspace.Secret, error)
	Connections(ctx context.Context, ws workspace.Workspace, category string) ([]store.Document, error)
	DeleteConnection(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error
}

// connectionRoutes are logins to registries, which azure-ai-ml calls connections (ml_client.connections).
func (h handlers) connectionRoutes() []api.Route {
	one := ws("/connections/{name}")
	return []api.Route{
		{Method: "GET", Pattern: ws("/connections"), Action: act("connections/read"), Handler: h.listConnections},
		{Method: "GET", Pattern: one, Action: act("connections/read"), Handler: h.getConnection},
		{Method: "PUT", Pattern: one, Action: act("connections/write"), Handler: h.putConnection},
		{Method: "PATCH", Pattern: one, Action: act("connections/write"), Handler: h.putConnection},
		{Method: "DELETE", Pattern: one, Action: act("connections/delete"), Handler: h.deleteConnection},
		{Method: "POST", Pattern: one + "/listSecrets", Action: act("connections/listsecrets/action"), Handler: h.listConnectionSecrets},
	}
}

func connectionView(r *http.Request, doc store.Document) api.Object {
	o := api.AsObject(doc.Body)
	inner := o.Child("properties")
	inner.Fill("metadata", map[string]string{})
	o.Set("properties", inner)
	o.Set("systemData", systemData(doc.Created, doc.Modified, doc.CreatedBy, doc.ModifiedBy))
	return envelope(o, api.WorkspaceOf(r).Path()+"/connections/"+doc.Name, doc.Name, "/connections")
}

func (h handlers) listConnections(w http.ResponseWriter, r *http.Request) error {
	docs, err := h.Connections.Connections(r.Context(), api.WorkspaceOf(r), r.URL.Query().Get("category"))
	if err != nil {
		return err
	}
	views := []api.Object{}
	for _, doc := range docs {
		views = append(views, connectionView(r, doc))
	}
	return list(w, r, views, "")
}

func (h handlers) getConnection(w http.ResponseWriter, r *http.Request) error {
	doc, err := h.Connections.Connection(r.Context(), api.WorkspaceOf(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, connectionView(r, doc))
}

func (h handlers) putConnection(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadObject(r)
	if err != nil {
		return err
	}
	doc, err := h.Connections.PutConnection(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"), body.JSON())
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, connectionView(r, doc))
}

// deleteConnection answers 204 for one that is not there, as ARM does.
func (h handlers) deleteConnection(w http.ResponseWriter, r *http.Request) error {
	err := h.Connections.DeleteConnection(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"))
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

// listConnectionSecrets gives a connection with its password, for those with the right to read it.
func (h handlers) listConnectionSecrets(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	doc, err := h.Connections.Connection(r.Context(), api.WorkspaceOf(r), name)
	if err != nil {
		return err
	}
	password, err := h.Connections.ConnectionPassword(r.Context(), api.WorkspaceOf(r), name)
	if err != nil {
		return err
	}
	view := connectionView(r, doc)
	inner := view.Child("properties")
	credentials := inner.Child("credentials")
	credentials.Set("password", password.Reveal())
	inner.Set("credentials", credentials)
	view.Set("properties", inner)
	w.Header().Set("Cache-Control", "no-store")
	return api.WriteJSON(w, http.StatusOK, view)
}
