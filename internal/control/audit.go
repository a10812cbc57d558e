package control

import (
	"context"

	"github.com/moorage-ml/moorage/internal/store"
)

// Audit keeps entries of the audit log, all or none.
func (c *Control) Audit(ctx context.Context, entries []store.AuditEntry) error {
	return c.Store.Write(ctx, func(tx *store.Tx) error {
		for _, e := range entries {
			if err := tx.InsertAudit(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
}
