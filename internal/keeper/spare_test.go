package keeper

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestSpareServesTheNextJobWithWhatIsInItsTree(t *testing.T) {
	r := newRig(t)
	files := map[string]string{}
	for i := range 150 {
		files[fmt.Sprintf("d%d/f%d", i%7, i)] = fmt.Sprint("content ", i)
	}
	first := r.objs.tree(files)
	files["d1/f1"], files["new/file"] = "changed", "new"
	delete(files, "d2/f2")
	second := r.objs.tree(files)
	c := r.dial()
	const look = "cat d1/f1; ls d2/f2 new/file mine 2>/dev/null; find . -type f | wc -l; touch mine; rm -r d3; stat -c %i d0/f0"
	spare := func(tree string) string { return filepath.Join(r.folder, "srv", "cmp", "spare", tree) }
	_, log := run(t, c, "J1.1", Job{Command: look, Code: first})
	until(t, "a spare is there", func() bool { return exists(spare(string(first))) })
	info, err := os.Stat(filepath.Join(spare(string(first)), "d0/f0"))
	check(t, err)
	if want := fmt.Sprintf("content 1d2/f2\n150\n%s", log[len("content 1d2/f2\n150\n"):]); log != want {
		t.Errorf("the first: %q", log)
	}
	_, log = run(t, c, "J2.1", Job{Command: look, Code: second})
	if want := fmt.Sprintf("changednew/file\n150\n%d\n", inode(info)); log != want {
		t.Errorf("the second got %q instead of %q: it was not the spare, or it was not patched", log, want)
	}
	for i := range 2 { // unchanged: one takes what the one before it has laid ready
		until(t, "a spare of the second is there", func() bool { return exists(spare(string(second))) })
		run(t, c, fmt.Sprintf("J%d.1", 3+i), Job{Command: "true", Code: second})
	}
	until(t, "a spare of the second is there again", func() bool { return exists(spare(string(second))) })
	check(t, c.RemoveAll(t.Context()))
}

func inode(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
