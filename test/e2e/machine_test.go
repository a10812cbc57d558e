package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/test/engine"
)

// openFolder is a folder of the test that every user of the machine may write.
func openFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "open-") //nolint:usetesting // the parent of t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pidsIn reads a file with a process number in each line. No file: none.
func pidsIn(file string) (pids []int) {
	b, _ := os.ReadFile(file)
	for word := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// state is the letter by which the kernel tells how a process is: R, S, T (stopped), Z; 0: there is none.
func state(pid int) byte {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	rest := strings.TrimSpace(string(b[bytes.LastIndexByte(b, ')')+1:])) // behind the name, which may hold anything
	if rest == "" {
		return 0
	}
	return rest[0]
}

// alive tells whether a process runs; a zombie does not.
func alive(pid int) bool {
	s := state(pid)
	return s != 0 && s != 'Z' && s != 'X'
}

// aliveWith tells whether a process runs that has a word in its environment: not another that got its number since.
func aliveWith(pid int, word string) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && bytes.Contains(env, []byte(word)) && alive(pid)
}

// programs lists the processes whose command line holds all words, by number.
func programs(words ...string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil {
			continue
		}
		has := true
		for _, w := range words {
			has = has && bytes.Contains(line, []byte(w))
		}
		if has && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// supervisor is the process that keeps a job below a folder of the keeper.
func supervisor(t testing.TB, folder, jobID string) int {
	t.Helper()
	var holder struct {
		PID int `json:"pid"`
	}
	until(t, "job "+jobID+" has a supervisor", func() bool {
		locks, _ := filepath.Glob(filepath.Join(folder, "*", "*", "jobs", jobID+".1", "lock"))
		if len(locks) != 1 {
			return false
		}
		b, err := os.ReadFile(locks[0])
		return err == nil && json.Unmarshal(b, &holder) == nil && holder.PID > 1
	})
	return holder.PID
}

// needRoot skips a test that changes what only root can.
func needRoot(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		engine.Absent(t, what+" needs root")
	}
}
