package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	Port       int             // where the catalogue's address names none, as Azure's of a machine; 0: the kind's own
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
	Kind   string          `json:"kind"`
	Schema json.RawMessage `json:"schema"`
	Limits compute.Limits  `json:"limits"`
}

// Facts is what a pre-flight found, for packages that know no targets.
type Facts = compute.Facts

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
// its problems and without its secrets, until the name is attached again or detached; so is one that had no chance from
// the start, because nothing is known of its address, or its kind has no driver yet.
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
	a, err := c.prepare(ctx, &req)
	if err != nil {
		return store.Compute{}, err
	}
	row, again, err := c.reserve(ctx, p, ws, req, a.settings)
	if err != nil || again {
		return row, err
	}
	done := make(chan struct{})
	c.attaching.Go(func() {
		defer close(done)
		c.finishAttach(c.ctx, row, req, a)
	})
	select {
	case <-done:
	case <-time.After(attachWait):
	case <-ctx.Done():
	}
	return c.Compute(ctx, p, ws, req.Name)
}

// CheckCompute is the pre-flight alone: nothing is kept.
func (c *Control) CheckCompute(ctx context.Context, _ workspace.Principal, _ workspace.Workspace, req AttachRequest) (compute.Facts, error) {
	a, err := c.prepare(ctx, &req)
	if err == nil && a.hopeless != nil {
		err = a.hopeless
	}
	if err != nil {
		return compute.Facts{}, err
	}
	facts, err := c.tryOut(ctx, c.Clock.NewID(), req, a)
	if facts.Details != nil && len(facts.Problems) > 0 {
		return facts, nil // its problems are the answer
	}
	return facts, err
}

// Recheck is the pre-flight of an attached compute; what it finds is kept as its facts.
func (c *Control) Recheck(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) (compute.Facts, error) {
	row, err := c.standsFor(ctx, ws, name)
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

// standsFor gives the compute of a name, which for an alias is the one that it stands for.
func (c *Control) standsFor(ctx context.Context, ws workspace.Workspace, name string) (store.Compute, error) {
	row, err := c.Compute(ctx, workspace.Principal{}, ws, name)
	if err == nil && row.Alias != "" {
		return c.Compute(ctx, workspace.Principal{}, ws, row.Alias)
	}
	return row, err
}

// Environments lists the environments that were made on a compute, or are to be, the one used last first.
func (c *Control) Environments(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) ([]store.PreparedEnvironment, error) {
	row, err := c.standsFor(ctx, ws, name)
	if err != nil {
		return nil, err
	}
	list, err := c.Store.PreparedEnvironments(ctx, row.ID)
	slices.Reverse(list)
	return list, err
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
