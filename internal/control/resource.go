package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/kubeconfig"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// ResourceRequest is a line of the catalogue as it is written.
type ResourceRequest struct {
	ID       string // Azure's
	Address  string
	Settings json.RawMessage // of the driver, secrets in clear: what clients cannot give that attach by an id alone
}

// PutResource says where the resource of an ARM id is, for clients that attach by resource id. With settings, computes
// whose attachment by that id failed are tried again: nobody needs to give anything more for them.
func (c *Control) PutResource(ctx context.Context, p workspace.Principal, req ResourceRequest) error {
	if err := checkResource(req); err != nil {
		return err
	}
	settings, secrets, err := c.resourceSettings(req)
	if err != nil {
		return err
	}
	row := store.Resource{ID: req.ID, Address: req.Address, Created: c.Clock.Millis()}
	if len(settings) > 0 {
		if row.Settings, err = json.Marshal(settings); err != nil {
			return fmt.Errorf("control: resource: %w", err)
		}
	}
	var sealed []byte
	if len(secrets) > 0 {
		row.SecretID = resourceSecret(req.ID)
		if sealed, err = c.seal(row.SecretID, secrets); err != nil {
			return err
		}
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		err := tx.DeleteSecret(ctx, resourceSecret(req.ID))
		if err == nil && row.SecretID != "" {
			err = tx.PutSecret(ctx, store.Secret{ID: row.SecretID, Sealed: sealed})
		}
		return errors.Join(err, tx.PutResource(ctx, row))
	})
	if err == nil && len(settings)+len(secrets) > 0 {
		c.tryAgain(ctx, p, req.ID)
	}
	return err
}

// resourceSecret is the id of a line's sealed secrets, and what they are sealed for.
func resourceSecret(id string) string { return "resource/" + strings.ToLower(id) }

// inCluster is the address of the cluster in which the server itself runs.
const inCluster = "incluster://"

func checkResource(req ResourceRequest) error {
	if !strings.HasPrefix(strings.ToLower(req.ID), "/subscriptions/") {
		return invalid("InvalidResourceID", "id", quote(req.ID)+" is not a resource id", "", "write it as Azure does: /subscriptions/…/resourceGroups/…/providers/Microsoft.Compute/virtualMachines/NAME")
	}
	if _, ok := kubeconfig.ContextOf(req.Address); ok || req.Address == inCluster { // no context of the name is nonsense
		return nil
	}
	u, err := url.Parse(req.Address)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Path == "" && u.Opaque == "" && !strings.HasSuffix(req.Address, ":") {
		return invalid("InvalidAddress", "address", quote(req.Address)+" is not an address", "", "write it with its scheme, e.g. ssh://host:22")
	}
	if u.User != nil {
		if _, has := u.User.Password(); has {
			return invalid("SecretInAddress", "address", fmt.Sprintf("the address of %s holds a password", quote(u.Host)), "", "leave it out; give it with --password-file, or when attaching")
		}
	}
	return nil
}

// resourceSettings splits the settings of a line into those that may be shown and the secrets. Which kind will read them
// is not known yet, so a setting must be one of some kind, and is a secret if any kind says so.
func (c *Control) resourceSettings(req ResourceRequest) (settings, secrets map[string]any, err error) {
	if settings, err = readSettings(req.Settings); err != nil {
		return nil, nil, err
	}
	if err := settle(settings, req.Address); err != nil {
		return nil, nil, err
	}
	var names []string
	for _, d := range c.Fleet.Drivers() {
		names = append(names, c.secretNames(d.Kind())...)
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		known := slices.Contains(ownSettings, name) || slices.ContainsFunc(c.Fleet.Drivers(), func(d compute.Driver) bool { return hasSetting(d, name) })
		if !known || name == "address" {
			return nil, nil, invalid("UnknownSetting", name, "no kind of compute has a setting "+quote(name), "", "moorage kind show KIND lists those of a kind")
		}
	}
	return public(names, settings), confidential(names, settings), nil
}

// tryAgain attaches what failed under a resource id, in the background. Whoever wrote the line is who attaches.
func (c *Control) tryAgain(ctx context.Context, p workspace.Principal, id string) {
	rows, err := c.Store.AllComputes(ctx)
	if err != nil {
		c.Log.Warn("computes that failed to attach were not tried again", "resource", id, "error", err)
	}
	for _, row := range rows {
		if row.State != store.ComputeFailed || row.Alias != "" || !strings.EqualFold(row.ResourceID, id) {
			continue
		}
		ws, err := c.Store.WorkspaceByID(ctx, row.WorkspaceID)
		if err != nil {
			continue // it is being removed with its computes
		}
		c.attaching.Go(func() {
			if _, err := c.Attach(c.ctx, p, ws, AttachRequest{Name: row.Name, Kind: row.Kind, ResourceID: row.ResourceID, Doc: row.Doc}); err != nil {
				c.Log.Warn("a compute that failed to attach could not be tried again", "compute", row.Name, "error", err)
			}
		})
	}
}

// Resources lists the catalogue.
func (c *Control) Resources(ctx context.Context, _ workspace.Principal) ([]store.Resource, error) {
	return c.Store.Resources(ctx)
}

// DeleteResource takes a line out of the catalogue, with its secrets. Attached computes keep their address and settings.
func (c *Control) DeleteResource(ctx context.Context, _ workspace.Principal, id string) error {
	err := c.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.DeleteSecret(ctx, resourceSecret(id)); err != nil {
			return err
		}
		return tx.DeleteResource(ctx, id)
	})
	return notFound(err, "resource", id)
}
