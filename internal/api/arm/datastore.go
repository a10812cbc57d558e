package arm

import (
	"context"
	"net/http"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Datastores is what the routes of datastores call; package control has it.
type Datastores interface {
	Datastore(ctx context.Context, ws workspace.Workspace, name string) (control.Datastore, error)
	Datastores(ctx context.Context, ws workspace.Workspace, page store.Page) (list []control.Datastore, next string, err error)
	UnregisterDatastore(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error
}

func (h handlers) datastoreRoutes() []api.Route {
	one := ws("/datastores/{name}")
	return []api.Route{
		{Method: "GET", Pattern: ws("/datastores"), Action: act("datastores/read"), Handler: h.listDatastores},
		{Method: "GET", Pattern: one, Action: act("datastores/read"), Handler: h.getDatastore},
		{Method: "PUT", Pattern: one, Action: act("datastores/write"), Handler: h.putDatastore},
		{Method: "DELETE", Pattern: one, Action: act("datastores/delete"), Handler: h.deleteDatastore},
		{Method: "POST", Pattern: one + "/listSecrets", Action: act("datastores/listsecrets/action"), Handler: h.listSecrets},
	}
}

// datastoreView names this server as the account of a container of its own: the client builds a URL from
// "HOST:PORT/blob/acct" and keeps the path. credentialsType None makes it send its own token (azureml-v2.md §7).
func datastoreView(r *http.Request, d control.Datastore) map[string]any {
	place := api.WorkspaceOf(r)
	created := d.Created
	if created == 0 {
		created = place.Created
	}
	p := map[string]any{
		"datastoreType": "AzureBlob", "accountName": r.Host + "/blob/acct", "containerName": d.Container, "endpoint": "core.windows.net", "protocol": "https",
		"isDefault": d.Default, "description": "kept by this server", "tags": d.Tags, "properties": map[string]string{},
		"serviceDataAccessAuthIdentity": "None", "credentials": map[string]string{"credentialsType": "None"},
		"resourceGroup": place.ResourceGroup, "subscriptionId": place.Subscription,
	}
	if d.Container == "" {
		p["accountName"], p["containerName"], p["endpoint"], p["protocol"], p["description"] = d.Account, d.Remote, d.Endpoint, d.Protocol, ""
		if d.CredentialType != "" {
			p["credentials"] = map[string]string{"credentialsType": d.CredentialType}
		}
	}
	if d.Tags == nil {
		p["tags"] = map[string]string{}
	}
	return map[string]any{
		"id": place.Path() + "/datastores/" + d.Name, "name": d.Name, "type": "Microsoft.MachineLearningServices/workspaces/datastores",
		"properties": p, "systemData": systemData(created, created, d.CreatedBy, d.CreatedBy),
	}
}

func (h handlers) listDatastores(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	all, next, err := h.Datastores.Datastores(r.Context(), api.WorkspaceOf(r), store.Page{After: q.Get("$skip"), Limit: pageSize(q, 100)})
	if err != nil {
		return err
	}
	views := []map[string]any{}
	for _, d := range all {
		if d.Default || !truth(q.Get("isDefault")) {
			views = append(views, datastoreView(r, d))
		}
	}
	return list(w, r, views, next)
}

func (h handlers) getDatastore(w http.ResponseWriter, r *http.Request) error {
	d, err := h.Datastores.Datastore(r.Context(), api.WorkspaceOf(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, datastoreView(r, d))
}

func (h handlers) putDatastore(_ http.ResponseWriter, r *http.Request) error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "NotSupported", Target: r.PathValue("name"), Message: "this server does not yet take datastores from azure-ai-ml",
		Mend: "upload to " + control.DefaultDatastore + ", or register the container with azureml-core: Datastore.register_azure_blob_container",
	}
}

func (h handlers) deleteDatastore(w http.ResponseWriter, r *http.Request) error {
	if err := h.Datastores.UnregisterDatastore(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// listSecrets gives a signature for a container of this server, for clients that insist on one, and what was registered
// for one elsewhere.
func (h handlers) listSecrets(w http.ResponseWriter, r *http.Request) error {
	d, err := h.Datastores.Datastore(r.Context(), api.WorkspaceOf(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	secrets := map[string]string{"secretsType": "Sas"}
	switch {
	case d.Container != "":
		secrets["sasToken"] = h.Sign(authn.Signature{Container: d.Container, Verbs: "rcwdl", Expires: h.Clock.Now().Add(time.Hour)})
	case d.CredentialType == "Sas":
		secrets["sasToken"] = d.Credential.Reveal()
	case d.CredentialType == "AccountKey":
		secrets = map[string]string{"secretsType": "AccountKey", "key": d.Credential.Reveal()}
	default:
		return &workspace.Problem{Class: workspace.Invalid, Code: "NoSecrets", Target: d.Name, Message: "datastore " + d.Name + " was registered without a credential", Mend: "register it again with one"}
	}
	return api.WriteJSON(w, http.StatusOK, secrets)
}
