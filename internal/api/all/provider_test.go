package all

import (
	"strings"
	"testing"
)

// v1 is the api-version with which azureml-core speaks of computes.
const v1 = "?api-version=2020-02-02"

// rp is where azureml-core reads.
const rp = "/rp/workspaces" + wsPath

// ofType is the body of an attachment by azureml-core: "tags" and the like are null.
func ofType(computeType, resourceID string, inner any) map[string]any {
	return map[string]any{"location": "local", "tags": nil, "properties": map[string]any{
		"computeType": computeType, "resourceId": resourceID, "description": nil, "properties": inner,
	}}
}

func TestAttachmentOfAzuremlCoreIsFollowedAsAnOperation(t *testing.T) {
	s := newServer(t)
	put := s.call("PUT", wsPath+"/computes/vm1"+v1, vm("", map[string]any{"address": "10.0.0.5"})).want(201)
	link := put.Header().Get("Azure-AsyncOperation")
	if !strings.HasSuffix(link, v1) {
		t.Fatalf("operation %q has no api-version", link)
	}
	s.call("GET", s.path(link), nil).want(200).has(map[string]any{"status": "Succeeded", "error": nil})
	got := s.call("GET", rp+"/computes/vm1"+v1, nil).want(200)
	got.has(map[string]any{
		"name": "vm1", "properties.computeType": "VirtualMachine", "properties.isAttachedCompute": true, "properties.provisioningState": "Succeeded",
		"properties.provisioningErrors": nil, "properties.properties.address": "10.0.0.5", "properties.properties.sshPort": 2222.0,
	})
	properties, _ := got.get("properties").(map[string]any)
	for _, key := range []string{"resourceId", "description", "provisioningErrors", "createdOn", "modifiedOn", "computeLocation", "disableLocalAuth"} {
		if _, there := properties[key]; !there {
			t.Errorf("key %s is missing", key)
		}
	}
	del := s.call("DELETE", wsPath+"/computes/vm1"+v1+"&underlyingResourceAction=detach", nil).want(200)
	s.call("GET", s.path(del.Header().Get("Azure-AsyncOperation")), nil).want(200).has(map[string]any{"status": "Succeeded"})
	s.call("GET", rp+"/computes/vm1"+v1, nil).want(404)
	again := s.call("DELETE", wsPath+"/computes/vm1"+v1, nil).want(200)
	s.call("GET", s.path(again.Header().Get("Azure-AsyncOperation")), nil).want(200).has(map[string]any{"status": "Succeeded"})
}

func TestAttachmentThatFailsIsToldByTheOperation(t *testing.T) {
	s := newServer(t)
	put := s.call("PUT", wsPath+"/computes/vm1"+v1, vm("ssh://gone", nil)).want(201)
	op := s.call("GET", s.path(put.Header().Get("Azure-AsyncOperation")), nil).want(200)
	op.has(map[string]any{"status": "Failed", "error.code": "Unreachable", "error.statusCode": 400.0})
	for _, path := range []string{rp, wsPath} {
		s.call("GET", path+"/computes/vm1", nil).want(200).has(map[string]any{
			"properties.provisioningState": "Failed", "properties.provisioningErrors.0.error.code": "Unreachable", "properties.provisioningErrors.0.error.statusCode": 400.0,
		})
	}
	// Clients of our time show the error of the PUT itself.
	s.call("PUT", wsPath+"/computes/vm2?api-version=2024-04-01", vm("ssh://gone", nil)).want(400).has(map[string]any{"error.code": "Unreachable"})
}

func TestSecondAttachmentByAzuremlCoreIsRefusedAtOnce(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/computes/vm1"+v1, vm("ssh://10.0.0.5", nil)).want(201)
	a := s.call("PUT", wsPath+"/computes/vm2"+v1, vm("ssh://10.0.0.5", nil)).want(409).has(map[string]any{"error.code": "AlreadyAttached"})
	if m, _ := a.get("error.message").(string); !strings.Contains(m, "vm1") {
		t.Errorf("the first is not named: %s", m)
	}
	s.call("GET", rp+"/computes/vm1", nil).want(200).has(map[string]any{"properties.provisioningState": "Succeeded"})
	s.call("GET", rp+"/computes/vm2", nil).want(404)
}

