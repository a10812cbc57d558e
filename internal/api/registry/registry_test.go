package registry

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/authn"
	images "github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestPathsBelowTheRegistry(t *testing.T) {
	for path, want := range map[string]endpoint{
		"_catalog":                    {kind: "catalog"},
		"w/a/blobs/uploads":           {"uploads", "w/a", ""},
		"w/a/b/blobs/uploads/ID":      {"upload", "w/a/b", "ID"},
		"w/a/blobs/sha256:00":         {"blob", "w/a", "sha256:00"},
		"w/blobs/uploads/manifests/x": {"manifest", "w/blobs/uploads", "x"},
		"w/a/referrers/sha256:00":     {"referrers", "w/a", "sha256:00"},
		"w/a/tags/list":               {"tags", "w/a", ""},
	} {
		if got, ok := endpointOf(path); !ok || got != want {
			t.Errorf("%s: %v, %v", path, got, ok)
		}
	}
	for _, path := range []string{"", "x", "w/a", "w/a/tags", "manifests/x", "w/a/nothing/x"} {
		if got, ok := endpointOf(path); ok {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestErrorsHaveTheSpecificationsShape(t *testing.T) {
	s := newServer(t, "")
	s.image("main/a", "1", "layer")
	const no = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	for _, tt := range []struct {
		method, path, body, contentType string
		status                          int
		code                            string
	}{
		{"GET", "main/a/blobs/" + no, "", "", 404, "BLOB_UNKNOWN"},
		{"GET", "main/a/blobs/sha256:xyz", "", "", 400, "DIGEST_INVALID"},
		{"GET", "main/a/manifests/none", "", "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "main/a/manifests/" + no, "", "", 404, "MANIFEST_UNKNOWN"},
		{"GET", "main/none/tags/list", "", "", 404, "NAME_UNKNOWN"},
		{"GET", "nobody/a/tags/list", "", "", 404, "NAME_UNKNOWN"},
		{"GET", "main/Ä/tags/list", "", "", 400, "NAME_INVALID"},
		{"GET", "main/a/blobs/uploads/none", "", "", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"POST", "main/a/blobs/uploads?digest=" + no, "x", "", 400, "DIGEST_INVALID"},
		{"PUT", "main/a/manifests/x", "{", ociImage, 400, "MANIFEST_INVALID"},
		{"PUT", "main/a/manifests/x", `{"schemaVersion":1}`, ociImage, 400, "MANIFEST_INVALID"},
		{"PUT", "main/a/manifests/x", `{"schemaVersion":2}`, "application/vnd.docker.distribution.manifest.v1+json", 400, "MANIFEST_INVALID"},
		{"PUT", "main/a/manifests/x", `{"schemaVersion":2,"config":{"digest":"` + no + `"}}`, ociImage, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"PUT", "main/a/manifests/x", strings.Repeat(" ", images.MaxManifest+1), ociImage, 413, "SIZE_INVALID"},
		{"PUT", "main/a/blobs/" + no, "", "", 405, "UNSUPPORTED"},
		{"GET", "main/a", "", "", 405, "UNSUPPORTED"},
	} {
		res, text := s.request(tt.method, tt.path, strings.NewReader(tt.body), admin, "Content-Type", tt.contentType)
		var answer struct {
			Errors []struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer.Errors) != 1 || answer.Errors[0].Code != tt.code || answer.Errors[0].Message == "" || res.StatusCode != tt.status {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.path, res.StatusCode, text, tt.status, tt.code)
		}
	}
}

func TestStrangersLearnWhereTheyGetAToken(t *testing.T) {
	s := newServer(t, "")
	for _, tt := range []struct{ method, path, scope string }{
		{"GET", "/v2/", ""},
		{"HEAD", "main/a/b/manifests/1", `,scope="repository:main/a/b:pull"`},
		{"POST", "main/a/blobs/uploads/", `,scope="repository:main/a:pull,push"`},
		{"DELETE", "main/a/manifests/1", `,scope="repository:main/a:delete"`},
		{"GET", "_catalog", `,scope="registry:catalog:*"`},
	} {
		res, _ := s.request(tt.method, tt.path, nil, "")
		want := `Bearer realm="` + s.http.URL + `/v2/token",service="` + s.host + `"` + tt.scope
		if got := res.Header.Get("WWW-Authenticate"); res.StatusCode != http.StatusUnauthorized || got != want {
			t.Errorf("%s %s: %d %s, want %s", tt.method, tt.path, res.StatusCode, got, want)
		}
	}
}

// tokenFor asks for a token with a scope and gives it.
func (s *server) tokenFor(password, scope string) string {
	s.t.Helper()
	res, text := s.request("GET", "/v2/token?service=x&scope="+scope, nil, password)
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(text), &answer); res.StatusCode != http.StatusOK || err != nil {
		s.t.Fatalf("%d %s", res.StatusCode, text)
	}
	return answer.Token
}

func TestATokenHasNoMoreThanWasAskedFor(t *testing.T) {
	s := newServer(t, "")
	s.image("main/a", "1", "layer")
	pull, push := s.tokenFor(admin, "repository:main/a:pull"), s.tokenFor(admin, "repository:main/a:pull,push")
	if pull == admin || push == admin {
		t.Fatal("the administrator's secret came back as a token")
	}
	for _, tt := range []struct {
		token, method, path string
		status              int
	}{
		{pull, "GET", "main/a/tags/list", 200},
		{pull, "POST", "main/a/blobs/uploads/", 403},
		{pull, "DELETE", "main/a/manifests/1", 403},
		{push, "POST", "main/a/blobs/uploads/", 202},
		{push, "DELETE", "main/a/manifests/1", 202},
		{push, "POST", "/native/v1/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/Main/registry/login", 403},
	} {
		res, text := s.request(tt.method, tt.path, nil, "", "Authorization", "Bearer "+tt.token)
		if res.StatusCode != tt.status {
			t.Errorf("%s %s: %d, want %d: %s", tt.method, tt.path, res.StatusCode, tt.status, text)
		}
	}
	res, _ := s.request("POST", "/v2/token", strings.NewReader("grant_type=password&username=moorage&password="+admin+"&scope=repository:main/a:pull"), "", "Content-Type", "application/x-www-form-urlencoded")
	if res.StatusCode != http.StatusOK {
		t.Errorf("containerd's way to a token: %d", res.StatusCode)
	}
}

func TestAJobMayPullFromItsWorkspaceAndNothingElse(t *testing.T) {
	s := newServer(t, "")
	s.image("main/a", "1", "layer")
	s.image("other/a", "1", "layer")
	credential := s.auth.JobSecret("J", 1).Reveal()
	for _, tt := range []struct {
		method, path string
		way          string
		status       int
	}{
		{"GET", "/v2/", "x", 200},
		{"GET", "main/a/manifests/1", "x", 200},
		{"GET", "main/a/manifests/1", "", 401}, // it did not come by its way back
		{"GET", "other/a/manifests/1", "x", 403},
		{"GET", "none/a/manifests/1", "x", 403},
		{"POST", "main/a/blobs/uploads/", "x", 403},
		{"PUT", "main/a/manifests/2", "x", 403},
		{"DELETE", "main/a/manifests/1", "x", 403},
	} {
		res, text := s.request(tt.method, tt.path, nil, credential, "X-Way-Back", tt.way)
		if res.StatusCode != tt.status {
			t.Errorf("%s %s: %d, want %d: %s", tt.method, tt.path, res.StatusCode, tt.status, text)
		}
	}
	res, text := s.request("GET", "/v2/token", nil, credential, "X-Way-Back", "x")
	if res.StatusCode != http.StatusOK || !strings.Contains(text, credential) {
		t.Errorf("a job's engine gets a token: %d %s", res.StatusCode, text)
	}
}

func TestLoginGivesATokenOfTheWorkspace(t *testing.T) {
	s := newServer(t, "")
	const path = "/native/v1/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/Main/registry/login"
	_, text := s.want(200, "POST", path, `{"push":true,"days":1}`)
	var answer struct{ Server, Prefix, Username, Password, Expires string }
	must(t, json.Unmarshal([]byte(text), &answer))
	at, err := time.Parse(time.RFC3339, answer.Expires)
	if err != nil || answer.Prefix != "main" || answer.Server != s.host || time.Until(at) > 24*time.Hour || time.Until(at) < 23*time.Hour {
		t.Errorf("%s", text)
	}
	if res, _ := s.request("POST", "main/a/blobs/uploads/", nil, answer.Password); res.StatusCode != http.StatusAccepted {
		t.Errorf("it pushes: %d", res.StatusCode)
	}
	s.want(400, "POST", path, `{"days":401}`)
}

func TestAnUploadThatBrokeOffGoesOnWhereItStopped(t *testing.T) {
	s := newServer(t, "")
	content := strings.Repeat("0123456789", 30_000)
	digest := string(images.DigestOf([]byte(content)))
	res, _ := s.want(202, "POST", "main/a/blobs/uploads/", "")
	location := res.Header.Get("Location")
	broken := io.MultiReader(strings.NewReader(content[:200_000]), cut{t, func() bool { return s.incoming() >= 200_000 }})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, s.http.URL+location, broken)
	must(t, err)
	r.SetBasicAuth("moorage", admin)
	if res, err := s.http.Client().Do(r); err == nil {
		res.Body.Close()
		t.Fatal("the request went through")
	}
	var size int
	engine.Eventually(t, 10*time.Second, "what came is kept", func() bool {
		res, _ = s.want(204, "GET", location, "")
		last, err := strconv.Atoi(strings.TrimPrefix(res.Header.Get("Range"), "0-"))
		size = last
		return err == nil && size > 0
	})
	if size++; size != 200_000 {
		t.Fatalf("%d bytes were kept of 200,000", size)
	}
	s.want(416, "PATCH", location, "x", "Content-Range", "0-0")
	s.want(201, "PUT", location+"?digest="+digest, content[size:])
	if _, got := s.want(200, "GET", "main/a/blobs/"+digest, ""); got != content {
		t.Error("another content came back")
	}
}

