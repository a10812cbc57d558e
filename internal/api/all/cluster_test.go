package all

import (
	"encoding/json"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/test/contract"
)

const (
	aksID = "/subscriptions/S-1/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/aks"
	arcID = "/subscriptions/S-1/resourceGroups/g/providers/Microsoft.Kubernetes/connectedClusters/arc"
)

// aKubeconfig has one context, and a token that must be shown nowhere.
const aKubeconfig = `{"current-context":"blue","contexts":[{"name":"blue","context":{"cluster":"b","user":"bob"}}],
	"clusters":[{"name":"b","cluster":{"server":"https://b:6443"}}],"users":[{"name":"bob","user":{"token":"hush-token"}}]}`

// k8s is the body by which azure-ai-ml attaches a cluster.
func k8s(resource string, inner map[string]any) map[string]any {
	all := map[string]any{"namespace": "ml"}
	maps.Copy(all, inner)
	return map[string]any{"location": "local", "properties": map[string]any{"computeType": "Kubernetes", "resourceId": resource, "properties": all}}
}

func TestClusterIsAttachedByAContext(t *testing.T) {
	s := newServer(t, machine{"kubernetes"})
	types := map[string]any{"big": map[string]any{
		"nodeSelector": map[string]string{"disk": "ssd"},
		"resources":    map[string]any{"requests": map[string]any{"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": nil}, "limits": map[string]any{"cpu": "2", "memory": "2Gi", "nvidia.com/gpu": "1"}},
	}}
	body := k8s("kubeconfig://blue", map[string]any{"instanceTypes": types, "defaultInstanceType": "big", "settings": map[string]any{"kubeconfig": aKubeconfig}})
	put := s.call("PUT", wsPath+"/computes/k8s", body).want(201)
	for _, a := range []answer{put, s.call("GET", wsPath+"/computes/k8s", nil).want(200)} {
		a.has(map[string]any{
			"properties.computeType": "Kubernetes", "properties.isAttachedCompute": true, "properties.resourceId": "kubeconfig://blue", "properties.properties.address": "kubeconfig://blue",
			"properties.properties.namespace": "ml", "properties.properties.kind": "kubernetes", "properties.properties.defaultInstanceType": "big",
			"properties.properties.instanceTypes.big.nodeSelector.disk": "ssd", "properties.properties.instanceTypes.big.resources.requests.cpu": "0.5",
			"properties.properties.instanceTypes.big.resources.requests.memory": "1073741824", "properties.properties.settings.instance_types.big.gpus": 1.0,
		})
		limits, _ := a.get("properties.properties.instanceTypes.big.resources.limits").(map[string]any)
		if limits["nvidia.com/gpu"] != "1" || limits["cpu"] != "2" {
			t.Errorf("limits are %v", limits)
		}
		if strings.Contains(a.Body.String(), "hush") {
			t.Fatalf("a secret is in an answer: %s", a.Body)
		}
	}
	s.call("PATCH", wsPath+"/computes/k8s", map[string]any{"properties": map[string]any{"properties": map[string]any{"namespace": "other", "settings": map[string]any{"instance_types": nil, "default_instance_type": nil}}}}).
		want(200).has(map[string]any{"properties.properties.namespace": "other", "properties.properties.instanceTypes": nil, "properties.properties.settings.kubeconfig": nil})
	keys := s.call("POST", wsPath+"/computes/k8s/listKeys", nil).want(200)
	if text, _ := keys.get("userKubeConfig").(string); !strings.Contains(text, "hush-token") || keys.get("administratorAccount") != nil {
		t.Errorf("the keys are %s", keys.Body)
	}
}

func TestClusterWithoutADefaultNamespaceOrAPropertiesObject(t *testing.T) {
	s := newServer(t, machine{"kubernetes"})
	s.call("PUT", wsPath+"/computes/k1", k8s("incluster://", map[string]any{"namespace": nil, "properties": map[string]any{"namespace": "deep"}})).want(201).
		has(map[string]any{"properties.properties.namespace": "deep"})
	s.call("PUT", wsPath+"/computes/k2", map[string]any{"properties": map[string]any{"computeType": "kubernetes", "resourceId": "kubeconfig://x"}}).want(201)
	bad := k8s("kubeconfig://y", map[string]any{"instanceTypes": map[string]any{"big": map[string]any{"resources": map[string]any{"limits": map[string]string{"cpu": "many"}}}}})
	s.call("PUT", wsPath+"/computes/k3", bad).want(400).has(map[string]any{"error.code": "InvalidInstanceTypes"})
	s.call("PUT", wsPath+"/computes/k3", k8s("kubeconfig://z", map[string]any{"settings": map[string]any{"kubeconfig": aKubeconfig}})).want(400).has(map[string]any{"error.code": "InvalidKubeconfig"})
}

