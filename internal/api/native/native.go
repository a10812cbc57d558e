// Package native serves what ARM lacks, in plain JSON: the kinds of compute and their schemas, pre-flight without
// attaching, the catalogue, how a job is and each change of it, raw log bytes, output files, and snapshots. The command
// line is its main user.
package native

import (
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is what the routes need.
type Config struct {
	Jobs      Jobs
	Computes  Computes
	Snapshots Snapshots
	Garbage   Garbage
	Builds    Builds
	Auth      api.Authenticator
	Sign      func(authn.Signature) string
	Clock     clock.Source
	// Ready says why the server cannot work, or nil.
	Ready func(r *http.Request) error
	// Room says what the server's disk lacks to take new work, or nil.
	Room func() error
	// BlobHost is the name of the form X.blob.Y under which azureml-core uploads.
	BlobHost string
	// Metrics serves Prometheus' text; nil: there are none.
	Metrics        http.Handler
	DefaultCompute string
	Version        string
}

type handlers struct{ Config }

// Base is the path below which the native API lies.
const Base = "/native/v1"

// Routes is native's part of the route table.
func Routes(cfg Config) []api.Route {
	h := handlers{cfg}
	var table []api.Route
	table = append(table, h.healthRoutes()...)
	table = append(table, h.computeRoutes()...)
	table = append(table, h.jobRoutes()...)
	table = append(table, h.snapshotRoutes()...)
	table = append(table, h.garbageRoutes()...)
	table = append(table, h.buildRoutes()...)
	for i := range table {
		table[i].Dialect = api.ARM{}
	}
	return table
}

func ws(rest string) string { return Base + api.WorkspacePath + rest }

func act(what string) string { return api.ActionWorkspaces + what }

func (h handlers) healthRoutes() []api.Route {
	return []api.Route{
		{Method: "GET", Pattern: "/healthz", Public: "a supervisor or load balancer asks it", Handler: h.health},
		{Method: "GET", Pattern: "/readyz", Public: "a supervisor or load balancer asks it", Handler: h.ready},
		{Method: "GET", Pattern: Base + "/server", Action: api.ActionServer + "read", Handler: h.server},
		{Method: "GET", Pattern: "/metrics", Public: "counters for this machine's own monitoring; others need the administrator's token, which it checks itself", Handler: h.metrics},
	}
}

func (h handlers) health(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte("ok\n"))
	return err
}

func (h handlers) ready(w http.ResponseWriter, r *http.Request) error {
	if err := h.Ready(r); err != nil {
		p := *api.ProblemOf(r, err)
		p.Class = workspace.Unavailable
		return &p
	}
	return h.health(w, r)
}

// server tells what clients on other machines cannot see of it.
func (h handlers) server(w http.ResponseWriter, r *http.Request) error {
	about := struct {
		Version  string             `json:"version"`
		BlobHost string             `json:"blob_host"`
		Room     *workspace.Problem `json:"room,omitempty"` // what is wrong with the disk
	}{Version: h.Version, BlobHost: h.BlobHost}
	if err := h.Room(); err != nil {
		about.Room = api.ProblemOf(r, err)
	}
	return api.WriteJSON(w, http.StatusOK, about)
}

// metrics are open to this machine alone. A proxy's header, or a job's way back, means that somebody else asks.
func (h handlers) metrics(w http.ResponseWriter, r *http.Request) error {
	if h.Metrics == nil {
		return &workspace.Problem{Class: workspace.NotFound, Code: "NotFound", Message: "this server counts nothing", Mend: "nothing is to be done"}
	}
	own := loopback(r.RemoteAddr) && !authn.OnWayBack(r.Context()) && r.Header.Get("X-Forwarded-For") == "" && r.Header.Get("Forwarded") == ""
	if !own {
		p, err := h.Auth.Authenticate(r)
		if err != nil {
			return err
		}
		if !p.Administrator() {
			return &workspace.Problem{Class: workspace.Denied, Code: "AuthorizationFailed", Message: "metrics are for the administrator", Mend: "use the administrator's token"}
		}
	}
	h.Metrics.ServeHTTP(w, r)
	return nil
}
