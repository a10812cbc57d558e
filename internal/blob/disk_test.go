package blob_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/blob/blobtest"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func disk(t testing.TB, dir string) *blob.Disk {
	t.Helper()
	d, err := blob.NewDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestDisk(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return disk(t, t.TempDir()) })
}

// files lists what is below a folder, apart from empty folders.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			list = append(list, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// A writer is killed in the midst of a Put. The blob is not there, and the next start takes away what it left.
func TestTornFileIsNeverVisible(t *testing.T) {
	if dir := os.Getenv("BLOB_TEST_PUT_UNTIL_KILLED"); dir != "" {
		d := disk(t, dir)
		_, err := d.Put(t.Context(), "a/torn", io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), said{}), -1, blob.Meta{})
		t.Fatalf("the put ended: %v", err)
	}
	dir := t.TempDir()
	d := disk(t, dir)
	if _, err := d.Put(t.Context(), "a/kept", strings.NewReader("kept"), 4, blob.Meta{}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "BLOB_TEST_PUT_UNTIL_KILLED="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("written\n"))); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if _, err := d.Stat(t.Context(), "a/torn"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a torn blob is visible: %v", err)
		}
		if page, err := d.List(t.Context(), "", "", "", 0); err != nil || len(page.Blobs) != 1 {
			t.Errorf("%+v, %v", page, err)
		}
	}
	check()
	if n := len(files(t, dir)); n != 2 {
		t.Fatalf("%d files while one is being written, want 2", n)
	}
	disk(t, t.TempDir())
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	check()
	disk(t, dir)
	check()
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("the next start left %v", left)
	}
}

// said says that it was reached, and blocks.
type said struct{}

func (said) Read([]byte) (int, error) {
	fmt.Println("written")
	select {}
}

// Another process that opens the folder leaves alone what this one is writing.
func TestTwoProcessesShareAFolder(t *testing.T) {
	dir := t.TempDir()
	first := disk(t, dir)
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := first.Put(t.Context(), "a", r, -1, blob.Meta{})
		ended <- err
	}()
	if _, err := io.WriteString(w, "half "); err != nil {
		t.Fatal(err)
	}
	second := disk(t, dir)
	if _, err := second.Put(t.Context(), "b", strings.NewReader("b"), 1, blob.Meta{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "whole"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if info, err := second.Stat(t.Context(), "a"); err != nil || info.Size != int64(len("half whole")) {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestPlantedLinkLeadsNowhere(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	d := disk(t, dir)
	if err := os.WriteFile(filepath.Join(outside, "secret$"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "names", "link")); err != nil {
		t.Fatal(err)
	}
	if r, _, err := d.Get(t.Context(), "link/secret", 0, -1); err == nil {
		b, _ := io.ReadAll(r)
		t.Errorf("read %q through a link", b)
	}
	if _, err := d.Put(t.Context(), "link/new", strings.NewReader("x"), 1, blob.Meta{}); err == nil {
		t.Error("wrote through a link")
	}
	if n := len(files(t, outside)); n != 1 {
		t.Errorf("%d files outside", n)
	}
}

func TestFullDiskIsAProblemAndKeepsNothing(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		engine.Absent(t, "a small file system cannot be mounted here: "+err.Error())
	}
	d, err := blob.NewDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(d.Close(), syscall.Unmount(dir, 0)); err != nil {
			t.Error(err)
		}
	}()
	put := func(name string, size int) error {
		_, err := d.Put(t.Context(), name, strings.NewReader(strings.Repeat("x", size)), int64(size), blob.Meta{})
		return err
	}
	if err := put("a", 300<<10); err != nil {
		t.Fatal(err)
	}
	err = put("a", 2<<20)
	if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != "DiskFull" || p.Mend == "" {
		t.Fatalf("got %v, want the problem DiskFull", err)
	}
	if info, err := d.Stat(t.Context(), "a"); err != nil || info.Size != 300<<10 {
		t.Errorf("what was there before: %+v, %v", info, err)
	}
	if n := len(files(t, dir)); n != 1 {
		t.Errorf("%d files are left", n)
	}
	if err := put("b", 300<<10); err != nil {
		t.Errorf("there is room, and yet: %v", err)
	}
}

// Whatever the name, it is refused or it is kept below the folder and listed under that name.
func FuzzNamesStayInTheFolder(f *testing.F) {
	for _, s := range []string{"a", "a/b", "../a", "a/../../b", "..", "a$m", "x+/y", "%2e%2e/x", "\xff", "a\x00", strings.Repeat("l", 255), strings.Repeat("ü/", 300) + "x"} {
		f.Add(s)
	}
	above := f.TempDir()
	dir := filepath.Join(above, "root")
	d := disk(f, dir)
	f.Fuzz(func(t *testing.T, name string) {
		_, err := d.Put(t.Context(), name, strings.NewReader(name), -1, blob.Meta{ContentType: "x"})
		if blob.CheckName(name) != nil {
			if err == nil {
				t.Fatalf("%q was kept", name)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		entries, err := os.ReadDir(above)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%q left the folder: %v, %v", name, entries, err)
		}
		page, err := d.List(t.Context(), name, "", "", 1)
		if err != nil || len(page.Blobs) != 1 || page.Blobs[0].Name != name || page.Blobs[0].ContentType != "x" {
			t.Fatalf("%q is listed as %+v, %v", name, page, err)
		}
		if err := d.Delete(t.Context(), name); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if page, err := d.List(t.Context(), "", "", "", 1); err != nil || len(page.Blobs) != 0 {
			t.Fatalf("%q left %+v, %v", name, page, err)
		}
	})
}
