package authn

import (
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// RegistryRight is what a token of the image registry is good for.
type RegistryRight string

// The rights. Whoever may push may pull and delete.
const (
	RegistryPull RegistryRight = "pull"
	RegistryPush RegistryRight = "push"
)

// RegistryToken is a credential for the images of one workspace, or with workspaceID empty of all, and for nothing else.
// Engines and clusters, which keep what they log in with, get it instead of the administrator's secret. It serves as a
// bearer token and as the password of a login.
func (a *Authenticator) RegistryToken(workspaceID string, right RegistryRight, life time.Duration) (token workspace.Secret, expires time.Time) {
	c := a.claims(workspace.Principal{ID: UUID(a.server, "registry", workspaceID), Name: "registry"}, "", life)
	// It is not marked as ours: a server of before the registry takes what is, and knows no right, for the administrator's.
	c.Registry, c.WorkspaceID = right, workspaceID
	return a.runToken(c)
}

// registry is the principal of a token that was found to be genuine.
func (a *Authenticator) registry(c claims) (workspace.Principal, error) {
	p := workspace.Principal{ID: UUID(a.server, "registry", c.WorkspaceID), Workspace: c.WorkspaceID}
	switch c.Registry {
	case RegistryPull:
		p.Kind, p.Name = "puller", "registry, pull"
	case RegistryPush:
		p.Kind, p.Name = "pusher", "registry, push"
	default:
		return workspace.Principal{}, unauthenticated("InvalidAuthenticationToken", "the token gives no right that is known here", "")
	}
	return p, nil
}
