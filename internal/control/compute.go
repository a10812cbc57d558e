package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// AttachRequest says what to attach and under which name.
type AttachRequest struct {
	Name       string
	Kind       string
	Address    string          // where it is; empty: the catalogue knows it by ResourceID
	ResourceID string          // as Azure's clients name it; may be empty
	Settings   json.RawMessage // the driver's, secrets in clear
	Doc        json.RawMessage // the ARM body, secrets taken out
	Distinct   bool            // attach although a part of the identity matches another compute
	Alias      string          // not empty: a second name of an attached compute, which is all that AmlCompute can mean here
}

// UpdateRequest changes what may change without detaching: settings, secrets among them.
type UpdateRequest struct {
	Settings json.RawMessage // merged over those there are; null takes one away
	Doc      json.RawMessage // nil: as it was
}

// DetachOptions say how hard to detach.
type DetachOptions struct {
	Force      bool // also when the target does not answer or has jobs whose end is unknown
	CancelJobs bool // cancel the jobs that run
}

// KindInfo describes a kind that can be attached.
type KindInfo struct {
	Kind      string          `json:"kind"`
	Schema    json.RawMessage `json:"schema"`
	Limits    compute.Limits  `json:"limits"`
	Abilities []string        `json:"abilities,omitempty"`
}

// Kinds lists the kinds that can be attached.
func (c *Control) Kinds() []KindInfo {
	var infos []KindInfo
	for _, d := range c.Fleet.Drivers() {
		infos = append(infos, KindInfo{Kind: d.Kind(), Schema: d.Schema(), Limits: d.Limits()})
	}
	return infos
}

const (
	// attachWait is how long Attach waits for the pre-flight before it answers that it goes on.
	attachWait = 15 * time.Second
	// attachLimit bounds an attachment. One that is older was interrupted by the end of its server.
	attachLimit = 6 * time.Minute
)

// Attach tries what a job will need on the target, and keeps the compute under its name. It returns when that has
// succeeded or failed, or with state Creating when it takes long; it goes on then. A failed attachment is kept, with
// its problems and without its secrets, until the name is attached again or detached.
func (c *Control) Attach(ctx context.Context, p workspace.Principal, ws workspace.Workspace, req AttachRequest) (store.Compute, error) {
	if p := workspace.CheckComputeName(req.Name); p != nil {
		return store.Compute{}, p
	}
	if req.Alias != "" {
		return c.attachAlias(ctx, p, ws, req)
	}
	if err := c.room(); err != nil {
		return store.Compute{}, err
	}
	settings, err := c.settings(ctx, &req)
	if err != nil {
		return store.Compute{}, err
	}
	row, again, err := c.reserve(ctx, p, ws, req, settings)
	if err != nil || again {
		return row, err
	}
	done := make(chan struct{})
	c.attaching.Go(func() {
		defer close(done)
		c.finishAttach(c.ctx, row, req, settings)
	})
	select {
	case <-done:
	case <-time.After(attachWait):
	case <-ctx.Done():
	}
	return c.Compute(ctx, p, ws, req.Name)
}

// settings completes a request: the address from the catalogue, and the settings as one object.
func (c *Control) settings(ctx context.Context, req *AttachRequest) (map[string]any, error) {
	d, err := c.Fleet.Driver(req.Kind)
	if err != nil {
		return nil, err
	}
	settings := map[string]any{}
	if len(req.Settings) > 0 {
		if err := json.Unmarshal(req.Settings, &settings); err != nil {
			return nil, invalid("InvalidSettings", "settings", "the settings cannot be read", "they are not one JSON object", "give one JSON object")
		}
	}
	if settings == nil { // they were null
		settings = map[string]any{}
	}
	if err := checkSettings(d.Kind(), d.Schema(), settings); err != nil {
		return nil, err
	}
	if req.Address == "" {
		req.Address, _ = settings["address"].(string)
	}
	if req.Address == "" && req.ResourceID != "" {
		if req.Address, err = c.Catalog.Resolve(ctx, req.ResourceID); err != nil {
			return nil, err
		}
	}
	if req.Address != "" && hasProperty(d.Schema(), "address") {
		settings["address"] = req.Address
	}
	return settings, nil
}

// CheckCompute is the pre-flight alone: nothing is kept.
func (c *Control) CheckCompute(ctx context.Context, _ workspace.Principal, _ workspace.Workspace, req AttachRequest) (compute.Facts, error) {
	settings, err := c.settings(ctx, &req)
	if err != nil {
		return compute.Facts{}, err
	}
	facts, err := c.preflight(ctx, c.Clock.NewID(), req.Kind, settings)
	if facts.Details != nil && len(facts.Problems) > 0 {
		return facts, nil // its problems are the answer
	}
	return facts, err
}

// Recheck is the pre-flight of an attached compute; what it finds is kept as its facts.
func (c *Control) Recheck(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (compute.Facts, error) {
	row, err := c.Compute(ctx, p, ws, name)
	if err == nil && row.Alias != "" {
		row, err = c.Compute(ctx, p, ws, row.Alias)
	}
	if err != nil {
		return compute.Facts{}, err
	}
	target, release, err := c.Fleet.Use(ctx, row.ID)
	if err != nil {
		return compute.Facts{}, err
	}
	defer release()
	facts, err := target.Probe(ctx)
	if err != nil {
		return facts, err
	}
	return facts, c.Store.Write(ctx, func(tx *store.Tx) error {
		row, err := tx.ComputeByID(ctx, row.ID)
		if err != nil {
			return err
		}
		if row.Facts, err = json.Marshal(facts); err != nil {
			return fmt.Errorf("control: facts of %s: %w", name, err)
		}
		return tx.UpdateCompute(ctx, row)
	})
}

// Compute gives a compute by name.
func (c *Control) Compute(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) (store.Compute, error) {
	row, err := c.Store.Compute(ctx, ws.ID, name)
	return row, notFound(err, "compute", name)
}

// Computes lists a workspace's computes.
func (c *Control) Computes(ctx context.Context, _ workspace.Principal, ws workspace.Workspace) ([]store.Compute, error) {
	return c.Store.Computes(ctx, ws.ID)
}

func asProblem(err error) *workspace.Problem {
	if p, ok := errors.AsType[*workspace.Problem](err); ok {
		return p
	}
	return &workspace.Problem{Code: "InternalError", Message: "the server failed", Cause: err.Error(), Mend: "see the server's log"}
}
