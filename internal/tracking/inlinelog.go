package tracking

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/store"
)

// InlineLogs is a blob store in which the logs of jobs are found where Azure's clients look for them, although a short
// log is kept in its job's row alone: it is written as a blob when somebody first asks below the run's artifacts. Most
// logs are short and nobody ever asks, and a file for each would cost more than everything else that the server does
// for such a job.
type InlineLogs struct {
	blob.Store
	Jobs *store.Store
}

var _ blob.Store = InlineLogs{}

var artifactsOfRun = regexp.MustCompile(`^c/azureml-artifacts-([^/]+)/ExperimentRun/dcid\.([^/]+)/`)

// Get reads a blob, which may be such a log.
func (l InlineLogs) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, blob.Info, error) {
	if err := l.ensure(ctx, name); err != nil {
		return nil, blob.Info{}, err
	}
	return l.Store.Get(ctx, name, offset, length)
}

// Stat tells about a blob, which may be such a log.
func (l InlineLogs) Stat(ctx context.Context, name string) (blob.Info, error) {
	if err := l.ensure(ctx, name); err != nil {
		return blob.Info{}, err
	}
	return l.Store.Stat(ctx, name)
}

// List gives blobs, such a log among them.
func (l InlineLogs) List(ctx context.Context, prefix, delimiter, after string, limit int) (blob.Page, error) {
	if err := l.ensure(ctx, prefix); err != nil {
		return blob.Page{}, err
	}
	return l.Store.List(ctx, prefix, delimiter, after, limit)
}

// ensure writes the log of the run that a name lies below, unless it is there or there is none.
func (l InlineLogs) ensure(ctx context.Context, name string) error {
	m := artifactsOfRun.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	job, err := l.Jobs.Job(ctx, m[1], m[2])
	if errors.Is(err, store.ErrNotFound) {
		return nil // a run without a job
	}
	if err != nil {
		return fmt.Errorf("tracking: log of %s: %w", m[2], err)
	}
	if !job.State.Terminal() || job.LogInline == nil {
		return nil
	}
	_, err = l.Store.Stat(ctx, ArtifactPrefix(job.WorkspaceID, job.Name)+StdLog)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return JobLog{Blob: l.Store}.SealBytes(ctx, job, job.LogInline)
}
