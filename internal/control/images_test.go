package control

import (
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestDigestsThatJobsAndEnvironmentsNameAreNeeded(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	name := func(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }
	err := r.Store.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.PutDocument(ctx, store.Document{WorkspaceID: r.ws.ID, Collection: environments, Name: "e", Version: "1", Body: []byte(`{"properties":{"image":"host/main/a@` + name("1") + `"}}`)}); err != nil {
			return err
		}
		if err := tx.PutPreparedEnvironment(ctx, store.PreparedEnvironment{ComputeID: "c", Hash: "h", Spec: []byte(`{"image":"a@` + name("2") + `"}`)}); err != nil {
			return err
		}
		if err := tx.WantImageBuild(ctx, store.ImageBuild{WorkspaceID: r.ws.ID, Hash: "h", Recipe: []byte(`{"base":"b@` + name("3") + `"}`)}); err != nil {
			return err
		}
		return tx.InsertJob(ctx, store.Job{ID: "J", WorkspaceID: r.ws.ID, Name: "j", State: workspace.Queued, Spec: []byte(`{"command":"docker pull x@` + name("4") + `"}`)})
	})
	if err != nil {
		t.Fatal(err)
	}
	needed, err := r.digestsNamed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, digit := range []string{"1", "2", "3", "4"} {
		if !needed[name(digit)] {
			t.Errorf("%s is named and not needed", name(digit))
		}
	}
	if len(needed) != 4 {
		t.Errorf("needed: %v", needed)
	}
}

func TestGarbageOfTheRegistryIsCollectedWithTheRest(t *testing.T) {
	r, ctx := newRig(t), t.Context()
	r.Images = registry.New(registry.Config{Store: r.Store, Blob: r.Blob, Clock: r.Clock})
	in := store.Repository{WorkspaceID: r.ws.ID, Name: "a"}
	u, err := r.Images.Begin(ctx, in)
	if err == nil {
		u, err = r.Images.Append(ctx, u, strings.NewReader("layer"))
	}
	if err == nil {
		_, err = r.Images.Finish(ctx, u, registry.DigestOf([]byte("layer")))
	}
	if err != nil {
		t.Fatal(err)
	}
	if g, err := r.CollectGarbage(ctx, r.admin, false); err != nil || g.Bytes != 0 {
		t.Errorf("what was just pushed went: %+v, %v", g, err)
	}
	if err := r.Images.DeleteBlob(ctx, in, registry.DigestOf([]byte("layer"))); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		if g, err := r.CollectGarbage(ctx, r.admin, dry); err != nil || g.Bytes != int64(len("layer")) {
			t.Errorf("dry=%v: %+v, %v", dry, g, err)
		}
	}
	page, err := r.Blob.List(ctx, "oci/", "", "", 10)
	if err != nil || len(page.Blobs) != 0 {
		t.Errorf("left: %v, %v", page.Blobs, err)
	}
}
