package reconcile

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/image"
	"github.com/moorage-ml/moorage/internal/snapshot"
)

var textLog = blob.Meta{ContentType: "text/plain; charset=utf-8"}

// treeSource is a snapshot as the source of a build.
type treeSource struct {
	cas  *blob.CAS
	root snapshot.Hash
}

var _ image.Source = treeSource{}

// Key is the snapshot's hash.
func (s treeSource) Key(context.Context) (string, error) { return string(s.root), nil }

// Tar writes the snapshot in its own order.
func (s treeSource) Tar(ctx context.Context, w io.Writer) error {
	t := tar.NewWriter(w)
	if err := s.folder(ctx, t, s.root, ""); err != nil {
		return err
	}
	return t.Close()
}

// sourceTime is the time of all files: equal snapshots are equal bytes.
var sourceTime = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

func (s treeSource) folder(ctx context.Context, t *tar.Writer, hash snapshot.Hash, at string) error {
	tree, err := s.cas.Tree(ctx, hash)
	if err != nil {
		return fmt.Errorf("reconcile: build context: %w", err)
	}
	for _, e := range tree {
		name := path.Join(at, e.Name)
		h := &tar.Header{Name: name, Mode: 0o644, ModTime: sourceTime}
		if e.Exec {
			h.Mode = 0o755
		}
		switch e.Kind {
		case snapshot.Folder:
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
			if err = t.WriteHeader(h); err == nil {
				err = s.folder(ctx, t, e.Hash, name)
			}
		case snapshot.Link:
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.Target, 0o777
			err = t.WriteHeader(h)
		default:
			h.Typeflag, h.Size = tar.TypeReg, e.Size
			if err = t.WriteHeader(h); err == nil {
				err = s.file(ctx, t, e.Hash)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s treeSource) file(ctx context.Context, w io.Writer, hash snapshot.Hash) error {
	r, _, err := s.cas.Open(ctx, hash)
	if err != nil {
		return fmt.Errorf("reconcile: build context: %w", err)
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}
