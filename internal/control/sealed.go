package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/store"
)

// secretNames are the settings that a kind's schema marks as writeOnly.
func (c *Control) secretNames(kind string) []string {
	d, err := c.Fleet.Driver(kind)
	if err != nil {
		return nil
	}
	var names []string
	for name, s := range settingsOf(d) {
		if s.WriteOnly {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// setting is what a kind's schema says of one of its settings.
type setting struct {
	WriteOnly bool `json:"writeOnly"`
}

// settingsOf are the settings of a kind by their names.
func settingsOf(d compute.Driver) map[string]setting {
	var schema struct {
		Properties map[string]setting `json:"properties"`
	}
	if err := json.Unmarshal(d.Schema(), &schema); err != nil {
		panic("control: the schema of kind " + d.Kind() + " is not JSON: " + err.Error())
	}
	return schema.Properties
}

func hasSetting(d compute.Driver, name string) bool {
	_, has := settingsOf(d)[name]
	return has
}

// readSettings reads the settings that a client gave; without any they are an empty object.
func readSettings(text json.RawMessage) (map[string]any, error) {
	settings := map[string]any{}
	if len(text) == 0 {
		return settings, nil
	}
	if err := json.Unmarshal(text, &settings); err != nil {
		return nil, invalid("InvalidSettings", "settings", "the settings cannot be read", "they are not one JSON object", "give one JSON object")
	}
	if settings == nil { // they were null
		settings = map[string]any{}
	}
	return settings, nil
}

// ownSettings are settings that are the server's and no driver's.
var ownSettings = []string{instanceTypes, defaultInstanceType}

// forDriver are the settings that a driver gets.
func forDriver(settings map[string]any) map[string]any { return public(ownSettings, settings) }

// checkSettings refuses what the kind's schema does not name: a secret under a misspelt name would be kept in clear.
func checkSettings(d compute.Driver, settings map[string]any) error {
	known := settingsOf(d)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if _, has := known[name]; !has && !slices.Contains(ownSettings, name) {
			return invalid("UnknownSetting", name, fmt.Sprintf("a compute of kind %s has no setting %s", d.Kind(), quote(name)), "",
				"take one of: "+strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
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

// seal closes secrets for one use, whose name unseal must be given too.
func (c *Control) seal(use string, secrets map[string]any) ([]byte, error) {
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, fmt.Errorf("control: seal: %w", err)
	}
	return c.Box.Seal(plain, use)
}

// unseal opens the secrets of an id of the store; none are there for the empty one.
func (c *Control) unseal(ctx context.Context, id, use string) (map[string]any, error) {
	secrets := map[string]any{}
	if id == "" {
		return secrets, nil
	}
	s, err := c.Store.Secret(ctx, id)
	if err != nil {
		return nil, err
	}
	plain, err := c.Box.Open(s.Sealed, use)
	if err != nil {
		return nil, err
	}
	return secrets, json.Unmarshal(plain, &secrets)
}

// computeSecret is what the secrets of a compute are sealed for.
func computeSecret(id string) string { return "compute/" + id }

// secretsOf opens the secrets of a compute. One that is being detached may have none any more.
func (c *Control) secretsOf(ctx context.Context, row store.Compute) (map[string]any, error) {
	secrets, err := c.unseal(ctx, row.SecretID, computeSecret(row.ID))
	if errors.Is(err, store.ErrNotFound) {
		return map[string]any{}, nil
	}
	return secrets, err
}
