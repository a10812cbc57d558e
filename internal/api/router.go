package api

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/authz"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Authenticator turns what a request carries into a principal; package authn has it.
type Authenticator interface {
	Authenticate(r *http.Request) (workspace.Principal, error)
	CheckSignature(q url.Values, container, blob, verb string) error
}

// Workspaces finds the workspace that a path names; package control has it.
type Workspaces interface {
	Workspace(ctx context.Context, subscription, resourceGroup, name string) (workspace.Workspace, error)
}

// Config is what a Router is made of.
type Config struct {
	Auth       Authenticator
	Workspaces Workspaces
	Clock      clock.Source
	Log        *slog.Logger
	// Metrics takes the router's counters; nil: they are counted for nobody.
	Metrics prometheus.Registerer
	// BlobHost is the name of the form X.blob.Y under which clients upload that came by another; empty: the constant BlobHost.
	BlobHost string
	// MaxBody is the limit of a request's body in bytes, on routes that do not stream; 0: 64 MiB.
	MaxBody int64
	// Audit, if set, is told of every request that came with a right to change or read secrets, after its end.
	Audit func(ctx context.Context, e Entry)
}

// Entry is one line of the audit log.
type Entry struct {
	RequestID string
	Principal workspace.Principal
	Workspace string // id; empty when none is named
	Action    string
	Path      string
	Status    int
	Remote    string
}

// Router serves a route table. It is an http.Handler and safe for concurrent use.
type Router struct {
	cfg      Config
	mux      *http.ServeMux
	folder   folder
	dialects map[string]Dialect // by the first segment of the path
	observe  *observer
	large    chan struct{} // a token for each large body that is in memory
}

// Bodies are held whole and decoded, so few large ones are taken at a time and the others wait.
const (
	largeBody   = 1 << 20 // bytes
	largeAtOnce = 4
)

// New makes a Router. A table that contradicts itself is impossible wiring, and panics.
func New(cfg Config, table []Route) *Router {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 64 << 20
	}
	rt := &Router{cfg: cfg, mux: http.NewServeMux(), folder: folder{}, dialects: map[string]Dialect{}, observe: newObserver(cfg.Metrics), large: make(chan struct{}, largeAtOnce)}
	for i := range table {
		route := &table[i]
		if (route.Action == "") == (route.Public == "") || route.Dialect == nil {
			panic("api: route " + route.Method + " " + route.Pattern + " needs a dialect, and either an action or a reason to be public")
		}
		rt.folder.learn(route.Pattern)
		rt.mux.Handle(route.Method+" "+route.Pattern, rt.serve(route))
		if first, _, _ := strings.Cut(route.Pattern[1:], "/"); rt.dialects[first] == nil {
			rt.dialects[first] = route.Dialect
		}
	}
	rt.mux.Handle("/", http.HandlerFunc(rt.unknown))
	return rt
}

// ServeHTTP gives the request an id, tidies its path, and survives whatever happens below.
func (rt *Router) ServeHTTP(plain http.ResponseWriter, r *http.Request) {
	s := &state{id: rt.newID(r), blobHost: rt.cfg.BlobHost}
	began := rt.cfg.Clock.Now()
	r = r.WithContext(context.WithValue(r.Context(), stateKey{}, s))
	w := newWriter(plain)
	if r.Body != nil && r.Body != http.NoBody {
		w.expectBody() // net/http waits for a body that no handler reads
	}
	w.Header().Set("x-ms-request-id", s.id)
	if id := r.Header.Get("x-ms-client-request-id"); id != "" {
		w.Header().Set("x-ms-client-request-id", id)
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	defer rt.finish(w, r, s, began)
	clean, ok := tidy(r)
	if !ok {
		rt.fail(w, r, &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidUri", Message: "the path of the request is not clean", Mend: "leave out '.' and '..'",
		})
		return
	}
	rt.mux.ServeHTTP(w, rt.locate(clean))
}

