package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

// aged makes everything in a folder look older.
func aged(t *testing.T, path string, by time.Duration) {
	t.Helper()
	when := time.Now().Add(-by)
	check(t, filepath.WalkDir(path, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(p, when, when)
	}))
}

func TestStoreEvictsWhatWasNotUsedForLongestAndNeverWhatIsNeeded(t *testing.T) {
	top := t.TempDir()
	s := store{filepath.Join(top, "objects"), filepath.Join(top, "roots")}
	check(t, os.MkdirAll(s.roots, 0o700))
	var roots []snapshot.Hash
	var files []snapshot.Hash
	for i := range 4 {
		content := fmt.Appendf(nil, "%0100d", i)
		f := snapshot.Sum(content)
		tree := snapshot.Tree{{Name: "f", Kind: snapshot.File, Size: 100, Hash: f}}.Encode()
		check(t, s.putBytes(f, content))
		check(t, s.putBytes(snapshot.Sum(tree), tree))
		check(t, s.touch(snapshot.Sum(tree)))
		roots, files = append(roots, snapshot.Sum(tree)), append(files, f)
	}
	aged(t, s.dir, 48*time.Hour)
	for i, r := range roots {
		aged(t, filepath.Join(s.roots, string(r)), time.Duration(10-i)*2*time.Hour)
	}
	before := s.size()
	check(t, s.evict(before, nil))
	if s.size() != before {
		t.Error("something went although there was room")
	}
	check(t, s.evict(before/2, roots[:1])) // the oldest is needed
	for i, want := range []bool{true, false, false, true} {
		if got := s.has(roots[i]) && s.has(files[i]); got != want {
			t.Errorf("tree %d is there: %v", i, got)
		}
	}
}

func TestStoreRefusesWrongBytesAndReadsThemAll(t *testing.T) {
	s := store{filepath.Join(t.TempDir(), "objects"), ""}
	if err := s.putBytes(snapshot.Sum([]byte("a")), []byte("b")); err == nil {
		t.Error("wrong bytes were kept")
	}
	if s.has(snapshot.Sum([]byte("a"))) {
		t.Error("it is there")
	}
}

func TestUnusedEnvironmentGoesAndAUsedOneStays(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for _, hash := range []string{"old", "used"} {
		env := &Environment{Hash: hash, Keep: time.Hour, Steps: []Step{{Args: []string{"true"}}}}
		if x, _ := run(t, c, "J"+hash+".1", Job{Command: "true", Environment: env}); x.Outcome != Succeeded {
			t.Fatalf("%+v", x.Problem)
		}
	}
	env := func(name string) string { return filepath.Join(r.folder, "srv", "cmp", "env", name) }
	aged(t, env("old"), 2*time.Hour)
	aged(t, env("used"), 30*time.Minute)
	_ = r.dial() // tidies
	until(t, "the old one is gone", func() bool { return !exists(env("old")) })
	if !exists(filepath.Join(env("used"), environmentReady)) {
		t.Error("the used one is gone")
	}
}
