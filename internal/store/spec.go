package store

import (
	"context"
	"encoding/json"
)

// JobSpec is what of a job tells which objects it needs.
type JobSpec struct {
	JobID string
	Spec  json.RawMessage
}

// JobSpecs lists the specs of all jobs of the server, by id. The cursor is the id of the last job seen.
func (q reads) JobSpecs(ctx context.Context, p Page) ([]JobSpec, error) {
	return many(ctx, q, func(s *JobSpec) []any { return []any{&s.JobID, raw{&s.Spec}} },
		`SELECT job_id, spec FROM job_bodies WHERE job_id > $1 ORDER BY job_id LIMIT $2`, p.After, p.limit())
}
