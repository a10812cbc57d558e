package keeper

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const controlGroups = "/sys/fs/cgroup"

// memoryKills counts the processes that the kernel ended for want of memory in this process's control group, since it is
// there. 0 where that cannot be known.
func memoryKills() int64 {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) < 3 {
			continue
		}
		top, file := filepath.Join(controlGroups, "memory"), "memory.oom_control"
		switch {
		case f[0] == "0" && f[1] == "":
			top, file = controlGroups, "memory.events"
		case f[1] != "memory":
			continue
		}
		// In a container the path may be the machine's, while the folder that is seen is the container's own.
		for _, dir := range []string{filepath.Join(top, f[2]), top} {
			if n, ok := countIn(filepath.Join(dir, file), "oom_kill"); ok {
				return n
			}
		}
	}
	return 0
}

// countIn reads the number after a word in a file of lines.
func countIn(path, word string) (int64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == word {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
