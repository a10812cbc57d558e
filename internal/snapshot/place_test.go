package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// disk is a Source in a folder.
type disk string

func (d disk) Path(h Hash) string { return filepath.Join(string(d), string(h)) }

func (d disk) Tree(h Hash) (Tree, error) {
	b, err := os.ReadFile(d.Path(h))
	if err != nil {
		return nil, err
	}
	return Decode(b)
}

func (d disk) put(t *testing.T, b []byte) Hash {
	t.Helper()
	h := Sum(b)
	if err := os.WriteFile(d.Path(h), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func (d disk) file(t *testing.T, name, content string, exec bool) Entry {
	return Entry{Name: name, Kind: File, Exec: exec, Size: int64(len(content)), Hash: d.put(t, []byte(content))}
}

func (d disk) folder(t *testing.T, name string, entries ...Entry) Entry {
	return Entry{Name: name, Kind: Folder, Hash: d.put(t, Tree(entries).Encode())}
}

// listing is what is in a folder: path, mode and content.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := e.Info()
		if err != nil {
			return err
		}
		content := ""
		switch {
		case e.Type().IsRegular():
			c, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = string(c)
		case e.Type()&fs.ModeSymlink != 0:
			content, err = os.Readlink(path)
		}
		fmt.Fprintf(&b, "%s %s %q\n", rel, info.Mode(), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPlaceMakesFilesModesAndLinks(t *testing.T) {
	d := disk(t.TempDir())
	top := d.folder(t, "", d.file(t, "ä b.txt", "one", false), d.folder(t, "sub", d.file(t, "run", "#!", true), Entry{Name: "up", Kind: Link, Target: "../ä b.txt"}),
		d.folder(t, "empty"))
	dir := filepath.Join(t.TempDir(), "out")
	if err := Place(t.Context(), d, top.Hash, dir, PlaceOptions{}); err != nil {
		t.Fatal(err)
	}
	want := ". drwxr-xr-x \"\"\nempty drwxr-xr-x \"\"\nsub drwxr-xr-x \"\"\nsub/run -rwxr-xr-x \"#!\"\nsub/up Lrwxrwxrwx \"../ä b.txt\"\nä b.txt -rw-r--r-- \"one\"\n"
	if got := listing(t, dir); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if err := Place(t.Context(), d, top.Hash, dir, PlaceOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
}

func TestPlaceRefusesWhatLeadsOutOrIsNotWhole(t *testing.T) {
	d := disk(t.TempDir())
	for _, target := range []string{"../x", "a/../../../x", "..", "../../sub/.."} {
		top := d.folder(t, "", d.folder(t, "sub", Entry{Name: "l", Kind: Link, Target: "../" + target}))
		if err := Place(t.Context(), d, top.Hash, filepath.Join(t.TempDir(), "out"), PlaceOptions{}); err == nil || !strings.Contains(err.Error(), "leads out") {
			t.Errorf("%s: %v", target, err)
		}
	}
	e := d.file(t, "f", "content", false)
	if err := os.WriteFile(d.Path(e.Hash), nil, 0o600); err != nil { // a lost write
		t.Fatal(err)
	}
	if err := Place(t.Context(), d, d.folder(t, "", e).Hash, filepath.Join(t.TempDir(), "out"), PlaceOptions{}); err == nil {
		t.Error("a truncated object was placed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Place(ctx, d, d.folder(t, "", d.file(t, "g", "g", false)).Hash, filepath.Join(t.TempDir(), "out"), PlaceOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// someTree makes a random small tree. Trees of near seeds share much.
func someTree(t *testing.T, d disk, r *rand.Rand, depth int) Tree {
	var out Tree
	for _, name := range []string{"a", "b", "c", "d"} {
		switch n := r.IntN(10); {
		case n < 4:
			out = append(out, d.file(t, name, fmt.Sprint(r.IntN(3)), r.IntN(4) == 0))
		case n < 7 && depth < 3:
			out = append(out, d.folder(t, name, someTree(t, d, r, depth+1)...))
		case n < 8:
			out = append(out, Entry{Name: name, Kind: Link, Target: []string{"a", "b"}[r.IntN(2)]})
		}
	}
	return out
}

func TestPatchIsAsPlacingAnew(t *testing.T) {
	d := disk(t.TempDir())
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		old, want := d.folder(t, "", someTree(t, d, r, 0)...).Hash, d.folder(t, "", someTree(t, d, r, 0)...).Hash
		patched, fresh := filepath.Join(t.TempDir(), "p"), filepath.Join(t.TempDir(), "f")
		if err := errors.Join(
			Place(t.Context(), d, old, patched, PlaceOptions{Idle: true}), Patch(t.Context(), d, old, want, patched), Place(t.Context(), d, want, fresh, PlaceOptions{}),
		); err != nil {
			t.Fatal(err)
		}
		if got, want := listing(t, patched), listing(t, fresh); got != want {
			t.Fatalf("got\n%swant\n%s", got, want)
		}
	}
}
