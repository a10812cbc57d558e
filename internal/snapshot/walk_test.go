package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// folder makes files; a name that ends with "/" is an empty folder, "-> x" as content makes a link to x, "#!" an
// executable.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		at := filepath.Join(dir, name)
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		err := os.MkdirAll(filepath.Dir(at), 0o755)
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = errors.Join(err, os.Symlink(target, at))
		} else if strings.HasSuffix(name, "/") {
			err = errors.Join(err, os.MkdirAll(at, 0o755))
		} else {
			err = errors.Join(err, os.WriteFile(at, []byte(text), mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// names lists what is in a snapshot: files, links and empty folders.
func names(t *testing.T, l *Local) []string {
	t.Helper()
	trees := map[Hash]Tree{}
	for _, tree := range l.Trees {
		decoded, err := Decode(tree.Text)
		if err != nil || Sum(tree.Text) != tree.Hash {
			t.Fatalf("a tree that is not its hash, or cannot be read: %v", err)
		}
		trees[tree.Hash] = decoded
	}
	var out []string
	var list func(h Hash, at string)
	list = func(h Hash, at string) {
		if len(trees[h]) == 0 {
			out = append(out, at+"/")
		}
		for _, e := range trees[h] {
			name := strings.TrimPrefix(at+"/"+e.Name, "/")
			switch {
			case e.Kind == Folder:
				list(e.Hash, name)
			case e.Kind == Link:
				out = append(out, name+" -> "+e.Target)
			case e.Exec:
				out = append(out, name+"*")
			default:
				out = append(out, name)
			}
		}
	}
	list(l.Root, "")
	return out
}

func TestWalkKeepsModesLinksAndEmptyFolders(t *testing.T) {
	dir := folder(t, map[string]string{
		"train.py": "print()", "run.sh": "#!/bin/sh", "sub/größe ü.txt": "1", "sub/link": "-> ../train.py", "empty/": "", ".git/HEAD": "x", "sub/.git/x": "x", "dangling": "-> nowhere",
	})
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Walk(t.Context(), dir, "", time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "dangling -> nowhere empty/ run.sh* sub/größe ü.txt sub/link -> ../train.py train.py"
	if got := strings.Join(names(t, l), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if l.Size != 17 || len(l.Files) != 3 || l.Largest(1)[0].Name != "run.sh" {
		t.Errorf("%d bytes in %d files, the largest %v", l.Size, len(l.Files), l.Largest(1))
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	again, err := Walk(t.Context(), link, "", time.Now(), nil)
	if err != nil || again.Root != l.Root {
		t.Errorf("the same folder by another path: %v, %v", again, err)
	}
}

func TestWalkOfAFileIsAFolderThatHoldsIt(t *testing.T) {
	dir := folder(t, map[string]string{"data.csv": "1,2", "other": "x", ".amlignore": "*"})
	if err := os.Symlink("data.csv", filepath.Join(dir, "latest.csv")); err != nil {
		t.Fatal(err)
	}
	linked, err := Walk(t.Context(), filepath.Join(dir, "latest.csv"), "", time.Now(), nil)
	if err != nil || strings.Join(names(t, linked), " ") != "latest.csv" || linked.Size != 3 {
		t.Errorf("by a link: %+v, %v", linked, err)
	}
	l, err := Walk(t.Context(), filepath.Join(dir, "data.csv"), "", time.Now(), nil)
	if err != nil || strings.Join(names(t, l), " ") != "data.csv" || l.Files[0].Path != filepath.Join(dir, "data.csv") {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestWalkRefusesWhatLeavesTheFolder(t *testing.T) {
	for _, target := range []string{"/etc/passwd", "../x", "a/../../x", ".."} {
		dir := folder(t, map[string]string{"sub/a/": "", "link": "-> " + target})
		_, err := Walk(t.Context(), dir, "", time.Now(), nil)
		we, ok := errors.AsType[*WalkError](err)
		if !ok || !strings.Contains(we.Why, "leads out of the folder") {
			t.Errorf("%s: %v", target, err)
		}
		if err := os.WriteFile(filepath.Join(dir, ".amlignore"), []byte("link\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Walk(t.Context(), dir, "", time.Now(), nil); err != nil {
			t.Errorf("left out: %v", err)
		}
	}
	if _, err := Walk(t.Context(), filepath.Join(t.TempDir(), "nowhere"), "", time.Now(), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	dir := folder(t, map[string]string{"bad\xff": "x"})
	if _, err := Walk(t.Context(), dir, "", time.Now(), nil); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("%v", err)
	}
}

func TestIgnoreFilesLeaveOut(t *testing.T) {
	for _, tc := range []struct{ rules, path, want string }{ // want: "out", or "in"; a path with a final "/" is a folder
		{"*.pyc", "a.pyc", "out"},
		{"*.pyc", "x/y/a.pyc", "out"},
		{"*.pyc", "a.py", "in"},
		{"data/", "data/", "out"},
		{"data/", "data", "in"},
		{"data/", "x/data/", "out"},
		{"/data", "x/data", "in"},
		{"/data", "data", "out"},
		{"a/b", "x/a/b", "in"},
		{"a/b", "a/b", "out"},
		{"a/*/c", "a/b/c", "out"},
		{"a/*/c", "a/b/b/c", "in"},
		{"a/**/c", "a/b/b/c", "out"},
		{"a/**/c", "a/c", "out"},
		{"**/c", "a/b/c", "out"},
		{"a/**", "a/b", "out"},
		{"a/**", "a/", "in"},
		{"*\n!keep.txt", "keep.txt", "in"},
		{"!keep.txt\n*", "keep.txt", "out"},
		{"# comment\n\n  \n", "# comment", "in"},
		{`\#x`, "#x", "out"},
		{`\!x`, "!x", "out"},
		{"x  ", "x", "out"},
		{`x\ `, "x ", "out"},
		{"[a-c]?.txt", "b1.txt", "out"},
		{"[!a-c]?.txt", "b1.txt", "in"},
		{"[]x]", "]", "out"},
		{"a[", "a[", "out"},
		{"", ".git/", "out"},
		{"!.git", "x/.git", "out"},
		{"\xef\xbb\xbfx\r\ny\r\n", "y", "out"},
		{"grüße*", "grüße 1", "out"},
		{"a*b*c*d*e*f*g*h*", strings.Repeat("a", 200), "in"},
	} {
		g := parseIgnores([]byte(tc.rules))
		got := "in"
		if g.leftOut(strings.TrimSuffix(tc.path, "/"), strings.HasSuffix(tc.path, "/")) {
			got = "out"
		}
		if got != tc.want {
			t.Errorf("%q: %s is %s, not %s", tc.rules, tc.path, got, tc.want)
		}
	}
}

func TestAmlignoreWinsOverGitignore(t *testing.T) {
	dir := folder(t, map[string]string{".gitignore": "a", ".amlignore": "b", "a": "1", "b": "2"})
	l, err := Walk(t.Context(), dir, "", time.Now(), nil)
	if got := strings.Join(names(t, l), " "); err != nil || got != ".amlignore .gitignore a" {
		t.Errorf("%s, %v", got, err)
	}
	if err := os.Remove(filepath.Join(dir, ".amlignore")); err != nil {
		t.Fatal(err)
	}
	l, err = Walk(t.Context(), dir, "", time.Now(), nil)
	if got := strings.Join(names(t, l), " "); err != nil || got != ".gitignore b" {
		t.Errorf("%s, %v", got, err)
	}
}

// The cache saves reading, and never changes the answer.
func TestCacheIsTrustedOnlyForWhatDidNotChange(t *testing.T) {
	dir := folder(t, map[string]string{"a": "old", "b": "same"})
	cache := filepath.Join(t.TempDir(), "deep", "cache")
	later := time.Now().Add(time.Hour) // the files are old by then
	first, err := Walk(t.Context(), dir, cache, later, nil)
	if err != nil {
		t.Fatal(err)
	}
	known := readCache(cache)
	if len(known) != 2 {
		t.Fatalf("%d files are remembered", len(known))
	}
	// A false hash under the right stat shows that the file is not read again.
	k := known["b"]
	k.hash = Sum([]byte("not read"))
	info, err := os.Lstat(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	w := &walk{files: []*file{{"a", statOf(info), first.Files[0].Hash}, {"b", k.stat, k.hash}}, fresh: later.UnixNano()}
	w.remember(cache)
	second, err := Walk(t.Context(), dir, cache, later, nil)
	if err != nil || second.Files[1].Hash != k.hash {
		t.Fatalf("an unchanged file was read again: %v", err)
	}
	// A change of the same size and time of modification is seen by the time of the change, or by the inode.
	old := info.ModTime()
	if err := errors.Join(os.Remove(filepath.Join(dir, "a")), os.WriteFile(filepath.Join(dir, "a"), []byte("new"), 0o644), os.Chtimes(filepath.Join(dir, "a"), old, old)); err != nil {
		t.Fatal(err)
	}
	third, err := Walk(t.Context(), dir, cache, later, nil)
	if err != nil || third.Files[0].Hash != Sum([]byte("new")) {
		t.Errorf("a changed file was not read: %v", err)
	}
	// What changed a moment ago is not remembered.
	if _, err := Walk(t.Context(), dir, cache, time.Now(), nil); err != nil || readCache(cache)["a"].hash != "" {
		t.Errorf("a fresh file is remembered: %v", err)
	}
	// A damaged cache is none.
	if err := os.WriteFile(cache, []byte(cacheHead+"damaged beyond repair, and long enough to have a sum"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Walk(t.Context(), dir, cache, later, nil); err != nil || l.Root != third.Root && l.Files[0].Hash != Sum([]byte("new")) {
		t.Errorf("with a damaged cache: %v", err)
	}
}

func TestReadingIsToldOfFilesThatAreNotRememberedAlone(t *testing.T) {
	dir := folder(t, map[string]string{"a": strings.Repeat("x", 700_000), "b": "four", "c/d": ""})
	cache := filepath.Join(t.TempDir(), "cache")
	later := time.Now().Add(time.Hour)
	type told struct {
		Calls, Files int
		Size, Read   int64
	}
	walk := func() told {
		t.Helper()
		var got told
		var read atomic.Int64
		_, err := Walk(t.Context(), dir, cache, later, func(files int, bytes int64) func(int64) {
			got.Calls, got.Files, got.Size = got.Calls+1, files, bytes
			return func(n int64) { read.Add(n) }
		})
		if err != nil {
			t.Fatal(err)
		}
		got.Read = read.Load()
		return got
	}
	if got := walk(); got != (told{1, 3, 700_004, 700_004}) {
		t.Errorf("first: %+v", got)
	}
	if got := walk(); got != (told{}) {
		t.Errorf("all is known: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "b"), []byte("fives"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := walk(); got != (told{1, 1, 5, 5}) {
		t.Errorf("one is new: %+v", got)
	}
}

func FuzzIgnores(f *testing.F) {
	f.Add("*.pyc\n!a/**/b\n[a-", "a/b/c.pyc")
	f.Fuzz(func(_ *testing.T, rules, path string) {
		if len(rules) > 4096 || len(path) > 4096 || strings.Count(rules, "**") > 6 {
			return
		}
		parseIgnores([]byte(rules)).leftOut(path, len(path)%2 == 0)
	})
}

func FuzzCache(f *testing.F) {
	f.Add(encodeCache([]*file{{"a/b", stat{1, 2, 3, 4, 5}, Sum(nil)}}))
	f.Fuzz(func(_ *testing.T, text []byte) { decodeCache(text) })
}

func BenchmarkWalkWarm(b *testing.B) {
	dir := b.TempDir()
	for i := range 1000 {
		at := filepath.Join(dir, string(rune('a'+i%20)), "f"+strings.Repeat("x", i%50)+string(rune('a'+i/50)))
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, make([]byte, 50_000), 0o600)); err != nil {
			b.Fatal(err)
		}
	}
	cache := filepath.Join(b.TempDir(), "cache")
	for b.Loop() {
		if _, err := Walk(b.Context(), dir, cache, time.Now().Add(time.Hour), nil); err != nil {
			b.Fatal(err)
		}
	}
}
