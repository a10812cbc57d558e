package store

import (
	"context"
	"encoding/json"
)

// Resource is a line of the catalogue: where the thing with an ARM id really is.
type Resource struct {
	ID       string // as it was written; its case does not matter when it is looked up
	Address  string
	Settings json.RawMessage // of the driver, secrets removed; nil if there are none
	SecretID string          // of the sealed secrets; empty if there are none
	Created  int64
}

const resourceColumns = `shown, address, settings, secret_id, created`

func (r *Resource) fields() []any {
	return []any{&r.ID, &r.Address, raw{&r.Settings}, &r.SecretID, &r.Created}
}

// Resource finds a line. ErrNotFound.
func (q reads) Resource(ctx context.Context, id string) (Resource, error) {
	return one(ctx, q, (*Resource).fields, `SELECT `+resourceColumns+` FROM resources WHERE id = lower($1)`, id)
}

// Resources lists the catalogue, by id.
func (q reads) Resources(ctx context.Context) ([]Resource, error) {
	return many(ctx, q, (*Resource).fields, `SELECT `+resourceColumns+` FROM resources ORDER BY id`)
}

// PutResource writes a line, in place of one that is there.
func (tx *Tx) PutResource(ctx context.Context, r Resource) error {
	_, err := tx.r.exec(ctx, `INSERT INTO resources (id, shown, address, settings, secret_id, created) VALUES (lower($1), $1, $2, $3, $4, $5)
		ON CONFLICT (id) DO UPDATE SET shown = excluded.shown, address = excluded.address, settings = excluded.settings, secret_id = excluded.secret_id`,
		r.ID, r.Address, text(r.Settings), r.SecretID, r.Created)
	return err
}

// DeleteResource removes a line. ErrNotFound.
func (tx *Tx) DeleteResource(ctx context.Context, id string) error {
	return tx.change(ctx, `DELETE FROM resources WHERE id = lower($1)`, id)
}
