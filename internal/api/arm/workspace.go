package arm

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Workspaces is what the routes of workspaces call; package control has it.
type Workspaces interface {
	Workspaces(ctx context.Context) ([]workspace.Workspace, error)
	CreateWorkspace(ctx context.Context, p workspace.Principal, ws workspace.Workspace) (made workspace.Workspace, created bool, err error)
	DeleteWorkspace(ctx context.Context, p workspace.Principal, ws workspace.Workspace) error
	AboutWorkspace(ctx context.Context, ws workspace.Workspace) (control.About, error)
	DescribeWorkspace(ctx context.Context, p workspace.Principal, ws workspace.Workspace, change control.About) error
}

const provider = "/providers/Microsoft.MachineLearningServices/workspaces"

func (h handlers) workspaceRoutes() []api.Route {
	// A PUT names a workspace that may not be there yet, so its last variable is not {ws}.
	create := "/subscriptions/{sub}/resourceGroups/{rg}" + provider + "/{new}"
	return []api.Route{
		{Method: "GET", Pattern: "/subscriptions", Action: "Microsoft.Resources/subscriptions/read", Handler: h.subscriptions},
		{Method: "GET", Pattern: "/subscriptions/{sub}", Action: "Microsoft.Resources/subscriptions/read", Handler: h.subscription},
		{Method: "GET", Pattern: "/subscriptions/{sub}/resourceGroups/{rg}", Action: "Microsoft.Resources/subscriptions/resourceGroups/read", Handler: h.resourceGroup},
		{Method: "GET", Pattern: "/tenants", Action: "Microsoft.Resources/tenants/read", Handler: h.tenants},
		{Method: "GET", Pattern: "/subscriptions/{sub}" + provider, Action: act("read"), Handler: h.listWorkspaces},
		{Method: "GET", Pattern: "/subscriptions/{sub}/resourceGroups/{rg}" + provider, Action: act("read"), Handler: h.listWorkspaces},
		{Method: "GET", Pattern: ws(""), Action: act("read"), Job: api.JobAny, Handler: h.getWorkspace},
		{Method: "PUT", Pattern: create, Action: act("write"), Handler: h.putWorkspace},
		{Method: "PATCH", Pattern: ws(""), Action: act("write"), Handler: h.patchWorkspace},
		{Method: "DELETE", Pattern: ws(""), Action: act("delete"), Handler: h.deleteWorkspace},
	}
}

func (h handlers) getWorkspace(w http.ResponseWriter, r *http.Request) error {
	return h.writeWorkspace(w, r, http.StatusOK, api.WorkspaceOf(r))
}

func (h handlers) writeWorkspace(w http.ResponseWriter, r *http.Request, status int, ws workspace.Workspace) error {
	view, err := h.workspaceView(r, ws)
	if err != nil {
		return err
	}
	return api.WriteJSON(w, status, view)
}

// workspaceViews is a list of them.
func (h handlers) workspaceViews(r *http.Request, all []workspace.Workspace) ([]map[string]any, error) {
	views := []map[string]any{}
	for _, ws := range all {
		view, err := h.workspaceView(r, ws)
		if err != nil {
			return nil, err
		}
		views = append(views, view)
	}
	return views, nil
}

// workspaceView is what azureml-v2.md §4 asks for, and azureml-v1.md §3.
func (h handlers) workspaceView(r *http.Request, ws workspace.Workspace) (map[string]any, error) {
	about, err := h.Workspaces.AboutWorkspace(r.Context(), ws)
	if err != nil {
		return nil, err
	}
	if about.Tags == nil {
		about.Tags = map[string]string{}
	}
	return map[string]any{
		"id": ws.Path(), "name": ws.Name, "type": "Microsoft.MachineLearningServices/workspaces", "location": ws.Location, "kind": "Default",
		"tags": about.Tags, "sku": map[string]string{"name": "Basic", "tier": "Basic"},
		"identity": map[string]string{"type": "SystemAssigned", "principalId": authn.UUID(ws.ID, "identity"), "tenantId": h.Tenant},
		"properties": map[string]any{
			"friendlyName": cmp.Or(about.FriendlyName, ws.Name), "description": about.Description, "workspaceId": ws.ID, "provisioningState": "Succeeded", "storageAccount": "", "keyVault": "", "applicationInsights": "",
			"discoveryUrl": api.DiscoveryURL(r, ws), "publicNetworkAccess": "Enabled", "creationTime": api.FormatTime(ws.Created), "hbiWorkspace": false,
			"mlFlowTrackingUri": "azureml://" + r.Host + "/mlflow/v1.0" + ws.Path(),
		},
		"systemData": systemData(ws.Created, ws.Created, "", ""),
	}, nil
}

