package all

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// register registers a model of one uploaded file, as azureml-core does.
func (s *server) register(name string, fields map[string]any) answer {
	s.t.Helper()
	s.upload("LocalUpload", "stamp-"+name, "m 1.pkl", "weights of "+name)
	id := s.call("POST", mms+"/assets", map[string]any{"name": name, "artifacts": []map[string]any{{"prefix": "LocalUpload/stamp-" + name + "/m 1.pkl", "id": nil}}}).want(200).text("id")
	body := map[string]any{"name": name, "url": "aml://asset/" + id, "mimeType": "application/x-python", "unpack": false, "datasets": []any{}}
	maps.Copy(body, fields)
	return s.call("POST", mms+"/models", body).want(200)
}

func TestModelsAreNumberedAndBothClientsSeeThem(t *testing.T) {
	s := newServer(t)
	s.register("mod", map[string]any{"kvTags": map[string]string{"a": "b"}, "properties": map[string]string{"p": "q"}, "description": "d", "framework": "ScikitLearn", "frameworkVersion": "1.0", "runId": "r1", "experimentName": "e1"}).
		has(map[string]any{"id": "mod:1", "version": 1.0, "kvTags.a": "b", "properties.p": "q", "description": "d", "framework": "ScikitLearn", "runId": "r1", "experimentName": "e1", "createdBy.userName": "administrator"})
	s.register("mod", nil).has(map[string]any{"id": "mod:2", "description": nil})
	second := s.call("GET", mms+"/models/mod", nil).want(200).has(map[string]any{"version": 2.0})
	asset := strings.TrimPrefix(second.text("url"), "aml://asset/")
	s.call("GET", mms+"/assets/"+asset, nil).want(200).has(map[string]any{"artifacts.0.prefix": "LocalUpload/stamp-mod/m 1.pkl", "artifacts.0.id": nil})

	first := s.call("GET", wsPath+"/models/mod/versions/1", nil).want(200).has(map[string]any{"properties.modelType": "custom_model", "properties.tags.a": "b", "properties.description": "d", "moorageModel": nil})
	if uri := first.text("properties.modelUri"); !strings.HasSuffix(uri, "/datastores/workspaceartifactstore/paths/LocalUpload/stamp-mod/m 1.pkl") {
		t.Errorf("azure-ai-ml would look at %s", uri)
	}
	// What azure-ai-ml changes, azureml-core sees, and what only azureml-core knows stays.
	s.call("PUT", wsPath+"/models/mod/versions/1", map[string]any{"properties": map[string]any{
		"modelUri": first.text("properties.modelUri"), "modelType": "custom_model", "tags": map[string]string{"c": "d"}, "description": "new",
	}, "moorageModel": map[string]string{"asset": "forged"}}).want(200)
	s.call("GET", mms+"/models/mod:1", nil).want(200).has(map[string]any{"kvTags.c": "d", "kvTags.a": nil, "description": "new", "framework": "ScikitLearn", "runId": "r1"})
	s.call("PUT", wsPath+"/models/mod/versions/1", map[string]any{"properties": map[string]any{"modelUri": "azureml://other", "modelType": "custom_model"}}).want(409)
}

func TestModelsOfOtherClientsHaveFilesToo(t *testing.T) {
	s := newServer(t)
	box := "/blob/acct/azureml-blobstore-" + s.ws.ID
	s.call("PUT", box+"/LocalUpload/h/net/a%20b/w.bin", "one").want(201)
	s.call("PUT", box+"/LocalUpload/h/net2/w.bin", "other").want(201)
	put := func(version, uri string) {
		s.call("PUT", wsPath+"/models/v2/versions/"+version, map[string]any{"properties": map[string]any{"modelUri": uri, "modelType": "custom_model"}}).want(201)
	}
	const store = "azureml://subscriptions/S-1/resourcegroups/rg/workspaces/main/datastores/workspaceblobstore/paths/"
	put("1", store+"LocalUpload/h/net")
	put("beta", store+"LocalUpload/h/net")
	put("2", "https://elsewhere.example/m.bin")
	s.call("GET", mms+"/models?name=v2", nil).want(200).has(map[string]any{"value.0.id": "v2:2", "value.1.id": "v2:1", "value.2": nil})
	url := s.call("GET", mms+"/models/v2:1", nil).want(200).text("url")
	prefix := s.call("GET", mms+"/assets/"+strings.TrimPrefix(url, "aml://asset/"), nil).want(200).text("artifacts.0.prefix")
	if prefix != "Model/v2:1/net" {
		t.Errorf("its files are said to be at %s", prefix)
	}
	list := s.call("GET", artifacts+"/prefix/contentinfo/"+prefix, nil).want(200).has(map[string]any{"value.0.path": "net/a b/w.bin", "value.1": nil})
	if got := s.call("GET", list.text("value.0.contentUri"), nil, as("")).want(200).Body.String(); got != "one" {
		t.Errorf("the file holds %q", got)
	}
	s.call("GET", artifacts+"/prefix/contentinfo/Model/v2:1/net2", nil).want(404)
	s.call("GET", artifacts+"/write/Model/v2:1/net/x", nil).want(403)
	s.call("GET", mms+"/assets/v2:2", nil).want(501)
	s.call("GET", mms+"/models/v2:beta", nil).want(404)
}

