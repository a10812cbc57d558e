package store

import (
	"context"
	"encoding/json"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// PreparedEnvironment is an environment on one compute; jobs there share it.
type PreparedEnvironment struct {
	ComputeID string
	Hash      string
	Phase     string // "preparing", "ready", "failed"
	Spec      json.RawMessage
	LastUsed  int64
	Problem   *workspace.Problem // why it failed
}

func (e *PreparedEnvironment) fields() []any {
	return []any{&e.ComputeID, &e.Hash, &e.Phase, &e.LastUsed, decoded[*workspace.Problem]{&e.Problem}, raw{&e.Spec}}
}

const environmentColumns = `compute_id, hash, phase, last_used, problem, spec`

// PreparedEnvironment finds an environment of a compute. ErrNotFound.
func (q reads) PreparedEnvironment(ctx context.Context, computeID, hash string) (PreparedEnvironment, error) {
	return one(ctx, q, (*PreparedEnvironment).fields, `SELECT `+environmentColumns+` FROM environments WHERE compute_id = $1 AND hash = $2`, computeID, hash)
}

// PreparedEnvironments lists the environments of a compute, the one used longest ago first.
func (q reads) PreparedEnvironments(ctx context.Context, computeID string) ([]PreparedEnvironment, error) {
	return many(ctx, q, (*PreparedEnvironment).fields, `SELECT `+environmentColumns+` FROM environments WHERE compute_id = $1 ORDER BY last_used, hash`, computeID)
}

// PutPreparedEnvironment writes an environment, in place of one that is there.
func (tx *Tx) PutPreparedEnvironment(ctx context.Context, e PreparedEnvironment) error {
	_, err := tx.r.exec(ctx, `INSERT INTO environments (`+environmentColumns+`) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (compute_id, hash) DO UPDATE SET phase = excluded.phase, last_used = excluded.last_used, problem = excluded.problem, spec = excluded.spec`,
		e.ComputeID, e.Hash, e.Phase, e.LastUsed, problemText(e.Problem), text(e.Spec))
	return err
}
