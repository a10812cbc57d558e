package all

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// deployments are what azureml-core makes workspaces by.
const deployments = "/subscriptions/S-1/resourcegroups/team/providers/Microsoft.Resources/deployments/"

// second is the path of a workspace in another resource group.
var second = strings.TrimSuffix(strings.Replace(wsPath, "/rg/", "/team/", 1), "main") + "second"

func TestWorkspaceIsMadeByATemplate(t *testing.T) {
	s := newServer(t)
	template := func(resources ...map[string]any) map[string]any {
		return map[string]any{"properties": map[string]any{"mode": "incremental", "template": map[string]any{"resources": resources}}}
	}
	storage := map[string]any{"type": "Microsoft.Storage/storageAccounts", "name": "x", "location": "east"}
	made := map[string]any{"type": "Microsoft.MachineLearningServices/workspaces", "name": "second", "location": "east", "tags": map[string]string{"team": "a"}, "properties": map[string]any{"keyVault": "x", "friendlyName": "Ours"}}
	places := s.call("GET", "/subscriptions/S-1/providers/Microsoft.MachineLearningServices", nil).want(200)
	if found, _ := places.get("resourceTypes.0.locations").([]any); !slices.Contains(found, any("local")) || !slices.Contains(found, any("eastus2")) {
		t.Errorf("a workspace can be made in %v", found)
	}
	s.call("GET", "/subscriptions/S-1/resourceGroups/team", nil).want(404)
	s.call("PUT", "/subscriptions/S-1/resourceGroups/team", map[string]any{"location": "east", "tags": map[string]string{"a": "b"}}).want(201).has(map[string]any{"name": "team", "location": "east", "tags.a": "b"})
	s.call("PUT", deployments+"one", template(storage, made)).want(201).has(map[string]any{"properties.provisioningState": "Succeeded", "name": "one"})
	s.call("GET", deployments+"one", nil).want(200).has(map[string]any{"properties.provisioningState": "Succeeded"})
	s.call("GET", "/subscriptions/S-1/resourcegroups/team/deployments/one/operations", nil).want(200).has(map[string]any{"value.0": nil})
	got := s.call("GET", second, nil).want(200)
	got.has(map[string]any{"name": "second", "location": "east", "tags.team": "a", "properties.friendlyName": "Ours"})
	if got.get("properties.workspaceId") == s.ws.ID {
		t.Error("two workspaces have one id")
	}
	s.call("PUT", deployments+"two", template(storage)).want(501).has(map[string]any{"error.code": "NotSupported"})
	made["name"] = "[parameters('workspaceName')]"
	s.call("PUT", deployments+"two", template(made)).want(501)
	made["name"] = "a b"
	s.call("PUT", deployments+"two", template(made)).want(400).has(map[string]any{"error.code": "InvalidName"})
}

func TestWorkspacesAreResources(t *testing.T) {
	s := newServer(t)
	s.call("PUT", second, map[string]any{}).want(201)
	ask := func(filter string) answer {
		return s.call("GET", "/subscriptions/S-1/resources?$filter="+url.QueryEscape(filter), nil).want(200)
	}
	ask("resourceType eq 'Microsoft.MachineLearningServices/workspaces'").has(map[string]any{"value.0.name": "main", "value.1.name": "second", "value.0.properties": nil})
	ask("resourceGroup eq 'TEAM' and resourceType eq 'Microsoft.MachineLearningServices/workspaces'").has(map[string]any{"value.0.name": "second", "value.1": nil})
	ask("resourceType eq 'Microsoft.Storage/storageAccounts'").has(map[string]any{"value.0": nil})
	s.call("GET", "/subscriptions/S-1/resourceGroups/rg/resources", nil).want(200).has(map[string]any{"value.0.name": "main", "value.1": nil})
	s.call("GET", "/subscriptions/S-1/resourceGroups", nil).want(200).has(map[string]any{"value.0.name": "rg", "value.1.name": "team"})
	s.call("GET", "/subscriptions/S-1/providers/Microsoft.Resources/deployments", nil).want(200).has(map[string]any{"value.0": nil})
}
