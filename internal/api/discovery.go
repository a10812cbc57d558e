package api

import (
	"net/http"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// discoveryVersion changes when the answer to DiscoveryURL does: azureml-core keeps it for ever under that URL
// (azureml-v1.md §1.5).
const discoveryVersion = "1"

// DiscoveryURL is where clients learn the addresses of a workspace's data planes. Package api/login answers it.
func DiscoveryURL(r *http.Request, ws workspace.Workspace) string {
	return BaseURL(r) + "/discovery/" + discoveryVersion + "/workspaces/" + ws.ID
}
