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

// RunFiles is a blob store in which files of runs are found that are made when somebody first asks below the run's
// artifacts: the log of a job where Azure's clients look for it, although a short one is kept in its job's row alone, and
// the tables that show metrics which are more than numbers. Most logs are short and nobody ever asks, and a file for each
// would cost more than everything else that the server does for such a job; a table that grows would be written anew with
// every value.
type RunFiles struct {
	blob.Store
	Rows *store.Store
}

var _ blob.Store = RunFiles{}

var artifactsOfRun = regexp.MustCompile(`^c/azureml-artifacts-([^/]+)/ExperimentRun/dcid\.([^/]+)/`)

// Get reads a blob, which may be such a file.
func (l RunFiles) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, blob.Info, error) {
	if err := l.ensure(ctx, name); err != nil {
		return nil, blob.Info{}, err
	}
	return l.Store.Get(ctx, name, offset, length)
}

// Stat tells about a blob, which may be such a file.
func (l RunFiles) Stat(ctx context.Context, name string) (blob.Info, error) {
	if err := l.ensure(ctx, name); err != nil {
		return blob.Info{}, err
	}
	return l.Store.Stat(ctx, name)
}

// List gives blobs, such files among them.
func (l RunFiles) List(ctx context.Context, prefix, delimiter, after string, limit int) (blob.Page, error) {
	if err := l.ensure(ctx, prefix); err != nil {
		return blob.Page{}, err
	}
	return l.Store.List(ctx, prefix, delimiter, after, limit)
}

// ensure writes what lacks of the run that a name lies below.
func (l RunFiles) ensure(ctx context.Context, name string) error {
	m := artifactsOfRun.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	if err := l.fileLog(ctx, m[1], m[2]); err != nil {
		return fmt.Errorf("tracking: log of %s: %w", m[2], err)
	}
	return l.fileSeries(ctx, m[1], m[2])
}

// fileLog writes the log of a run's job, unless it is there or there is none.
func (l RunFiles) fileLog(ctx context.Context, workspaceID, run string) error {
	job, err := l.Rows.Job(ctx, workspaceID, run)
	if errors.Is(err, store.ErrNotFound) {
		return nil // a run without a job
	}
	if err != nil || !job.State.Terminal() || job.LogInline == nil {
		return err
	}
	_, err = l.Store.Stat(ctx, ArtifactPrefix(job.WorkspaceID, job.Name)+StdLog)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return JobLog{Blob: l.Store}.SealBytes(ctx, job, job.LogInline)
}
