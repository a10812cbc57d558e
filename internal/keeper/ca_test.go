package keeper

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBundleIsSharedUntilTheRootsChange(t *testing.T) {
	dir := t.TempDir()
	r := root{folder: dir, path: dir}
	roots := filepath.Join(dir, "roots.pem")
	check(t, os.WriteFile(roots, []byte("roots"), 0o600))
	place := func(name, boot, ca string) os.FileInfo {
		t.Helper()
		to := filepath.Join(dir, name)
		check(t, placeCA(r, boot, []string{"SSL_CERT_FILE=" + roots}, ca, to))
		b, err := os.ReadFile(to)
		check(t, err)
		now, err := os.ReadFile(roots)
		check(t, err)
		if string(b) != string(now)+"\n"+ca {
			t.Errorf("%s is %q", name, b)
		}
		info, err := os.Stat(to)
		check(t, err)
		return info
	}
	first := place("a", "boot", "ours")
	if !os.SameFile(first, place("b", "boot", "ours")) || !os.SameFile(first, place("a", "boot", "ours")) {
		t.Error("the second job got a bundle of its own")
	}
	if os.SameFile(first, place("c", "boot", "another")) || os.SameFile(first, place("d", "later", "ours")) {
		t.Error("another CA, or another boot, got the same bundle")
	}
	check(t, os.WriteFile(roots, []byte("other roots"), 0o600))
	if os.SameFile(first, place("e", "boot", "ours")) {
		t.Error("other roots got the same bundle")
	}
	check(t, os.RemoveAll(r.bundles()))
	place("f", "boot", "ours")
}
