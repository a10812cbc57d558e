package control

import (
	"context"
	"encoding/json"
	"errors"
	"maps"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// JobDescription is what may change of a job that was accepted; nil leaves a field as it is.
type JobDescription struct {
	DisplayName *string
	Tags        map[string]string
	Properties  map[string]string
	Archived    *bool
	// Merge adds tags and properties to those there are instead of replacing them.
	Merge bool
}

// DescribeJob changes names and marks of a job. What runs is not touched.
func (c *Control) DescribeJob(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string, d JobDescription) (store.Job, error) {
	var job store.Job
	err := c.Store.Write(ctx, func(tx *store.Tx) (err error) {
		if job, err = tx.Job(ctx, ws.ID, name); err != nil {
			return err
		}
		had := job
		if d.DisplayName != nil {
			job.DisplayName = *d.DisplayName
		}
		if d.Archived != nil {
			job.Archived = *d.Archived
		}
		job.Tags = described(job.Tags, d.Tags, d.Merge)
		job.Properties = described(job.Properties, d.Properties, d.Merge)
		if err := tx.DescribeJob(ctx, job); err != nil {
			return err
		}
		return tracking.DescribeJobRun(ctx, tx, had, job)
	})
	if errors.Is(err, store.ErrNotFound) {
		return job, notFound(err, "job", name)
	}
	return job, err
}

// described gives an object of texts with a change laid over it.
func described(had json.RawMessage, change map[string]string, merge bool) json.RawMessage {
	if change == nil {
		return had
	}
	all := map[string]string{}
	if merge {
		var old map[string]string
		_ = json.Unmarshal(had, &old) // it may be empty
		maps.Copy(all, old)
	}
	maps.Copy(all, change)
	b, err := json.Marshal(all)
	if err != nil {
		return had // texts always encode
	}
	return b
}
