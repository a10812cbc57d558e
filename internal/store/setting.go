package store

import (
	"context"
	"errors"
)

// Setting finds a value that all servers on the database share, such as a sealed key. ErrNotFound.
func (q reads) Setting(ctx context.Context, key string) ([]byte, error) {
	return one(ctx, q, scalar[[]byte], `SELECT value FROM settings WHERE key = $1`, key)
}

// PutSettingIfAbsent keeps a value unless the key has one, and gives the one that stands. Of two servers that start at
// once, both get the same.
func (tx *Tx) PutSettingIfAbsent(ctx context.Context, key string, value []byte) (stands []byte, err error) {
	err = tx.insert(ctx, `INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`, key, value)
	if err == nil || !errors.Is(err, ErrExists) {
		return value, err
	}
	return tx.Setting(ctx, key)
}

// PutSetting keeps a value, in place of one that is there.
func (tx *Tx) PutSetting(ctx context.Context, key string, value []byte) error {
	_, err := tx.r.exec(ctx, `INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, value)
	return err
}
