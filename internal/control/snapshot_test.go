package control

import (
	"archive/zip"
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/snapshot"
)

// project is a folder as a client knows it: contents by path. A path that ends in a slash is a folder.
type project map[string]string

// tree is the client's tree of the project; hashes are the contents themselves.
func (p project) tree() *SnapshotNode {
	root := EmptySnapshot()
	for name, content := range p {
		at := root
		parts := strings.Split(strings.TrimSuffix(name, "/"), "/")
		for i, part := range parts {
			if at.Children[part] == nil {
				at.Children[part] = &SnapshotNode{Name: part, Type: "Directory", Children: map[string]*SnapshotNode{}}
			}
			at = at.Children[part]
			if i == len(parts)-1 && !strings.HasSuffix(name, "/") {
				at.Type, at.Hash = "File", content
			}
		}
	}
	return root
}

// put uploads the named files of a project and puts a snapshot of all of it.
func (r *rig) put(name, parent string, p project, send ...string) error {
	r.Helper()
	container := r.NewUpload()
	s := NewSnapshot{Parent: parent, Root: p.tree()}
	for i, file := range send {
		at := container + "/" + strconv.Itoa(i)
		if _, err := r.Blob.Put(r.Context(), "c/"+at, strings.NewReader(p[file]), int64(len(p[file])), blob.Meta{}); err != nil {
			r.Fatal(err)
		}
		s.Files = append(s.Files, SnapshotFile{Name: file, Blob: at, Size: int64(len(p[file]))})
	}
	return r.PutSnapshot(r.Context(), r.admin, r.ws, name, s)
}

// content unzips a snapshot.
func (r *rig) content(name string) project {
	r.Helper()
	var b bytes.Buffer
	if err := r.ZipSnapshot(r.Context(), r.ws, name, &b); err != nil {
		r.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		r.Fatal(err)
	}
	p := project{}
	for _, f := range z.File {
		in, err := f.Open()
		if err != nil {
			r.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			r.Fatal(err)
		}
		p[f.Name] = string(text)
	}
	return p
}

func (r *rig) holds(name string, want project) {
	r.Helper()
	got := r.content(name)
	for file, content := range want {
		if strings.HasSuffix(file, "/") {
			continue
		}
		if got[file] != content {
			r.Errorf("snapshot %s holds %q in %s, and not %q", name, got[file], file, content)
		}
		delete(got, file)
	}
	if len(got) > 0 {
		r.Errorf("snapshot %s holds more than it should: %v", name, got)
	}
}

func TestASnapshotIsWhatItsTreeSays(t *testing.T) {
	r := newRig(t)
	first := project{"train.py": "print(1)", "lib/a.py": "a", "lib/deep/b.py": "b", "empty/": ""}
	if err := r.put("one", NoSnapshot, first, "train.py", "lib/a.py", "lib/deep/b.py"); err != nil {
		t.Fatal(err)
	}
	r.holds("one", first)
	second := project{"train.py": "print(2)", "lib/deep/b.py": "b", "größe.txt": "c"} // lib/a.py is gone
	if err := r.put("two", "one", second, "train.py", "größe.txt"); err != nil {
		t.Fatal(err)
	}
	r.holds("two", second)
	r.holds("one", first)
	name, root, err := r.LatestSnapshot(t.Context(), r.ws)
	if err != nil || name != "two" || root.Children["train.py"].Hash != "print(2)" {
		t.Errorf("the latest is %s %+v: %v", name, root, err)
	}
	if err := r.put("two", "one", project{}); err != nil {
		t.Errorf("the same snapshot once more: %v", err)
	}
	r.holds("two", second)
}

func TestASnapshotLiesWithAllOtherCode(t *testing.T) {
	r := newRig(t)
	tree := snapshot.Tree{{Name: "a.py", Kind: snapshot.File, Size: 1, Hash: snapshot.Sum([]byte("a"))}}
	if err := r.put("one", "", project{"a.py": "a"}, "a.py"); err != nil {
		t.Fatal(err)
	}
	if missing, err := r.CAS.Complete(t.Context(), snapshot.Sum(tree.Encode())); err != nil || len(missing) > 0 {
		t.Errorf("the command line would send it again: %v %v", missing, err)
	}
	left, err := r.Blob.List(t.Context(), "c/code-", "", "", 10)
	if err != nil || len(left.Blobs) > 0 {
		t.Errorf("the upload is still there: %+v %v", left.Blobs, err)
	}
	if _, err := r.CollectGarbage(t.Context(), r.admin, false); err != nil {
		t.Fatal(err)
	}
	r.holds("one", project{"a.py": "a"})
}

func TestASnapshotThatCannotBeMadeIsRefused(t *testing.T) {
	r := newRig(t)
	if err := r.put("one", "", project{"a.py": "a"}, "a.py"); err != nil {
		t.Fatal(err)
	}
	p := r.refused(r.put("two", "gone", project{"a.py": "a"}), "SnapshotNotFound")
	if !strings.Contains(p.Mend, "/latestsnapshot") {
		t.Errorf("it does not say what to remove: %s", p.Mend)
	}
	r.refused(r.put("two", "one", project{"a.py": "changed"}), "IncompleteSnapshot")
	r.refused(r.put("two", "one", project{"b.py": "a"}), "IncompleteSnapshot")
	r.refused(r.put("two", "", project{"..": "a"}, ".."), "InvalidSnapshot")
	elsewhere := NewSnapshot{Root: project{"a.py": "a"}.tree(), Files: []SnapshotFile{{Name: "a.py", Blob: "azureml-blobstore-x/a.py"}}}
	r.refused(r.PutSnapshot(t.Context(), r.admin, r.ws, "two", elsewhere), "InvalidSnapshot")
	short := NewSnapshot{Root: project{"a.py": "a"}.tree(), Files: []SnapshotFile{{Name: "a.py", Blob: r.NewUpload() + "/0", Size: 1}}}
	r.refused(r.PutSnapshot(t.Context(), r.admin, r.ws, "two", short), "IncompleteSnapshot")
	r.refused(r.SnapshotExists(t.Context(), r.ws, "two"), "SnapshotNotFound")
}
