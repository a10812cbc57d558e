package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

func TestArchiveHasTheSameBytesWhateverTheFilesTimes(t *testing.T) {
	dir := t.TempDir()
	program, text := filepath.Join(dir, "moorage"), filepath.Join(dir, "LICENSE")
	for file, mode := range map[string]os.FileMode{program: 0o755, text: 0o600} {
		if err := os.WriteFile(file, []byte(file), mode); err != nil {
			t.Fatal(err)
		}
	}
	var archives [][]byte
	for i, name := range []string{"a.tar.gz", "b.tar.gz"} {
		at := time.Unix(int64(i+1)*1e9, 0)
		if err := os.Chtimes(program, at, at); err != nil {
			t.Fatal(err)
		}
		if err := run([]string{"archive", filepath.Join(dir, name), "moorage-1", program, text}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, b)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same files differ")
	}
	if err := exec.CommandContext(t.Context(), "tar", "-xzf", filepath.Join(dir, "a.tar.gz"), "-C", dir).Run(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "moorage-1", "moorage"))
	if err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("the program is not executable: %v, %v", info, err)
	}
}

func TestCompressedProgramComesBack(t *testing.T) {
	dir := t.TempDir()
	source, dest := filepath.Join(dir, "x"), filepath.Join(dir, "made", "x.zst")
	want := bytes.Repeat([]byte("moorage "), 100_000)
	if err := os.WriteFile(source, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"compress", source, dest}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dest)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got, err := d.DecodeAll(b, nil)
	if err != nil || !bytes.Equal(got, want) || len(b) > len(want)/10 {
		t.Errorf("%d bytes became %d and then %d, %v", len(want), len(b), len(got), err)
	}
}

func TestFailedPackingLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := run([]string{"compress", filepath.Join(dir, "absent"), filepath.Join(dir, "x.zst")}); err == nil {
		t.Error("an absent file was compressed")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSumsAreThoseOfSha256sum(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := sums(&b, []string{file}); err != nil {
		t.Fatal(err)
	}
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  " + file + "\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
