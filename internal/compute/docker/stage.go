package docker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// upload streams an archive into a folder of a container that does not run.
func (t *Target) upload(ctx context.Context, id, folder string, fill func(*archive) error) error {
	r, w := io.Pipe()
	var wg sync.WaitGroup
	var made error
	wg.Go(func() {
		a := newArchive(w)
		made = fill(a)
		if made == nil {
			made = a.Close()
		}
		_ = w.CloseWithError(made)
	})
	_, err := t.engine.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: folder, Content: r})
	_ = r.CloseWithError(err)
	wg.Wait()
	if err == nil || isOwn(made) {
		err = made
	}
	return err
}

// isOwn tells that an error is about the server's objects and not about the engine.
func isOwn(err error) bool {
	_, ok := errors.AsType[*compute.Error](err)
	return ok
}

// archive writes files. Everything in it belongs to root.
type archive struct {
	*tar.Writer
	seen map[string]bool
}

func newArchive(w io.Writer) *archive {
	return &archive{Writer: tar.NewWriter(w), seen: map[string]bool{}}
}

// folders adds folders that were not added before, each after its parent.
func (a *archive) folders(names ...string) error {
	for _, name := range names {
		if a.seen[name] {
			continue
		}
		a.seen[name] = true
		if err := a.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(name, "/") + "/", Mode: 0o700}); err != nil {
			return err
		}
	}
	return nil
}

func (a *archive) file(name string, mode, size int64, r io.Reader) error {
	if err := a.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: size}); err != nil {
		return err
	}
	n, err := io.Copy(a.Writer, io.LimitReader(r, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func incomplete(h snapshot.Hash, err error) error {
	kind := compute.ErrUnreachable
	if errors.Is(err, fs.ErrNotExist) {
		kind = compute.ErrInvalid
	}
	return &compute.Error{Kind: kind, Err: err, Problem: workspace.Problem{
		Class: workspace.Invalid, Code: "SnapshotIncomplete", Message: "the job's files cannot be read at the server",
		Cause: fmt.Sprintf("object %.12s: %v", h, err), Mend: "submit the job again, so that its folder is sent anew",
	}}
}
