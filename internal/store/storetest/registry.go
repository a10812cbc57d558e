package storetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// upload stores an upload of two parts.
func upload(t *testing.T, s *store.Store, in store.Repository, place string) (u store.RegistryUpload) {
	t.Helper()
	write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
		u = store.RegistryUpload{Repository: in, Hash: []byte{0}}
		if u.ID, err = tx.InsertRegistryUpload(ctx, u); err != nil {
			return err
		}
		if err := tx.AddRegistryPart(ctx, u, store.RegistryPart{Place: place + "/0", Size: 3}, []byte{1}); err != nil {
			return err
		}
		u.Size, u.Parts = 3, 1
		if err := tx.AddRegistryPart(ctx, u, store.RegistryPart{Place: place + "/1", Size: 4}, []byte{2}); err != nil {
			return err
		}
		u.Size, u.Parts, u.Hash = 7, 2, []byte{2}
		return nil
	})
	return u
}

// finish makes an upload a blob.
func finish(t *testing.T, s *store.Store, u store.RegistryUpload, digest string, keep time.Duration) (needless []string) {
	t.Helper()
	write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
		needless, err = tx.FinishRegistryUpload(ctx, u, digest, keep)
		return err
	})
	return needless
}

func (e *exam) registryUploads(t *testing.T) {
	s, ctx, in := e.open(t), t.Context(), store.Repository{WorkspaceID: "w", Name: "r"}
	u := upload(t, s, in, "p")
	if d := cmp.Diff(u, must[store.RegistryUpload](t)(s.RegistryUpload(ctx, in, u.ID))); d != "" {
		t.Error(d)
	}
	if _, err := s.RegistryUpload(ctx, store.Repository{WorkspaceID: "x", Name: "r"}, u.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another workspace sees the upload: %v", err)
	}
	stale := u
	stale.Size, stale.Parts = 3, 1
	for what, fn := range map[string]func(tx *store.Tx) error{
		"a part": func(tx *store.Tx) error {
			return tx.AddRegistryPart(ctx, stale, store.RegistryPart{Place: "q", Size: 1}, nil)
		},
		"the end": func(tx *store.Tx) error { _, err := tx.FinishRegistryUpload(ctx, stale, "d", 0); return err },
	} {
		if err := s.Write(ctx, fn); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of an older view: %v", what, err)
		}
	}
	if needless := finish(t, s, u, "d", time.Hour); len(needless) != 0 {
		t.Errorf("bytes of a new blob are needless: %v", needless)
	}
	if needless := finish(t, s, upload(t, s, in, "again"), "d", time.Hour); !slices.Equal(slices.Sorted(slices.Values(needless)), []string{"again/0", "again/1"}) {
		t.Errorf("needless bytes of a known blob: %v", needless)
	}
	b := must[store.RegistryBlob](t)(s.RegistryBlob(ctx, in, "d"))
	if b.Size != 7 || b.Owner != u.ID || b.Pinned <= 0 || b.Pinned > time.Hour.Milliseconds() {
		t.Errorf("%+v", b)
	}
	if d := cmp.Diff([]store.RegistryPart{{Place: "p/0", Size: 3}, {Place: "p/1", Size: 4}}, must[[]store.RegistryPart](t)(s.RegistryParts(ctx, b.Owner))); d != "" {
		t.Error(d)
	}
	if unknown := must[[]string](t)(s.UnknownRegistryPlaces(ctx, []string{"p/0", "again/0", "p/1"})); !slices.Equal(unknown, []string{"again/0"}) {
		t.Errorf("unknown places %v", unknown)
	}
}