// TestEveryKindOfAzuremlCoreIsReadable attaches what its classes attach. Those that have no driver yet fail, are listed
// with their reason and the keys that the classes read, and can be detached.
func TestEveryKindOfAzuremlCoreIsReadable(t *testing.T) {
	s := newServer(t)
	provider := func(rest string) string { return "/subscriptions/S-1/resourceGroups/rg/providers/" + rest }
	tests := []struct {
		name string
		body map[string]any
		keys []string // of the inner properties
	}{
		{"hdi", ofType("HDInsight", provider("Microsoft.HDInsight/clusters/h"), map[string]any{"sshPort": 22, "address": nil, "administratorAccount": map[string]any{"username": "u", "password": "hush"}}), nil},
		{"dbx", ofType("Databricks", provider("Microsoft.Databricks/workspaces/w"), map[string]any{"databricksAccessToken": "hush"}), nil},
		{"adla", ofType("DataLakeAnalytics", provider("Microsoft.DataLakeAnalytics/accounts/a"), nil), nil},
		{"pool", ofType("SynapseSpark", provider("Microsoft.Synapse/workspaces/w/bigDataPools/p"), nil), nil},
		{"k8s", ofType("Kubernetes", provider("Microsoft.Kubernetes/connectedClusters/arc"), map[string]any{"namespace": "ml"}), []string{"namespace"}},
		{
			"aks", ofType("AKS", provider("Microsoft.ContainerService/managedClusters/k"), map[string]any{"loadBalancerType": "PublicIp", "sslConfiguration": map[string]any{"status": "Enabled", "key": "hush", "cert": "shown"}}),
			[]string{"agentVmSize", "agentCount", "clusterPurpose", "clusterFqdn", "systemServices", "loadBalancerType", "loadBalancerSubnet", "sslConfiguration"},
		},
		{"adf", ofType("DataFactory", provider("Microsoft.DataFactory/factories/f"), nil), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			put := s.call("PUT", wsPath+"/computes/"+tt.name+v1, tt.body).want(201)
			op := s.call("GET", s.path(put.Header().Get("Azure-AsyncOperation")), nil).want(200).has(map[string]any{"status": "Failed", "error.code": "UnsupportedComputeType"})
			if m, _ := op.get("error.message").(string); !strings.Contains(m, `"`+tt.name+`"`) || !strings.Contains(m, "does not yet run") {
				t.Errorf("it says %q", m)
			}
			got := s.call("GET", rp+"/computes/"+tt.name, nil).want(200)
			got.has(map[string]any{"properties.provisioningState": "Failed", "properties.computeType": tt.body["properties"].(map[string]any)["computeType"], "properties.isAttachedCompute": true})
			inner, object := got.get("properties.properties").(map[string]any)
			if !object {
				t.Error("the inner properties are no object")
			}
			for _, key := range tt.keys {
				if _, there := inner[key]; !there {
					t.Errorf("key %s is missing", key)
				}
			}
			row, err := s.store.Compute(t.Context(), s.ws.ID, tt.name)
			must(t, err)
			if strings.Contains(put.Body.String()+got.Body.String()+string(row.Doc)+string(row.Settings), "hush") {
				t.Error("a secret is kept or shown")
			}
			s.call("POST", wsPath+"/computes/"+tt.name+"/listKeys"+v1, nil).want(200)
		})
	}
	if n := len(s.call("GET", rp+"/computes"+v1, nil).want(200).get("value").([]any)); n != len(tests) { // "local" is azureml-core's own name
		t.Errorf("%d computes are listed", n)
	}
	for _, tt := range tests {
		s.call("DELETE", wsPath+"/computes/"+tt.name+v1+"&underlyingResourceAction=detach", nil).want(200)
	}
	s.call("GET", rp+"/computes"+v1, nil).want(200).has(map[string]any{"value.0": nil})
}

func TestAzuremlCoreSeesNoNextLinkAndNoComputeLocal(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/computes/cpu-cluster"+v1, map[string]any{"properties": map[string]any{"computeType": "AmlCompute", "properties": map[string]any{}}}).want(201)
	a := s.call("GET", rp+"/computes"+v1, nil).want(200)
	a.has(map[string]any{"value.0.name": "cpu-cluster", "value.1": nil})
	if strings.Contains(a.Body.String(), "nextLink") {
		t.Error("there is a key nextLink on the last page")
	}
	inner, _ := a.get("value.0.properties.properties").(map[string]any)
	for _, key := range []string{"vmSize", "vmPriority", "scaleSettings", "subnet"} {
		if _, there := inner[key]; !there {
			t.Errorf("AmlCompute lacks %s", key)
		}
	}
	s.call("GET", rp+"/computes/local", nil).want(404)
	s.call("GET", rp+"/computes/nothing", nil).want(404)
	s.call("GET", rp, nil).want(200).has(map[string]any{"properties.workspaceId": s.ws.ID})
}

func TestLinkedServices(t *testing.T) {
	s := newServer(t)
	one := wsPath + "/linkedServices/syn?api-version=2020-04-01-preview"
	const id = "/subscriptions/S-1/resourcegroups/g/providers/Microsoft.Synapse/workspaces/W"
	body := map[string]any{"name": "syn", "location": "local", "identity": map[string]string{"type": "SystemAssigned"}, "properties": map[string]string{"linkedServiceResourceId": id}}
	s.call("GET", one, nil).want(404)
	for _, a := range []answer{s.call("PUT", one, body).want(200), s.call("GET", one, nil).want(200)} {
		a.has(map[string]any{
			"id": wsPath + "/linkedServices/syn", "name": "syn", "type": "Microsoft.MachineLearningServices/workspaces/linkedServices", "identity.type": "SystemAssigned",
			"properties.linkedServiceResourceId": id, "properties.linkType": "synapse", "properties.linkedServiceType": "Synapse",
		})
	}
	s.call("GET", wsPath+"/linkedServices", nil).want(200).has(map[string]any{"value.0.name": "syn", "value.1": nil})
	s.call("PUT", wsPath+"/linkedServices/bad", map[string]any{"properties": map[string]string{"linkedServiceResourceId": "/x"}}).want(400)
	s.call("DELETE", one, nil).want(200)
	s.call("GET", one, nil).want(404)
	s.call("DELETE", one, nil).want(404)
}
