package tracking

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/store"
)

// JobLog is where a job's log lives once it has left the target. While the job runs, pieces come home now and then and
// are kept one blob a piece, named by offset. When it has ended, the whole log is one blob among the run's artifacts,
// where Azure's clients look for it, and the pieces are gone.
type JobLog struct {
	Blob blob.Store
}

// The names below ArtifactPrefix at which Azure's clients find logs (azureml-v2.md §10).
const (
	StdLog       = "user_logs/std_log.txt"
	PreparingLog = "system_logs/preparing.txt"
)

type piece struct {
	name       string
	from, size int64
}

func piecePrefix(jobID string) string { return "joblog/" + jobID + "/" }

func (l JobLog) pieces(ctx context.Context, jobID string) ([]piece, error) {
	var all []piece
	after := ""
	for {
		page, err := l.Blob.List(ctx, piecePrefix(jobID), "", after, 1000)
		if err != nil {
			return nil, fmt.Errorf("tracking: job log: %w", err)
		}
		for _, b := range page.Blobs {
			from, err := strconv.ParseInt(strings.TrimPrefix(b.Name, piecePrefix(jobID)), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("tracking: job log: %q is not a piece of a log", b.Name)
			}
			all = append(all, piece{name: b.Name, from: from, size: b.Size})
		}
		if page.Next == "" {
			return all, nil
		}
		after = page.Next
	}
}

// Size is how many bytes of a running job's log are home, from the beginning and without a gap.
func (l JobLog) Size(ctx context.Context, jobID string) (int64, error) {
	pieces, err := l.pieces(ctx, jobID)
	if err != nil {
		return 0, err
	}
	var end int64
	for _, p := range pieces {
		if p.from > end {
			break
		}
		end = max(end, p.from+p.size)
	}
	return end, nil
}

// Append keeps a piece that begins at from and returns the offset after it. An empty piece is not kept.
func (l JobLog) Append(ctx context.Context, jobID string, from int64, r io.Reader) (int64, error) {
	var first [1]byte
	n, err := io.ReadFull(r, first[:])
	if n == 0 {
		if errors.Is(err, io.EOF) {
			return from, nil
		}
		return from, err
	}
	info, err := l.Blob.Put(ctx, fmt.Sprintf("%s%020d", piecePrefix(jobID), from), io.MultiReader(bytes.NewReader(first[:]), r), -1, blob.Meta{})
	return from + info.Size, err
}

// Seal joins the pieces and the rest of the log, which begins where they end, into the final blob. A nil rest is for a
// job whose target can give no more. It tells the size of the whole, also when it is done again after an interruption.
func (l JobLog) Seal(ctx context.Context, job store.Job, rest io.Reader) (int64, error) {
	pieces, err := l.pieces(ctx, job.ID)
	if err != nil {
		return 0, err
	}
	var readers []io.Reader
	var end int64
	for _, p := range pieces {
		if p.from > end {
			break
		}
		if p.from+p.size <= end {
			continue
		}
		skip := end - p.from
		readers = append(readers, &lazy{open: func() (io.ReadCloser, error) {
			r, _, err := l.Blob.Get(ctx, p.name, skip, -1)
			return r, err
		}})
		end = p.from + p.size
	}
	if rest != nil {
		readers = append(readers, rest)
	} else {
		switch info, err := l.Blob.Stat(ctx, ArtifactPrefix(job.WorkspaceID, job.Name)+StdLog); {
		case err == nil && info.Size >= end:
			return info.Size, l.remove(ctx, pieces) // sealed before, and interrupted while the pieces were removed
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return 0, fmt.Errorf("tracking: job log: %w", err) // it may be whole there, and what is left of the pieces is less
		}
	}
	info, err := l.Blob.Put(ctx, ArtifactPrefix(job.WorkspaceID, job.Name)+StdLog, io.MultiReader(readers...), -1, textMeta)
	if err != nil {
		return 0, fmt.Errorf("tracking: job log: %w", err)
	}
	return info.Size, l.remove(ctx, pieces)
}

// Drop removes the pieces of a log that is kept elsewhere as a whole.
func (l JobLog) Drop(ctx context.Context, jobID string) error {
	pieces, err := l.pieces(ctx, jobID)
	if err != nil {
		return err
	}
	return l.remove(ctx, pieces)
}

func (l JobLog) remove(ctx context.Context, pieces []piece) error {
	for _, p := range pieces {
		if err := l.Blob.Delete(ctx, p.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("tracking: job log: %w", err)
		}
	}
	return nil
}

// SealBytes is Seal for a log that is at hand whole.
func (l JobLog) SealBytes(ctx context.Context, job store.Job, log []byte) error {
	_, err := l.Blob.Put(ctx, ArtifactPrefix(job.WorkspaceID, job.Name)+StdLog, bytes.NewReader(log), int64(len(log)), textMeta)
	return err
}

// SealPreparing keeps the log of the making of environment and inputs.
func (l JobLog) SealPreparing(ctx context.Context, job store.Job, r io.Reader) error {
	_, err := l.Blob.Put(ctx, ArtifactPrefix(job.WorkspaceID, job.Name)+PreparingLog, r, -1, textMeta)
	return err
}

// ReadPreparing writes what is home of the log of the making of environment and inputs, from an offset on, and returns the
// offset after it. Nothing is home of a job that asked for no environment and did not fail there.
func (l JobLog) ReadPreparing(ctx context.Context, job store.Job, from int64, w io.Writer) (int64, error) {
	r, _, err := l.Blob.Get(ctx, ArtifactPrefix(job.WorkspaceID, job.Name)+PreparingLog, from, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return from, nil
	}
	if err != nil {
		return from, err
	}
	defer r.Close()
	n, err := io.Copy(w, r)
	return from + n, err
}

// Read writes what is home of a job's log, from an offset on, and returns the offset after it.
func (l JobLog) Read(ctx context.Context, job store.Job, from int64, w io.Writer) (int64, error) {
	r, _, err := l.Blob.Get(ctx, ArtifactPrefix(job.WorkspaceID, job.Name)+StdLog, from, -1)
	if err == nil {
		defer r.Close()
		n, err := io.Copy(w, r)
		return from + n, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return from, err
	}
	pieces, err := l.pieces(ctx, job.ID)
	if err != nil {
		return from, err
	}
	for _, p := range pieces {
		if p.from > from {
			break
		}
		if p.from+p.size <= from {
			continue
		}
		r, _, err := l.Blob.Get(ctx, p.name, from-p.from, -1)
		if err != nil {
			return from, err
		}
		n, err := io.Copy(w, r)
		_ = r.Close() // only read
		from += n
		if err != nil {
			return from, err
		}
	}
	return from, nil
}

var textMeta = blob.Meta{ContentType: "text/plain; charset=utf-8"}

// lazy opens a reader when it is first read and closes it at its end, so that joining many pieces holds one open.
type lazy struct {
	open func() (io.ReadCloser, error)
	r    io.ReadCloser
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.r == nil {
		r, err := l.open()
		if err != nil {
			return 0, err
		}
		l.r = r
	}
	n, err := l.r.Read(p)
	if err != nil {
		_ = l.r.Close() // only read
	}
	return n, err
}
