package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"

	"github.com/moorage-ml/moorage/internal/catalog"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/kubeconfig"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// attachment is how a target is to be attached.
type attachment struct {
	settings map[string]any // the driver's, secrets in clear
	found    catalog.Found  // what the catalogue knows of the resource; empty when the request had the address itself
	// hopeless, if set, is why it cannot be attached whatever the target says. settings are empty then, so that none of
	// them is kept.
	hopeless *workspace.Problem
}

// prepare completes a request: the address from the catalogue, and the settings as one object. It refuses what is wrong
// with the request itself.
func (c *Control) prepare(ctx context.Context, req *AttachRequest) (attachment, error) {
	d, err := c.Fleet.Driver(req.Kind)
	if err != nil && Foreseen(req.Kind) {
		return attachment{hopeless: notAttached(req.Name, c.noDriver(ctx, *req))}, nil
	}
	if err != nil {
		return attachment{}, err
	}
	settings, err := readSettings(req.Settings)
	if err != nil {
		return attachment{}, err
	}
	if err := checkSettings(d, settings); err != nil {
		return attachment{}, err
	}
	if req.Address == "" {
		req.Address, _ = settings["address"].(string)
	}
	if req.Address == "" || req.Address == kubeconfig.Scheme {
		if err := currentContext(req, settings); err != nil {
			return attachment{}, err
		}
	}
	var found catalog.Found
	if req.Address == "" && req.ResourceID != "" {
		if found, err = c.Catalog.Find(ctx, req.ResourceID); err != nil {
			if p, ok := errors.AsType[*workspace.Problem](err); ok {
				return attachment{hopeless: notAttached(req.Name, p)}, nil
			}
			return attachment{}, err
		}
		req.Address = withPort(found.Address, req.Port)
		if err := c.complement(ctx, settings, d, found); err != nil {
			return attachment{}, err
		}
	}
	req.Address = oneForm(req.Address)
	if err := settle(settings, req.Address); err != nil {
		return attachment{}, err
	}
	if p := wrongAddress(*req); p != nil {
		return attachment{hopeless: notAttached(req.Name, p)}, nil
	}
	if req.Address != "" && hasSetting(d, "address") {
		settings["address"] = req.Address
	}
	return attachment{settings: settings, found: found}, nil
}

// complement adds the settings that the catalogue has to those that the request gave, as far as the kind has such.
func (c *Control) complement(ctx context.Context, settings map[string]any, d compute.Driver, found catalog.Found) error {
	known := map[string]any{}
	if len(found.Settings) > 0 {
		if err := json.Unmarshal(found.Settings, &known); err != nil {
			return fmt.Errorf("control: settings of the catalogue: %w", err)
		}
	}
	secrets, err := c.unseal(ctx, found.SecretID, found.SecretID)
	if err != nil {
		return err
	}
	maps.Copy(known, secrets)
	for name, secret := range found.Secrets {
		known[name] = secret.Reveal()
	}
	for name, value := range known {
		if settings[name] == nil && (hasSetting(d, name) || slices.Contains(ownSettings, name)) {
			settings[name] = value
		}
	}
	return nil
}

// withPort adds a port to an address that names a host and no port.
func withPort(address string, port int) string {
	u, err := url.Parse(address)
	if err != nil || port == 0 || u.Scheme != "ssh" || u.Hostname() == "" || u.Port() != "" {
		return address
	}
	u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(port))
	return u.String()
}
