package store

import "context"

// JobFile is one output file of a job that is home.
type JobFile struct {
	JobID    string
	Output   string // name of the output, or "outputs" or "logs"
	Path     string // below the output; empty when the output is a file
	Size     int64
	Mode     uint32 // permission bits
	Modified int64  // nanoseconds since the epoch
	Place    string // name of the blob
}

func (f *JobFile) fields() []any {
	return []any{&f.JobID, &f.Output, &f.Path, &f.Size, &f.Mode, &f.Modified, &f.Place}
}

// JobFiles lists the files of a job, by output and path.
func (q reads) JobFiles(ctx context.Context, jobID string) ([]JobFile, error) {
	return many(ctx, q, (*JobFile).fields, `SELECT job_id, output, path, size, mode, modified, place FROM job_files
		WHERE job_id = $1 ORDER BY output, path`, jobID)
}

// PutJobFile writes a file's row, in place of an older version.
func (tx *Tx) PutJobFile(ctx context.Context, f JobFile) error {
	_, err := tx.r.exec(ctx, `INSERT INTO job_files (job_id, output, path, size, mode, modified, place) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (job_id, output, path) DO UPDATE SET size = excluded.size, mode = excluded.mode, modified = excluded.modified, place = excluded.place`,
		f.JobID, f.Output, f.Path, f.Size, int64(f.Mode), f.Modified, f.Place)
	return err
}
