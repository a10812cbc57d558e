package store

import "context"

// LogChunk is a piece of a job's log that is kept as one blob.
type LogChunk struct {
	JobID  string
	Stream string // "" is the log itself, "prepare" the making of environment and inputs
	From   int64  // offset of its first byte in the log
	Size   int64
	Object string // name of the blob
}

func (c *LogChunk) fields() []any { return []any{&c.JobID, &c.Stream, &c.From, &c.Size, &c.Object} }

// LogChunks lists the chunks of a log that hold bytes at or after an offset, in order.
func (q reads) LogChunks(ctx context.Context, jobID, stream string, from int64) ([]LogChunk, error) {
	return many(ctx, q, (*LogChunk).fields, `SELECT job_id, stream, start, size, object FROM log_chunks
		WHERE job_id = $1 AND stream = $2 AND start + size > $3 ORDER BY start`, jobID, stream, from)
}

// PutLogChunk adds a chunk, in place of one with the same offset.
func (tx *Tx) PutLogChunk(ctx context.Context, c LogChunk) error {
	_, err := tx.r.exec(ctx, `INSERT INTO log_chunks (job_id, stream, start, size, object) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (job_id, stream, start) DO UPDATE SET size = excluded.size, object = excluded.object`, c.JobID, c.Stream, c.From, c.Size, c.Object)
	return err
}