func TestClustersOfAzureAreFoundInTheCatalogue(t *testing.T) {
	s := newServer(t, machine{"kubernetes"})
	aks := map[string]any{"location": "local", "properties": map[string]any{"computeType": "AKS", "resourceId": aksID, "properties": map[string]any{
		"loadBalancerType": "PublicIp", "sslConfiguration": map[string]any{"status": "Enabled", "cert": "shown", "key": "hush-key"},
	}}}
	s.call("PUT", wsPath+"/computes/aks", aks).want(400).has(map[string]any{"error.code": "UnknownResource"})
	a := s.call("PUT", wsPath+"/computes/arc", k8s(arcID, nil)).want(400)
	if m, _ := a.get("error.message").(string); !strings.Contains(m, "relay") || !strings.Contains(m, "--kubeconfig-file") {
		t.Errorf("an Arc id is refused with %s", m)
	}
	put := func(id string) {
		t.Helper()
		line := map[string]any{"id": id, "address": "kubeconfig://blue", "settings": map[string]any{"kubeconfig": aKubeconfig, "namespace": "default"}}
		s.call("PUT", "/native/v1/resources", line).want(200)
	}
	for _, name := range []string{"aks", "arc"} { // what failed would be tried again, beside this test
		s.call("DELETE", wsPath+"/computes/"+name, nil)
	}
	put(aksID)
	s.call("PUT", wsPath+"/computes/aks?api-version=2020-02-02", aks).want(201).has(map[string]any{
		"properties.computeType": "AKS", "properties.provisioningState": "Succeeded", "properties.properties.kind": "kubernetes", "properties.properties.address": "kubeconfig://blue",
		"properties.properties.sslConfiguration.cert": "shown", "properties.properties.sslConfiguration.key": nil, "properties.properties.namespace": nil,
	})
	put(arcID)
	s.call("PUT", wsPath+"/computes/arc", k8s(arcID, nil)).want(409).has(map[string]any{"error.code": "AlreadyAttached"})
	s.call("DELETE", wsPath+"/computes/aks?underlyingResourceAction=Delete", nil).want(200)
	s.call("PUT", wsPath+"/computes/arc", k8s(arcID, nil)).want(201).has(map[string]any{"properties.provisioningState": "Succeeded", "properties.resourceId": arcID})
	for _, name := range []string{"aks", "arc"} {
		row, err := s.store.Compute(t.Context(), s.ws.ID, name)
		if err == nil && strings.Contains(string(row.Doc)+string(row.Settings), "hush") {
			t.Errorf("a secret is in the row: %s %s", row.Doc, row.Settings)
		}
	}
}

// ours are the words of an inner object that Azure's contract lacks.
var ours = []string{"kind", "health", "healthReason", "slots", "details", "problems", "settings", "address", "alias"}

func TestAnswersOfClustersKeepMicrosoftsContract(t *testing.T) {
	folder := filepath.Join(contract.Folder(t), "machinelearningservices/resource-manager/Microsoft.MachineLearningServices/stable/2024-04-01")
	file, err := contract.Load(filepath.Join(folder, "machineLearningServices.json"))
	must(t, err)
	s := newServer(t, machine{"kubernetes"})
	for _, id := range []string{"Kubernetes", "AKS"} {
		text, err := os.ReadFile(filepath.Join(folder, "examples/Compute/createOrUpdate", id+"Compute.json"))
		must(t, err)
		var example struct {
			Parameters struct {
				Parameters map[string]any `json:"parameters"`
			}
		}
		must(t, json.Unmarshal(text, &example))
		body := example.Parameters.Parameters
		outer := body["properties"].(map[string]any)
		outer["resourceId"] = aksID + id
		s.call("PUT", "/native/v1/resources", map[string]any{"id": outer["resourceId"], "address": "kubeconfig://" + id}).want(200)
		path := wsPath + "/computes/" + strings.ToLower(id) + "?api-version=2024-04-01"
		sent, err := json.Marshal(body)
		must(t, err)
		put := s.call("PUT", path, body).want(201)
		for _, a := range []answer{put, s.call("GET", path, nil).want(200)} {
			method, request := "PUT", sent
			if a.Code == 200 {
				method, request = "GET", nil
			}
			x := contract.Exchange{Request: httptest.NewRequest(method, "http://x"+path, nil), Body: request, Status: a.Code, Header: a.Header(), Answer: withoutOurs(t, a)}
			x.Request.Header.Set("Content-Type", "application/json")
			if err := file.Check(x); err != nil {
				t.Errorf("%s: %v\n%s", id, err, x.Answer)
			}
		}
	}
}

// withoutOurs is an answer without the words that are the server's own.
func withoutOurs(t *testing.T, a answer) []byte {
	t.Helper()
	var doc map[string]any
	must(t, json.Unmarshal(a.Body.Bytes(), &doc))
	inner, _ := doc["properties"].(map[string]any)["properties"].(map[string]any)
	maps.DeleteFunc(inner, func(name string, _ any) bool { return slices.Contains(ours, name) })
	b, err := json.Marshal(doc)
	must(t, err)
	return b
}