// cut is a reader that fails once something has come true.
type cut struct {
	t    *testing.T
	when func() bool
}

func (c cut) Read([]byte) (int, error) {
	engine.Eventually(c.t, 10*time.Second, "the server has what was sent", c.when)
	return 0, errors.New("the cable is cut")
}

// incoming is how many bytes are on disk that have no name yet.
func (s *server) incoming() (size int64) {
	_ = filepath.WalkDir(filepath.Join(s.dir, "tmp"), func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if info, err := e.Info(); err == nil { // else it has got its name
			size += info.Size()
		}
		return nil
	})
	return size
}

func TestWorkspacesNeverMeet(t *testing.T) {
	s := newServer(t, "")
	_, _, layer := s.image("other/a", "1", "their layer")
	s.want(404, "GET", "main/a/blobs/"+layer, "")
	for _, from := range []string{"&from=other/a", ""} {
		s.want(202, "POST", "main/a/blobs/uploads/?mount="+layer+from, "")
	}
	s.blob("main/a", "their layer") // whoever has the bytes may push them
	s.want(200, "GET", "main/a/blobs/"+layer, "")
	if n := s.stored(); n != 2 {
		t.Errorf("%d blobs are stored, want 2: the same bytes are kept once", n)
	}
	s.want(202, "DELETE", "other/a/blobs/"+layer, "")
	s.want(200, "GET", "main/a/blobs/"+layer, "")
}

