package all

import (
	"encoding/json"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/test/contract"
)

func aRegistry(target, password string) map[string]any {
	return map[string]any{"properties": map[string]any{
		"category": "ContainerRegistry", "target": target, "authType": "UsernamePassword", "isSharedToAll": true, "metadata": map[string]string{"team": "a"},
		"credentials": map[string]string{"username": "bob", "password": password},
	}}
}

func TestConnectionIsALoginToARegistry(t *testing.T) {
	s := newServer(t)
	path := wsPath + "/connections/ours"
	put := s.call("PUT", path, aRegistry("registry.example", "hush-password")).want(200)
	got := s.call("GET", path, nil).want(200)
	list := s.call("GET", wsPath+"/connections?category=ContainerRegistry", nil).want(200).has(map[string]any{"value.0.name": "ours", "value.1": nil})
	for _, a := range []answer{put, got, list} {
		if strings.Contains(a.Body.String(), "hush") {
			t.Fatalf("a secret is in an answer: %s", a.Body)
		}
	}
	got.has(map[string]any{
		"name": "ours", "type": "Microsoft.MachineLearningServices/workspaces/connections", "properties.category": "ContainerRegistry", "properties.target": "registry.example",
		"properties.authType": "UsernamePassword", "properties.credentials.username": "bob", "properties.credentials.password": nil, "properties.metadata.team": "a",
	})
	s.call("GET", wsPath+"/connections?category=Git", nil).want(200).has(map[string]any{"value.0": nil})
	s.call("POST", path+"/listsecrets", nil).want(200).has(map[string]any{"properties.credentials.password": "hush-password"})
	login, err := s.control.Login(t.Context(), s.ws, "registry.example/team/train:1")
	if err != nil || login == nil || login.Password.Reveal() != "hush-password" {
		t.Errorf("the image's login is %v, %v", login, err)
	}
	s.call("PUT", wsPath+"/connections/git", map[string]any{"properties": map[string]any{"category": "Git", "target": "x", "authType": "PAT"}}).want(501)
	s.call("DELETE", path, nil).want(200)
	s.call("DELETE", path, nil).want(204)
	s.call("GET", path, nil).want(404).has(map[string]any{"error.code": "ResourceNotFound"})
}

// The contract closes these answers to "id" and "name", which its own examples have: only requests and statuses are checked.
func TestConnectionsKeepMicrosoftsContract(t *testing.T) {
	file, err := contract.Load(filepath.Join(contract.Folder(t), "machinelearningservices/resource-manager/Microsoft.MachineLearningServices/stable/2024-04-01/machineLearningServices.json"))
	must(t, err)
	s := newServer(t)
	path := wsPath + "/connections/ours"
	body := aRegistry("registry.example", "p")
	sent, err := json.Marshal(body)
	must(t, err)
	for _, c := range []struct {
		method, path string
		body         []byte
	}{{"PUT", path, sent}, {"GET", path, nil}, {"GET", wsPath + "/connections", nil}, {"POST", path + "/listsecrets", nil}, {"DELETE", path, nil}, {"DELETE", path, nil}} {
		target := c.path + "?api-version=2024-04-01"
		var given any
		if c.body != nil {
			given = c.body
		}
		a := s.call(c.method, target, given)
		x := contract.Exchange{Body: c.body, Status: a.Code, Header: a.Header(), Answer: a.Body.Bytes()}
		if a.Body.Len() > 0 {
			if a.want(200); c.method != "DELETE" {
				x.Status = 0
			}
		}
		r := httptest.NewRequest(c.method, "http://x"+target, nil)
		r.Header.Set("Content-Type", "application/json")
		x.Request = r
		if err := file.Check(x); err != nil {
			t.Errorf("%s %s: %v\n%s", c.method, c.path, err, a.Body)
		}
	}
}
