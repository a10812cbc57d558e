package all

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMetadataHasTheShapeThatEachClientAsksFor(t *testing.T) {
	s := newServer(t)
	list := s.call("GET", "/metadata/endpoints?api-version=2019-05-01", nil, as("")).want(200)
	list.has(map[string]any{
		"0.resourceManager": "https://box.example:8443", "0.authentication.loginEndpoint": "https://box.example", "1.name": "AzureCloud", "1.resourceManager": "https://box.example:8443",
	})
	if list.get("0.name") == "AzureCloud" {
		t.Error("the v2 client would take the cloud that is built into it")
	}
	for _, field := range []string{"portal", "graph", "graphAudience", "gallery", "media", "batch", "vmImageAliasDoc", "sqlManagement", "activeDirectoryDataLake", "suffixes.storage", "suffixes.keyVaultDns", "suffixes.acrLoginServer"} {
		if list.get("0."+field) == nil {
			t.Errorf("%s is missing", field)
		}
	}
	s.call("GET", "/metadata/endpoints?api-version=2022-09-01", nil, as("")).want(200).has(map[string]any{"resourceManager": "https://box.example:8443", "authentication.loginEndpoint": "https://box.example:8443"})
	v1 := s.call("GET", "/metadata/endpoints?api-version=2019-05-01", nil, as(""), header("User-Agent", "Python-urllib/3.11")).want(200)
	v1.has(map[string]any{"1.authentication.loginEndpoint": "https://box.example:8443"})
	s.call("GET", "/discovery", nil, as("")).want(200).has(map[string]any{"api": "https://box.example:8443", "history": "https://box.example:8443"})
	discovery := s.call("GET", wsPath, nil).want(200).get("properties.discoveryUrl")
	planes := s.call("GET", s.path(discovery), nil, as("")).want(200)
	for _, key := range []string{"api", "experimentation", "history", "hyperdrive", "modelmanagement", "studio"} {
		if address, _ := planes.get(key).(string); !strings.HasPrefix(address, "https://box.example:8443") {
			t.Errorf("the address of %s is %q", key, address)
		}
	}
	s.call("GET", planes.get("studio").(string)+"/runs/x?wsid=y", nil, as("")).want(200)
	s.call("GET", wsPath, nil).want(200).has(map[string]any{
		"properties.workspaceId": s.ws.ID, "properties.discoveryUrl": "https://box.example:8443/discovery/1/workspaces/" + s.ws.ID, "properties.mlFlowTrackingUri": "azureml://box.example:8443/mlflow/v1.0" + wsPath, "location": "local",
	})
}

func TestManagedIdentityGivesTokensForTheSecretAlone(t *testing.T) {
	s := newServer(t)
	const resource = "https://ml.azure.local"
	path := "/msi/token?api-version=2019-08-01&resource=" + url.QueryEscape(resource)
	a := s.call("GET", path, nil, as(""), header("X-IDENTITY-HEADER", admin)).want(200)
	a.has(map[string]any{"token_type": "Bearer", "resource": resource})
	if _, text := a.get("expires_on").(string); !text {
		t.Error("expires_on is not text")
	}
	s.call("GET", wsPath+"/jobs", nil, as(a.get("access_token").(string))).want(200)
	for _, secret := range []string{"", "wrong", a.get("access_token").(string)} {
		s.call("GET", path, nil, as(""), header("X-IDENTITY-HEADER", secret)).want(401).has(map[string]any{"error": "invalid_client"})
	}
	other := s.call("GET", "/msi/token?resource=https://graph.example", nil, as(""), header("X-IDENTITY-HEADER", admin)).want(200)
	s.call("GET", wsPath+"/jobs", nil, as(other.get("access_token").(string))).want(401)
}