// stored counts the blobs in the folder.
func (s *server) stored() (n int) {
	s.t.Helper()
	must(s.t, filepath.WalkDir(filepath.Join(s.dir, "names"), func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	}))
	return n
}

func TestTagsArePaged(t *testing.T) {
	s := newServer(t, "")
	for _, tag := range []string{"b", "a", "C", "_d", "10"} {
		s.image("main/a", tag, "layer")
	}
	var got []string
	for path := "main/a/tags/list?n=2"; path != ""; {
		res, text := s.want(200, "GET", path, "")
		var page struct{ Tags []string }
		must(t, json.Unmarshal([]byte(text), &page))
		got = append(got, strings.Join(page.Tags, " "))
		link, _, _ := strings.Cut(res.Header.Get("Link"), ">")
		path = strings.TrimPrefix(link, "<")
	}
	if want := "10 C|_d a|b"; strings.Join(got, "|") != want {
		t.Errorf("pages %q, want %s", got, want)
	}
}

func TestRightsAreWhatTheScopesAskFor(t *testing.T) {
	for scopes, want := range map[string]authn.RegistryRight{
		"": authn.RegistryPull, "repository:a/b:pull": authn.RegistryPull, "registry:catalog:*": authn.RegistryPull,
		"repository:h:1/a:pull,push": authn.RegistryPush, "repository:a/b:delete": authn.RegistryPush, "repository:a/b:*": authn.RegistryPush,
		"repository:a/b:pull repository:a/c:push": authn.RegistryPush,
	} {
		if got := rightOf(strings.Fields(scopes)); got != want {
			t.Errorf("%q: %s, want %s", scopes, got, want)
		}
	}
}
