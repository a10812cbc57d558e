package store

import (
	"context"
	"database/sql"
	"encoding/json"
)

// MetricSeries is a metric as Azure's clients log it: a type, and values of named columns. The values of a series of numeric
// scalars are points, like those that MLflow logs; the values of any other are rows.
type MetricSeries struct {
	Key     string
	Number  int64           // names its rows; 0 in what InsertSeries takes
	Kind    string          // e.g. "azureml.v1.table"
	Columns json.RawMessage // an object, column → type, in the client's order
	Size    int64           // values
	Filed   int64           // values in the artifact that shows it
	Stepped bool            // a client gave steps; else they count the values
	// Unsorted is 0 for points in the order in which they were logged. Else those from this one on, counted from 1, may not be.
	Unsorted int64
}

// SeriesRow is one value of a series that is not made of points.
type SeriesRow struct {
	Moment int64 // microseconds since the epoch: values are in the order of their times
	At     int64 // as which value it came, from 0
	Data   json.RawMessage
}

const seriesColumns = `s.key, s.number, s.kind, s.columns, s.size, s.filed, s.stepped, s.unsorted`

func seriesFields(s *MetricSeries) []any {
	return []any{&s.Key, &s.Number, &s.Kind, raw{&s.Columns}, &s.Size, &s.Filed, &s.Stepped, &s.Unsorted}
}

