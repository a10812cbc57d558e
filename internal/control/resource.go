package control

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// PutResource says where the resource of an ARM id is, for clients that attach by resource id.
func (c *Control) PutResource(ctx context.Context, _ workspace.Principal, id, address string) error {
	if !strings.HasPrefix(strings.ToLower(id), "/subscriptions/") {
		return invalid("InvalidResourceID", "id", quote(id)+" is not a resource id", "", "write it as Azure does: /subscriptions/…/resourceGroups/…/providers/Microsoft.Compute/virtualMachines/NAME")
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Path == "" {
		return invalid("InvalidAddress", "address", quote(address)+" is not an address", "", "write it with its scheme, e.g. ssh://host:22")
	}
	if u.User != nil {
		if _, has := u.User.Password(); has {
			return invalid("SecretInAddress", "address", fmt.Sprintf("the address of %s holds a password", quote(u.Host)), "", "leave it out; it is given when attaching")
		}
	}
	return c.Store.Write(ctx, func(tx *store.Tx) error {
		return tx.PutResource(ctx, store.Resource{ID: id, Address: address, Created: c.Clock.Millis()})
	})
}

// Resources lists the catalogue.
func (c *Control) Resources(ctx context.Context, _ workspace.Principal) ([]store.Resource, error) {
	return c.Store.Resources(ctx)
}

// DeleteResource takes a line out of the catalogue. Attached computes keep their address.
func (c *Control) DeleteResource(ctx context.Context, _ workspace.Principal, id string) error {
	err := c.Store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteResource(ctx, id) })
	return notFound(err, "resource", id)
}
