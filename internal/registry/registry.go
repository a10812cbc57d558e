// Package registry keeps container images, and whatever else the OCI distribution specification 1.1 lets clients keep
// beside them: blobs and manifests by their digest, in repositories. It knows no HTTP. Package api/registry serves it,
// control lets it sweep, and server wires it.
//
// A repository belongs to a workspace, whose name (or id) is the first part of the repository's: main/train. Who may
// reach a workspace is decided by the caller.
//
// Bytes do not go to blob.CAS, though both are found by their SHA-256. A client that streams a layer names its digest
// last, and no place of blobs can rename: the bytes would be written twice. Here an upload's bytes stay where they came
// to lie, in parts, and the digest becomes a row that leads to them. Rows also tell what is needed, so no manifest has
// to be read to sweep.
package registry

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is what a Registry is made of.
type Config struct {
	Store *store.Store
	Blob  blob.Store
	Clock clock.Source
}

// Registry keeps images. It is safe for concurrent use, by several servers on one store too.
type Registry struct {
	cfg  Config
	part int64         // bytes
	keep time.Duration // how long what was put, and what a client was told is there, stays without anything that needs it
}

// New makes a Registry. It does no I/O.
func New(cfg Config) *Registry { return &Registry{cfg, partSize, 24 * time.Hour} }

// prefix is where in the blob store the bytes lie.
const prefix = "oci/"

// place is a fresh name for bytes.
func (g *Registry) place() string {
	id := g.cfg.Clock.NewID()
	return prefix + strings.ToLower(id[len(id)-2:]) + "/" + id
}

// drop removes bytes that no row names any more. What fails is found by the sweep.
func (g *Registry) drop(ctx context.Context, places []string) {
	for _, p := range places {
		_ = g.cfg.Blob.Delete(context.WithoutCancel(ctx), p)
	}
}

// Blob tells of a blob, and keeps it for a day: the client will not send it again. Not there: a Problem BlobUnknown.
func (g *Registry) Blob(ctx context.Context, in store.Repository, digest Digest) (store.RegistryBlob, error) {
	b, err := g.cfg.Store.RegistryBlob(ctx, in, string(digest))
	if err == nil && b.Pinned < g.keep.Milliseconds()/2 {
		err = g.cfg.Store.Write(ctx, func(tx *store.Tx) error { return tx.PinRegistryBlob(ctx, in, string(digest), g.keep) })
	}
	return b, unknownBlob(err, digest)
}

// Open reads length bytes of a blob from offset on; -1 is to the end. An offset after the end gives no bytes.
func (g *Registry) Open(ctx context.Context, b store.RegistryBlob, offset, length int64) (io.ReadCloser, error) {
	parts, err := g.cfg.Store.RegistryParts(ctx, b.Owner)
	if err != nil {
		return nil, err
	}
	if length < 0 || offset+length > b.Size {
		length = max(b.Size-offset, 0)
	}
	return &sequence{ctx: ctx, blobs: g.cfg.Blob, parts: parts, skip: offset, left: length}, nil
}

// DeleteBlob takes a blob out of a repository, at once. Its bytes go with the sweep, unless another repository has them.
func (g *Registry) DeleteBlob(ctx context.Context, in store.Repository, digest Digest) error {
	err := g.cfg.Store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteRegistryBlob(ctx, in, string(digest)) })
	return unknownBlob(err, digest)
}

// Mount puts a blob into a repository that another one of the same workspace has; from names that, or none in
// particular. ok is false when there is none, and the client has to send it.
func (g *Registry) Mount(ctx context.Context, in store.Repository, from string, digest Digest) (b store.RegistryBlob, ok bool, err error) {
	err = g.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
		b, err = tx.MountRegistryBlob(ctx, in, from, string(digest), g.keep)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return b, false, nil
	}
	return b, err == nil, err
}

func unknownBlob(err error, digest Digest) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return &workspace.Problem{
		Class: workspace.NotFound, Code: "BlobUnknown", Target: string(digest), Message: "the repository has no blob " + string(digest), Mend: "push it first",
	}
}

// sequence reads bytes that lie in parts one after the other.
type sequence struct {
	ctx   context.Context //nolint:containedctx // of the one request that reads
	blobs blob.Store
	parts []store.RegistryPart
	skip  int64 // bytes of parts[0] that are left out or were read
	left  int64
	open  io.ReadCloser // of parts[0]
}

// Read opens the next part when it comes to it. A part that is shorter than it was is io.ErrUnexpectedEOF.
func (s *sequence) Read(p []byte) (int, error) {
	for s.left > 0 && len(s.parts) > 0 {
		if part := s.parts[0]; s.skip >= part.Size {
			s.skip -= part.Size
			s.parts = s.parts[1:]
			if err := s.Close(); err != nil {
				return 0, err
			}
			continue
		}
		if s.open == nil {
			r, _, err := s.blobs.Get(s.ctx, s.parts[0].Place, s.skip, -1)
			if err != nil {
				return 0, err
			}
			s.open = r
		}
		n, err := s.open.Read(p[:min(int64(len(p)), s.left)])
		s.skip += int64(n)
		s.left -= int64(n)
		if errors.Is(err, io.EOF) {
			err = nil
			if n == 0 {
				err = io.ErrUnexpectedEOF
			}
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	if s.left > 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return 0, io.EOF
}

// Close closes the part that is open.
func (s *sequence) Close() error {
	if s.open == nil {
		return nil
	}
	r := s.open
	s.open = nil
	return r.Close()
}
