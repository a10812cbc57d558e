package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// Point is one value of a metric. NaN is Value 0 with NaN set; infinities are clamped by the caller, for SQLite knows neither.
type Point struct {
	Key       string
	Value     float64
	NaN       bool
	Timestamp int64 // milliseconds since the epoch
	Step      int64
}

// Compare orders points of one metric as "the latest" does: by step, timestamp and value.
func (p Point) Compare(q Point) int {
	return cmp.Or(cmp.Compare(p.Step, q.Step), cmp.Compare(p.Timestamp, q.Timestamp), cmp.Compare(p.Value, q.Value))
}

// LogPoints adds points to a run, drops those that it has, and moves the latest value of each metric forward. ErrExists
// means that another write was a moment faster with a new metric; the whole write may be tried again.
func (tx *Tx) LogPoints(ctx context.Context, run int64, points []Point) error {
	if len(points) == 0 {
		return nil
	}
	series, err := tx.moveLatest(ctx, run, points)
	if err != nil {
		return err
	}
	return tx.d.rowBatches(len(points), func(from, to int) error {
		args := make([]any, 0, 5*(to-from))
		for _, p := range points[from:to] {
			args = append(args, series[p.Key], p.Timestamp, p.Step, p.Value, bit(p.NaN))
		}
		_, err := tx.r.exec(ctx, `INSERT INTO run_points (series, timestamp, step, value, nan) VALUES `+rowMarks(5, to-from)+` ON CONFLICT DO NOTHING`, args...)
		return err
	})
}

// pointsOf gives the fields of a point, in their order in run_points, and its key, which is not among them.
func pointsOf(key string) func(*Point) []any {
	return func(p *Point) []any {
		p.Key = key
		return []any{&p.Timestamp, &p.Step, &p.Value, &p.NaN}
	}
}

// TakePoints removes the last n points of a metric, whose steps count from one on, and gives them in that order. If they do
// not, or are not n, nothing is removed and there are none.
func (tx *Tx) TakePoints(ctx context.Context, run int64, key string, from int64, n int) ([]Point, error) {
	const where = ` WHERE series = (SELECT number FROM run_series WHERE run = $1 AND key = $2) AND step >= $3`
	points, err := many(ctx, tx.reads, pointsOf(key), `SELECT timestamp, step, value, nan FROM run_points`+where+` ORDER BY step LIMIT $4`, run, key, from, n+1)
	if err != nil || len(points) != n {
		return nil, err
	}
	for i, p := range points {
		if p.Step != from+int64(i) {
			return nil, nil
		}
	}
	_, err = tx.r.exec(ctx, `DELETE FROM run_points`+where, run, key, from)
	return points, err
}

// SetLatest makes a point the latest one of its metric, whichever was.
func (tx *Tx) SetLatest(ctx context.Context, run int64, p Point) error {
	return tx.change(ctx, `UPDATE run_series SET step = $3, timestamp = $4, value = $5, nan = $6 WHERE run = $1 AND key = $2`,
		run, p.Key, p.Step, p.Timestamp, p.Value, bit(p.NaN))
}

// moveLatest makes or moves the rows of run_series and gives the number of each.
func (tx *Tx) moveLatest(ctx context.Context, run int64, points []Point) (map[string]int64, error) {
	at := make(map[string]int)
	var latest []Point
	for _, p := range points {
		i, known := at[p.Key]
		switch {
		case !known:
			at[p.Key] = len(latest)
			latest = append(latest, p)
		case p.Compare(latest[i]) > 0:
			latest[i] = p
		}
	}
	// One order for all writers, or two batches with the same metrics could wait for each other on PostgreSQL.
	slices.SortFunc(latest, func(a, b Point) int { return strings.Compare(a.Key, b.Key) })
	number, err := tx.drawNumber()
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(latest))
	err = tx.d.rowBatches(len(latest), func(from, to int) error {
		args := make([]any, 0, 7*(to-from))
		for i, p := range latest[from:to] {
			keys[from+i] = p.Key
			args = append(args, run, p.Key, number, p.Step, p.Timestamp, p.Value, bit(p.NaN))
			number++
		}
		_, err := tx.r.exec(ctx, `INSERT INTO run_series AS s (run, key, number, step, timestamp, value, nan) VALUES `+rowMarks(7, to-from)+`
			ON CONFLICT (run, key) DO UPDATE SET step = excluded.step, timestamp = excluded.timestamp, value = excluded.value, nan = excluded.nan
			WHERE (excluded.step, excluded.timestamp, excluded.value) > (s.step, s.timestamp, s.value)`, args...)
		return err
	})
	if err != nil {
		return nil, err
	}
	series := make(map[string]int64, len(latest))
	err = each(ctx, tx.reads, func(rows *sql.Rows) error {
		var key string
		var number int64
		err := rows.Scan(&key, &number)
		series[key] = number
		return err
	}, `SELECT key, number FROM run_series WHERE run = $1 AND key IN `+tx.d.texts("$2"), run, jsonList(keys))
	return series, err
}

