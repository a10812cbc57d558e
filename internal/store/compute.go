package store

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Compute is one attached compute.
type Compute struct {
	ID          string
	WorkspaceID string
	Name        string // unique in the workspace
	Kind        string
	Address     string
	ResourceID  string
	Identity    []string        // what Facts.Identity said; unique in the workspace unless empty
	Doc         json.RawMessage // the ARM body as the client sent it, secrets removed
	Settings    json.RawMessage // of the driver, secrets removed
	SecretID    string          // of the sealed secrets; empty if there are none
	Facts       json.RawMessage // what the last Probe found

	State        ComputeState
	Health       Health
	HealthReason *workspace.Problem // why it is not healthy, or why attaching failed
	HealthSince  int64
	Slots        int
	Due          *int64 // when the compute itself wants attention (attach, check, detach); nil: nothing to do

	Created   int64
	Modified  int64
	CreatedBy string
	Alias     string // name of the compute that this one only stands for (AmlCompute); empty for a compute of its own
}

// ComputeState is the provisioning state, in ARM's words.
type ComputeState string

// The states of a compute.
const (
	ComputeCreating  ComputeState = "Creating" // attaching
	ComputeSucceeded ComputeState = "Succeeded"
	ComputeFailed    ComputeState = "Failed"   // attaching failed; HealthReason says why
	ComputeDeleting  ComputeState = "Deleting" // detaching
)

// Health is how a compute answers.
type Health string

// The healths.
const (
	HealthUnknown     Health = "unknown"
	Healthy           Health = "healthy"
	HealthUnreachable Health = "unreachable"
	HealthDenied      Health = "denied" // a person must act
)

// Version changes whenever a target that is open must be opened again.
func (c Compute) Version() string { return strconv.FormatInt(c.Modified, 10) }

const computeColumns = `id, workspace_id, name, kind, address, resource_id, identity, secret_id, state, health, health_reason,
	health_since, slots, due, created, modified, created_by, alias, facts, settings, doc`

func (c *Compute) fields() []any {
	return []any{
		&c.ID, &c.WorkspaceID, &c.Name, &c.Kind, &c.Address, &c.ResourceID,
		decoded[[]string]{&c.Identity},
		&c.SecretID, &c.State, &c.Health,
		decoded[*workspace.Problem]{&c.HealthReason},
		&c.HealthSince, &c.Slots, &c.Due, &c.Created, &c.Modified, &c.CreatedBy, &c.Alias,
		raw{&c.Facts},
		raw{&c.Settings},
		raw{&c.Doc},
	}
}

func (c *Compute) values() []any {
	return []any{
		c.ID, c.WorkspaceID, c.Name, c.Kind, c.Address, c.ResourceID, listText(c.Identity), c.SecretID, string(c.State), string(c.Health),
		problemText(c.HealthReason), c.HealthSince, c.Slots, c.Due, c.Created, c.Modified, c.CreatedBy, c.Alias,
		text(c.Facts), text(c.Settings), text(c.Doc),
	}
}

// Compute finds a compute by its name. ErrNotFound.
func (q reads) Compute(ctx context.Context, workspaceID, name string) (Compute, error) {
	return one(ctx, q, (*Compute).fields, `SELECT `+computeColumns+` FROM computes WHERE workspace_id = $1 AND name = $2`, workspaceID, name)
}

// ComputeByID finds a compute by its id. ErrNotFound.
func (q reads) ComputeByID(ctx context.Context, id string) (Compute, error) {
	return one(ctx, q, (*Compute).fields, `SELECT `+computeColumns+` FROM computes WHERE id = $1`, id)
}

// ComputeByIdentity finds the compute of a workspace that refers to a target. ErrNotFound.
func (q reads) ComputeByIdentity(ctx context.Context, workspaceID string, identity []string) (Compute, error) {
	if len(identity) == 0 {
		return Compute{}, ErrNotFound
	}
	return one(ctx, q, (*Compute).fields, `SELECT `+computeColumns+` FROM computes
		WHERE workspace_id = $1 AND identity = $2 AND identity <> ''`, workspaceID, listText(identity))
}

// Computes lists the computes of a workspace, by name.
func (q reads) Computes(ctx context.Context, workspaceID string) ([]Compute, error) {
	return many(ctx, q, (*Compute).fields, `SELECT `+computeColumns+` FROM computes WHERE workspace_id = $1 ORDER BY name`, workspaceID)
}

// AllComputes lists the computes of every workspace, by id.
func (q reads) AllComputes(ctx context.Context) ([]Compute, error) {
	return many(ctx, q, (*Compute).fields, `SELECT `+computeColumns+` FROM computes ORDER BY id`)
}

// InsertCompute adds a compute. ErrSameTarget if another has the identity, else ErrExists if the name or id is taken.
func (tx *Tx) InsertCompute(ctx context.Context, c Compute) error {
	err := tx.insert(ctx, `INSERT INTO computes (`+computeColumns+`) VALUES
		($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) ON CONFLICT DO NOTHING`, c.values()...)
	if !errors.Is(err, ErrExists) {
		return err
	}
	switch _, same := tx.ComputeByIdentity(ctx, c.WorkspaceID, c.Identity); {
	case same == nil:
		return ErrSameTarget
	case errors.Is(same, ErrNotFound):
		return ErrExists
	default:
		return same
	}
}

// UpdateCompute writes every column of the compute but its id, workspace, name and times of making. ErrNotFound;
// ErrSameTarget if another has the identity.
func (tx *Tx) UpdateCompute(ctx context.Context, c Compute) error {
	identity := listText(c.Identity)
	n, err := tx.r.exec(ctx, `UPDATE computes SET kind = $2, address = $3, resource_id = $4, identity = $5, secret_id = $6, state = $7,
		health = $8, health_reason = $9, health_since = $10, slots = $11, due = $12, modified = $13, alias = $14, facts = $15, settings = $16, doc = $17
		WHERE id = $1 AND ($5 = '' OR NOT EXISTS (
			SELECT 1 FROM computes o WHERE o.workspace_id = computes.workspace_id AND o.identity = $5 AND o.identity <> '' AND o.id <> computes.id))`,
		c.ID, c.Kind, c.Address, c.ResourceID, identity, c.SecretID, string(c.State), string(c.Health), problemText(c.HealthReason),
		c.HealthSince, c.Slots, c.Due, c.Modified, c.Alias, text(c.Facts), text(c.Settings), text(c.Doc))
	if err != nil || n > 0 {
		return err
	}
	if _, err := tx.ComputeByID(ctx, c.ID); err != nil {
		return err
	}
	return ErrSameTarget
}

// DeleteCompute removes a compute with its lease and its environments. Its jobs stay. ErrNotFound.
func (tx *Tx) DeleteCompute(ctx context.Context, id string) error {
	for _, statement := range []string{
		`DELETE FROM leases WHERE compute_id = $1`,
		`DELETE FROM environments WHERE compute_id = $1`,
	} {
		if _, err := tx.r.exec(ctx, statement, id); err != nil {
			return err
		}
	}
	return tx.change(ctx, `DELETE FROM computes WHERE id = $1`, id)
}
