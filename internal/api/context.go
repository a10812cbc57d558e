package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// state is what the router learns of a request on its way to the handler.
type state struct {
	id        string
	route     *Route
	principal workspace.Principal
	workspace workspace.Workspace
	blobHost  string // empty: BlobHost
}

type stateKey struct{}

func stateOf(r *http.Request) *state {
	if s, ok := r.Context().Value(stateKey{}).(*state); ok {
		return s
	}
	return &state{}
}

// RequestID is the id under which the request is logged; it is in the answer's header x-ms-request-id.
func RequestID(r *http.Request) string { return stateOf(r).id }

// PrincipalOf is who makes the request.
func PrincipalOf(r *http.Request) workspace.Principal { return stateOf(r).principal }

// WorkspaceOf is the workspace that the path names.
func WorkspaceOf(r *http.Request) workspace.Workspace { return stateOf(r).workspace }

// With gives a request that carries a principal and a workspace, as the router would. Tests of handlers use it.
func With(r *http.Request, p workspace.Principal, ws workspace.Workspace) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), stateKey{}, &state{principal: p, workspace: ws}))
}

// BaseURL is scheme, host and port by which the client reached the server; every absolute URL in an answer begins with it.
func BaseURL(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil || r.Context().Value(secureKey{}) != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

type secureKey struct{}

// Secure marks a connection's context: TLS was spoken on it, though net/http did not see it (a job's way back).
func Secure(ctx context.Context) context.Context { return context.WithValue(ctx, secureKey{}, true) }
