package control

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
)

// login asks for the login of an image.
func (r *rig) login(image string) *compute.Login {
	r.Helper()
	l, err := r.Login(r.Context(), r.ws, image)
	if err != nil {
		r.Fatal(err)
	}
	return l
}

func aConnection(target, user, password string) json.RawMessage {
	return json.RawMessage(`{"properties":{"category":"ContainerRegistry","target":"` + target + `","authType":"UsernamePassword","value":"` + password + `","metadata":{"a":"b"},"credentials":{"username":"` + user + `","password":"` + password + `"}}}`)
}

func TestConnectionLogsInToItsRegistryAlone(t *testing.T) {
	r := newRig(t)
	doc, err := r.PutConnection(t.Context(), r.admin, r.ws, "ours", aConnection("https://Registry.example:5000/v2/", "bob", hush))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(doc.Body), hush) || !strings.Contains(string(doc.Body), `"username":"bob"`) || !strings.Contains(string(doc.Body), `"metadata"`) {
		t.Errorf("kept is %s", doc.Body)
	}
	r.nowhere()
	l := r.login("registry.example:5000/team/train:1")
	if l == nil || l.Server != "registry.example:5000" || l.Username != "bob" || l.Password.Reveal() != hush {
		t.Errorf("the login is %+v", l)
	}
	for _, other := range []string{"python:3.12", "team/train", "registry.example/team/train", "evil-registry.example:5000/x", "localhost/registry.example:5000"} {
		if l := r.login(other); l != nil {
			t.Errorf("%s is pulled as %s", other, l.Username)
		}
	}
	if _, err := r.PutConnection(t.Context(), r.admin, r.ws, "ours", aConnection("registry.example:5000", "bob", "")); err != nil {
		t.Errorf("an update without the password: %v", err)
	}
	if l := r.login("registry.example:5000/team/train:1"); l == nil || l.Password.Reveal() != hush {
		t.Error("an update without the password forgot it")
	}
	for _, moved := range []json.RawMessage{aConnection("elsewhere.example", "bob", ""), aConnection("registry.example:5000", "eve", "")} {
		_, err := r.PutConnection(t.Context(), r.admin, r.ws, "ours", moved) // or the password would go to another host, or under another name
		r.refused(err, "MissingPassword")
	}
	if secret, err := r.ConnectionPassword(t.Context(), r.ws, "ours"); err != nil || secret.Reveal() != hush {
		t.Errorf("listsecrets gives %v", err)
	}
	if err := r.DeleteConnection(t.Context(), r.admin, r.ws, "ours"); err != nil {
		t.Fatal(err)
	}
	if l := r.login("registry.example:5000/team/train:1"); l != nil {
		t.Error("a deleted connection logs in")
	}
	if all, err := r.Store.Secrets(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%d secrets are left, %v", len(all), err)
	}
	r.refused(r.DeleteConnection(t.Context(), r.admin, r.ws, "ours"), "ResourceNotFound")
}

func TestDockerHubHasManyNames(t *testing.T) {
	r := newRig(t)
	if _, err := r.PutConnection(t.Context(), r.admin, r.ws, "hub", aConnection("https://index.docker.io/v1/", "bob", hush)); err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{"python:3.12", "team/train@sha256:00", "docker.io/library/python", "registry-1.docker.io/team/train"} {
		if l := r.login(image); l == nil || l.Server != dockerHub {
			t.Errorf("%s: %+v", image, l)
		}
	}
}

func TestConnectionsThatDoNothingAreRefused(t *testing.T) {
	r := newRig(t)
	for body, code := range map[string]string{
		`{"properties":{"category":"Git","target":"x","authType":"PAT"}}`:                                                                          "UnsupportedConnection",
		`{"properties":{"category":"ContainerRegistry","target":"registry.example","authType":"ManagedIdentity"}}`:                                 "UnsupportedConnection",
		`{"properties":{"category":"ContainerRegistry","target":"a b","authType":"UsernamePassword","credentials":{"username":"u"}}}`:              "InvalidConnection",
		`{"properties":{"category":"ContainerRegistry","target":"registry.example","authType":"UsernamePassword"}}`:                                "InvalidConnection",
		`{"properties":{"category":"ContainerRegistry","target":"registry.example","authType":"UsernamePassword","credentials":{"username":"u"}}}`: "MissingPassword",
		`{"properties":{"credentials":"` + hush + `"}}`:                                                                                            "InvalidConnection",
	} {
		_, err := r.PutConnection(t.Context(), r.admin, r.ws, "c", json.RawMessage(body))
		r.refused(err, code)
	}
	_, err := r.PutConnection(t.Context(), r.admin, r.ws, "../c", aConnection("registry.example", "u", "p"))
	r.refused(err, "InvalidName")
}

func TestEnvironmentsRegistryLogsInForItsImage(t *testing.T) {
	r := newRunRig(t)
	environment := func(image, password string) string {
		return `"environment":{"name":"e","python":{"userManagedDependencies":true},"docker":{"enabled":true,"baseImage":"` + image + `","baseImageRegistry":{"address":"registry.example","username":"bob","password":` + password + `}}}`
	}
	job, err := r.run("exp_1", `"docker":{"useDocker":true}`, environment("team/train:1", `"`+hush+`"`))
	spec := r.spec(job, err)
	if !strings.Contains(string(spec.Environment), `"image":"registry.example/team/train:1"`) {
		t.Errorf("the environment is %s", spec.Environment)
	}
	r.nowhere()
	l := r.login("registry.example/team/train:1")
	if l == nil || l.Server != "registry.example" || l.Username != "bob" || l.Password.Reveal() != hush {
		t.Errorf("the login is %+v", l)
	}
	if l := r.login("registry.example/team/other:1"); l != nil {
		t.Error("another image of the registry is pulled with it")
	}
	if _, err := r.run("exp_2", `"docker":{"useDocker":true}`, environment("team/train:1", "null")); err != nil || r.login("registry.example/team/train:1") == nil {
		t.Errorf("what the client got back without the password forgot it: %v", err)
	}
	if _, err := r.RegisterEnvironment(t.Context(), r.admin, r.ws, "kept", "", json.RawMessage(`{"docker":{"baseImage":"registry.example/x","baseImageRegistry":{"address":"registry.example","username":"bob","password":"`+hush+`"}}}`)); err != nil {
		t.Fatal(err)
	}
	if l := r.login("registry.example/x"); l == nil {
		t.Error("a registered environment's registry has no login")
	}
	run, err := r.Store.HistoryRun(t.Context(), r.ws.ID, "exp_1")
	if err != nil || strings.Contains(string(run.Record.Definition), hush) || !strings.Contains(string(run.Record.Definition), "registry.example") {
		t.Errorf("the history has %s, %v", run.Record.Definition, err)
	}
	r.nowhere()
}

func TestRegistriesOfImages(t *testing.T) {
	for image, want := range map[string]string{
		"python": dockerHub, "library/python:3": dockerHub, "localhost/x": "localhost", "host:5000/x": "host:5000", "GHCR.io/a/b@sha256:0": "ghcr.io", "docker.io/x": dockerHub, "a.b/c": "a.b",
	} {
		if got := registryOf(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}
