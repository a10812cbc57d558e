package store

import (
	"context"
	"database/sql"
)

// Params gives those of a run's params that have one of the keys.
func (q reads) Params(ctx context.Context, run int64, keys []string) (map[string]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	out := make(map[string]string)
	err := each(ctx, q, func(rows *sql.Rows) error {
		var l Label
		if err := rows.Scan(&l.Key, &l.Value); err != nil {
			return err
		}
		out[l.Key] = l.Value
		return nil
	}, `SELECT key, value FROM run_params WHERE run = $1 AND key IN `+q.d.texts("$2"), run, jsonList(keys))
	return out, err
}

// InsertParams adds params of distinct keys. A key that another transaction wrote in between is ErrExists, for params
// are written once.
func (tx *Tx) InsertParams(ctx context.Context, run int64, params []Label) error {
	return tx.d.rowBatches(len(params), func(from, to int) error {
		n, err := tx.r.exec(ctx, `INSERT INTO run_params (run, key, value) VALUES `+rowMarks(3, to-from)+` ON CONFLICT DO NOTHING`, labelArgs(run, params[from:to])...)
		if err == nil && n != int64(to-from) {
			return ErrExists
		}
		return err
	})
}

func labelArgs(run int64, labels []Label) []any {
	args := make([]any, 0, 3*len(labels))
	for _, l := range labels {
		args = append(args, run, l.Key, l.Value)
	}
	return args
}

// labelsOf reads a table of labels for several runs, by key.
func (q reads) labelsOf(ctx context.Context, table string, runs []int64) (map[int64][]Label, error) {
	out := make(map[int64][]Label, len(runs))
	err := each(ctx, q, func(rows *sql.Rows) error {
		var run int64
		var l Label
		if err := rows.Scan(&run, &l.Key, &l.Value); err != nil {
			return err
		}
		out[run] = append(out[run], l)
		return nil
	}, `SELECT run, key, value FROM `+table+` WHERE run IN `+q.d.numbers("$1")+` ORDER BY run, key`, jsonList(runs))
	return out, err
}
