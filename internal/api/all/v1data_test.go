package all

import (
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/store"
)

var blobMeta blob.Meta

// container is a datastore's body as azureml-core sends it.
func container(name, container string, section map[string]any) map[string]any {
	s := map[string]any{"accountName": "acct", "containerName": container, "endpoint": nil, "protocol": nil, "credentialType": "AccountKey", "credential": "a2V5a2V5"}
	maps.Copy(s, section)
	return map[string]any{"name": name, "dataStoreType": "AzureBlob", "azureStorageSection": s}
}

func TestTheDefaultDatastoreOpensItsContainer(t *testing.T) {
	s := newServer(t)
	a := s.call("GET", stores+"/default", nil).want(200).has(map[string]any{
		"name": "workspaceblobstore", "dataStoreType": "AzureBlob", "azureStorageSection.accountName": "moorage", "azureStorageSection.endpoint": "localhost:8443",
		"azureStorageSection.protocol": "https", "azureStorageSection.credentialType": "Sas", "azureStorageSection.isSas": true, "azureStorageSection.accountKey": nil,
	})
	token := a.text("azureStorageSection.sasToken")
	if a.text("azureStorageSection.credential") != token || a.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("the two readers get different credentials, or it may be kept: %s", a.Body)
	}
	at := "https://moorage.blob.localhost:8443/" + a.text("azureStorageSection.containerName")
	protocol := header("x-ms-version", "2021-12-02")
	s.call("PUT", at+"/tab/a%20b.csv?"+token, "x", as(""), protocol).want(201)
	s.call("GET", at+"/tab/a%20b.csv?"+token, nil, as(""), protocol).want(200)
	if list := s.call("GET", at+"?restype=container&comp=list&prefix=tab&"+token, nil, as(""), protocol).want(200); !strings.Contains(list.Body.String(), "<Name>tab/a b.csv</Name>") {
		t.Errorf("the list is %s", list.Body)
	}
	s.call("DELETE", at+"/tab/a%20b.csv?"+token, nil, as(""), protocol).want(202)
	s.call("GET", "https://moorage.blob.localhost:8443/other-box/x?"+token, nil, as(""), protocol).want(401)
}

func TestDatastoresAreKeptWithTheirSecretsSealed(t *testing.T) {
	s := newServer(t)
	far := map[string]any{"endpoint": "core.windows.net", "credentialType": "Sas", "credential": "sv=1&sig=TopSecret"}
	s.call("POST", stores+"/datastores?createIfNotExists=false", container("Mine", "my-box", nil)).want(200)
	s.call("POST", stores+"/datastores", container("far", "data", far)).want(200)
	s.call("POST", stores+"/datastores", container("far", "data", far)).want(200) // nothing changes
	// In place of what the client gave for a container of this server it gets what opens it.
	s.call("GET", stores+"/datastores/MINE", nil).want(200).has(map[string]any{"name": "mine", "azureStorageSection.containerName": "my-box", "azureStorageSection.credentialType": "Sas", "azureStorageSection.accountName": "moorage"})
	s.call("GET", stores+"/datastores/far", nil).want(200).has(map[string]any{
		"azureStorageSection.accountName": "acct", "azureStorageSection.containerName": "data", "azureStorageSection.endpoint": "core.windows.net",
		"azureStorageSection.sasToken": "sv=1&sig=TopSecret", "azureStorageSection.credential": "sv=1&sig=TopSecret",
	})
	list := s.call("GET", stores+"/datastores?count=100", nil).want(200).has(map[string]any{"value.0.name": "workspaceblobstore", "value.1.name": "workspaceartifactstore", "value.2.name": "far", "value.3.name": "mine", "continuationToken": nil})
	// azure-ai-ml sees them too.
	v2 := wsPath + "/datastores"
	s.call("GET", v2, nil).want(200).has(map[string]any{"value.2.name": "far", "value.2.properties.accountName": "acct", "value.3.name": "mine", "value.3.properties.containerName": "my-box", "value.3.properties.isDefault": false})
	s.call("GET", v2+"/far", nil).want(200).has(map[string]any{"properties.endpoint": "core.windows.net", "properties.credentials.credentialsType": "Sas"})
	s.call("POST", v2+"/far/listSecrets", nil).want(200).has(map[string]any{"secretsType": "Sas", "sasToken": "sv=1&sig=TopSecret"})
	doc, err := s.store.Document(t.Context(), s.ws.ID, "datastores", "far", "")
	must(t, err)
	sealed, err := s.store.Secret(t.Context(), store.DatastoreSecret(s.ws.ID, "far"))
	must(t, err)
	if text := list.Body.String() + string(doc.Body) + string(sealed.Sealed); strings.Contains(text, "TopSecret") || strings.Contains(text, "a2V5a2V5") {
		t.Errorf("a secret can be read: %s", text)
	}
	// Only on these words and this status does the client go on to overwrite.
	far["credential"] = "sv=1&sig=Other"
	taken := s.call("POST", stores+"/datastores", container("far", "data", far)).want(400)
	if !strings.Contains(taken.Body.String(), "Another datastore with the same name already exists but with different credentials") {
		t.Errorf("the client would not overwrite on %s", taken.Body)
	}
	s.call("PUT", stores+"/datastores/far", container("far", "data", far)).want(200)
	s.call("GET", stores+"/datastores/far", nil).want(200).has(map[string]any{"azureStorageSection.sasToken": "sv=1&sig=Other"})

	s.call("PUT", stores+"/default/mine", nil).want(200)
	s.call("GET", stores+"/default", nil).want(200).has(map[string]any{"name": "mine"})
	s.call("DELETE", stores+"/datastores/mine", nil).want(200)
	s.call("GET", stores+"/default", nil).want(200).has(map[string]any{"name": "workspaceblobstore"})
	s.call("DELETE", stores+"/datastores/far", nil).want(200)
	s.call("DELETE", stores+"/datastores/far", nil).want(404)
	s.call("GET", stores+"/datastores/far", nil).want(404)
	if _, err := s.store.Secret(t.Context(), store.DatastoreSecret(s.ws.ID, "far")); err == nil {
		t.Error("the secret outlived its datastore")
	}
}

