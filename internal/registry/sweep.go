package registry

import (
	"context"
	"errors"
	"io/fs"

	"github.com/moorage-ml/moorage/internal/store"
)

// Swept is what a sweep found and did.
type Swept struct {
	Manifests int
	Blobs     int
	Uploads   int   // that nobody went on with for a day
	Bytes     int64 // of the blobs
}

// errDry undoes what a dry sweep did.
var errDry = errors.New("registry: dry")

// sweepBatch is how many blobs or uploads one transaction takes away.
const sweepBatch = 500

// Sweep takes away the manifests that no tag, no other manifest and no digest of needed leads to, then the blobs that no
// manifest is made of, and uploads that stopped. What was put or asked for within a day stays. A manifest stays as well
// while the one that it is about does. With dry nothing is removed, only counted. Clients may push meanwhile.
func (g *Registry) Sweep(ctx context.Context, needed map[string]bool, dry bool) (s Swept, err error) {
	repositories, err := g.cfg.Store.AllRepositories(ctx)
	if err != nil {
		return s, err
	}
	if dry {
		err := g.cfg.Store.Write(ctx, func(tx *store.Tx) error {
			s = Swept{} // it may run again
			if err := g.sweepAll(ctx, tx, repositories, needed, &s); err != nil {
				return err
			}
			return errDry
		})
		if errors.Is(err, errDry) {
			err = nil
		}
		return s, err
	}
	for _, in := range repositories {
		var one Swept
		err := g.cfg.Store.Write(ctx, func(tx *store.Tx) error {
			one = Swept{}
			return sweepRepository(ctx, tx, in, needed, &one)
		})
		if err != nil {
			return s, err
		}
		s.Manifests += one.Manifests
	}
	if err := g.sweepBytes(ctx, &s); err != nil {
		return s, err
	}
	return s, g.sweepOrphans(ctx)
}

// sweepAll does in one transaction what Sweep does in many, but for the bytes.
func (g *Registry) sweepAll(ctx context.Context, tx *store.Tx, repositories []store.Repository, needed map[string]bool, s *Swept) error {
	for _, in := range repositories {
		if err := sweepRepository(ctx, tx, in, needed, s); err != nil {
			return err
		}
	}
	for {
		_, more, err := g.sweepRows(ctx, tx, s)
		if err != nil || !more {
			return err
		}
	}
}

// sweepRepository removes the rows of one repository.
func sweepRepository(ctx context.Context, tx *store.Tx, in store.Repository, needed map[string]bool, s *Swept) error {
	nodes, edges, err := tx.RegistryGraph(ctx, in)
	if err != nil {
		return err
	}
	for _, digest := range needless(nodes, edges, needed) {
		if err := tx.DeleteRegistryManifest(ctx, in, digest); err != nil {
			return err
		}
		s.Manifests++
	}
	_, err = tx.SweepRegistryLinks(ctx, in)
	return err
}

// needless lists the manifests to which nothing leads that counts: from an index to its images, and from a manifest to
// those that are about it.
func needless(nodes []store.RegistryNode, edges []store.RegistryEdge, needed map[string]bool) (digests []string) {
	next := map[string][]string{}
	for _, e := range edges {
		next[e.Manifest] = append(next[e.Manifest], e.Digest)
	}
	for _, n := range nodes {
		if n.Subject != "" {
			next[n.Subject] = append(next[n.Subject], n.Digest)
		}
	}
	live := map[string]bool{}
	var open []string
	reach := func(digest string) {
		if !live[digest] {
			live[digest] = true
			open = append(open, digest)
		}
	}
	for _, n := range nodes {
		if n.Root || needed[n.Digest] {
			reach(n.Digest)
		}
	}
	for len(open) > 0 {
		digest := open[len(open)-1]
		open = open[:len(open)-1]
		for _, d := range next[digest] {
			reach(d)
		}
	}
	for _, n := range nodes {
		if !live[n.Digest] {
			digests = append(digests, n.Digest)
		}
	}
	return digests
}

// sweepRows forgets a batch of blobs that no repository has and of uploads that stopped.
func (g *Registry) sweepRows(ctx context.Context, tx *store.Tx, s *Swept) (places []string, more bool, err error) {
	blobs, places, err := tx.SweepRegistryBlobs(ctx, sweepBatch)
	if err != nil {
		return nil, false, err
	}
	for _, b := range blobs {
		s.Blobs++
		s.Bytes += b.Size
	}
	uploads, theirs, err := tx.SweepRegistryUploads(ctx, g.keep, sweepBatch)
	s.Uploads += len(uploads)
	return append(places, theirs...), len(blobs) == sweepBatch || len(uploads) == sweepBatch, err
}

// sweepBytes removes rows and then the bytes, so that no row ever names bytes that are gone.
func (g *Registry) sweepBytes(ctx context.Context, s *Swept) error {
	for {
		var places []string
		var more bool
		var one Swept
		err := g.cfg.Store.Write(ctx, func(tx *store.Tx) (err error) {
			one = Swept{}
			places, more, err = g.sweepRows(ctx, tx, &one)
			return err
		})
		if err != nil {
			return err
		}
		s.Blobs, s.Uploads, s.Bytes = s.Blobs+one.Blobs, s.Uploads+one.Uploads, s.Bytes+one.Bytes
		g.drop(ctx, places)
		if !more {
			return nil
		}
	}
}

// sweepOrphans removes bytes that no row names: of a server that ended between the two. Young ones may be about to get a
// row.
func (g *Registry) sweepOrphans(ctx context.Context) error {
	for after := ""; ; {
		page, err := g.cfg.Blob.List(ctx, prefix, "", after, 1000)
		if err != nil {
			return err
		}
		var old []string
		for _, b := range page.Blobs {
			if g.cfg.Clock.Now().Sub(b.Modified) > g.keep {
				old = append(old, b.Name)
			}
		}
		orphans, err := g.cfg.Store.UnknownRegistryPlaces(ctx, old)
		if err != nil {
			return err
		}
		for _, place := range orphans {
			if err := g.cfg.Blob.Delete(ctx, place); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}
