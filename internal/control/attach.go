package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// reserve writes the row in state Creating, or finds that the name already stands for this very target.
func (c *Control) reserve(ctx context.Context, p workspace.Principal, ws workspace.Workspace, req AttachRequest, settings map[string]any) (row store.Compute, again bool, err error) {
	now := c.Clock.Millis()
	row = store.Compute{
		ID: c.Clock.NewID(), WorkspaceID: ws.ID, Name: req.Name, Kind: req.Kind, Address: req.Address, ResourceID: req.ResourceID,
		Doc: req.Doc, State: store.ComputeCreating, Health: store.HealthUnknown, Created: now, Modified: now, CreatedBy: p.Name,
	}
	if row.Settings, err = json.Marshal(public(c.secretNames(req.Kind), settings)); err != nil {
		return row, false, fmt.Errorf("control: attach %s: %w", req.Name, err)
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		old, err := tx.Compute(ctx, ws.ID, req.Name)
		if err == nil && old.State != store.ComputeFailed && !c.interrupted(old) {
			if old.State == store.ComputeSucceeded && old.Alias == "" && old.Kind == req.Kind && old.Address == req.Address {
				row, again = old, true
				return nil
			}
			return taken(old)
		}
		if err == nil {
			if err := tx.DeleteCompute(ctx, old.ID); err != nil {
				return err
			}
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := c.onlyAttachment(ctx, tx, ws, req); err != nil {
			return err
		}
		return tx.InsertCompute(ctx, row)
	})
	if err == nil && again && len(req.Settings) > 0 {
		row, err = c.UpdateCompute(ctx, p, ws, req.Name, UpdateRequest{Settings: req.Settings, Doc: req.Doc})
	}
	return row, again, err
}

func taken(old store.Compute) error {
	where := old.Address
	if where == "" {
		where = old.Kind
	}
	return &workspace.Problem{
		Class: workspace.Conflict, Code: "ComputeNameTaken", Target: old.Name,
		Message: fmt.Sprintf("the name %q already stands for %s", old.Name, where),
		Mend:    fmt.Sprintf("take another name, or detach it first: moorage compute detach %s", old.Name),
	}
}

// onlyAttachment refuses a second attachment by the same address or resource id. The same machine under another
// address is found by its identity, when the pre-flight knows it.
func (c *Control) onlyAttachment(ctx context.Context, tx *store.Tx, ws workspace.Workspace, req AttachRequest) error {
	computes, err := tx.Computes(ctx, ws.ID)
	if err != nil {
		return err
	}
	for _, other := range computes {
		if other.Alias != "" || other.State == store.ComputeFailed || other.Kind != req.Kind {
			continue
		}
		switch {
		case req.Distinct:
		case req.Address != "" && strings.EqualFold(other.Address, req.Address):
			return second(other.Name, "address "+req.Address)
		case req.ResourceID != "" && strings.EqualFold(other.ResourceID, req.ResourceID):
			return second(other.Name, "resource id "+req.ResourceID)
		}
	}
	return nil
}

func second(first, by string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Conflict, Code: "AlreadyAttached", Target: first,
		Message: fmt.Sprintf("this target is already attached to the workspace as compute %q", first),
		Cause:   "it has the same " + by,
		Mend:    fmt.Sprintf("use %q, or detach it before you attach again: moorage compute detach %s", first, first),
	}
}

// finishAttach runs the pre-flight and writes its verdict. Secrets are stored only when it succeeded.
func (c *Control) finishAttach(ctx context.Context, row store.Compute, req AttachRequest, a attachment) {
	ctx, cancel := context.WithTimeout(ctx, attachLimit-time.Minute)
	defer cancel()
	var facts compute.Facts
	var err error
	if a.hopeless != nil {
		err = a.hopeless
	} else if facts, err = c.tryOut(ctx, row.ID, req, a); err == nil {
		err = c.keep(ctx, row, req, a.settings, facts)
	}
	if err == nil {
		return
	}
	row.State, row.Modified = store.ComputeFailed, c.Clock.Millis()
	row.HealthReason = asProblem(err)
	if facts.Details != nil {
		row.Facts, _ = json.Marshal(facts) // strings always encode
	}
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = c.Store.Write(ctx, func(tx *store.Tx) error { return tx.UpdateCompute(ctx, row) })
	if err != nil && !errors.Is(err, store.ErrNotFound) { // it was detached meanwhile
		c.Log.Error("a failed attachment could not be recorded", "compute", row.Name, "error", err)
	}
}

