package all

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

	"github.com/prometheus/client_golang/prometheus"

	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/catalog"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/fleet"
	"github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/secret"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const (
	admin  = "the-administrators-own-secret"
	wsPath = "/subscriptions/S-1/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/main"
)

// machine is a kind whose targets are always well, unless the address says otherwise. No job ever starts on it.
type machine struct{ kind string }

func (m machine) Kind() string { return m.kind }
func (m machine) Schema() json.RawMessage {
	return json.RawMessage(`{"type":"object","properties":{"address":{"type":"string"},"username":{"type":"string"},"password":{"type":"string","writeOnly":true},"private_key":{"type":"string","writeOnly":true},"namespace":{"type":"string"},"kubeconfig":{"type":"string","writeOnly":true}}}`)
}
func (m machine) Limits() compute.Limits { return compute.Limits{} }
func (m machine) Open(_ context.Context, settings json.RawMessage, _ compute.Env) (compute.Target, error) {
	var s struct{ Address string }
	if err := json.Unmarshal(settings, &s); err != nil {
		return nil, err
	}
	if strings.Contains(s.Address, "gone") {
		return nil, &compute.Error{Kind: compute.ErrUnreachable, Problem: workspace.Problem{Class: workspace.Unavailable, Code: "Unreachable", Message: "the machine does not answer", Mend: "look at it"}}
	}
	return target{s.Address}, nil
}

type target struct{ address string }

func (t target) Probe(context.Context) (compute.Facts, error) {
	return compute.Facts{Identity: []string{t.address}, Details: map[string]string{"os": "linux", "slots": "2"}}, nil
}
func (target) Submit(context.Context, compute.Job) (compute.Ref, error) { return "", nil }
func (target) Status(_ context.Context, jobs []compute.Handle) ([]compute.Status, error) {
	return make([]compute.Status, len(jobs)), nil
}
func (target) Cancel(context.Context, compute.Handle, int64) error { return nil }
func (target) Logs(context.Context, compute.Handle, compute.LogQuery, io.Writer) (int64, error) {
	return 0, nil
}
func (target) Collect(context.Context, compute.Handle, compute.Outputs) error { return nil }
func (target) Release(context.Context, compute.Handle, int64) error           { return nil }
func (target) Close() error                                                   { return nil }

// storePage is the first page of a list.
var storePage = store.Page{}

// server is the whole API over a real store and blob store, without loops: jobs stay queued.
type server struct {
	t       *testing.T
	api     *API
	auth    *authn.Authenticator
	control *control.Control
	store   *store.Store
	blobs   blob.Store
	ws      workspace.Workspace
}

