package arm

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The part of Azure's resource manager that Workspace.create, list and delete of azureml-core call. Resource groups are
// no things here: one is there as long as a workspace names it.
func (h handlers) deploymentRoutes() []api.Route {
	const (
		deployments = "/providers/Microsoft.Resources/deployments"
		groups      = "/subscriptions/{sub}/resourceGroups"
		one         = groups + "/{rg}" + deployments + "/{name}"
		look        = "Microsoft.Resources/deployments/read"
	)
	return []api.Route{
		{Method: "GET", Pattern: groups, Action: "Microsoft.Resources/subscriptions/resourceGroups/read", Handler: h.resourceGroups},
		{Method: "PUT", Pattern: groups + "/{rg}", Action: "Microsoft.Resources/subscriptions/resourceGroups/write", Handler: h.putResourceGroup},
		{Method: "GET", Pattern: "/subscriptions/{sub}/resources", Action: "Microsoft.Resources/subscriptions/resources/read", Handler: h.resources},
		{Method: "GET", Pattern: groups + "/{rg}/resources", Action: "Microsoft.Resources/subscriptions/resources/read", Handler: h.resources},
		{Method: "GET", Pattern: "/subscriptions/{sub}/providers/Microsoft.MachineLearningServices", Action: "Microsoft.Resources/subscriptions/providers/read", Handler: h.provider},
		{Method: "GET", Pattern: "/subscriptions/{sub}" + deployments, Action: look, Handler: none},
		{Method: "GET", Pattern: groups + "/{rg}" + deployments, Action: look, Handler: none},
		{Method: "PUT", Pattern: one, Action: act("write"), Handler: h.deploy},
		{Method: "GET", Pattern: one, Action: look, Handler: h.deployment},
		{Method: "GET", Pattern: groups + "/{rg}/deployments/{name}/operations", Action: look, Handler: none},
	}
}

// none is an empty list.
func none(w http.ResponseWriter, r *http.Request) error { return list(w, r, []any{}, "") }

// regions are what people write as a workspace's location, as the documentation does. Here it is a word like any other,
// but azureml-core refuses one that is not listed.
var regions = strings.Fields(`local eastus eastus2 westus westus2 westus3 centralus northcentralus southcentralus westcentralus canadacentral canadaeast
	brazilsouth northeurope westeurope uksouth ukwest francecentral germanywestcentral switzerlandnorth norwayeast swedencentral italynorth polandcentral
	spaincentral southafricanorth uaenorth qatarcentral centralindia southindia eastasia southeastasia japaneast japanwest koreacentral australiaeast
	australiasoutheast`)

// provider says what can be made where.
func (h handlers) provider(w http.ResponseWriter, r *http.Request) error {
	all, err := h.Workspaces.Workspaces(r.Context())
	if err != nil {
		return err
	}
	locations := slices.Clone(regions)
	for _, ws := range all {
		if !slices.Contains(locations, ws.Location) {
			locations = append(locations, ws.Location)
		}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{
		"id": r.URL.Path, "namespace": "Microsoft.MachineLearningServices", "registrationState": "Registered",
		"resourceTypes": []any{map[string]any{"resourceType": "workspaces", "locations": locations, "apiVersions": []string{"2022-05-01"}}},
	})
}

// template is the part of a deployment that counts.
type template struct {
	Properties struct {
		Template struct {
			Resources []json.RawMessage
		}
	}
}

