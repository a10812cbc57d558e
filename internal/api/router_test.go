package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const wsPath = "/subscriptions/S/resourceGroups/G/providers/Microsoft.MachineLearningServices/workspaces/W"

// fakeAuth knows the principals "admin" and "job", and takes the signature "good".
type fakeAuth struct{}

func (fakeAuth) Authenticate(r *http.Request) (workspace.Principal, error) {
	switch r.Header.Get("Authorization") {
	case "admin":
		return workspace.Principal{Kind: "administrator", Name: "admin"}, nil
	case "job":
		return workspace.Principal{Kind: "job", ID: "J", Job: "J", Name: "train1", Workspace: "id-of-W"}, nil
	case "foreign job":
		return workspace.Principal{Kind: "job", ID: "K", Job: "K", Name: "train1", Workspace: "id-of-V"}, nil
	}
	return workspace.Principal{}, &workspace.Problem{Class: workspace.Unauthenticated, Code: "MissingToken", Message: "no token", Mend: "get one"}
}

func (fakeAuth) CheckSignature(q url.Values, container, _, _ string) error {
	if q.Get("sig") == "good" && container == "c" {
		return nil
	}
	return &workspace.Problem{Class: workspace.Unauthenticated, Code: "AuthenticationFailed", Message: "bad signature", Mend: "get one"}
}

type fakeWorkspaces struct{}

func (fakeWorkspaces) Workspace(_ context.Context, sub, rg, name string) (workspace.Workspace, error) {
	if name != "W" {
		return workspace.Workspace{}, &workspace.Problem{Class: workspace.NotFound, Code: "ResourceNotFound", Message: "no such workspace", Mend: "make it"}
	}
	return workspace.Workspace{ID: "id-of-W", Subscription: sub, ResourceGroup: rg, Name: name}, nil
}

const action = "Microsoft.MachineLearningServices/workspaces/jobs/read"

func newRouter(t *testing.T, routes ...Route) *Router {
	t.Helper()
	for i := range routes {
		if routes[i].Dialect == nil {
			routes[i].Dialect = ARM{}
		}
		if routes[i].Action == "" && routes[i].Public == "" {
			routes[i].Action = action
		}
	}
	return New(Config{Auth: fakeAuth{}, Workspaces: fakeWorkspaces{}, Clock: clock.System(), Log: slog.New(slog.DiscardHandler), MaxBody: 1 << 20}, routes)
}

func say(w http.ResponseWriter, r *http.Request) error {
	_, err := io.WriteString(w, WorkspaceOf(r).Name+" "+r.PathValue("name"))
	return err
}

func call(h http.Handler, method, target, who string, body io.Reader) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, body)
	r.Header.Set("Authorization", who)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestFixedSegmentsIgnoreCaseAndNamesKeepIt(t *testing.T) {
	rt := newRouter(t,
		Route{Method: "GET", Pattern: WorkspacePath + "/jobs/{name}", Handler: say},
		Route{Method: "GET", Pattern: "/history/v1.0" + WorkspacePath + "/runs/{name}", Handler: say},
	)
	lower := strings.ToLower(wsPath[:strings.LastIndex(wsPath, "/")]) + "/W"
	tests := []struct {
		path, want string
		status     int
	}{
		{wsPath + "/jobs/Train", "W Train", 200},
		{lower + "/JOBS/Train", "W Train", 200},
		{lower + "/jobs/jobs", "W jobs", 200},
		{lower + "/jobs/RESOURCEGROUPS", "W RESOURCEGROUPS", 200},
		{wsPath + "//jobs/Train/", "W Train", 200},
		{wsPath + "/jobs/a%20b", "W a b", 200},
		{"/history/v1.0" + lower + "/runs/Train", "W Train", 200},
		{"/history/v1.0" + lower + "/RUNS/Train", "", 404},
		{strings.TrimSuffix(wsPath, "W") + "w/jobs/Train", "", 404},
	}
	for _, tt := range tests {
		w := call(rt, http.MethodGet, tt.path, "admin", nil)
		if w.Code != tt.status || tt.status == 200 && w.Body.String() != tt.want {
			t.Errorf("%s: %d %q, want %d %q", tt.path, w.Code, w.Body, tt.status, tt.want)
		}
	}
}