func (h handlers) listWorkspaces(w http.ResponseWriter, r *http.Request) error {
	all, err := h.workspacesBelow(r)
	if err != nil {
		return err
	}
	views, err := h.workspaceViews(r, all)
	if err != nil {
		return err
	}
	return list(w, r, views, "")
}

// workspacesBelow are those in the subscription, and in the resource group if one is named, of the path.
func (h handlers) workspacesBelow(r *http.Request) ([]workspace.Workspace, error) {
	all, err := h.Workspaces.Workspaces(r.Context())
	return slices.DeleteFunc(all, func(ws workspace.Workspace) bool {
		return !same(ws.Subscription, r.PathValue("sub")) || r.PathValue("rg") != "" && !same(ws.ResourceGroup, r.PathValue("rg"))
	}), err
}

func (h handlers) putWorkspace(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadObject(r)
	if err != nil {
		return err
	}
	made, created, err := h.Workspaces.CreateWorkspace(r.Context(), api.PrincipalOf(r), workspace.Workspace{
		Subscription: r.PathValue("sub"), ResourceGroup: r.PathValue("rg"), Name: r.PathValue("new"), Location: body.Text("location"),
	})
	if err != nil {
		return err
	}
	if err := h.Workspaces.DescribeWorkspace(r.Context(), api.PrincipalOf(r), made, aboutOf(body)); err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return h.writeWorkspace(w, r, status, made)
}

// aboutOf is what a body says of a workspace in words. A tag that is no text is empty.
func aboutOf(body api.Object) control.About {
	properties := body.Child("properties")
	about := control.About{FriendlyName: properties.Text("friendlyName"), Description: properties.Text("description"), Tags: map[string]string{}}
	tags := body.Child("tags")
	for name := range tags {
		about.Tags[name] = tags.Text(name)
	}
	return about
}

func (h handlers) patchWorkspace(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadObject(r)
	if err != nil {
		return err
	}
	if err := h.Workspaces.DescribeWorkspace(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), aboutOf(body)); err != nil {
		return err
	}
	return h.writeWorkspace(w, r, http.StatusOK, api.WorkspaceOf(r))
}

func (h handlers) deleteWorkspace(w http.ResponseWriter, r *http.Request) error {
	if err := h.Workspaces.DeleteWorkspace(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h handlers) subscriptionView(id string) map[string]string {
	return map[string]string{"id": "/subscriptions/" + id, "subscriptionId": id, "displayName": "Moorage", "state": "Enabled", "tenantId": h.Tenant}
}

func (h handlers) subscriptions(w http.ResponseWriter, r *http.Request) error {
	all, err := h.Workspaces.Workspaces(r.Context())
	if err != nil {
		return err
	}
	views, seen := []map[string]string{}, map[string]bool{}
	for _, ws := range all {
		if !seen[ws.Subscription] {
			seen[ws.Subscription] = true
			views = append(views, h.subscriptionView(ws.Subscription))
		}
	}
	return list(w, r, views, "")
}

func (h handlers) subscription(w http.ResponseWriter, r *http.Request) error {
	return h.ifKnown(r, func() error { return api.WriteJSON(w, http.StatusOK, h.subscriptionView(r.PathValue("sub"))) })
}

func (h handlers) resourceGroup(w http.ResponseWriter, r *http.Request) error {
	return h.ifKnown(r, func() error {
		return api.WriteJSON(w, http.StatusOK, resourceGroupView(r.PathValue("sub"), r.PathValue("rg"), "local"))
	})
}

// ifKnown answers when some workspace is in the subscription and resource group that the path names.
func (h handlers) ifKnown(r *http.Request, answer func() error) error {
	all, err := h.workspacesBelow(r)
	if err != nil {
		return err
	}
	if len(all) > 0 {
		return answer()
	}
	return &workspace.Problem{
		Class: workspace.NotFound, Code: "ResourceNotFound", Target: r.URL.Path, Message: "no workspace of this server is in that subscription or resource group",
		Mend: "compare with what moorage env prints",
	}
}

func (h handlers) tenants(w http.ResponseWriter, r *http.Request) error {
	return list(w, r, []map[string]string{{"id": "/tenants/" + h.Tenant, "tenantId": h.Tenant, "displayName": "Moorage"}}, "")
}
