package store

import "context"

// SetRunTags adds or replaces tags of distinct keys.
func (tx *Tx) SetRunTags(ctx context.Context, run int64, tags []Label) error {
	return tx.d.rowBatches(len(tags), func(from, to int) error {
		_, err := tx.r.exec(ctx, `INSERT INTO run_tags (run, key, value) VALUES `+rowMarks(3, to-from)+`
			ON CONFLICT (run, key) DO UPDATE SET value = excluded.value`, labelArgs(run, tags[from:to])...)
		return err
	})
}

// DeleteRunTag removes a tag and tells whether there was one.
func (tx *Tx) DeleteRunTag(ctx context.Context, run int64, key string) (bool, error) {
	n, err := tx.r.exec(ctx, `DELETE FROM run_tags WHERE run = $1 AND key = $2`, run, key)
	return n > 0, err
}

// RunTag is the value of a tag, or ErrNotFound.
func (q reads) RunTag(ctx context.Context, run int64, key string) (string, error) {
	return one(ctx, q, scalar[string], `SELECT value FROM run_tags WHERE run = $1 AND key = $2`, run, key)
}
