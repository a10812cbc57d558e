package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/store/storetest"
	"github.com/moorage-ml/moorage/internal/workspace"
)

var repo = store.Repository{WorkspaceID: "w", Name: "a"}

// open gives a registry, and the place of its bytes.
func open(t *testing.T) (*Registry, blob.Store) {
	t.Helper()
	db := storetest.Open(t, "sqlite:"+filepath.Join(t.TempDir(), "m.db"))
	disk, err := blob.NewDisk(t.TempDir())
	must(t, err)
	t.Cleanup(func() { _ = disk.Close() })
	return New(Config{Store: db, Blob: disk, Clock: clock.System()}), disk
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (g *Registry) put(ctx context.Context, in store.Repository, content string) (Digest, error) {
	u, err := g.Begin(ctx, in)
	if err == nil {
		u, err = g.Append(ctx, u, strings.NewReader(content))
	}
	if err != nil {
		return "", err
	}
	digest := DigestOf([]byte(content))
	_, err = g.Finish(ctx, u, digest)
	return digest, err
}

// image keeps an image of one layer under a tag; without one under its digest.
func (g *Registry) image(ctx context.Context, in store.Repository, tag, layer, more string) (manifest Digest, err error) {
	config, err := g.put(ctx, in, "{}")
	if err != nil {
		return "", err
	}
	content, err := g.put(ctx, in, layer)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q},"layers":[{"digest":%q}]%s}`, config, content, more)
	if tag == "" {
		tag = string(DigestOf([]byte(text)))
	}
	m, err := g.PutManifest(ctx, in, tag, ociImage, []byte(text))
	return Digest(m.Digest), err
}

func (g *Registry) bytes(ctx context.Context, in store.Repository, d Digest, offset, length int64) (string, error) {
	b, err := g.Blob(ctx, in, d)
	if err != nil {
		return "", err
	}
	r, err := g.Open(ctx, b, offset, length)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), errors.Join(err, r.Close())
}

func TestBlobsInManyPartsReadAsOne(t *testing.T) {
	g, _ := open(t)
	other := New(g.cfg) // another server goes on with what the first began
	g.part, other.part = 100, 70
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, "%d,", i)
	}
	content := b.String()
	u, err := g.Begin(t.Context(), repo)
	must(t, err)
	at := 0
	for i := 0; at < len(content); i++ {
		server, next := []*Registry{g, other}[i%2], min(at+rand.IntN(300), len(content))
		u, err = server.Upload(t.Context(), repo, u.ID)
		must(t, err)
		u, err = server.Append(t.Context(), u, strings.NewReader(content[at:next]))
		must(t, err)
		at = next
	}
	for _, d := range []Digest{DigestOf([]byte(content))} {
		_, err := other.Finish(t.Context(), u, d)
		must(t, err)
		for range 200 {
			from, length := rand.IntN(len(content)), rand.IntN(len(content))
			got, err := g.bytes(t.Context(), repo, d, int64(from), int64(length))
			must(t, err)
			if want := content[from:min(from+length, len(content))]; got != want {
				t.Fatalf("%d bytes from %d: %q, want %q", length, from, got, want)
			}
		}
	}
}

func TestWhatABrokenConnectionBroughtIsKept(t *testing.T) {
	g, _ := open(t)
	g.part = 10
	u, err := g.Begin(t.Context(), repo)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the request is over
	if _, err = g.Append(ctx, u, io.MultiReader(strings.NewReader("0123456789abc"), iotest.ErrReader(io.ErrUnexpectedEOF))); !errors.Is(err, &workspace.Problem{Code: "UploadBrokeOff"}) {
		t.Error(err)
	}
	u, err = g.Upload(t.Context(), repo, u.ID)
	must(t, err)
	if u.Size != 13 || u.Parts != 2 {
		t.Fatalf("%d bytes in %d parts are kept", u.Size, u.Parts)
	}
	u, err = g.Append(t.Context(), u, strings.NewReader("d"))
	must(t, err)
	_, err = g.Finish(t.Context(), u, DigestOf([]byte("0123456789abcd")))
	must(t, err)
}

func TestOfTwoWhoSendTheSameChunkOneIsRefused(t *testing.T) {
	g, disk := open(t)
	u, err := g.Begin(t.Context(), repo)
	must(t, err)
	_, err = g.Append(t.Context(), u, strings.NewReader("once"))
	must(t, err)
	if _, err := g.Append(t.Context(), u, strings.NewReader("twice")); !errors.Is(err, &workspace.Problem{Code: "UploadUnknown"}) {
		t.Error(err)
	}
	if _, err := g.Finish(t.Context(), u, DigestOf(nil)); err == nil { // u is from before
		t.Error("an old view of an upload was finished")
	}
	if n := count(t, disk); n != 1 {
		t.Errorf("%d blobs lie there, want 1", n)
	}
}

func count(t *testing.T, s blob.Store) int {
	t.Helper()
	page, err := s.List(t.Context(), prefix, "", "", 1000)
	must(t, err)
	return len(page.Blobs)
}

func TestWrongBytesEndTheUploadAndLeaveNothing(t *testing.T) {
	g, disk := open(t)
	u, err := g.Begin(t.Context(), repo)
	must(t, err)
	u, err = g.Append(t.Context(), u, strings.NewReader("x"))
	must(t, err)
	if _, err := g.Finish(t.Context(), u, DigestOf([]byte("y"))); !errors.Is(err, &workspace.Problem{Code: "DigestInvalid"}) {
		t.Error(err)
	}
	if _, err := g.Upload(t.Context(), repo, u.ID); !errors.Is(err, &workspace.Problem{Code: "UploadUnknown"}) {
		t.Error(err)
	}
	if n := count(t, disk); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

func TestNamesBeginWithAWorkspace(t *testing.T) {
	g, _ := open(t)
	all := []workspace.Workspace{
		{ID: "id-1", Name: "Main"},
		{ID: "id-2", Name: "Twin", ResourceGroup: "1"},
		{ID: "id-3", Name: "twin", ResourceGroup: "2"},
		{ID: "id-4", Name: "_x"},
	}
	for _, ws := range all {
		must(t, g.cfg.Store.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertWorkspace(t.Context(), ws) }))
	}
	for name, want := range map[string]string{
		"main/a": "id-1 a", "main/a/b.c_d__e---f/0": "id-1 a/b.c_d__e---f/0", "id-1/a": "id-1 a", "id-2/a": "id-2 a", "id-4/a": "id-4 a",
		"twin/a": "NameUnknown", "none/a": "NameUnknown", "Main/a": "NameInvalid", "main": "NameInvalid", "main/": "NameInvalid", "main/a//b": "NameInvalid",
		"main/A": "NameInvalid", "main/a..b": "NameInvalid", "main/a_-b": "NameInvalid", "main/a___b": "NameInvalid", "main/.a": "NameInvalid", "main/a-": "NameInvalid",
		"main/" + strings.Repeat("a", 300): "NameInvalid",
	} {
		in, err := g.Find(t.Context(), name)
		got := in.WorkspaceID + " " + in.Name
		if p, ok := errors.AsType[*workspace.Problem](err); ok {
			got = p.Code
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestSweepTakesWhatNothingLeadsTo(t *testing.T) {
	g, disk := open(t)
	g.keep = -time.Second // what was put may be swept at once
	ctx := t.Context()
	tagged, err := g.image(ctx, repo, "tag", "tagged layer", "")
	must(t, err)
	named, err := g.image(ctx, repo, "", "layer of a job", "")
	must(t, err)
	child, err := g.image(ctx, repo, "", "layer in an index", "")
	must(t, err)
	text := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"digest":%q}]}`, child)
	index, err := g.PutManifest(ctx, repo, "index", ociIndex, []byte(text))
	must(t, err)
	about, err := g.image(ctx, repo, "", "signature", fmt.Sprintf(`,"subject":{"digest":%q}`, child))
	must(t, err)
	needless, err := g.image(ctx, repo, "", "needless layer", "")
	must(t, err)
	_, err = g.image(ctx, repo, "", "signature of nothing", fmt.Sprintf(`,"subject":{"digest":%q}`, needless))
	must(t, err)
	elsewhere := store.Repository{WorkspaceID: "w", Name: "b"}
	if _, ok, err := g.Mount(ctx, elsewhere, "", DigestOf([]byte("needless layer"))); !ok || err != nil {
		t.Fatal(ok, err)
	}
	u, err := g.Begin(ctx, repo)
	must(t, err)
	_, err = g.Append(ctx, u, strings.NewReader("stopped"))
	must(t, err)
	_, err = disk.Put(ctx, prefix+"00/orphan", strings.NewReader("x"), 1, blob.Meta{})
	must(t, err)
	before := count(t, disk)

	need := map[string]bool{string(named): true}
	want := Swept{Manifests: 2, Blobs: 2, Uploads: 1, Bytes: int64(len("needless layer") + len("signature of nothing"))}
	for _, dry := range []bool{true, true, false} {
		got, err := g.Sweep(ctx, need, dry)
		must(t, err)
		if got != want {
			t.Errorf("dry=%v: %+v, want %+v", dry, got, want)
		}
		if n := count(t, disk); dry && n != before {
			t.Errorf("a dry sweep took bytes: %d of %d are left", n, before)
		}
	}
	for _, d := range []Digest{tagged, named, child, Digest(index.Digest), about} {
		if _, err := g.Manifest(ctx, repo, string(d)); err != nil {
			t.Errorf("%s is gone: %v", d, err)
		}
	}
	if n := count(t, disk); n != 5 { // {}, three layers, the signature
		t.Errorf("%d blobs are left, want 5", n)
	}
	must(t, g.DeleteManifest(ctx, repo, "index"))
	must(t, g.DeleteManifest(ctx, repo, "tag"))
	got, err := g.Sweep(ctx, nil, false)
	must(t, err)
	if n := count(t, disk); n != 0 || got.Manifests != 5 {
		t.Errorf("%d blobs are left after %+v", n, got)
	}
}

