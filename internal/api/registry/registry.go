// Package registry serves images as the OCI distribution specification 1.1 describes it, and as Docker's engine speaks
// it, at /v2/: login with a token, blobs, uploads, manifests, tags and referrers. Every repository lies in a workspace.
//
// Names of repositories have slashes, so the route table knows /v2/ and the method alone, and this package what lies
// below. To read is one action, to write another; the token that a client gets has no more than it asked for.
package registry

import (
	"errors"
	"net/http"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
	images "github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is what the routes need.
type Config struct {
	Images *images.Registry
	Tokens *authn.Authenticator
	Clock  clock.Source
}

type handlers struct{ Config }

// Routes is registry's part of the route table.
func Routes(cfg Config) []api.Route {
	h := handlers{cfg}
	pull, push, remove := api.ActionRegistry+"pull/read", api.ActionRegistry+"push/write", api.ActionRegistry+"artifacts/delete"
	const below = "/v2/{path...}"
	table := []api.Route{
		{Method: "GET", Pattern: "/v2", Action: pull, Job: api.JobAny, Handler: h.base},
		{Method: "GET", Pattern: below, Action: pull, Job: api.JobHandler, Handler: h.serve},
		{Method: "POST", Pattern: below, Action: push, Handler: h.serve},
		{Method: "PUT", Pattern: below, Action: push, Handler: h.serve},
		{Method: "PATCH", Pattern: below, Action: push, Handler: h.serve},
		{Method: "DELETE", Pattern: below, Action: remove, Handler: h.serve},
		{Method: "GET", Pattern: "/v2/token", Public: "tokens are got here; it checks the password itself", Handler: h.token},
		{Method: "POST", Pattern: "/v2/token", Public: "tokens are got here; it checks the password itself", Handler: h.token},
	}
	for i := range table {
		table[i].Dialect = dialect{}
		table[i].Stream = strings.HasSuffix(table[i].Pattern, "...}")
	}
	return append(table, h.loginRoutes()...)
}

// base tells a client that it speaks to a registry, and has come in.
func (h handlers) base(w http.ResponseWriter, _ *http.Request) error {
	return api.WriteJSON(w, http.StatusOK, struct{}{})
}

// endpoint is one thing that a path below /v2/ names.
type endpoint struct {
	kind      string // catalog, upload, uploads, blob, manifest, tags, referrers
	name      string // of the repository
	reference string // what kind says: digest, tag or id of an upload
}

// endpointOf reads a path below /v2/. ok is false for a path that names nothing.
func endpointOf(path string) (e endpoint, ok bool) {
	if path == "_catalog" {
		return endpoint{kind: "catalog"}, true
	}
	words := strings.Split(path, "/")
	n := len(words)
	at := func(i int) string { // from the end
		if i > n {
			return ""
		}
		return words[n-i]
	}
	name := func(rest int) string { return strings.Join(words[:n-rest], "/") }
	switch {
	case n < 3:
		return e, false
	case at(2) == "blobs" && at(1) == "uploads":
		return endpoint{kind: "uploads", name: name(2)}, true
	case at(3) == "blobs" && at(2) == "uploads":
		return endpoint{"upload", name(3), at(1)}, true
	case at(2) == "blobs":
		return endpoint{"blob", name(2), at(1)}, true
	case at(2) == "manifests":
		return endpoint{"manifest", name(2), at(1)}, true
	case at(2) == "referrers":
		return endpoint{"referrers", name(2), at(1)}, true
	case at(2) == "tags" && at(1) == "list":
		return endpoint{kind: "tags", name: name(2)}, true
	}
	return e, false
}

// handler serves an endpoint in the repository that it names.
type handler func(h handlers, w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error

// methods are the handlers by kind and method. HEAD comes as GET does.
var methods = map[string]map[string]handler{ //nolint:gochecknoglobals // a table that nobody changes
	"blob":      {"GET": handlers.getBlob, "DELETE": handlers.deleteBlob},
	"uploads":   {"POST": handlers.begin},
	"upload":    {"GET": handlers.status, "PATCH": handlers.patch, "PUT": handlers.finish, "DELETE": handlers.cancel},
	"manifest":  {"GET": handlers.getManifest, "PUT": handlers.putManifest, "DELETE": handlers.deleteManifest},
	"tags":      {"GET": handlers.tags},
	"referrers": {"GET": handlers.referrers},
}

// serve finds out what the path names and lets it be served, if it lies in a workspace that the caller may reach.
func (h handlers) serve(w http.ResponseWriter, r *http.Request) error {
	e, ok := endpointOf(r.PathValue("path"))
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if ok && e.kind == "catalog" && method == http.MethodGet {
		return h.catalog(w, r)
	}
	do := methods[e.kind][method]
	if !ok || do == nil {
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "Unsupported", Target: r.URL.Path, Message: "the registry has no " + r.Method + " at this path", Mend: "use what the OCI distribution specification 1.1 describes",
		}
	}
	in, err := h.find(r, e.name)
	if err != nil {
		return err
	}
	return do(h, w, r, in, e)
}

// find gives the repository of a name. To a caller that is bound to one workspace all others are forbidden, also those
// that are not there.
func (h handlers) find(r *http.Request, name string) (store.Repository, error) {
	in, err := h.Images.Find(r.Context(), name)
	bound := api.PrincipalOf(r).Workspace
	if bound == "" || err == nil && in.WorkspaceID == bound || err != nil && !errors.Is(err, &workspace.Problem{Code: "NameUnknown"}) {
		return in, err
	}
	return store.Repository{}, &workspace.Problem{
		Class: workspace.Denied, Code: "NotYourWorkspace", Message: "this credential reaches the images of another workspace only", Mend: "log in with a token of that workspace: moorage registry login",
	}
}