func TestModelsAreFoundByWhatTheyHave(t *testing.T) {
	s := newServer(t)
	for i := range 3 {
		s.register("a", map[string]any{"kvTags": map[string]string{"n": fmt.Sprint(i), "all": ""}, "framework": "F", "runId": "r"})
	}
	s.register("b", map[string]any{"properties": map[string]string{"p": "1"}, "datasets": []map[string]string{{"name": "training", "id": "D"}}})
	for query, want := range map[string]string{
		"":                                   "b:1 a:3 a:2 a:1",
		"?name=a":                            "a:3 a:2 a:1",
		"?latestVersionOnly=true":            "b:1 a:3",
		"?tags=all":                          "a:3 a:2 a:1",
		"?tags=n%3D1,all":                    "a:2",
		"?properties=p%3D1":                  "b:1",
		"?properties=p%3D2":                  "",
		"?framework=F&runId=r":               "a:3 a:2 a:1",
		"?runId=none":                        "",
		"?datasetId=D":                       "b:1",
		"?latestVersionOnly=true&tags=n%3D0": "",
	} {
		var got []string
		list, _ := s.call("GET", mms+"/models"+query, nil).want(200).get("value").([]any)
		for _, m := range list {
			one, _ := m.(map[string]any)
			got = append(got, fmt.Sprint(one["id"]))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s gives %q, want %s", query, got, want)
		}
	}
	page := s.call("GET", mms+"/models?count=3", nil).want(200).has(map[string]any{"value.2.id": "a:2", "value.3": nil})
	next := s.path(page.get("nextLink"))
	s.call("GET", next, nil).want(200).has(map[string]any{"value.0.id": "a:1", "value.1": nil, "nextLink": nil})
}

func TestModelsArePatchedAndDeleted(t *testing.T) {
	s := newServer(t)
	s.register("m", map[string]any{"kvTags": map[string]string{"old": "1"}, "description": "d"})
	patch := func(status int, operations ...map[string]any) answer {
		t.Helper()
		return s.call("PATCH", mms+"/models/m:1", operations, header("Content-Type", "application/json-patch+json")).want(status)
	}
	patch(200, map[string]any{"op": "replace", "path": "/kvTags", "value": map[string]string{"new": "2"}}, map[string]any{"op": "replace", "path": "/description", "value": "e"}).
		has(map[string]any{"kvTags.new": "2", "kvTags.old": nil, "description": "e"})
	patch(200, map[string]any{"op": "add", "path": "/properties", "value": map[string]string{"p": "q"}}, map[string]any{"op": "add", "path": "/kvTags/a~1b", "value": "3"}).
		has(map[string]any{"properties.p": "q", "kvTags.new": "2"})
	patch(200, map[string]any{"op": "remove", "path": "/kvTags/new"}, map[string]any{"op": "remove", "path": "/description"}).has(map[string]any{"kvTags.new": nil, "description": nil})
	for _, id := range []string{"D1", "D2"} {
		patch(200, map[string]any{"op": "add", "path": "/datasets", "value": []map[string]string{{"name": "training", "id": id}}})
	}
	s.call("GET", mms+"/models/m:1", nil).want(200).has(map[string]any{"datasets.0.id": "D1", "datasets.1.id": "D2"})
	for _, bad := range []map[string]any{
		{"op": "replace", "path": "/url", "value": "aml://asset/x"},
		{"op": "test", "path": "/description", "value": "e"},
		{"op": "replace", "path": "/kvTags", "value": 7},
		{"op": "replace", "path": "/description/x", "value": "e"},
	} {
		patch(400, bad)
	}
	s.call("DELETE", mms+"/models/m:1", nil).want(200)
	s.call("DELETE", mms+"/models/m:1", nil).want(404)
	gone := s.call("GET", mms+"/models/m:1", nil).want(404)
	gone.has(map[string]any{"statusCode": 404.0, "code": "ModelNotFound", "error.code": "ModelNotFound"}) // by which the client knows
	s.call("GET", wsPath+"/models/m/versions/1", nil).want(404)
}

func TestModelsOfNothingAreRefused(t *testing.T) {
	s := newServer(t)
	for _, body := range []map[string]any{
		{"name": "m"},
		{"name": "m", "artifacts": []map[string]string{{"prefix": "LocalUpload/x"}}},
		{"name": "m", "artifacts": []map[string]string{{"prefix": "LocalUpload/x/none"}}},
		{"name": "m", "artifacts": []map[string]string{{"prefix": "LocalUpload/x/../../c/x"}}},
	} {
		s.call("POST", mms+"/assets", body).want(400)
	}
	s.call("GET", mms+"/assets/none", nil).want(404)
	s.call("POST", mms+"/models", map[string]any{"name": "m", "url": "aml://asset/none", "mimeType": "x"}).want(404)
	s.call("POST", mms+"/models", map[string]any{"name": "m", "url": "https://x", "mimeType": "x"}).want(400)
	s.register("good", nil)
	s.call("POST", mms+"/models", map[string]any{"name": "bad/name", "url": "aml://asset/good:1", "mimeType": "x"}).want(400)
}
