package arm

import (
	"net/http"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func (h handlers) datastoreRoutes() []api.Route {
	one := ws("/datastores/{name}")
	return []api.Route{
		{Method: "GET", Pattern: ws("/datastores"), Action: act("datastores/read"), Handler: h.listDatastores},
		{Method: "GET", Pattern: one, Action: act("datastores/read"), Handler: h.getDatastore},
		{Method: "PUT", Pattern: one, Action: act("datastores/write"), Handler: h.putDatastore},
		{Method: "DELETE", Pattern: one, Action: act("datastores/delete"), Handler: h.putDatastore},
		{Method: "POST", Pattern: one + "/listSecrets", Action: act("datastores/listsecrets/action"), Handler: h.listSecrets},
	}
}

// datastoreView names this server as the account: the client builds a URL from "HOST:PORT/blob/acct" and keeps the
// path. credentialsType None makes it send its own token (azureml-v2.md §7).
func (h handlers) datastoreView(r *http.Request, name string) (map[string]any, error) {
	place := api.WorkspaceOf(r)
	container, err := control.Container(place.ID, name)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"id": place.Path() + "/datastores/" + name, "name": name, "type": "Microsoft.MachineLearningServices/workspaces/datastores",
		"properties": map[string]any{
			"datastoreType": "AzureBlob", "accountName": r.Host + "/blob/acct", "containerName": container, "endpoint": "core.windows.net", "protocol": "https",
			"isDefault": name == control.DefaultDatastore, "description": "kept by this server", "tags": map[string]string{}, "properties": map[string]string{},
			"serviceDataAccessAuthIdentity": "None", "credentials": map[string]string{"credentialsType": "None"},
			"resourceGroup": place.ResourceGroup, "subscriptionId": place.Subscription,
		},
		"systemData": systemData(place.Created, place.Created, "", ""),
	}, nil
}

func (h handlers) listDatastores(w http.ResponseWriter, r *http.Request) error {
	views := []map[string]any{}
	for _, name := range []string{control.DefaultDatastore, control.ArtifactDatastore} {
		if truth(r.URL.Query().Get("isDefault")) && name != control.DefaultDatastore {
			continue
		}
		view, err := h.datastoreView(r, name)
		if err != nil {
			return err
		}
		views = append(views, view)
	}
	return list(w, r, views, "")
}

func (h handlers) getDatastore(w http.ResponseWriter, r *http.Request) error {
	view, err := h.datastoreView(r, r.PathValue("name"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, view)
}

func (h handlers) putDatastore(_ http.ResponseWriter, r *http.Request) error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "NotSupported", Target: r.PathValue("name"), Message: "this server does not yet have datastores other than its own two",
		Mend: "upload to " + control.DefaultDatastore + ", or read other stores in the job",
	}
}

// listSecrets gives a signature for the datastore's container, for clients that insist on one.
func (h handlers) listSecrets(w http.ResponseWriter, r *http.Request) error {
	container, err := control.Container(api.WorkspaceOf(r).ID, r.PathValue("name"))
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return api.WriteJSON(w, http.StatusOK, map[string]string{
		"secretsType": "Sas", "sasToken": h.Sign(authn.Signature{Container: container, Verbs: "rcwdl", Expires: h.Clock.Now().Add(time.Hour)}),
	})
}
