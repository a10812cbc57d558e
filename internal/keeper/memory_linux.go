package keeper

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const controlGroups = "/sys/fs/cgroup"

// memoryKills counts the processes that the kernel ended for want of memory in this process's control group, since it is
// there. 0 where that cannot be known.
func memoryKills() int64 {
	f := memoryEvents()
	if f == nil {
		return 0
	}
	n, _ := killsIn(f)
	return n
}

// memoryEvents is the file that counts them, opened once: a supervisor looks before and after each of its jobs.
var memoryEvents = sync.OnceValue(func() *os.File {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
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
			events, err := openFile(filepath.Join(dir, file), os.O_RDONLY, 0)
			if err != nil {
				continue
			}
			if _, ok := killsIn(events); ok {
				return events
			}
			_ = events.Close()
		}
	}
	return nil
})

// killsIn reads the number after the word oom_kill.
func killsIn(events *os.File) (int64, bool) {
	var text [1 << 10]byte
	n, _ := events.ReadAt(text[:], 0) // it is shorter, so the end is no error
	for line := range strings.Lines(string(text[:n])) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
