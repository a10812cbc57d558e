package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Mount mounts a file system in memory below a folder, e.g. with "size=1m,noexec", and gives its path. It is gone with the
// test. Only root may do so; the test is skipped otherwise.
func Mount(t testing.TB, below, options string) string {
	t.Helper()
	dir, err := os.MkdirTemp(below, "mount-") //nolint:usetesting // where the caller says
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		Absent(t, "no file system can be mounted here: "+string(out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
		_ = os.Remove(filepath.Clean(dir))
	})
	return dir
}
