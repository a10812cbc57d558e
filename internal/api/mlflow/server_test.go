package mlflow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/mlflow"
	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/store/storetest"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is the API on a socket, with its store.
type server struct {
	*httptest.Server
	store *store.Store
	blob  blob.Store
}

const token = "secret"

var (
	home  = workspace.Workspace{ID: "11111111-1111-4111-8111-111111111111", Subscription: "s", ResourceGroup: "g", Name: "home"}
	other = workspace.Workspace{ID: "22222222-2222-4222-8222-222222222222", Subscription: "s", ResourceGroup: "g", Name: "other"}
)

// callers knows the administrator by the token, and jobs by "job:" and their name.
type callers struct{}

func (callers) Authenticate(r *http.Request) (workspace.Principal, error) {
	text := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, password, ok := r.BasicAuth(); ok {
		text = password
	}
	if text == token {
		return workspace.Principal{Kind: "administrator", Name: "administrator"}, nil
	}
	if name, is := strings.CutPrefix(text, "job:"); is {
		return workspace.Principal{Kind: "job", Job: "01J", Name: name, Workspace: home.ID}, nil
	}
	return workspace.Principal{}, &workspace.Problem{Class: workspace.Unauthenticated, Code: "MissingToken", Message: "no token"}
}

func (callers) CheckSignature(url.Values, string, string, string) error { return nil }

type workspaces struct{}

func (workspaces) Workspace(_ context.Context, _, _, name string) (workspace.Workspace, error) {
	for _, w := range []workspace.Workspace{home, other} {
		if w.Name == name {
			return w, nil
		}
	}
	return workspace.Workspace{}, &workspace.Problem{Class: workspace.NotFound, Code: "ResourceNotFound", Message: "workspace " + name + " was not found"}
}

func start(t testing.TB) *server {
	t.Helper()
	return startOn(t, "sqlite:"+filepath.Join(t.TempDir(), "t.db"))
}

func startOn(t testing.TB, url string) *server {
	t.Helper()
	st := storetest.Open(t, url)
	disk, err := blob.NewDisk(filepath.Join(t.TempDir(), "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	routes := mlflow.Routes(mlflow.Config{
		Tracking: tracking.New(tracking.Config{Store: st, Blob: disk, Clock: clock.System()}),
		Default:  func(context.Context) (workspace.Workspace, error) { return home, nil },
	})
	router := api.New(api.Config{Auth: callers{}, Workspaces: workspaces{}, Clock: clock.System(), Log: slog.New(slog.DiscardHandler)}, routes)
	s := &server{Server: httptest.NewServer(router), store: st, blob: disk}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		s.Close()
		disk.Close()
	})
	return s
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// json gives the body as a map.
func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.body, &m); err != nil {
		t.Fatalf("%d %q: %v", a.status, a.body, err)
	}
	return m
}

// as sends a request with a credential. A path that begins with "/mlflow/" and no mount is below the default one.
func (s *server) as(t testing.TB, credential, method, path, body string, headers ...string) answer {
	t.Helper()
	if strings.HasPrefix(path, "/mlflow/") || strings.HasPrefix(path, "/mlflow-artifacts/") {
		path = "/mlflow/api/2.0" + path
	} else {
		path = strings.TrimPrefix(path, "@")
	}
	var content io.Reader
	if body != "" || method != http.MethodGet {
		content = bytes.NewReader([]byte(body))
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, content)
	if err != nil {
		t.Fatal(err)
	}
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

func (s *server) post(t testing.TB, path, body string) answer {
	t.Helper()
	return s.as(t, token, http.MethodPost, path, body)
}

func (s *server) get(t testing.TB, path string) answer {
	t.Helper()
	return s.as(t, token, http.MethodGet, path, "")
}

// newRun makes a run and gives its id.
func (s *server) newRun(t testing.TB, body string) string {
	t.Helper()
	run := s.post(t, "/mlflow/runs/create", body).json(t)["run"].(map[string]any)
	return run["info"].(map[string]any)["run_id"].(string)
}
