package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// imageBuilds: one holder at a time, whose end counts once; a failed one is wanted again.
func (e *exam) imageBuilds(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	want := func(created int64) {
		write(t, s, func(ctx context.Context, tx *store.Tx) error {
			return tx.WantImageBuild(ctx, store.ImageBuild{WorkspaceID: "w", Hash: "h", Place: "p", Recipe: []byte(`{"a":1}`), Created: created})
		})
	}
	begin := func(holder string, ttl time.Duration) (epoch int64, ok bool) {
		write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
			epoch, ok, err = tx.BeginImageBuild(ctx, "w", "h", holder, "log/"+holder, ttl, 11)
			return err
		})
		return epoch, ok
	}
	row := func() store.ImageBuild { return must[store.ImageBuild](t)(s.ImageBuild(ctx, "w", "h")) }
	due := func() int { return len(must[[]store.ImageBuild](t)(s.DueImageBuilds(ctx, 10))) }

	want(5)
	want(6) // it is wanted already
	if d := cmp.Diff(store.ImageBuild{WorkspaceID: "w", Hash: "h", Place: "p", Recipe: []byte(`{"a":1}`), Phase: store.ImageWanted, Created: 5, LastUsed: 5}, row()); d != "" {
		t.Error(d)
	}
	if due() != 1 {
		t.Error("what is wanted is not due")
	}
	first, ok := begin("one", time.Hour)
	if _, again := begin("two", time.Hour); !ok || again || due() != 0 {
		t.Errorf("two servers build: %v %v", ok, again)
	}
	held := func(holder string, epoch int64) (held, stop bool) {
		write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
			held, stop, err = tx.RenewImageBuild(ctx, store.ImageBuild{WorkspaceID: "w", Hash: "h", Holder: holder, Epoch: epoch}, -time.Hour)
			return err
		})
		return held, stop
	}
	if ok, stop := held("one", first); !ok || stop {
		t.Errorf("renewed: %v, stop %v", ok, stop)
	}
	// It is silent now.
	second, ok := begin("two", time.Hour)
	if ok2, _ := held("one", first); !ok || ok2 || second <= first {
		t.Errorf("epochs %d, %d, begun %v, kept %v", first, second, ok, ok2)
	}
	end := func(b store.ImageBuild, pause time.Duration) (changed bool) {
		b.WorkspaceID, b.Hash, b.Ended = "w", "h", 20
		write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
			changed, err = tx.EndImageBuild(ctx, b, pause)
			return err
		})
		return changed
	}
	problem := &workspace.Problem{Code: "C", Message: "m"}
	if end(store.ImageBuild{Holder: "one", Epoch: first, Phase: store.ImageReady}, 0) || !end(store.ImageBuild{Holder: "two", Epoch: second, Phase: store.ImageWanted, Problem: problem}, time.Hour) {
		t.Error("the end of another holder counts, or one's own does not")
	}
	if b := row(); b.Phase != store.ImageWanted || b.Tries != 2 || due() != 0 {
		t.Errorf("after a pause is asked for: %+v, due %d", b, due())
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.CancelImageBuild(ctx, "w", "h", 30) })
	if b := row(); b.Phase != store.ImageCanceled || b.Ended != 30 {
		t.Errorf("canceled while nobody is at it: %+v", b)
	}
	want(40)
	third, ok := begin("one", time.Hour)
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.CancelImageBuild(ctx, "w", "h", 41) })
	if kept, stop := held("one", third); !ok || !kept || !stop {
		t.Errorf("its holder is not asked to end: begun %v, kept %v, stop %v", ok, kept, stop)
	}
	end(store.ImageBuild{Holder: "one", Epoch: third, Phase: store.ImageReady, Image: "i", Digest: "d"}, 0)
	want(50) // it is ready
	if b := row(); b.Phase != store.ImageReady || b.Image != "i" || b.Digest != "d" || b.Log != "log/one" || b.Created != 40 {
		t.Errorf("ready: %+v", b)
	}
	e.imageBuildUse(t, s)
}

// imageBuildUse: a use is noted to the hour, an image that is gone is wanted again, and what nobody uses goes.
func (e *exam) imageBuildUse(t *testing.T, s *store.Store) {
	hour := store.UseGrain.Milliseconds()
	use := func(at int64) int64 {
		write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.UseImageBuild(ctx, "w", "h", at) })
		return must[store.ImageBuild](t)(s.ImageBuild(t.Context(), "w", "h")).LastUsed
	}
	if a, b := use(40+hour), use(41+hour); a != 40 || b != 41+hour {
		t.Errorf("last use %d, then %d", a, b)
	}
	var gone []store.ImageBuild
	remove := func(before int64) int {
		write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
			gone, err = tx.DeleteImageBuilds(ctx, before)
			return err
		})
		return len(gone)
	}
	if n := remove(41 + hour); n != 0 {
		t.Errorf("%d rows in use went", n)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		return tx.LoseImageBuild(ctx, store.ImageBuild{WorkspaceID: "w", Hash: "h", Digest: "another"}, 60)
	})
	if list := must[[]store.ImageBuild](t)(s.ImageBuilds(t.Context(), "w", store.Page{})); len(list) != 1 || list[0].Phase != store.ImageReady {
		t.Errorf("another image was lost: %+v", list)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		return tx.LoseImageBuild(ctx, store.ImageBuild{WorkspaceID: "w", Hash: "h", Digest: "d"}, 60)
	})
	if n := remove(1 << 60); n != 0 {
		t.Errorf("%d wanted rows went", n)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.CancelImageBuild(ctx, "w", "h", 70) })
	if n := remove(1 << 60); n != 1 || gone[0].Log != "log/one" {
		t.Errorf("%d rows went: %+v", n, gone)
	}
}
