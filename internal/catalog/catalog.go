// Package catalog turns a resource id, by which Azure's clients name a target, into an address that a driver can
// dial. The table is filled by an administrator (moorage resource add). It is asked by control alone.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Catalog answers from the store's table.
type Catalog struct {
	store *store.Store
}

// New makes a catalogue over the store.
func New(s *store.Store) *Catalog { return &Catalog{store: s} }

// Resolve gives the address of a resource id. An id that is an address itself ("ssh://bob@host:22") is its own answer.
// A Problem UnknownResource says which command adds the missing line.
func (c *Catalog) Resolve(ctx context.Context, resourceID string) (string, error) {
	if scheme, _, found := strings.Cut(resourceID, "://"); found && !strings.Contains(scheme, "/") {
		return resourceID, nil
	}
	r, err := c.store.Resource(ctx, resourceID)
	if errors.Is(err, store.ErrNotFound) {
		return "", unknown(resourceID)
	}
	if err != nil {
		return "", fmt.Errorf("catalog: resolve: %w", err)
	}
	return r.Address, nil
}

func unknown(resourceID string) *workspace.Problem {
	example := "ssh://HOST:22"
	if strings.Contains(strings.ToLower(resourceID), "/managedclusters/") || strings.Contains(strings.ToLower(resourceID), "/connectedclusters/") {
		example = "kubeconfig://CONTEXT"
	}
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "UnknownResource", Target: "resourceId",
		Message: fmt.Sprintf("no address is known for resource %q", resourceID),
		Cause:   "it is not in this server's catalogue, and no Azure credentials are configured to ask for it",
		Mend:    fmt.Sprintf("tell the server where it is: moorage resource add %s --address %s", resourceID, example),
	}
}
