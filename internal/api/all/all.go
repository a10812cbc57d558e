// Package all joins the dialects of the API to one route table and one handler. Package server serves it; nothing else
// needs to know more than one dialect.
package all

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/arm"
	apiblob "github.com/moorage-ml/moorage/internal/api/blob"
	"github.com/moorage-ml/moorage/internal/api/data/artifact"
	"github.com/moorage-ml/moorage/internal/api/data/content"
	"github.com/moorage-ml/moorage/internal/api/data/dataset"
	"github.com/moorage-ml/moorage/internal/api/data/datastore"
	"github.com/moorage-ml/moorage/internal/api/data/dataversion"
	"github.com/moorage-ml/moorage/internal/api/data/environment"
	"github.com/moorage-ml/moorage/internal/api/data/execution"
	"github.com/moorage-ml/moorage/internal/api/data/history"
	"github.com/moorage-ml/moorage/internal/api/data/metric"
	"github.com/moorage-ml/moorage/internal/api/data/modelmanagement"
	"github.com/moorage-ml/moorage/internal/api/login"
	"github.com/moorage-ml/moorage/internal/api/mlflow"
	"github.com/moorage-ml/moorage/internal/api/native"
	apiregistry "github.com/moorage-ml/moorage/internal/api/registry"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is what the whole API needs.
type Config struct {
	Control  *control.Control
	Tracking *tracking.Tracking
	Blob     blob.Store
	CAS      native.Snapshots
	Images   *registry.Registry
	Auth     *authn.Authenticator
	Clock    clock.Source
	Log      *slog.Logger
	Metrics  *prometheus.Registry
	// Workspace is the one that is meant where a path names none (plain MLflow).
	Workspace func(ctx context.Context) (workspace.Workspace, error)
	// Ready says why the server cannot work now, or nil.
	Ready func(r *http.Request) error
	// Room says what the disk lacks to take new work, or nil. Without it there is always room.
	Room    func() error
	Version string
	// BlobHost is the name of the form X.blob.Y for uploads; empty: api.BlobHost.
	BlobHost string
}

// API is the handler of everything. Close ends what it started, after the HTTP servers that use it were shut down.
type API struct {
	*api.Router
	operations *arm.Operations
	audit      *auditor
}

// New makes the API.
func New(cfg Config) *API {
	operations := arm.NewOperations(cfg.Clock)
	audit := newAuditor(cfg.Control, cfg.Log)
	return &API{
		Router: api.New(api.Config{
			Auth: cfg.Auth, Workspaces: cfg.Control, Clock: cfg.Clock, Log: cfg.Log, Metrics: cfg.Metrics, Audit: audit.note, BlobHost: cfg.BlobHost,
		}, table(cfg, operations)),
		operations: operations, audit: audit,
	}
}

// Close waits for long operations and for the audit log to be written.
func (a *API) Close() {
	a.operations.Close()
	a.audit.close()
}

// table is every route of the server.
func table(cfg Config, operations *arm.Operations) []api.Route {
	var routes []api.Route
	routes = append(routes, login.Routes(cfg.Auth)...)
	routes = append(routes, arm.Routes(arm.Config{
		Workspaces: cfg.Control, Computes: cfg.Control, Jobs: cfg.Control, Assets: cfg.Control, Datastores: cfg.Control, Links: cfg.Control, Connections: cfg.Control, Sign: cfg.Auth.Sign, Operations: operations, Clock: cfg.Clock,
		Tenant: cfg.Auth.Tenant(), DefaultCompute: cfg.Control.DefaultCompute,
	})...)
	routes = append(routes, history.Routes(history.Config{Jobs: cfg.Control, Tracking: cfg.Tracking, Tokens: cfg.Auth, Clock: cfg.Clock})...)
	routes = append(routes, metric.Routes(cfg.Tracking)...)
	routes = append(routes, dataversion.Routes(cfg.Control, cfg.Control)...)
	routes = append(routes, artifact.Routes(cfg.Tracking, cfg.Control, cfg.Auth.Sign, cfg.Clock)...)
	routes = append(routes, modelmanagement.Routes(cfg.Control, cfg.Tracking, cfg.Auth.Tenant())...)
	routes = append(routes, datastore.Routes(cfg.Control, cfg.Auth.Sign, cfg.Clock)...)
	routes = append(routes, dataset.Routes(cfg.Control)...)
	routes = append(routes, content.Routes(cfg.Control, cfg.Auth.Sign, cfg.Clock)...)
	routes = append(routes, execution.Routes(cfg.Control, cfg.Auth, cfg.Clock)...)
	routes = append(routes, environment.Routes(cfg.Control, cfg.Auth.Sign, cfg.Clock)...)
	routes = append(routes, apiblob.Routes(cfg.Blob)...)
	routes = append(routes, mlflow.Routes(mlflow.Config{Tracking: cfg.Tracking, Default: cfg.Workspace})...)
	routes = append(routes, apiregistry.Routes(apiregistry.Config{Images: cfg.Images, Tokens: cfg.Auth, Clock: cfg.Clock})...)
	room, blobHost := cfg.Room, cfg.BlobHost
	if room == nil {
		room = func() error { return nil }
	}
	if blobHost == "" {
		blobHost = api.BlobHost
	}
	routes = append(routes, native.Routes(native.Config{
		Room: room, BlobHost: blobHost,
		Jobs: cfg.Control, Computes: cfg.Control, Snapshots: cfg.CAS, Garbage: cfg.Control, Builds: cfg.Control, Auth: cfg.Auth, Sign: cfg.Auth.Sign, Clock: cfg.Clock, Ready: cfg.Ready,
		Metrics: promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{}), DefaultCompute: cfg.Control.DefaultCompute, Version: cfg.Version,
	})...)
	return routes
}