func (e *exam) registrySweep(t *testing.T) {
	s, in := e.open(t), store.Repository{WorkspaceID: "w", Name: "r"}
	other := store.Repository{WorkspaceID: "w", Name: "s"}
	finish(t, s, upload(t, s, in, "pinned"), "pinned", time.Hour)
	finish(t, s, upload(t, s, in, "named"), "named", -time.Hour)
	finish(t, s, upload(t, s, in, "needless"), "needless", -time.Hour)
	finish(t, s, upload(t, s, in, "shared"), "shared", -time.Hour)
	old := upload(t, s, in, "stopped")
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.MountRegistryBlob(ctx, store.Repository{WorkspaceID: "x", Name: "r"}, "", "shared", time.Hour); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a blob of another workspace was mounted: %v", err)
		}
		if b, err := tx.MountRegistryBlob(ctx, other, "r", "shared", time.Hour); err != nil || b.Size != 7 {
			t.Errorf("%+v, %v", b, err)
		}
		return tx.PutRegistryManifest(ctx, in, store.RegistryManifest{Digest: "m", Subject: "x", Content: []byte("m")}, []string{"named", "child"}, -time.Hour)
	})
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		n, err := tx.SweepRegistryLinks(ctx, in)
		if err != nil || n != 2 {
			t.Errorf("%d blobs were taken out: %v", n, err)
		}
		blobs, places, err := tx.SweepRegistryBlobs(ctx, 10)
		if err != nil || len(blobs) != 1 || blobs[0].Digest != "needless" || blobs[0].Size != 7 || len(places) != 2 {
			t.Errorf("swept %+v at %v: %v", blobs, places, err)
		}
		if uploads, _, err := tx.SweepRegistryUploads(ctx, time.Hour, 10); err != nil || len(uploads) != 0 {
			t.Errorf("young uploads were swept: %v, %v", uploads, err)
		}
		uploads, places, err := tx.SweepRegistryUploads(ctx, -time.Hour, 10)
		if err != nil || !slices.Equal(uploads, []string{old.ID}) || len(places) != 2 {
			t.Errorf("swept uploads %v at %v: %v", uploads, places, err)
		}
		return nil
	})
}

func (e *exam) registryManifests(t *testing.T) {
	s, ctx, in := e.open(t), t.Context(), store.Repository{WorkspaceID: "w", Name: "r"}
	want := store.RegistryManifest{Digest: "a", MediaType: "m", ArtifactType: "t", Subject: "b", Annotations: []byte(`{"k":"v"}`), Size: 3, Content: []byte("abc")}
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.InsertWorkspace(ctx, workspace.Workspace{ID: "w"}); err != nil {
			return err
		}
		for _, tag := range []string{"b", "_", "B", "a"} {
			if err := tx.PutRegistryTag(ctx, in, tag, "a"); err != nil {
				return err
			}
		}
		return errors.Join(tx.PutRegistryManifest(ctx, in, want, []string{"x"}, time.Hour), tx.PutRegistryManifest(ctx, in, store.RegistryManifest{Digest: "b", Content: []byte{}}, []string{"a"}, -time.Hour))
	})
	same := cmpopts.IgnoreFields(store.RegistryManifest{}, "Pinned")
	for what, got := range map[string]store.RegistryManifest{
		"by digest": must[store.RegistryManifest](t)(s.RegistryManifest(ctx, in, "a")), "by tag": must[store.RegistryManifest](t)(s.RegistryTagged(ctx, in, "B")),
	} {
		if d := cmp.Diff(want, got, same); d != "" || got.Pinned <= 0 {
			t.Errorf("%s: %s, pinned for %d", what, d, got.Pinned)
		}
	}
	tags := must[[]string](t)(s.RegistryTags(ctx, in, store.Page{Limit: 3}))
	tags = append(tags, must[[]string](t)(s.RegistryTags(ctx, in, store.Page{After: tags[2], Limit: 3}))...)
	if !slices.Equal(tags, []string{"B", "_", "a", "b"}) {
		t.Errorf("tags %v are not in byte order", tags)
	}
	list := must[[]store.RegistryManifest](t)(s.RegistryReferrers(ctx, in, "b", "t", store.Page{}))
	if len(list) != 1 || list[0].Digest != "a" || list[0].Content != nil || string(list[0].Annotations) != `{"k":"v"}` {
		t.Errorf("referrers %+v", list)
	}
	if list := must[[]store.RegistryManifest](t)(s.RegistryReferrers(ctx, in, "b", "other", store.Page{})); len(list) != 0 {
		t.Errorf("referrers of another type %+v", list)
	}
	nodes, edges, err := s.RegistryGraph(ctx, in)
	if d := cmp.Diff([]store.RegistryNode{{Digest: "a", Subject: "b", Root: true}, {Digest: "b"}}, nodes); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	if d := cmp.Diff([]store.RegistryEdge{{Manifest: "b", Digest: "a"}}, edges); d != "" {
		t.Error(d)
	}
	if missing := must[[]string](t)(s.MissingForManifest(ctx, in, []string{"a", "z"}, false)); !slices.Equal(missing, []string{"z"}) {
		t.Errorf("missing %v", missing)
	}
	if names := must[[]string](t)(s.Repositories(ctx, "w", store.Page{})); !slices.Equal(names, []string{"r"}) {
		t.Errorf("repositories %v", names)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.DeleteRegistryManifest(ctx, in, "a") })
	if _, err := s.RegistryTagged(ctx, in, "B"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a tag outlived its manifest: %v", err)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.DeleteWorkspace(ctx, "w") })
	if there := must[bool](t)(s.HasRepository(ctx, in)); there {
		t.Error("a repository outlived its workspace")
	}
}
