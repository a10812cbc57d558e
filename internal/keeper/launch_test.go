package keeper

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func launchFolder(t *testing.T, unseal ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := writeRecord(dir, fileLaunch, launchRecord{Format: format, Unseal: unseal}, false); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestGivenIsOpenedThoughItsSealExpired(t *testing.T) {
	dir := launchFolder(t, "sh", "-c", "cat; echo expired >&2; exit 15")
	b, err := json.Marshal(given{Secrets: map[string]string{"TOKEN": "x"}, Login: []string{"HOME=/h"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileGiven), b, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLURM_JOB_ID", "17")
	t.Setenv("EDITOR", "vi")
	r, err := openGiven(dir)
	if err != nil {
		t.Fatal(err)
	}
	var g given
	if err := json.NewDecoder(r).Decode(&g); err != nil {
		t.Fatal(err)
	}
	if g.Secrets["TOKEN"] != "x" || lookup(g.Login, "HOME") != "/h" || lookup(g.Login, "SLURM_JOB_ID") != "17" || lookup(g.Login, "EDITOR") != "" {
		t.Errorf("given: %+v", g)
	}
}

func TestSealThatCannotBeOpenedSaysWhy(t *testing.T) {
	dir := launchFolder(t, "sh", "-c", "echo 'unmunge: Error: Unauthorized credential' >&2; exit 16")
	if err := os.WriteFile(filepath.Join(dir, fileGiven), []byte("MUNGE:x:"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openGiven(dir); err == nil || !strings.Contains(err.Error(), "Unauthorized credential") {
		t.Errorf("got %v", err)
	}
}

func TestSecondSupervisorOfALaunchEndsAtOnce(t *testing.T) {
	dir := launchFolder(t)
	if err := os.Mkdir(filepath.Join(dir, dirClaim), 0o700); err != nil {
		t.Fatal(err)
	}
	if code := launched(dir); code != 0 || exists(filepath.Join(dir, fileExit)) || exists(filepath.Join(dir, fileLockName)) {
		t.Errorf("code %d, and it left something", code)
	}
	if code := launched(filepath.Join(dir, "released")); code != 0 {
		t.Errorf("for a job that is gone: code %d", code)
	}
}

func TestLaunchedJobIsReadFromItsFolder(t *testing.T) {
	touch := func(names ...string) func(string) {
		return func(dir string) {
			for _, n := range names {
				if n == dirClaim {
					_ = os.Mkdir(filepath.Join(dir, n), 0o700)
					continue
				}
				_ = os.WriteFile(filepath.Join(dir, n), []byte(`{"format":1}`), 0o600)
			}
		}
	}
	for _, c := range []struct {
		what string
		made func(string)
		want Phase
	}{
		{"asked and not known to be taken", touch(), Missing},
		{"in the queue", touch(fileLaunched), Waiting},
		{"cancelled in the queue", touch(fileLaunched, fileCanceled), Ended},
		{"cancelled when a supervisor had come", touch(fileLaunched, fileCanceled, dirClaim), Waiting},
		{"claimed, its name in the queue unknown", touch(dirClaim), Waiting},
		{"started", touch(fileLaunched, dirClaim, fileStarted), Running},
		{"ended", touch(fileLaunched, dirClaim, fileStarted, fileExit), Ended},
	} {
		dir := launchFolder(t)
		c.made(dir)
		s, err := statusOf(dir, "JOB.1")
		if err != nil || s.Phase != c.want {
			t.Errorf("%s: %s, %v", c.what, s.Phase, err)
		}
		if s.Phase == Ended != (s.Exit != nil) {
			t.Errorf("%s: exit %+v", c.what, s.Exit)
		}
	}
}

func TestToldRecordsReadLikeFiles(t *testing.T) {
	var out strings.Builder
	dir := t.TempDir()
	s := &supervisor{dir: dir, tell: &out}
	if err := os.WriteFile(filepath.Join(dir, fileLog), []byte("a log\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		filePhase:   phaseRecord{Format: format, Phase: Waiting, Reason: &workspace.Problem{Code: "X"}},
		fileStarted: startRecord{Format: format, Boot: "b"},
	} {
		if err := s.write(name, v, false); err != nil {
			t.Fatal(err)
		}
	}
	read := func(from string) func(string) ([]byte, error) {
		all := Told([]byte(from))
		return func(name string) ([]byte, error) {
			if b, ok := all[name]; ok {
				return b, nil
			}
			return nil, fs.ErrNotExist
		}
	}
	if st, err := Reading("k", true, read(out.String())); err != nil || st.Phase != Running {
		t.Errorf("while it runs: %+v, %v", st, err)
	}
	if st, err := Reading("k", false, read(out.String())); err != nil || st.Phase != Ended || st.Exit.Outcome != Lost {
		t.Errorf("killed: %+v, %v", st, err)
	}
	_, _ = io.WriteString(&out, "panic: not a record\n")
	if err := s.write(fileExit, exitRecord{Format: format, Exit: Exit{Outcome: Succeeded, LogSize: 6}}, false); err != nil {
		t.Fatal(err)
	}
	st, err := Reading("k", false, read(out.String()))
	if err != nil || st.Phase != Ended || st.Exit.Outcome != Succeeded || string(st.Exit.Log) != "a log\n" {
		t.Errorf("ended: %+v, %v", st, err)
	}
	if _, err := Reading("k", false, func(string) ([]byte, error) { return nil, errors.New("the engine is away") }); err == nil {
		t.Error("a failure to read is a verdict")
	}
	if st, err := Reading("k", false, read("")); err != nil || st.Phase != Missing {
		t.Errorf("never started: %+v, %v", st, err)
	}
}

func FuzzTold(f *testing.F) {
	f.Add([]byte(`{"name":"exit.json","record":{"format":1}}` + "\n{\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for name := range Told(b) {
			if name == "" {
				t.Error("a record without a name")
			}
		}
	})
}