func newServer(t *testing.T, others ...compute.Driver) *server {
	t.Helper()
	ctx, c, log := t.Context(), clock.System(), slog.New(slog.DiscardHandler)
	db, err := store.Open(ctx, store.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "m.db"), Log: log, Clock: c})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	disk, err := blob.NewDisk(t.TempDir())
	must(t, err)
	box, err := secret.NewBox([32]byte{1})
	must(t, err)
	curated, err := environment.DefaultCurated()
	must(t, err)
	s := &server{t: t, store: db, blobs: disk}
	cas := blob.NewCAS(disk, db, c)
	fl := fleet.New(fleet.Config{
		Drivers:  append([]compute.Driver{machine{"ssh"}, machine{"local"}}, others...),
		Settings: func(ctx context.Context, id string) (fleet.Settings, error) { return s.control.Settings(ctx, id) },
		Server:   "server", Log: log, Clock: c, Objects: cas,
	})
	t.Cleanup(fl.Close)
	s.control = control.New(control.Config{
		Store: db, Blob: disk, CAS: cas, Fleet: fl, Box: box, Catalog: catalog.New(db), Curated: curated, Clock: c, Log: log, DefaultCompute: "local",
	})
	t.Cleanup(s.control.Close)
	s.auth, err = authn.New(authn.Config{
		Key: [32]byte{2}, Server: "server", Admin: workspace.NewSecret(admin), Clock: c,
		Jobs: func(ctx context.Context, id string) (authn.Job, error) {
			j, err := db.JobRow(ctx, id)
			return authn.Job{Name: j.Name, Workspace: j.WorkspaceID, Attempt: j.Attempt, Over: j.State.Terminal()}, err
		},
		Runs: func(ctx context.Context, workspaceID, run string) (bool, error) {
			r, err := db.Run(ctx, workspaceID, run)
			return r.Job || r.End > 0, err
		},
	})
	must(t, err)
	cfg := Config{
		Control: s.control, Tracking: tracking.New(tracking.Config{Store: db, Blob: disk, Clock: c}), Blob: disk, CAS: cas, Auth: s.auth, Clock: c, Log: log,
		Images:    registry.New(registry.Config{Store: db, Blob: disk, Clock: c}),
		Metrics:   prometheus.NewRegistry(),
		Workspace: func(context.Context) (workspace.Workspace, error) { return s.ws, nil },
		Ready:     func(*http.Request) error { return nil }, Version: "test",
	}
	s.api = New(cfg)
	t.Cleanup(s.api.Close)
	s.ws, _, err = s.control.CreateWorkspace(ctx, s.auth.Administrator(), workspace.Workspace{Subscription: "S-1", ResourceGroup: "rg", Name: "main"})
	must(t, err)
	_, err = s.control.Attach(ctx, s.auth.Administrator(), s.ws, control.AttachRequest{Name: "local", Kind: "local"})
	must(t, err)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// answer is what came back.
type answer struct {
	t *testing.T
	*httptest.ResponseRecorder
}

type option func(*http.Request)

func header(name, value string) option { return func(r *http.Request) { r.Header.Set(name, value) } }

func as(token string) option {
	return func(r *http.Request) {
		r.Header.Del("Authorization")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	}
}

// call makes a request as administrator, unless an option says otherwise. body is text, or something that becomes JSON.
func (s *server) call(method, target string, body any, options ...option) answer {
	s.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		must(s.t, err)
		r = bytes.NewReader(text)
	}
	if strings.HasPrefix(target, "/") {
		target = "https://box.example:8443" + target
	}
	req := httptest.NewRequest(method, target, r)
	req.Header.Set("Authorization", "Bearer "+admin)
	for _, o := range options {
		o(req)
	}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, req)
	return answer{s.t, w}
}

// want checks the status.
func (a answer) want(status int) answer {
	a.t.Helper()
	if a.Code != status {
		a.t.Fatalf("status %d, want %d: %s", a.Code, status, a.Body)
	}
	return a
}

// get digs in the JSON body: "properties.status", "value.0.name". What is not there is nil.
func (a answer) get(path string) any {
	a.t.Helper()
	var v any
	if err := json.Unmarshal(a.Body.Bytes(), &v); err != nil {
		a.t.Fatalf("not JSON: %v: %s", err, a.Body)
	}
	for part := range strings.SplitSeq(path, ".") {
		switch node := v.(type) {
		case map[string]any:
			v = node[part]
		case []any:
			if i := int(part[0] - '0'); i < len(node) {
				v = node[i]
			} else {
				v = nil
			}
		default:
			return nil
		}
	}
	return v
}

// has checks values in the body.
func (a answer) has(want map[string]any) answer {
	a.t.Helper()
	for path, v := range want {
		if got := a.get(path); got != v {
			a.t.Errorf("%s = %#v, want %#v in %s", path, got, v, a.Body)
		}
	}
	return a
}

// path is the path and query of an absolute URL of this server.
func (s *server) path(link any) string {
	s.t.Helper()
	text, _ := link.(string)
	u, err := url.Parse(text)
	must(s.t, err)
	if u.Host != "box.example:8443" || u.Scheme != "https" {
		s.t.Fatalf("%q does not lead to where the client came from", text)
	}
	return u.RequestURI()
}
