package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/store/storetest"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

// A process is killed in the midst of many writes. Everything that it said was written is there.
func TestAcknowledgedWritesSurviveAKill(t *testing.T) {
	if url := os.Getenv("STORE_TEST_WRITE_UNTIL_KILLED"); url != "" {
		writeUntilKilled(t, url)
	}
	url := sqliteFile(t)
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "STORE_TEST_WRITE_UNTIL_KILLED="+url, fmt.Sprint("STORE_TEST_ROUND=", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said []string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if key, ok := strings.CutPrefix(lines.Text(), "wrote "); ok {
				if said = append(said, key); len(said) == 300 {
					if err := cmd.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		_ = cmd.Wait()
		if len(said) < 300 {
			t.Fatalf("the writer ended by itself after %d writes", len(said))
		}
		s, err := store.Open(t.Context(), store.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range said {
			if _, err := s.Setting(t.Context(), key); err != nil {
				t.Errorf("%s was acknowledged: %v", key, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func writeUntilKilled(t *testing.T, url string) {
	s := storetest.Open(t, url)
	var out sync.Mutex
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprint(os.Getenv("STORE_TEST_ROUND"), "-", w, "-", i)
				if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.PutSetting(t.Context(), key, []byte(key)) }); err != nil {
					return
				}
				out.Lock()
				fmt.Println("wrote", key)
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestFullDiskIsAProblemAndWritesGoOnAfterIt(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		engine.Absent(t, "a small file system cannot be mounted here: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + filepath.Join(dir, "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(key string, size int) error {
		return s.Write(t.Context(), func(tx *store.Tx) error { return tx.PutSetting(t.Context(), key, make([]byte, size)) })
	}
	if err := put("kept", 10); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	var full error
	for i := 0; full == nil && i < 1000; i++ {
		full = put(fmt.Sprint("big-", i), 64<<10)
	}
	if p, ok := errors.AsType[*workspace.Problem](full); !ok || p.Code != "DiskFull" || p.Mend == "" {
		t.Fatalf("got %v, want the problem DiskFull", full)
	}
	if _, err := s.Setting(t.Context(), "kept"); err != nil {
		t.Errorf("reads stop when the disk is full: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := put("after", 10); err != nil {
		t.Errorf("there is room again, and yet: %v", err)
	}
}

func TestBackupIsMadeBeforeAnUpgrade(t *testing.T) {
	url := sqliteFile(t)
	path := strings.TrimPrefix(url, "sqlite:")
	s := storetest.Open(t, url)
	ctx := t.Context()
	if err := s.Write(ctx, func(tx *store.Tx) error { return tx.PutSetting(ctx, "k", []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	newest := storetest.Forget(t, url) // as if this program were newer by one migration
	backups := func() []string {
		list, err := filepath.Glob(filepath.Dir(path) + "/*.schema-*")
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	_, err := store.Open(context.WithoutCancel(ctx), store.Config{URL: url})
	if err == nil {
		t.Fatal("a migration that cannot be applied twice was")
	}
	if len(backups()) != 1 {
		t.Fatalf("backups: %v", backups())
	}
	info, err := os.Stat(backups()[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// The backup is a database of the schema before, and has the rows.
	storetest.Remember(t, "sqlite:"+backups()[0], newest)
	old := storetest.Open(t, "sqlite:"+backups()[0])
	if v, err := old.Setting(ctx, "k"); err != nil || string(v) != "v" {
		t.Errorf("%q, %v", v, err)
	}
}

func TestFilesAreClosedToOthers(t *testing.T) {
	url := sqliteFile(t)
	s := storetest.Open(t, url)
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.PutSetting(t.Context(), "k", []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(url, "sqlite:")
	for _, f := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, info.Mode())
		}
	}
}

func TestUselessURLsAreProblems(t *testing.T) {
	for _, url := range []string{"", "mysql://x", "sqlite:", "sqlite::memory:", "postgres://%zz", "sqlite:/nowhere/at/all/db", "postgres://u:hidden@127.0.0.1:1/db"} {
		_, err := store.Open(t.Context(), store.Config{URL: url})
		p, ok := errors.AsType[*workspace.Problem](err)
		if !ok || p.Mend == "" {
			t.Errorf("%s: %v", url, err)
		}
		if strings.Contains(fmt.Sprint(err), "hidden") {
			t.Errorf("%s: the password is in the error", url)
		}
	}
}