func TestWhatAClientWasToldIsThereStaysForADay(t *testing.T) {
	g, _ := open(t)
	ctx := t.Context()
	g.keep = -time.Second
	manifest, err := g.image(ctx, repo, "", "layer", "")
	must(t, err)
	layer, err := g.put(ctx, repo, "another")
	must(t, err)
	g.keep = time.Hour
	if _, err := g.Manifest(ctx, repo, string(manifest)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Blob(ctx, repo, layer); err != nil {
		t.Fatal(err)
	}
	got, err := g.Sweep(ctx, nil, false)
	must(t, err)
	if got != (Swept{}) {
		t.Errorf("swept %+v", got)
	}
	if _, err := g.bytes(ctx, repo, DigestOf([]byte("layer")), 0, -1); err != nil {
		t.Error(err)
	}
}

func TestPushesDuringSweepsAreWhole(t *testing.T) {
	g, disk := open(t)
	ctx := t.Context()
	var pushers, sweeper sync.WaitGroup
	done := make(chan struct{})
	sweeper.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := g.Sweep(ctx, nil, false); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for p := range 4 {
		pushers.Go(func() {
			for i := range 20 {
				in := store.Repository{WorkspaceID: "w", Name: fmt.Sprintf("r%d", p)}
				// The layers are the same for all pushers, and their tags move on.
				if _, err := g.image(ctx, in, "t", fmt.Sprintf("layer %d", i/2), ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	pushers.Wait()
	close(done)
	sweeper.Wait()
	for p := range 4 {
		in := store.Repository{WorkspaceID: "w", Name: fmt.Sprintf("r%d", p)}
		if got, err := g.bytes(ctx, in, DigestOf([]byte("layer 9")), 0, -1); err != nil || got != "layer 9" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if n := count(t, disk); n != 11 { // ten layers and the config
		t.Errorf("%d blobs lie there, want 11", n)
	}
}

func TestBytesThatAreGoneAreNotTakenForTheEnd(t *testing.T) {
	g, disk := open(t)
	g.part = 4
	d, err := g.put(t.Context(), repo, "0123456789")
	must(t, err)
	page, err := disk.List(t.Context(), prefix, "", "", 10)
	must(t, err)
	must(t, disk.Delete(t.Context(), page.Blobs[0].Name))
	if got, err := g.bytes(t.Context(), repo, d, 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDigestsAreChecked(t *testing.T) {
	good := []string{"sha256:" + strings.Repeat("0a", 32), "sha512:" + strings.Repeat("0a", 64)}
	for _, text := range append(slices.Clone(good), "", "sha256:", "sha256:"+strings.Repeat("0A", 32), "sha256:"+strings.Repeat("0a", 31), "md5:"+strings.Repeat("0a", 16), "sha512:"+strings.Repeat("0a", 32)) {
		if _, err := ParseDigest(text); (err == nil) != slices.Contains(good, text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(ociImage, []byte(`{"schemaVersion":2,"config":{"digest":"sha256:x"}}`))
	f.Add(ociIndex, []byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:x","urls":["u"]}],"annotations":{"a":"b"}}`))
	f.Fuzz(func(t *testing.T, mediaType string, content []byte) {
		m, blobs, manifests, all, err := parse(mediaType, content)
		if err != nil {
			return
		}
		for _, d := range slices.Concat(blobs, manifests, all) {
			if _, err := ParseDigest(d); err != nil {
				t.Errorf("%q is taken for a digest", d)
			}
		}
		if len(blobs)+len(manifests) > len(all) || m.Size != int64(len(content)) {
			t.Errorf("%d blobs and %d manifests of %d", len(blobs), len(manifests), len(all))
		}
	})
}