func TestDatastoresThatCannotBeAreRefused(t *testing.T) {
	s := newServer(t)
	for what, tt := range map[string]struct {
		body   map[string]any
		status int
	}{
		"the server's own":              {container("workspaceblobstore", "x-box", nil), 409},
		"a name that is none":           {container("a b", "x-box", nil), 400},
		"a container that is none":      {container("a", "X_", nil), 400},
		"no container":                  {container("a", "", nil), 400},
		"another workspace's container": {container("a", "azureml-artifacts-0e0e0e0e", nil), 403},
		"an address that is none":       {container("a", "data", map[string]any{"endpoint": "core.windows.net/x?"}), 400},
		"an account that is none":       {container("a", "data", map[string]any{"endpoint": "core.windows.net", "accountName": "a/b"}), 400},
		"what is no blob container":     {map[string]any{"name": "a", "dataStoreType": "AzureFile"}, 501},
	} {
		if a := s.call("POST", stores+"/datastores", tt.body); a.Code != tt.status {
			t.Errorf("%s: %d, want %d: %s", what, a.Code, tt.status, a.Body)
		}
	}
	s.call("POST", stores+"/datastores", container("own", "azureml-blobstore-"+s.ws.ID, nil)).want(200)
	s.call("DELETE", stores+"/datastores/workspaceblobstore", nil).want(409)
	s.call("PUT", stores+"/default/none", nil).want(404)
}

func TestJobsGetLessOfADatastore(t *testing.T) {
	s := newServer(t)
	mine := s.jobCredential("mine")
	s.call("POST", stores+"/datastores", container("far", "data", map[string]any{"endpoint": "core.windows.net"})).want(200)
	a := s.call("GET", stores+"/default", nil, mine).want(200)
	q, err := url.ParseQuery(a.text("azureStorageSection.sasToken"))
	must(t, err)
	if q.Get("sp") != "rcwl" {
		t.Errorf("a job may %s", q.Get("sp"))
	}
	s.call("GET", stores+"/datastores/workspaceartifactstore", nil, mine).want(403)
	s.call("GET", stores+"/datastores/far", nil, mine).want(403)
	s.call("POST", stores+"/datastores", container("new", "x-box", nil), mine).want(403)
	s.call("PUT", stores+"/default/far", nil, mine).want(403)
	s.call("GET", stores+"/datastores", nil, mine).want(200)
}

// flow is the text of a file dataset, as azureml-core sends it (azureml-v1.md §21.1).
func flow(path string) string {
	return fmt.Sprintf(`{"blocks": [], "meta": {"RsDataflow": "---\ntype: mltable\npaths:\n  - pattern: \"azureml://subscriptions/S-1/resourcegroups/rg/workspaces/main/datastores/workspaceblobstore/paths/%s\"\nmetadata:\n  infer_column_types: \"False\"\n"}}`, path)
}

func fileDataset(name, path string) map[string]any {
	return map[string]any{"name": name, "datasetType": "file", "isVisible": true, "description": "d of " + path, "tags": map[string]string{"t": path}, "latest": map[string]any{"dataflow": flow(path), "properties": map[string]any{}, "versionId": nil}}
}

