package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// collector takes garbage away now and then. Of several servers on one store, the one with the lease does it.
type collector struct {
	control *control.Control
	store   *store.Store
	holder  string
	who     workspace.Principal
	log     *slog.Logger
}

const (
	firstCollection  = 10 * time.Minute
	collectionEvery  = time.Hour
	collectionsLease = "sweep" // beside the leases of computes, whose names are ULIDs
)

// run collects until ctx ends.
func (g *collector) run(ctx context.Context) {
	for wait := firstCollection; ; wait = collectionEvery {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			g.once(ctx)
		case <-ctx.Done():
			timer.Stop()
			g.letGo()
			return
		}
	}
}

// once collects, if this server has the lease or gets it. It keeps it beyond the next time, so that the same server goes
// on while it lives.
func (g *collector) once(ctx context.Context) {
	var ours bool
	err := g.store.Write(ctx, func(tx *store.Tx) (err error) {
		_, ours, err = tx.Acquire(ctx, collectionsLease, g.holder, collectionEvery+firstCollection)
		return err
	})
	if err == nil && !ours {
		return
	}
	var found control.Garbage
	if err == nil {
		found, err = g.control.CollectGarbage(ctx, g.who, false)
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		g.log.Warn("garbage could not be collected; it is tried again in an hour", "error", err)
	case found.Jobs+found.Removed+found.Images > 0 || found.Bytes > 0:
		g.log.Info("garbage collected", "jobs", found.Jobs, "objects", found.Removed, "images", found.Images, "bytes", found.Bytes)
	}
}

func (g *collector) letGo() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := g.store.Write(ctx, func(tx *store.Tx) error { return tx.ReleaseLease(ctx, collectionsLease, g.holder) })
	if err != nil {
		g.log.Debug("the lease of garbage collection runs out by itself", "error", err)
	}
}