// tryOut is the pre-flight of what is to be attached, with what the catalogue knows of it and what the server's policy
// demands of it.
func (c *Control) tryOut(ctx context.Context, id string, req AttachRequest, a attachment) (compute.Facts, error) {
	facts, err := c.preflight(ctx, id, req.Kind, a.settings)
	if facts.Details != nil {
		for name, value := range a.found.Details {
			if _, seen := facts.Details[name]; !seen { // what the target shows is worth more
				facts.Details[name] = value
			}
		}
	}
	facts.Problems = append(facts.Problems, a.found.Warnings...)
	if err != nil || !c.AzureStrict {
		return facts, err
	}
	if p := c.azureStrict(ctx, req, a, facts); p != nil {
		facts.Problems = append(facts.Problems, *p)
		return facts, p
	}
	return facts, nil
}

func (c *Control) preflight(ctx context.Context, id, kind string, settings map[string]any) (compute.Facts, error) {
	full, err := json.Marshal(forDriver(settings))
	if err != nil {
		return compute.Facts{}, fmt.Errorf("control: pre-flight: %w", err)
	}
	target, err := c.Fleet.Try(ctx, id, kind, full)
	if err != nil {
		return compute.Facts{}, err
	}
	defer func() { _ = target.Close() }() // dropping a connection has nobody to report to
	facts, err := target.Probe(ctx)
	if err != nil {
		return facts, err
	}
	for i := range facts.Problems {
		if !facts.Problems[i].Warning {
			return facts, &facts.Problems[i]
		}
	}
	return facts, nil
}

// keep writes an attached compute: identity checked against the others, what it showed pinned, secrets sealed.
func (c *Control) keep(ctx context.Context, row store.Compute, req AttachRequest, settings map[string]any, facts compute.Facts) error {
	maps.Copy(settings, facts.Pins)
	names := c.secretNames(req.Kind)
	var err error
	if row.Settings, err = json.Marshal(public(names, settings)); err != nil {
		return fmt.Errorf("control: attach %s: %w", row.Name, err)
	}
	sealed, err := c.seal(computeSecret(row.ID), confidential(names, settings))
	if err != nil {
		return err
	}
	row.State, row.Health, row.HealthSince = store.ComputeSucceeded, store.Healthy, c.Clock.Millis()
	row.Modified = max(row.HealthSince, row.Modified+1) // the version of what is open, so never the same twice
	row.Slots = slots(settings, facts)
	row.SecretID = row.ID
	row.Due = &row.Modified // its holder watches its health from now on
	return c.Store.Write(ctx, func(tx *store.Tx) error {
		now, err := tx.ComputeByID(ctx, row.ID)
		if err != nil {
			return notFound(err, "compute", row.Name)
		}
		if now.State == store.ComputeDeleting {
			return &workspace.Problem{
				Class: workspace.Conflict, Code: "ComputeDetaching", Target: row.Name,
				Message: fmt.Sprintf("compute %q is being detached", row.Name), Mend: "attach it again when that is done",
			}
		}
		warning, err := c.identify(ctx, tx, &row, req.Distinct, facts.Identity)
		if err != nil {
			return err
		}
		if warning != nil {
			facts.Problems = append(facts.Problems, *warning)
		}
		if row.Facts, err = json.Marshal(facts); err != nil {
			return fmt.Errorf("control: attach %s: %w", row.Name, err)
		}
		if err := tx.PutSecret(ctx, store.Secret{ID: row.SecretID, Sealed: sealed}); err != nil {
			return err
		}
		if err := tx.UpdateCompute(ctx, row); err != nil {
			return err
		}
		tx.Hint(row.ID, "")
		return nil
	})
}