// finish counts and logs, and turns a panic into a 500 when there is still an answer to give.
func (rt *Router) finish(w *writer, r *http.Request, s *state, began time.Time) {
	if v := recover(); v != nil {
		if v == http.ErrAbortHandler { //nolint:errorlint // a panic's value is compared as net/http does
			rt.observe.request(s.route, 499, rt.cfg.Clock.Now().Sub(began))
			panic(v)
		}
		rt.cfg.Log.Error("a handler panicked", "request", s.id, "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		if !w.started {
			rt.fail(w, r, fmt.Errorf("api: panic: %v", v))
		} else {
			defer panic(http.ErrAbortHandler)
		}
	}
	w.expectTaken() // the end of the answer
	took := rt.cfg.Clock.Now().Sub(began)
	rt.observe.request(s.route, w.status, took)
	level := slog.LevelDebug
	if w.status >= 500 && w.status != http.StatusNotImplemented {
		level = slog.LevelWarn
	}
	rt.cfg.Log.Log(r.Context(), level, "request", "request", s.id, "method", r.Method, "path", r.URL.Path, "status", w.status, "ms", took.Milliseconds(), "principal", s.principal.Name)
	if rt.cfg.Audit != nil && s.route != nil && audited(s.route.Action) {
		rt.cfg.Audit(context.WithoutCancel(r.Context()), Entry{
			RequestID: s.id, Principal: s.principal, Workspace: s.workspace.ID, Action: s.route.Action, Path: r.URL.Path, Status: w.status, Remote: r.RemoteAddr,
		})
	}
}

// audited tells whether a use of the action belongs into the audit log: changes of the control plane, images deleted, and
// secrets read.
func audited(action string) bool {
	if rest, ok := strings.CutPrefix(action, ActionRegistry); ok {
		return rest == "artifacts/delete" || rest == "listCredentials/action"
	}
	if !strings.HasPrefix(action, ActionWorkspaces) && !strings.HasPrefix(action, ActionServer) {
		return false
	}
	for _, data := range []string{"experiments/", "metrics/", "artifacts/", "snapshots/"} {
		if strings.HasPrefix(action, ActionWorkspaces+data) {
			return false
		}
	}
	return strings.HasSuffix(action, "/write") || strings.HasSuffix(action, "/delete") || strings.HasSuffix(action, "/action")
}

// serve is the way of a request to the handler of its route.
func (rt *Router) serve(route *Route) http.Handler {
	return http.HandlerFunc(func(plain http.ResponseWriter, r *http.Request) {
		s := stateOf(r)
		s.route = route
		w, ok := plain.(*writer)
		if !ok {
			w = newWriter(plain)
		}
		w.limit(r, route, rt.cfg.MaxBody)
		leave, err := func() {}, rt.admit(r, s)
		if err == nil {
			leave, err = rt.room(r, route)
		}
		defer leave()
		if err == nil {
			err = route.Handler(w, r)
		}
		if err == nil {
			return
		}
		if w.started {
			// The answer is half written: only a broken connection tells the client that it is not whole.
			if r.Context().Err() == nil { // else the client has gone, as is its right
				rt.cfg.Log.Warn("an answer broke off", "request", s.id, "path", r.URL.Path, "error", err)
			}
			panic(http.ErrAbortHandler)
		}
		rt.fail(w, r, err)
	})
}

// room waits until there is room for the request's body. Only who was admitted comes to it, and streams need none.
func (rt *Router) room(r *http.Request, route *Route) (leave func(), err error) {
	if route.Stream || r.ContentLength >= 0 && r.ContentLength <= largeBody {
		return func() {}, nil
	}
	limit := time.NewTimer(patience / 2)
	defer limit.Stop()
	select {
	case rt.large <- struct{}{}:
		return func() { <-rt.large }, nil
	case <-limit.C:
		return func() {}, &workspace.Problem{
			Class: workspace.Throttled, Code: "TooManyRequests", Message: "the server takes in other large bodies",
			Cause: fmt.Sprintf("it holds %d of more than %d MiB at a time", largeAtOnce, largeBody>>20), Mend: "try again in a moment",
		}
	case <-r.Context().Done():
		return func() {}, r.Context().Err()
	}
}

