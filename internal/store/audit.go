package store

import "context"

// AuditEntry says who did what. It holds no secret.
type AuditEntry struct {
	ID          string // a ULID; made by the store if empty
	At          int64  // made by the store if 0
	Principal   string
	WorkspaceID string
	Action      string // an ARM action
	Target      string
	Outcome     string // "ok", or the code of the Problem
	Detail      string
}

func (a *AuditEntry) fields() []any {
	return []any{&a.ID, &a.At, &a.Principal, &a.WorkspaceID, &a.Action, &a.Target, &a.Outcome, &a.Detail}
}

// AuditLog lists entries, newest first, of one workspace, or of all if workspaceID is empty. The cursor is the ID of the
// last entry seen.
func (q reads) AuditLog(ctx context.Context, workspaceID string, p Page) ([]AuditEntry, error) {
	query, args := `SELECT id, at, principal, workspace_id, action, target, outcome, detail FROM audit WHERE 1 = 1`, []any(nil)
	if workspaceID != "" {
		args = append(args, workspaceID)
		query += ` AND workspace_id = $` + nth(args)
	}
	if p.After != "" {
		args = append(args, p.After)
		query += ` AND id < $` + nth(args)
	}
	args = append(args, p.limit())
	return many(ctx, q, (*AuditEntry).fields, query+` ORDER BY id DESC LIMIT $`+nth(args), args...)
}

// InsertAudit adds an entry.
func (tx *Tx) InsertAudit(ctx context.Context, a AuditEntry) error {
	if a.ID == "" {
		a.ID = tx.s.newID()
	}
	if a.At == 0 {
		a.At = tx.s.clock.Millis()
	}
	_, err := tx.r.exec(ctx, `INSERT INTO audit (id, at, principal, workspace_id, action, target, outcome, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		a.ID, a.At, a.Principal, a.WorkspaceID, a.Action, a.Target, a.Outcome, a.Detail)
	return err
}

// CountAudit tells how many entries were made before a time.
func (q reads) CountAudit(ctx context.Context, before int64) (int64, error) {
	return one(ctx, q, func(n *int64) []any { return []any{n} },
		`SELECT count(*) FROM audit WHERE at < $1`, before)
}

// DeleteAudit removes the entries made before a time, and tells how many.
func (tx *Tx) DeleteAudit(ctx context.Context, before int64) (int64, error) {
	return tx.r.exec(ctx, `DELETE FROM audit WHERE at < $1`, before)
}