func TestPathsThatClimbAreRefused(t *testing.T) {
	rt := newRouter(t, Route{Method: "GET", Pattern: "/blob/{a}/{name...}", Handler: say})
	for _, path := range []string{"/blob/a/../../etc", "/blob/a/%2e%2e/x", "/blob/a/./x", "/blob/a/x%00y"} {
		if w := call(rt, http.MethodGet, path, "admin", nil); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "InvalidUri") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestAdmission(t *testing.T) {
	rt := newRouter(t,
		Route{Method: "GET", Pattern: WorkspacePath + "/jobs/{name}", Job: JobVariable("name"), Handler: say},
		Route{Method: "PUT", Pattern: WorkspacePath + "/jobs/{name}", Action: "Microsoft.MachineLearningServices/workspaces/jobs/write", Job: JobVariable("name"), Handler: say},
		Route{Method: "GET", Pattern: WorkspacePath + "/computes/{name}", Handler: say},
		Route{Method: "GET", Pattern: WorkspacePath, Action: "Microsoft.MachineLearningServices/workspaces/read", Job: JobAny, Handler: say},
		Route{Method: "GET", Pattern: "/open", Public: "for the test", Handler: say},
		Route{Method: "GET", Pattern: "/blob/{container}", Action: ActionBlobs + "read", Signed: func(r *http.Request) Grant { return Grant{Container: r.PathValue("container"), Verb: "r"} }, Handler: say},
	)
	tests := []struct {
		name, method, path, who string
		status                  int
	}{
		{"administrator reads", "GET", wsPath + "/jobs/x", "admin", 200},
		{"no token", "GET", wsPath + "/jobs/x", "", 401},
		{"no token and no workspace: still 401", "GET", strings.TrimSuffix(wsPath, "W") + "Q/jobs/x", "", 401},
		{"public needs none", "GET", "/open", "", 200},
		{"job reads itself", "GET", wsPath + "/jobs/train1", "job", 200},
		{"job reads another", "GET", wsPath + "/jobs/train2", "job", 403},
		{"job of that name in another workspace", "GET", wsPath + "/jobs/train1", "foreign job", 403},
		{"job may not write even itself", "PUT", wsPath + "/jobs/train1", "job", 403},
		{"job on a route that is not for jobs", "GET", wsPath + "/computes/c", "job", 403},
		{"job where any may come", "GET", wsPath, "job", 200},
		{"job in another workspace where any may come", "GET", wsPath, "foreign job", 403},
		{"signed URL", "GET", "/blob/c?sig=good", "", 200},
		{"signed for another container", "GET", "/blob/d?sig=good", "", 401},
		{"a signature does not open other routes", "GET", wsPath + "?sig=good", "", 401},
		{"unknown workspace", "GET", strings.TrimSuffix(wsPath, "W") + "Q", "admin", 404},
		{"unknown path", "GET", "/nothing", "admin", 404},
		{"other method", "DELETE", wsPath + "/jobs/x", "admin", 405},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := call(rt, tt.method, tt.path, tt.who, nil)
			if w.Code != tt.status {
				t.Fatalf("%d %s, want %d", w.Code, w.Body, tt.status)
			}
			if tt.status >= 400 && !strings.HasPrefix(w.Body.String(), `{"error":{"code":`) {
				t.Errorf("the error is not ARM's: %s", w.Body)
			}
			if tt.status == 405 && w.Header().Get("Allow") != "GET, PUT" {
				t.Errorf("Allow = %q", w.Header().Get("Allow"))
			}
		})
	}
}

func TestPanicBecomesA500ThatSaysNothingButItsID(t *testing.T) {
	var log strings.Builder
	rt := newRouter(t, Route{Method: "GET", Pattern: "/boom", Public: "test", Handler: func(http.ResponseWriter, *http.Request) error { panic("secret detail") }})
	rt.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	w := call(rt, http.MethodGet, "/boom", "", nil)
	id := w.Header().Get("x-ms-request-id")
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret detail") || !strings.Contains(w.Body.String(), id) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "secret detail") || !strings.Contains(log.String(), id) {
		t.Fatalf("the log lacks the panic or the id: %s", log.String())
	}
}

func TestErrorAfterTheFirstByteBreaksTheConnection(t *testing.T) {
	rt := newRouter(t, Route{Method: "GET", Pattern: "/half", Public: "test", Stream: true, Handler: func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		return errors.New("lost")
	}})
	s := httptest.NewServer(rt)
	defer s.Close()
	resp, err := s.Client().Get(s.URL + "/half")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Fatalf("the answer looks whole: %q", b)
	}
}

func TestBodiesOverTheLimitAreRefused(t *testing.T) {
	rt := newRouter(t, Route{Method: "PUT", Pattern: "/x", Public: "test", Handler: func(w http.ResponseWriter, r *http.Request) error {
		_, err := ReadJSON(r)
		return err
	}})
	w := call(rt, http.MethodPut, "/x", "", strings.NewReader(`"`+strings.Repeat("a", 2<<20)+`"`))
	if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "RequestBodyTooLarge") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

func TestBaseURLIsWhatTheClientTyped(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "https://box.example:9443/x", nil)
	if got := BaseURL(r); got != "https://box.example:9443" {
		t.Errorf("BaseURL = %q", got)
	}
	r = httptest.NewRequest(http.MethodGet, "http://box.example/x", nil)
	if got := BaseURL(r); got != "http://box.example" {
		t.Errorf("BaseURL = %q", got)
	}
	r = r.WithContext(Secure(r.Context()))
	if got := BaseURL(r); got != "https://box.example" {
		t.Errorf("BaseURL of a secure way back = %q", got)
	}
}

func FuzzTidyPath(f *testing.F) {
	for _, seed := range []string{"/", wsPath + "/jobs/x", "//a//b/", "/%2e%2e/x", "/subscriptions//%2F/", "/a/%zz"} {
		f.Add(seed)
	}
	fold := folder{}
	fold.learn(WorkspacePath + "/jobs/{name}")
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = u
		out, ok := tidy(r)
		if !ok {
			return
		}
		out = fold.request(out)
		for segment := range strings.SplitSeq(out.URL.EscapedPath(), "/") {
			if segment == ".." || segment == "." {
				t.Fatalf("%q became %q", path, out.URL.EscapedPath())
			}
		}
		if strings.Contains(out.URL.EscapedPath(), "//") {
			t.Fatalf("%q became %q", path, out.URL.EscapedPath())
		}
	})
}
