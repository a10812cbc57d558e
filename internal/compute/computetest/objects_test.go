package computetest

import (
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

func TestObjectsMakeTreesThatSnapshotReads(t *testing.T) {
	o := &Objects{}
	root := o.AddTree(map[string]Node{
		"b/c/d.txt": {Text: "d"}, "b/x": {Link: "c"}, "a": {Text: "a", Exec: true}, "empty": {Folder: true}, "b/with space": {},
	})
	read := func(h snapshot.Hash) snapshot.Tree {
		t.Helper()
		r, size, err := o.Open(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil || int64(len(b)) != size {
			t.Fatalf("%d bytes of %d: %v", len(b), size, err)
		}
		tree, err := snapshot.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	top := read(root)
	if len(top) != 3 || top[0].Name != "a" || !top[0].Exec || top[1].Name != "b" || top[2].Name != "empty" {
		t.Fatalf("top: %+v", top)
	}
	if b := read(top[1].Hash); len(b) != 3 || b[0].Kind != snapshot.Folder || b[1].Name != "with space" || b[2].Target != "c" {
		t.Errorf("b: %+v", b)
	}
	if empty := read(top[2].Hash); len(empty) != 0 {
		t.Errorf("empty: %+v", empty)
	}
	if _, _, err := o.Open(t.Context(), snapshot.Sum([]byte("other"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}
