package registry

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	images "github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const admin = "the-administrators-own-secret"

// server is the registry alone over a real store and folder, with the workspaces main and other, and a job in main.
type server struct {
	t      *testing.T
	http   *httptest.Server
	host   string
	auth   *authn.Authenticator
	images *images.Registry
	dir    string // of the blobs
}

func newServer(t *testing.T, url string) *server {
	t.Helper()
	c, log := clock.System(), slog.New(slog.DiscardHandler)
	if url == "" {
		url = "sqlite:" + filepath.Join(t.TempDir(), "m.db")
	}
	db, err := store.Open(t.Context(), store.Config{URL: url, Log: log, Clock: c})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	s := &server{t: t, dir: t.TempDir()}
	disk, err := blob.NewDisk(s.dir)
	must(t, err)
	t.Cleanup(func() { _ = disk.Close() })
	must(t, db.Write(t.Context(), func(tx *store.Tx) error {
		for _, name := range []string{"Main", "other"} {
			if err := tx.InsertWorkspace(t.Context(), workspace.Workspace{ID: "id-of-" + strings.ToLower(name), Subscription: "s", ResourceGroup: "g", Name: name}); err != nil {
				return err
			}
		}
		return nil
	}))
	s.images = images.New(images.Config{Store: db, Blob: disk, Clock: c})
	s.auth, err = authn.New(authn.Config{
		Key: [32]byte{2}, Server: "server", Admin: workspace.NewSecret(admin), Clock: c,
		Jobs: func(context.Context, string) (authn.Job, error) {
			return authn.Job{Name: "job", Workspace: "id-of-main", Attempt: 1}, nil
		},
	})
	must(t, err)
	router := api.New(api.Config{Auth: s.auth, Workspaces: named{db}, Clock: c, Log: log}, Routes(Config{Images: s.images, Tokens: s.auth, Clock: c}))
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Way-Back") != "" { // stands for a connection that a job made through its compute
			r = r.WithContext(authn.WithWayBack(r.Context(), "J", 1))
		}
		router.ServeHTTP(w, r)
	}))
	s.http.EnableHTTP2 = true
	s.http.StartTLS()
	t.Cleanup(s.http.Close)
	s.host = strings.TrimPrefix(s.http.URL, "https://")
	return s
}

type named struct{ *store.Store }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// request makes a request; header are names and values in turn. The body is read.
func (s *server) request(method, path string, body io.Reader, password string, header ...string) (*http.Response, string) {
	s.t.Helper()
	if !strings.HasPrefix(path, "/") {
		path = "/v2/" + path
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.http.URL+path, body)
	must(s.t, err)
	if password != "" {
		r.SetBasicAuth("moorage", password)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := s.http.Client().Do(r)
	must(s.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(s.t, err)
	return res, string(text)
}

// want is request as administrator, with a status to come.
func (s *server) want(status int, method, path, body string, header ...string) (*http.Response, string) {
	s.t.Helper()
	res, text := s.request(method, path, strings.NewReader(body), admin, header...)
	if res.StatusCode != status {
		s.t.Fatalf("%s %s: %d, want %d: %s", method, path, res.StatusCode, status, text)
	}
	return res, text
}

func (s *server) token(workspaceID string, right authn.RegistryRight) string {
	token, _ := s.auth.RegistryToken(workspaceID, right, time.Hour)
	return token.Reveal()
}

// blob pushes a blob whole and gives its digest.
func (s *server) blob(name, content string) string {
	s.t.Helper()
	digest := string(images.DigestOf([]byte(content)))
	s.want(http.StatusCreated, "POST", name+"/blobs/uploads/?digest="+digest, content)
	return digest
}

const ociImage = "application/vnd.oci.image.manifest.v1+json"

// image pushes an image of one layer and gives the digests of manifest, config and layer.
func (s *server) image(name, tag, layer string) (manifest, config, content string) {
	s.t.Helper()
	config, content = s.blob(name, `{"made of":"`+layer+`"}`), s.blob(name, layer)
	text := `{"schemaVersion":2,"mediaType":"` + ociImage + `","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + config +
		`"},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"` + content + `"}]}`
	manifest = string(images.DigestOf([]byte(text)))
	if tag == "" {
		tag = manifest
	}
	s.want(http.StatusCreated, "PUT", name+"/manifests/"+tag, text, "Content-Type", ociImage)
	return manifest, config, content
}