// Latest gives the latest point of every metric of a run, by key.
func (q reads) Latest(ctx context.Context, run int64) ([]Point, error) {
	m, err := q.latestOf(ctx, []int64{run})
	return m[run], err
}

func (q reads) latestOf(ctx context.Context, runs []int64) (map[int64][]Point, error) {
	out := make(map[int64][]Point, len(runs))
	err := each(ctx, q, func(rows *sql.Rows) error {
		var run int64
		var p Point
		if err := rows.Scan(&run, &p.Key, &p.Step, &p.Timestamp, &p.Value, &p.NaN); err != nil {
			return err
		}
		out[run] = append(out[run], p)
		return nil
	}, `SELECT run, key, step, timestamp, value, nan FROM run_series WHERE run IN `+q.d.numbers("$1")+` ORDER BY run, key`, jsonList(runs))
	return out, err
}

// History gives points of one metric in the order timestamp, step, value, beginning after one of them. An unknown
// metric has none.
func (q reads) History(ctx context.Context, run int64, key string, after *Point, limit int) ([]Point, error) {
	args := []any{run, key}
	text := `
		SELECT p.timestamp, p.step, p.value, p.nan FROM run_points p JOIN run_series s ON s.number = p.series
		WHERE s.run = $1 AND s.key = $2`
	if after != nil {
		text += ` AND (p.timestamp, p.step, p.value, p.nan) > ($3, $4, CAST($5 AS DOUBLE PRECISION), $6)`
		args = append(args, after.Timestamp, after.Step, after.Value, bit(after.NaN))
	}
	return many(ctx, q, pointsOf(key), text+fmt.Sprintf(` ORDER BY p.timestamp, p.step, p.value, p.nan LIMIT %d`, limit), args...)
}

// Steps gives the distinct steps of one metric over several runs, ascending, with start and end included.
func (q reads) Steps(ctx context.Context, runs []int64, key string, start, end int64) ([]int64, error) {
	return many(ctx, q, scalar[int64], `
		SELECT DISTINCT p.step FROM run_points p JOIN run_series s ON s.number = p.series
		WHERE s.run IN `+q.d.numbers("$1")+` AND s.key = $2 AND p.step BETWEEN $3 AND $4 ORDER BY p.step`, jsonList(runs), key, start, end)
}

// PointsAt gives at most limit points of one metric of a run at the given steps, in the order step, timestamp, value.
func (q reads) PointsAt(ctx context.Context, run int64, key string, steps []int64, limit int) ([]Point, error) {
	if len(steps) == 0 {
		return nil, nil
	}
	return many(ctx, q, pointsOf(key), fmt.Sprintf(`
		SELECT p.timestamp, p.step, p.value, p.nan FROM run_points p JOIN run_series s ON s.number = p.series
		WHERE s.run = $1 AND s.key = $2 AND p.step IN %s ORDER BY p.step, p.timestamp, p.value, p.nan LIMIT %d`, q.d.numbers("$3"), limit), run, key, jsonList(steps))
}

// rowMarks is n rows of placeholders, columns each: ($1,$2),($3,$4).
func rowMarks(columns, n int) string {
	var b strings.Builder
	b.Grow(n * columns * 7)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(marks(i*columns+1, columns))
	}
	return b.String()
}
