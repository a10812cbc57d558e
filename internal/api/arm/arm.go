// Package arm serves Azure's control plane for machine learning workspaces: workspaces, computes, jobs and assets, as
// azure-ai-ml, azure-core's clients and our own command line call it (azureml-v2.md). Documents are kept as the client
// sent them, without secrets; what the server knows is laid over on the way out, so that clients of every api-version
// get their own fields back.
package arm

import (
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is what the routes need.
type Config struct {
	Workspaces Workspaces
	Computes   Computes
	Jobs       Jobs
	Assets     Assets
	Datastores Datastores
	Links      Links
	// Connections are logins to registries of container images.
	Connections Connections
	Sign        func(authn.Signature) string
	Operations  *Operations
	Clock       clock.Source
	Tenant      string // id
	// DefaultCompute is what AmlCompute stands for when it names no other.
	DefaultCompute string
}

type handlers struct{ Config }

// Routes is arm's part of the route table.
func Routes(cfg Config) []api.Route {
	h := handlers{cfg}
	var table []api.Route
	table = append(table, h.workspaceRoutes()...)
	table = append(table, h.deploymentRoutes()...)
	table = append(table, h.linkRoutes()...)
	table = append(table, h.connectionRoutes()...)
	table = append(table, h.computeRoutes()...)
	table = append(table, h.providerRoutes()...)
	table = append(table, h.jobRoutes()...)
	table = append(table, h.assetRoutes()...)
	table = append(table, h.datastoreRoutes()...)
	table = append(table, h.codeRoutes()...)
	table = append(table, h.operationRoutes()...)
	table = append(table, h.absentRoutes()...)
	for i := range table {
		table[i].Dialect = api.ARM{}
	}
	return table
}

// ws is a pattern below a workspace.
func ws(rest string) string { return api.WorkspacePath + rest }

// act is the action on something of a workspace.
func act(what string) string { return api.ActionWorkspaces + what }

// absent are the collections of Azure's that this server does not have yet. Lists of them are empty, because clients
// list what they do not need; everything else says so.
var absent = map[string]string{
	"components": "components, which pipeline jobs need", "onlineEndpoints": "online endpoints", "batchEndpoints": "batch endpoints", "schedules": "schedules",
	"featuresets": "feature sets", "featurestoreEntities": "feature store entities", "serverlessEndpoints": "serverless endpoints",
}

func (h handlers) absentRoutes() []api.Route {
	var table []api.Route
	for collection, what := range absent {
		unsupported := func(http.ResponseWriter, *http.Request) error {
			return &workspace.Problem{
				Class: workspace.Unsupported, Code: "NotSupported", Target: collection, Message: "this server does not yet have " + what,
				Mend: "use command jobs, environments, data and models, which it has",
			}
		}
		empty := func(w http.ResponseWriter, _ *http.Request) error {
			return api.WriteJSON(w, http.StatusOK, map[string]any{"value": []any{}})
		}
		notFound := func(_ http.ResponseWriter, r *http.Request) error {
			return &workspace.Problem{Class: workspace.NotFound, Code: "ResourceNotFound", Target: r.PathValue("rest"), Message: "this server does not yet have " + what, Mend: "use command jobs, environments, data and models, which it has"}
		}
		table = append(table,
			api.Route{Method: "GET", Pattern: ws("/" + collection), Action: act(collection + "/read"), Handler: empty},
			api.Route{Method: "GET", Pattern: ws("/" + collection + "/{rest...}"), Action: act(collection + "/read"), Handler: notFound},
			api.Route{Method: "PUT", Pattern: ws("/" + collection + "/{rest...}"), Action: act(collection + "/write"), Handler: unsupported},
			api.Route{Method: "POST", Pattern: ws("/" + collection + "/{rest...}"), Action: act(collection + "/action"), Handler: unsupported},
			api.Route{Method: "DELETE", Pattern: ws("/" + collection + "/{rest...}"), Action: act(collection + "/delete"), Handler: unsupported},
		)
	}
	return table
}