// identify compares a target's identity with those of the workspace's other computes: all parts equal is the same
// target; one part equal is a warning, because machines are cloned.
func (c *Control) identify(ctx context.Context, tx *store.Tx, row *store.Compute, distinct bool, identity []string) (*workspace.Problem, error) {
	if len(identity) == 0 {
		return nil, nil
	}
	computes, err := tx.Computes(ctx, row.WorkspaceID)
	if err != nil {
		return nil, err
	}
	var warning *workspace.Problem
	for _, other := range computes {
		theirs := own(other)
		if other.ID == row.ID || other.Kind != row.Kind || len(theirs) != len(identity) {
			continue
		}
		equal := 0
		for i := range theirs {
			if theirs[i] == identity[i] {
				equal++
			}
		}
		if equal == len(identity) && !distinct {
			return nil, second(other.Name, "identity: it is the same machine under another address")
		}
		if equal > 0 {
			warning = &workspace.Problem{
				Code: "SimilarMachine", Warning: true, Target: other.Name,
				Message: fmt.Sprintf("a part of this machine's identity is that of compute %q", other.Name),
				Cause:   "cloned machines share machine ids or host keys", Mend: "make sure that they are two machines",
			}
		}
	}
	if distinct {
		identity = append(slices.Clone(identity), row.ID)
	}
	row.Identity = identity
	return warning, nil
}

// own is what a compute's target said of itself, without the mark of those that were attached as distinct.
func own(c store.Compute) []string {
	if isDistinct(c) {
		return c.Identity[:len(c.Identity)-1]
	}
	return c.Identity
}

func isDistinct(c store.Compute) bool {
	n := len(c.Identity)
	return n > 0 && c.Identity[n-1] == c.ID
}

func slots(settings map[string]any, facts compute.Facts) int {
	if n, ok := settings["slots"].(float64); ok && n >= 1 {
		return int(n)
	}
	for _, name := range []string{"slots", "cpus"} {
		if n, err := strconv.Atoi(facts.Details[name]); err == nil && n > 0 {
			return n
		}
	}
	return 1
}

func (c *Control) attachAlias(ctx context.Context, p workspace.Principal, ws workspace.Workspace, req AttachRequest) (store.Compute, error) {
	of, err := c.standsFor(ctx, ws, req.Alias)
	if err != nil {
		return store.Compute{}, err
	}
	now := c.Clock.Millis()
	row := store.Compute{
		ID: c.Clock.NewID(), WorkspaceID: ws.ID, Name: req.Name, Kind: of.Kind, Alias: of.Name, Doc: req.Doc,
		State: store.ComputeSucceeded, Health: store.Healthy, Slots: of.Slots, Created: now, Modified: now, CreatedBy: p.Name,
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		old, err := tx.Compute(ctx, ws.ID, req.Name)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return tx.InsertCompute(ctx, row)
		case err != nil:
			return err
		case old.Alias == "":
			return taken(old)
		}
		row.ID, row.Created = old.ID, old.Created
		return tx.UpdateCompute(ctx, row)
	})
	return row, err
}

// interrupted tells whether an attachment was left alone by the end of its server.
func (c *Control) interrupted(row store.Compute) bool {
	return row.State == store.ComputeCreating && c.Clock.Millis()-row.Modified > attachLimit.Milliseconds()
}

// failInterrupted shows attachments that nobody works at any more as failed.
func (c *Control) failInterrupted(ctx context.Context) error {
	computes, err := c.Store.AllComputes(ctx)
	for _, row := range computes {
		if !c.interrupted(row) {
			continue
		}
		err = errors.Join(err, c.Store.Write(ctx, func(tx *store.Tx) error {
			now, err := tx.ComputeByID(ctx, row.ID)
			if err != nil || !c.interrupted(now) {
				return err
			}
			now.State, now.Modified = store.ComputeFailed, c.Clock.Millis()
			now.HealthReason = &workspace.Problem{
				Class: workspace.Unavailable, Code: "AttachInterrupted", Target: row.Name,
				Message: fmt.Sprintf("attaching compute %q was interrupted", row.Name), Cause: "the server stopped before it was done", Mend: "attach it again",
			}
			return tx.UpdateCompute(ctx, now)
		}))
	}
	return err
}