// deploy makes the workspaces that a template holds, at once. The storage account, key vault and the like that stand
// beside them are what this server does without.
func (h handlers) deploy(w http.ResponseWriter, r *http.Request) error {
	var t template
	if err := api.DecodeJSON(r, &t); err != nil {
		return err
	}
	made := 0
	for _, text := range t.Properties.Template.Resources {
		resource := api.AsObject(text)
		if !same(resource.Text("type"), "Microsoft.MachineLearningServices/workspaces") {
			continue
		}
		if name := resource.Text("name"); strings.HasPrefix(name, "[") {
			return unsupportedTemplate("the name of its workspace is the expression " + name)
		}
		ws, _, err := h.Workspaces.CreateWorkspace(r.Context(), api.PrincipalOf(r), workspace.Workspace{
			Subscription: r.PathValue("sub"), ResourceGroup: r.PathValue("rg"), Name: resource.Text("name"), Location: resource.Text("location"),
		})
		if err == nil {
			err = h.Workspaces.DescribeWorkspace(r.Context(), api.PrincipalOf(r), ws, aboutOf(resource))
		}
		if err != nil {
			return err
		}
		made++
	}
	if made == 0 {
		return unsupportedTemplate("there is no workspace among its resources")
	}
	return api.WriteJSON(w, http.StatusCreated, deploymentView(r))
}

func unsupportedTemplate(cause string) error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "NotSupported", Target: "properties.template", Message: "this server makes nothing of that template", Cause: cause,
		Mend: "deploy templates that name a workspace, or put the workspace itself",
	}
}

// deployment is not remembered: what was deployed was done when it was answered.
func (h handlers) deployment(w http.ResponseWriter, r *http.Request) error {
	return h.ifKnown(r, func() error { return api.WriteJSON(w, http.StatusOK, deploymentView(r)) })
}

func deploymentView(r *http.Request) map[string]any {
	return map[string]any{
		"id": r.URL.Path, "name": r.PathValue("name"), "type": "Microsoft.Resources/deployments",
		"properties": map[string]any{"provisioningState": "Succeeded", "mode": "Incremental"},
	}
}

// resources lists the workspaces as resources; there are no others. A filter for another type leaves none.
func (h handlers) resources(w http.ResponseWriter, r *http.Request) error {
	all, err := h.workspacesBelow(r)
	if err != nil {
		return err
	}
	filter := strings.ToLower(r.URL.Query().Get("$filter"))
	_, group, filtered := strings.Cut(filter, "resourcegroup eq '")
	group, _, _ = strings.Cut(group, "'")
	all = slices.DeleteFunc(all, func(ws workspace.Workspace) bool {
		return filter != "" && !strings.Contains(filter, "'microsoft.machinelearningservices/workspaces'") || filtered && !same(group, ws.ResourceGroup)
	})
	views, err := h.workspaceViews(r, all)
	if err != nil {
		return err
	}
	for _, view := range views {
		delete(view, "properties") // lists of resources do not have them
	}
	return list(w, r, views, "")
}

func (h handlers) resourceGroups(w http.ResponseWriter, r *http.Request) error {
	all, err := h.workspacesBelow(r)
	if err != nil {
		return err
	}
	views, seen := []map[string]any{}, map[string]bool{}
	for _, ws := range all {
		if name := strings.ToLower(ws.ResourceGroup); !seen[name] {
			seen[name] = true
			views = append(views, resourceGroupView(r.PathValue("sub"), ws.ResourceGroup, ws.Location))
		}
	}
	return list(w, r, views, "")
}

// putResourceGroup makes nothing: the group is there with the first workspace in it.
func (h handlers) putResourceGroup(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadObject(r)
	if err != nil {
		return err
	}
	location := body.Text("location")
	if location == "" {
		location = "local"
	}
	view := resourceGroupView(r.PathValue("sub"), r.PathValue("rg"), location)
	if body.Has("tags") {
		view["tags"] = body["tags"]
	}
	return api.WriteJSON(w, http.StatusCreated, view)
}

func resourceGroupView(subscription, name, location string) map[string]any {
	return map[string]any{
		"id": "/subscriptions/" + subscription + "/resourceGroups/" + name, "name": name, "type": "Microsoft.Resources/resourceGroups",
		"location": location, "properties": map[string]string{"provisioningState": "Succeeded"},
	}
}