func TestClientCredentials(t *testing.T) {
	s := newServer(t)
	found := s.call("GET", "/adfs/.well-known/openid-configuration", nil, as("")).want(200)
	place := s.path(found.get("token_endpoint"))
	form := func(secret string) string {
		return url.Values{"grant_type": {"client_credentials"}, "client_id": {"c"}, "client_secret": {secret}, "scope": {"https://box.example:8443//.default"}}.Encode()
	}
	urlencoded := header("Content-Type", "application/x-www-form-urlencoded")
	a := s.call("POST", place, form(admin), as(""), urlencoded).want(200)
	if n, _ := a.get("expires_in").(float64); n < 3000 {
		t.Errorf("expires_in = %v", a.get("expires_in"))
	}
	s.call("GET", "/subscriptions?api-version=2022-12-01", nil, as(a.get("access_token").(string))).want(200).has(map[string]any{"value.0.subscriptionId": "S-1"})
	s.call("POST", place, form("wrong"), as(""), urlencoded).want(401).has(map[string]any{"error": "invalid_client"})
	s.call("POST", place, "grant_type=password", as(""), urlencoded).want(400)
}

func TestHealthIsOpenAndMetricsAreNot(t *testing.T) {
	s := newServer(t)
	s.call("GET", "/healthz", nil, as("")).want(200)
	s.call("GET", "/readyz", nil, as("")).want(200)
	s.call("GET", "/metrics", nil, as("")).want(401) // httptest's requests come from 192.0.2.1
	s.call("GET", "/metrics", nil).want(200)
	own := func(r *http.Request) { r.RemoteAddr = "127.0.0.1:5" }
	if a := s.call("GET", "/metrics", nil, as(""), own).want(200); !strings.Contains(a.Body.String(), "moorage_http_request_seconds") {
		t.Errorf("metrics: %.300s", a.Body)
	}
	s.call("GET", "/metrics", nil, as(""), own, header("X-Forwarded-For", "1.2.3.4")).want(401)
}

func TestChangesAreInTheAuditLogWithoutSecrets(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/computes/vm1", vm("ssh://10.0.0.5", nil)).want(201)
	s.call("POST", wsPath+"/computes/vm1/listKeys", nil).want(200)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(nil), as("wrong")).want(401)
	s.call("GET", wsPath+"/jobs", nil).want(200)
	s.api.audit.close()
	var lines []string
	entries, err := s.store.AuditLog(t.Context(), "", storePage)
	must(t, err)
	for _, e := range entries {
		lines = append(lines, e.Principal+" "+strings.TrimPrefix(e.Action, "Microsoft.MachineLearningServices/workspaces/")+" "+e.Outcome)
		if strings.Contains(e.Detail+e.Target, "hush") {
			t.Errorf("a secret is in the audit log: %+v", e)
		}
	}
	if got, want := strings.Join(lines, "; "), "nobody jobs/write 401; administrator computes/listKeys/action ok; administrator computes/write ok"; got != want {
		t.Errorf("audit log: %s, want %s", got, want)
	}
}

func TestWorkspacesAreMadeListedAndRemoved(t *testing.T) {
	s := newServer(t)
	other := strings.TrimSuffix(wsPath, "main") + "second"
	s.call("GET", other, nil).want(404).has(map[string]any{"error.code": "ResourceNotFound"})
	made := s.call("PUT", other, map[string]any{"location": "here"}).want(201)
	made.has(map[string]any{"name": "second", "location": "here"})
	s.call("PUT", other, map[string]any{}).want(200).has(map[string]any{"properties.workspaceId": made.get("properties.workspaceId")})
	s.call("PATCH", other, map[string]any{"tags": map[string]string{"team": "a"}, "properties": map[string]any{"friendlyName": "Ours", "description": "for vision"}}).want(200).has(map[string]any{
		"tags.team": "a", "properties.friendlyName": "Ours", "properties.description": "for vision", "location": "here",
	})
	s.call("GET", wsPath[:strings.LastIndex(wsPath, "/")], nil).want(200).has(map[string]any{"value.0.name": "main", "value.1.name": "second", "value.1.tags.team": "a"})
	s.call("GET", "/subscriptions/s-1/providers/Microsoft.MachineLearningServices/workspaces", nil).want(200).has(map[string]any{"value.1.name": "second"})
	s.call("DELETE", wsPath, nil).want(409).has(map[string]any{"error.code": "WorkspaceInUse"})
	s.call("DELETE", other, nil).want(200)
	s.call("GET", other, nil).want(404)
	s.call("GET", "/subscriptions/S-1/resourceGroups/rg", nil).want(200)
	s.call("GET", "/subscriptions/S-2", nil).want(404)
	s.call("GET", "/tenants", nil).want(200)
}
