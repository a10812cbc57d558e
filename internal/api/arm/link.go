package arm

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Links is what the routes of linked services call; package control has it.
type Links interface {
	PutLink(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, body json.RawMessage) (store.Document, error)
	Link(ctx context.Context, ws workspace.Workspace, name string) (store.Document, error)
	Links(ctx context.Context, ws workspace.Workspace) ([]store.Document, error)
	DeleteLink(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error
}

// linkRoutes are the linked services of azureml-core (azureml-v1.md §5): names for Synapse workspaces.
func (h handlers) linkRoutes() []api.Route {
	one := ws("/linkedServices/{name}")
	return []api.Route{
		{Method: "GET", Pattern: ws("/linkedServices"), Action: act("linkedServices/read"), Handler: h.listLinks},
		{Method: "GET", Pattern: one, Action: act("linkedServices/read"), Handler: h.getLink},
		{Method: "PUT", Pattern: one, Action: act("linkedServices/write"), Handler: h.putLink},
		{Method: "DELETE", Pattern: one, Action: act("linkedServices/delete"), Handler: h.deleteLink},
	}
}

// linkView is the document with what the server knows laid over. The identity is a name only: nobody acts by it.
func (h handlers) linkView(r *http.Request, doc store.Document) api.Object {
	place := api.WorkspaceOf(r)
	o := api.AsObject(doc.Body)
	identity := o.Child("identity")
	identity.Fill("type", "SystemAssigned")
	identity.Set("principalId", authn.UUID(place.ID, "link", doc.Name))
	identity.Set("tenantId", h.Tenant)
	o.Set("identity", identity)
	inner := o.Child("properties")
	inner.Set("linkType", "synapse")
	inner.Set("linkedServiceType", "Synapse")
	inner.Set("createdTime", api.FormatTime(doc.Created))
	inner.Set("modifiedTime", api.FormatTime(doc.Modified))
	o.Set("properties", inner)
	o.Fill("location", place.Location)
	return envelope(o, place.Path()+"/linkedServices/"+doc.Name, doc.Name, "/linkedServices")
}

func (h handlers) listLinks(w http.ResponseWriter, r *http.Request) error {
	docs, err := h.Links.Links(r.Context(), api.WorkspaceOf(r))
	if err != nil {
		return err
	}
	views := []api.Object{}
	for _, doc := range docs {
		views = append(views, h.linkView(r, doc))
	}
	return list(w, r, views, "")
}

func (h handlers) getLink(w http.ResponseWriter, r *http.Request) error {
	doc, err := h.Links.Link(r.Context(), api.WorkspaceOf(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, h.linkView(r, doc))
}

func (h handlers) putLink(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadObject(r)
	if err != nil {
		return err
	}
	doc, err := h.Links.PutLink(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"), body.JSON())
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, h.linkView(r, doc))
}

func (h handlers) deleteLink(w http.ResponseWriter, r *http.Request) error {
	if err := h.Links.DeleteLink(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