func TestDatasetsHaveVersionsAndDefinitions(t *testing.T) {
	s := newServer(t)
	saved := s.call("POST", dsets+"/saveddatasets", map[string]any{"datasetType": "file", "properties": map[string]any{}, "dataflowJson": flow("tab/")}).want(200).has(map[string]any{"dataflowJson": flow("tab/"), "dataChanged": false}).text("id")
	again := s.call("POST", dsets+"/saveddatasets", map[string]any{"datasetType": "file", "dataflowJson": flow("tab/")}).want(200).text("id")
	if saved != again {
		t.Errorf("the same definition has ids %s and %s", saved, again)
	}
	s.call("GET", dsets+"/saveddatasets/"+saved+"?resolveLegacyId=true", nil).want(200).has(map[string]any{"datasetType": "file"})
	s.call("GET", dsets+"/saveddatasets/none", nil).want(404)
	s.call("GET", dsets+"/datasets/query/savedDatasetId="+saved+"?pageSize=1", nil).want(200).has(map[string]any{"value.0": nil, "continuationToken": nil})

	s.call("POST", dsets+"/datasets?ifExistsOk=false", fileDataset("my files", "tab/")).want(200).has(map[string]any{"name": "my files", "latest.versionId": "1", "latest.savedDatasetId": saved, "latest.dataflow": flow("tab/"), "description": "d of tab/"})
	s.call("POST", dsets+"/datasets?ifExistsOk=False", fileDataset("my files", "other/")).want(409)
	s.call("POST", dsets+"/datasets?ifExistsOk=True", fileDataset("my files", "other/")).want(200).has(map[string]any{"latest.versionId": "2", "tags.t": "other/"})
	s.call("GET", dsets+"/datasets/query/name=my%20files", nil).want(200).has(map[string]any{"latest.versionId": "2"})
	first := s.call("GET", dsets+"/datasets/query/name=my%20files?versionId=1", nil).want(200).has(map[string]any{"tags.t": "tab/"})
	s.call("GET", dsets+"/datasets/query/name=my%20files?versionId=3", nil).want(404)
	s.call("GET", dsets+"/datasets/query/name=none", nil).want(404)
	s.call("GET", dsets+"/datasets/query/size=1", nil).want(400)
	s.call("GET", dsets+"/datasets/query/savedDatasetId="+saved, nil).want(200).has(map[string]any{"value.0.name": "my files"})
	s.call("GET", "/data/v1.0"+wsPath+"/dataversion/unregistered-"+saved+"/versions/1?includeSavedDatasets=true", nil).want(200).has(map[string]any{"legacyDataflow": flow("tab/")})
	s.call("GET", "/data/v1.0"+wsPath+"/dataversion/unregistered-none/versions/1", nil).want(404)

	changed := fileDataset("my files", "tab/")
	changed["description"], changed["tags"] = "new", map[string]string{"n": "1"}
	changed["latest"].(map[string]any)["versionId"] = "1"
	s.call("PUT", dsets+"/datasets/"+first.text("datasetId"), changed).want(200).has(map[string]any{"description": "new", "tags.n": "1", "tags.t": nil, "latest.versionId": "1"})
	s.call("PUT", dsets+"/datasets/another", changed).want(400)
	s.call("GET", dsets+"/datasets/query/name=my%20files", nil).want(200).has(map[string]any{"description": "d of other/"})

	s.call("DELETE", dsets+"/datasets/my%20files", nil).want(200)
	s.call("DELETE", dsets+"/datasets/my%20files", nil).want(404)
	s.call("GET", dsets+"/datasets/query/name=my%20files", nil).want(404)
	s.call("GET", dsets+"/saveddatasets/"+saved, nil).want(200) // runs name it
}

func TestDatasetsAreListedInPages(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"b", "a", "c"} {
		s.call("POST", dsets+"/datasets", fileDataset(name, name+"/")).want(200)
	}
	a := s.call("GET", dsets+"/datasets?pageSize=2&includeInvisible=false", nil).want(200).has(map[string]any{"value.0.name": "a", "value.1.name": "b", "value.2": nil, "continuationToken": "b"})
	s.call("GET", dsets+"/datasets?pageSize=2&continuationToken="+a.text("continuationToken"), nil).want(200).has(map[string]any{"value.0.name": "c", "value.1": nil, "continuationToken": nil})
}

func TestDatasetsThatCannotBeAreRefused(t *testing.T) {
	s := newServer(t)
	for what, change := range map[string]func(map[string]any){
		"another type":  func(d map[string]any) { d["datasetType"] = "video" },
		"no definition": func(d map[string]any) { d["latest"] = map[string]any{} },
		"no name":       func(d map[string]any) { d["name"] = "" },
		"a slash":       func(d map[string]any) { d["name"] = "a/b" },
	} {
		d := fileDataset("good", "tab/")
		change(d)
		if a := s.call("POST", dsets+"/datasets", d); a.Code != 400 {
			t.Errorf("%s: %d %s", what, a.Code, a.Body)
		}
	}
	d := fileDataset("good", "tab/")
	d["latest"] = map[string]any{"dataflow": strings.Repeat("x", 5<<20)}
	s.call("POST", dsets+"/datasets", d).want(413)
}

func TestDataOfOtherClientsIsFoundByName(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/data/v2data/versions/7", map[string]any{"properties": map[string]any{"dataUri": "azureml://datastores/workspaceblobstore/paths/x/", "dataType": "uri_folder"}}).want(201)
	at := "/data/v1.0" + wsPath + "/dataversion/v2data/versions/"
	for _, version := range []string{"None", "7"} { // None is Python's
		s.call("GET", at+version, nil).want(200).has(map[string]any{"dataVersion.dataUri": "azureml://datastores/workspaceblobstore/paths/x/", "dataVersion.dataType": "uri_folder"})
	}
	s.call("GET", at+"8", nil).want(404)
}
