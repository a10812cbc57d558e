package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
)

// secretNames are the settings that a kind's schema marks as writeOnly.
func (c *Control) secretNames(kind string) []string {
	d, err := c.Fleet.Driver(kind)
	if err != nil {
		return nil
	}
	var schema struct {
		Properties map[string]struct {
			WriteOnly bool `json:"writeOnly"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(d.Schema(), &schema); err != nil {
		panic("control: the schema of kind " + kind + " is not JSON: " + err.Error())
	}
	var names []string
	for name, p := range schema.Properties {
		if p.WriteOnly {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func hasProperty(schema json.RawMessage, name string) bool {
	var s struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	return json.Unmarshal(schema, &s) == nil && s.Properties[name] != nil
}

// ownSettings are settings that are the server's and no driver's.
var ownSettings = []string{instanceTypes}

// forDriver are the settings that a driver gets.
func forDriver(settings map[string]any) map[string]any { return public(ownSettings, settings) }

// checkSettings refuses what the kind's schema does not name: a secret under a misspelt name would be kept in clear.
func checkSettings(kind string, schema json.RawMessage, settings map[string]any) error {
	var s struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(schema, &s); err != nil {
		panic("control: the schema of kind " + kind + " is not JSON: " + err.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if s.Properties[name] == nil && !slices.Contains(ownSettings, name) {
			return invalid("UnknownSetting", name, fmt.Sprintf("a compute of kind %s has no setting %s", kind, quote(name)), "",
				"take one of: "+strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", "))
		}
	}
	if types, given := settings[instanceTypes]; given {
		return checkInstanceTypes(types)
	}
	return nil
}

// public are the settings without the secrets.
func public(secrets []string, settings map[string]any) map[string]any {
	out := maps.Clone(settings)
	for _, name := range secrets {
		delete(out, name)
	}
	return out
}

// confidential are the secrets among the settings.
func confidential(secrets []string, settings map[string]any) map[string]any {
	out := map[string]any{}
	for _, name := range secrets {
		if v, ok := settings[name]; ok && v != "" {
			out[name] = v
		}
	}
	return out
}

func (c *Control) seal(computeID string, secrets map[string]any) ([]byte, error) {
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, fmt.Errorf("control: seal: %w", err)
	}
	return c.Box.Seal(plain, "compute/"+computeID)
}

func (c *Control) unseal(ctx context.Context, row store.Compute) (map[string]any, error) {
	secrets := map[string]any{}
	if row.SecretID == "" {
		return secrets, nil
	}
	s, err := c.Store.Secret(ctx, row.SecretID)
	if errors.Is(err, store.ErrNotFound) {
		return secrets, nil
	}
	if err != nil {
		return nil, err
	}
	plain, err := c.Box.Open(s.Sealed, "compute/"+row.ID)
	if err != nil {
		return nil, err
	}
	return secrets, json.Unmarshal(plain, &secrets)
}