// admit establishes who asks, for what workspace, and whether they may.
func (rt *Router) admit(r *http.Request, s *state) error {
	if s.route.Public != "" {
		return nil // nor is a workspace looked up: whether it is there is nobody's business
	}
	if err := rt.authenticate(r, s); err != nil {
		return err
	}
	if name := r.PathValue("ws"); name != "" {
		ws, err := rt.cfg.Workspaces.Workspace(r.Context(), r.PathValue("sub"), r.PathValue("rg"), name)
		if err != nil {
			return err
		}
		s.workspace = ws
	}
	if err := authz.Check(s.principal, s.route.Action); err != nil {
		return err
	}
	return jobMay(r, s)
}

func (rt *Router) authenticate(r *http.Request, s *state) (err error) {
	if q := r.URL.Query(); s.route.Signed != nil && q.Has("sig") {
		s.principal = authn.Signed()
		return rt.checkSignature(r, q, s.route.Signed(r))
	}
	s.principal, err = rt.cfg.Auth.Authenticate(r)
	return err
}

// checkSignature holds a signed URL against what it is used for. azureml-core quotes the path of an upload's URL a second
// time, and does not for a download (azureml-v1.md §20): which it was, the signature tells, for it is good for one name.
func (rt *Router) checkSignature(r *http.Request, q url.Values, g Grant) error {
	err := rt.cfg.Auth.CheckSignature(q, g.Container, g.Blob, g.Verb)
	if err == nil || g.Variable == "" {
		return err
	}
	name, malformed := url.PathUnescape(g.Blob)
	if malformed != nil || name == g.Blob || rt.cfg.Auth.CheckSignature(q, g.Container, name, g.Verb) != nil {
		return err
	}
	r.SetPathValue(g.Variable, name)
	return nil
}

// jobMay keeps a job's own credential within its job.
func jobMay(r *http.Request, s *state) error {
	p, scope := s.principal, s.route.Job
	if p.Job == "" {
		return nil
	}
	denied := &workspace.Problem{
		Class: workspace.Denied, Code: "NotYourJob", Message: "this credential belongs to job " + p.Name + " and reaches nothing else",
		Mend: "use the administrator's token for this",
	}
	if s.workspace.ID != "" && s.workspace.ID != p.Workspace {
		return denied
	}
	switch {
	case scope == JobAny, scope == JobHandler:
		return nil
	case strings.HasPrefix(string(scope), "{") && r.PathValue(strings.Trim(string(scope), "{}")) == p.Name:
		return nil
	}
	return denied
}

// fail writes an error in the dialect of the route, or of the path when no route was found.
func (rt *Router) fail(w *writer, r *http.Request, err error) {
	p := ProblemOf(r, err)
	if p.Class == workspace.Internal {
		rt.cfg.Log.Error("a request failed", "request", RequestID(r), "method", r.Method, "path", r.URL.Path, "error", err)
	}
	rt.dialect(r).WriteProblem(w, r, p)
}

func (rt *Router) dialect(r *http.Request) Dialect {
	if s := stateOf(r); s.route != nil {
		return s.route.Dialect
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if d := rt.dialects[first]; d != nil {
		return d
	}
	return ARM{}
}

// unknown answers what no route matches: 405 if another method would, else 404.
func (rt *Router) unknown(plain http.ResponseWriter, r *http.Request) {
	w, ok := plain.(*writer)
	if !ok {
		w = newWriter(plain)
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if rt.known(other) {
			allowed = append(allowed, method)
		}
	}
	p := &workspace.Problem{Class: workspace.NotFound, Code: "NotFound", Target: r.URL.Path, Message: "this server has nothing at " + r.Method + " " + clip(r.URL.Path), Mend: "check the address"}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		w.override = http.StatusMethodNotAllowed
		p.Class, p.Code = workspace.Invalid, "MethodNotAllowed"
		p.Mend = "use " + strings.Join(allowed, " or ")
	}
	rt.fail(w, r, p)
}

var plainID = regexp.MustCompile(`^[A-Za-z0-9-]{8,64}$`)

// newID is the client's own id when it is plain, so that both sides' logs can be joined; else a new one.
func (rt *Router) newID(r *http.Request) string {
	if id := r.Header.Get("x-ms-client-request-id"); plainID.MatchString(id) {
		return id
	}
	var b [12]byte
	if _, err := io.ReadFull(rt.cfg.Clock.Rand, b[:]); err != nil {
		return rt.cfg.Clock.NewID()
	}
	return hex.EncodeToString(b[:])
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
