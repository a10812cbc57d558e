package control

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/moorage-ml/moorage/internal/fleet"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// UpdateCompute changes settings, secrets among them, after a pre-flight with the new ones. The address and the kind
// stay: another target is another compute.
func (c *Control) UpdateCompute(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, req UpdateRequest) (store.Compute, error) {
	row, err := c.Compute(ctx, p, ws, name)
	if err != nil || row.Alias != "" {
		return row, err
	}
	settings, err := c.opened(ctx, row)
	if err != nil {
		return row, err
	}
	change, err := readSettings(req.Settings)
	if err != nil {
		return row, err
	}
	d, err := c.Fleet.Driver(row.Kind)
	if err != nil {
		return row, err
	}
	if err := checkSettings(d, change); err != nil {
		return row, err
	}
	if a, ok := change["address"].(string); ok && oneForm(a) != row.Address {
		return row, invalid("AddressFixed", "address", fmt.Sprintf("compute %q stays at %s", name, row.Address), "", "detach it and attach the other one")
	}
	delete(change, "address") // it is the same, and may be written in another form
	maps.Copy(settings, change)
	maps.DeleteFunc(settings, func(_ string, v any) bool { return v == nil })
	if err := settle(settings, row.Address); err != nil {
		return row, err
	}
	facts, err := c.preflight(ctx, row.ID, row.Kind, settings)
	if err != nil {
		return row, err
	}
	// Refused or not: what the pre-flight opened was in the place of the open target, whose jobs find the server by it.
	defer c.Fleet.Forget(row.ID)
	if another(own(row), facts.Identity) {
		return row, &workspace.Problem{
			Class: workspace.Conflict, Code: "AnotherTarget", Target: name,
			Message: fmt.Sprintf("with these settings compute %q would be another machine", name),
			Cause:   "what answers has nothing of the identity that was attached", Mend: "detach it and attach the other one",
		}
	}
	if req.Doc != nil {
		row.Doc = req.Doc
	}
	if err := c.keep(ctx, row, AttachRequest{Name: name, Kind: row.Kind, Distinct: isDistinct(row)}, settings, facts); err != nil {
		return row, err
	}
	return c.Compute(ctx, p, ws, name)
}

// ComputeSecrets gives a compute's secrets, for listKeys, which has an action of its own.
func (c *Control) ComputeSecrets(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (map[string]workspace.Secret, error) {
	row, err := c.Compute(ctx, p, ws, name)
	if err != nil {
		return nil, err
	}
	plain, err := c.secretsOf(ctx, row)
	secrets := map[string]workspace.Secret{}
	for k, v := range plain {
		secrets[k] = workspace.NewSecret(fmt.Sprint(v))
	}
	return secrets, err
}

// another tells whether two identities have no part in common.
func another(was, is []string) bool {
	return len(was) > 0 && len(is) > 0 && !slices.ContainsFunc(is, func(part string) bool { return slices.Contains(was, part) })
}

// Settings opens a compute's settings for package fleet.
func (c *Control) Settings(ctx context.Context, computeID string) (fleet.Settings, error) {
	row, err := c.Store.ComputeByID(ctx, computeID)
	if err != nil {
		return fleet.Settings{}, err
	}
	settings, err := c.opened(ctx, row)
	if err != nil {
		return fleet.Settings{}, err
	}
	full, err := json.Marshal(forDriver(settings))
	return fleet.Settings{Kind: row.Kind, JSON: full, Version: row.Version()}, err
}

// opened are a compute's settings with the secrets in clear.
func (c *Control) opened(ctx context.Context, row store.Compute) (map[string]any, error) {
	settings := map[string]any{}
	if len(row.Settings) > 0 {
		if err := json.Unmarshal(row.Settings, &settings); err != nil {
			return nil, fmt.Errorf("control: settings of %s: %w", row.Name, err)
		}
	}
	if settings == nil {
		settings = map[string]any{}
	}
	plain, err := c.secretsOf(ctx, row)
	maps.Copy(settings, plain)
	return settings, err
}
