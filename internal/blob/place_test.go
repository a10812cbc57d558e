package blob_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moorage-ml/moorage/internal/blob"
)

func TestEachVersionHasAnETagOfItsOwn(t *testing.T) {
	d := disk(t, t.TempDir())
	seen := map[string]bool{}
	for range 200 { // of one size, faster than file systems' clocks tick
		info, err := d.Put(t.Context(), "a", strings.NewReader("x"), 1, blob.Meta{})
		if err != nil {
			t.Fatal(err)
		}
		if seen[info.ETag] {
			t.Fatalf("ETag %s was given before", info.ETag)
		}
		seen[info.ETag] = true
	}
}

func TestPutAndDeleteOfNeighboursDoNotHarmEachOther(t *testing.T) {
	d := disk(t, t.TempDir())
	var wg sync.WaitGroup
	for _, name := range []string{"x/y/z/a", "x/y/z/b", "x/y/c"} {
		wg.Go(func() {
			for range 100 {
				if _, err := d.Put(t.Context(), name, strings.NewReader("v"), 1, blob.Meta{ContentType: "text/plain"}); err != nil {
					t.Errorf("put %s: %v", name, err)
				}
				if err := d.Delete(t.Context(), name); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("delete %s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestFolderWithoutBlobsIsNotListed(t *testing.T) {
	dir := t.TempDir()
	d := disk(t, dir)
	if _, err := d.Put(t.Context(), "a/b/c", strings.NewReader("v"), 1, blob.Meta{}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "names", "a", "empty", "deeper"), 0o700); err != nil { // as a crash leaves it
		t.Fatal(err)
	}
	page, err := d.List(t.Context(), "a/", "/", "", 0)
	if err != nil || len(page.Prefixes) != 1 || page.Prefixes[0] != "a/b/" {
		t.Errorf("prefixes %q, %v", page.Prefixes, err)
	}
}