// TakeBatch notes that a run has taken a batch, and tells whether it was the first time.
func (tx *Tx) TakeBatch(ctx context.Context, run int64, id string) (bool, error) {
	n, err := tx.r.exec(ctx, `INSERT INTO run_metric_batches (run, id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, run, id)
	return n > 0, err
}

// SeriesOf gives those of a run's series that have one of the keys, by key.
func (q reads) SeriesOf(ctx context.Context, run int64, keys []string) (map[string]MetricSeries, error) {
	list, err := many(ctx, q, seriesFields, `SELECT `+seriesColumns+` FROM run_metrics s WHERE s.run = $1 AND s.key IN `+q.d.texts("$2"), run, jsonList(keys))
	out := make(map[string]MetricSeries, len(list))
	for _, s := range list {
		out[s.Key] = s
	}
	return out, err
}

// AllSeries gives every series of a run, by key.
func (q reads) AllSeries(ctx context.Context, run int64) ([]MetricSeries, error) {
	return many(ctx, q, seriesFields, `SELECT `+seriesColumns+` FROM run_metrics s WHERE s.run = $1 ORDER BY s.key`, run)
}

// UnfiledSeries gives the series of a run whose artifacts lack values.
func (q reads) UnfiledSeries(ctx context.Context, run int64) ([]MetricSeries, error) {
	return many(ctx, q, seriesFields, `SELECT `+seriesColumns+` FROM run_metrics s WHERE s.run = $1 AND s.filed < s.size ORDER BY s.key`, run)
}

// GrowSeries makes a series or adds to its size, and gives it as it is then: the new values begin at Size less those
// that were added. Kind and columns of one that exists are not changed. Series are to be grown in the order of their
// keys, or two transactions could wait for each other.
func (tx *Tx) GrowSeries(ctx context.Context, run int64, s MetricSeries) (MetricSeries, error) {
	number, err := tx.drawNumber()
	if err != nil {
		return MetricSeries{}, err
	}
	return one(ctx, tx.reads, seriesFields, `
		INSERT INTO run_metrics AS s (run, key, number, kind, columns, size, filed, stepped, unsorted) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)
		ON CONFLICT (run, key) DO UPDATE SET size = s.size + excluded.size, filed = s.filed + excluded.filed,
			stepped = CASE WHEN excluded.stepped > s.stepped THEN excluded.stepped ELSE s.stepped END
		RETURNING key, number, kind, columns, size, filed, stepped, unsorted`,
		run, s.Key, number, s.Kind, string(s.Columns), s.Size, s.Filed, bit(s.Stepped))
}

// ChangeColumns gives a series other columns.
func (tx *Tx) ChangeColumns(ctx context.Context, run int64, key string, columns json.RawMessage) error {
	return tx.change(ctx, `UPDATE run_metrics SET columns = $3 WHERE run = $1 AND key = $2`, run, key, string(columns))
}

// FiledSeries notes how many values of a series are in its artifact.
func (tx *Tx) FiledSeries(ctx context.Context, run int64, key string, filed int64) error {
	return tx.change(ctx, `UPDATE run_metrics SET filed = $3 WHERE run = $1 AND key = $2`, run, key, filed)
}

// Chunk is what one batch brought of a metric whose points have no steps of a client's.
type Chunk struct {
	Moment int64 // of its first value, in microseconds since the epoch
	At     int64 // the step of its first value
	Size   int64
}

// AddChunk notes a chunk, after others, and that they are unsorted if some of those are newer.
func (tx *Tx) AddChunk(ctx context.Context, m MetricSeries, run int64, c Chunk) error {
	if c.At > 0 {
		newer, err := one(ctx, tx.reads, scalar[int64], `
			SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM run_metric_chunks WHERE series = $1 AND moment > $2`, m.Number, c.Moment)
		if err != nil {
			return err
		}
		if from := c.At - newer + 1; newer > 0 && (m.Unsorted == 0 || from < m.Unsorted) {
			if err := tx.change(ctx, `UPDATE run_metrics SET unsorted = $3 WHERE run = $1 AND key = $2`, run, m.Key, from); err != nil {
				return err
			}
		}
	}
	_, err := tx.r.exec(ctx, `INSERT INTO run_metric_chunks (series, moment, at, size) VALUES ($1, $2, $3, $4)`, m.Number, c.Moment, c.At, c.Size)
	return err
}

// UnsortedSeries gives the series of a run whose points are not in order.
func (q reads) UnsortedSeries(ctx context.Context, run int64) ([]MetricSeries, error) {
	return many(ctx, q, seriesFields, `SELECT `+seriesColumns+` FROM run_metrics s WHERE s.run = $1 AND s.unsorted > 0 ORDER BY s.key`, run)
}

// MarkSorted notes that the points of a series are in order, if it is still as it was seen.
func (tx *Tx) MarkSorted(ctx context.Context, run int64, m MetricSeries) error {
	return tx.change(ctx, `UPDATE run_metrics SET unsorted = 0 WHERE run = $1 AND key = $2 AND size = $3 AND unsorted = $4`, run, m.Key, m.Size, m.Unsorted)
}

// Chunks gives the chunks of a series whose first step is at least from, in the order of their times.
func (q reads) Chunks(ctx context.Context, series, from int64) ([]Chunk, error) {
	return many(ctx, q, func(c *Chunk) []any { return []any{&c.Moment, &c.At, &c.Size} }, `
		SELECT moment, at, size FROM run_metric_chunks WHERE series = $1 AND at >= $2 ORDER BY moment, at`, series, from)
}

// PutChunks puts chunks in the place of those whose first step is at least from.
func (tx *Tx) PutChunks(ctx context.Context, series, from int64, chunks []Chunk) error {
	if _, err := tx.r.exec(ctx, `DELETE FROM run_metric_chunks WHERE series = $1 AND at >= $2`, series, from); err != nil {
		return err
	}
	return tx.d.rowBatches(len(chunks), func(from, to int) error {
		args := make([]any, 0, 4*(to-from))
		for _, c := range chunks[from:to] {
			args = append(args, series, c.Moment, c.At, c.Size)
		}
		_, err := tx.r.exec(ctx, `INSERT INTO run_metric_chunks (series, moment, at, size) VALUES `+rowMarks(4, to-from), args...)
		return err
	})
}

// AddRows adds values to a series; each has its place already.
func (tx *Tx) AddRows(ctx context.Context, series int64, rows []SeriesRow) error {
	return tx.d.rowBatches(len(rows), func(from, to int) error {
		args := make([]any, 0, 4*(to-from))
		for _, r := range rows[from:to] {
			args = append(args, series, r.Moment, r.At, string(r.Data))
		}
		_, err := tx.r.exec(ctx, `INSERT INTO run_metric_rows (series, moment, at, data) VALUES `+rowMarks(4, to-from), args...)
		return err
	})
}

// Rows gives values of a series in the order of their times, beginning after one of them.
func (q reads) Rows(ctx context.Context, series int64, after SeriesRow, limit int) ([]SeriesRow, error) {
	return many(ctx, q, func(r *SeriesRow) []any { return []any{&r.Moment, &r.At, raw{&r.Data}} }, `
		SELECT r.moment, r.at, r.data FROM run_metric_rows r
		WHERE r.series = $1 AND (r.moment, r.at) > ($2, $3) ORDER BY r.moment, r.at LIMIT $4`, series, after.Moment, after.At, limit)
}

// EachRow runs fn on every value of a series, in order.
func (q reads) EachRow(ctx context.Context, series int64, fn func(SeriesRow) error) error {
	return each(ctx, q, func(rows *sql.Rows) error {
		var r SeriesRow
		if err := rows.Scan(&r.Moment, &r.At, raw{&r.Data}); err != nil {
			return err
		}
		return fn(r)
	}, `SELECT r.moment, r.at, r.data FROM run_metric_rows r WHERE r.series = $1 ORDER BY r.moment, r.at`, series)
}
