// Package api is what all dialects of the HTTP API share: the route table, the way from a request to its handler
// (limits, authentication, rights, the workspace in the path), and how errors leave. The dialects are the packages
// below it; each gives its part of the table by a function Routes. Package api/all joins them, and package server serves that.
//
// A handler decodes, makes one call of package control, and encodes. It returns an error instead of writing one.
package api

import (
	"net/http"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// WorkspacePath is the ARM path of a workspace as a pattern. A route whose pattern contains it finds the workspace
// with WorkspaceOf; a request that names an unknown one never reaches the handler.
const WorkspacePath = "/subscriptions/{sub}/resourceGroups/{rg}/providers/Microsoft.MachineLearningServices/workspaces/{ws}"

// Actions that routes name; ARM's words, so that roles of Azure can be written down as they are.
const (
	ActionWorkspaces = "Microsoft.MachineLearningServices/workspaces/"
	ActionBlobs      = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
	ActionRegistry   = "Microsoft.ContainerRegistry/registries/"
	ActionServer     = "Moorage/server/" // what ARM has no word for
)

// Handler serves one request. An error is written by the route's dialect, provided that nothing was written before.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Route is one line of the route table. Exactly one of Action and Public is set.
type Route struct {
	Method  string // GET serves HEAD too
	Pattern string // of net/http, without method and host
	// Action is the right that the caller needs, e.g. "Microsoft.MachineLearningServices/workspaces/jobs/write".
	Action string
	// Public says why the route needs no credential. No workspace is looked up for it.
	Public string
	// Job says what a job's own credential may do here.
	Job JobScope
	// Signed, if set, lets a signed URL stand in for a credential: it tells what the signature must allow.
	Signed func(r *http.Request) Grant
	// Stream marks routes whose body or answer has no limit of size or time.
	Stream  bool
	Dialect Dialect
	Handler Handler
}

// JobScope says what a job's own credential may reach by a route.
type JobScope string

// The scopes. JobVariable makes the usual one.
const (
	JobNone    JobScope = ""        // nothing: the credential is refused
	JobAny     JobScope = "any"     // nothing here belongs to anybody: every running job may come, in its own workspace
	JobHandler JobScope = "handler" // the handler checks, mostly by tracking.Scope
)

// JobVariable is the scope in which the named path variable must be the name of the credential's own job.
func JobVariable(name string) JobScope { return JobScope("{" + name + "}") }

// Grant is what a signature allows: verbs on one blob, or on all blobs of a container.
type Grant struct {
	Container string
	Blob      string // empty: asks for the container itself
	Verb      string // one letter of Azure's: r, c, w, d or l
	// Variable is the path variable that Blob was read from, where a client may have quoted the name once more than the
	// signed URL did; the handler then finds the plain name there.
	Variable string
}

// Dialect is how one family of clients is told about failures.
type Dialect interface {
	// WriteProblem writes status, headers and body for a problem. p.Class decides the status.
	WriteProblem(w http.ResponseWriter, r *http.Request, p *workspace.Problem)
}
