package blob

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"path"
	"time"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

// Swept is what a sweep found and did.
type Swept struct {
	Objects, Removed int
	Bytes            int64 // of those removed
}

// young objects are left alone: somebody may be about to name them in a job.
const young = time.Hour

// sweepBatch is how many objects are condemned and removed at a time. A mark of Condemn holds for a minute, after which
// somebody may store the object anew; so what was not removed in half of that is left for the next sweep.
const (
	sweepBatch = 500
	sweepTime  = 30 * time.Second
)

// Sweep removes the objects that no live root reaches and nobody has pinned. With dry nothing is removed, only counted.
// Jobs may be accepted and objects stored meanwhile.
func (c *CAS) Sweep(ctx context.Context, live iter.Seq2[snapshot.Hash, error], dry bool) (Swept, error) {
	marked := map[[32]byte]bool{}
	for root, err := range live {
		if err != nil {
			return Swept{}, err
		}
		if marked[key(root)] {
			continue
		}
		objects, err := c.Closure(ctx, root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Swept{}, err // rather keep too much
		}
		for _, h := range objects {
			marked[key(h)] = true
		}
	}
	var s Swept
	var batch []Info
	after := ""
	for {
		page, err := c.store.List(ctx, casPrefix, "", after, 1000)
		if err != nil {
			return s, err
		}
		for _, info := range page.Blobs {
			s.Objects++
			h := snapshot.Hash(path.Base(info.Name))
			if !h.Valid() || marked[key(h)] || c.clock.Now().Sub(info.Modified) < young {
				continue
			}
			if batch = append(batch, info); len(batch) == sweepBatch {
				if err := c.remove(ctx, batch, dry, &s); err != nil {
					return s, err
				}
				batch = nil
			}
		}
		if after = page.Next; after == "" {
			return s, c.remove(ctx, batch, dry, &s)
		}
	}
}

func (c *CAS) remove(ctx context.Context, batch []Info, dry bool, s *Swept) error {
	if len(batch) == 0 {
		return nil
	}
	sizes := map[string]Info{}
	hashes := make([]string, 0, len(batch))
	for _, info := range batch {
		h := path.Base(info.Name)
		sizes[h] = info
		hashes = append(hashes, h)
	}
	began := c.clock.Now()
	condemned, err := c.pins.Condemn(ctx, hashes)
	if err != nil {
		return err
	}
	for _, h := range condemned {
		if ctx.Err() != nil || c.clock.Now().Sub(began) > sweepTime {
			break
		}
		info := sizes[h]
		if !dry {
			if e := c.store.Delete(ctx, info.Name); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = errors.Join(err, e)
				continue
			}
			c.mu.Lock()
			delete(c.pinned, key(snapshot.Hash(h)))
			delete(c.expected, key(snapshot.Hash(h)))
			delete(c.trees, snapshot.Hash(h))
			c.mu.Unlock()
		}
		s.Removed++
		s.Bytes += info.Size
	}
	return errors.Join(err, ctx.Err(), c.pins.Forget(context.WithoutCancel(ctx), condemned))
}
