//go:build !linux

package keeper

import (
	"errors"
	"os"
	"syscall"
)

// Elsewhere than on Linux there is no subreaper and no /proc: a job's tree is its process group, and what leaves the group
// escapes. The kinds that run there say so in their probe.

// bootID names the machine's present boot; unknown here, so a restart is not told from a killed supervisor.
func bootID() string {
	if id := os.Getenv("MOORAGE_BOOT_ID"); id != "" {
		return id
	}
	return "unknown"
}

type process struct {
	pid, parent int
	start       uint64
}

func readProcess(pid int) (process, error) { return process{pid: pid}, nil }

func signalProcess(pid int, _ uint64, sig syscall.Signal) error { return syscall.Kill(pid, sig) }

func endBelow(syscall.Signal, map[process]bool) error { return errors.New("keeper: no /proc") }

const processMark = "MOORAGE_PROCESS"

func endMarked(string) error { return nil }

func becomeReaper() error { return nil }

func commandAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func relax() error { return nil }

func usualTimers() {}

func peak(u *syscall.Rusage) int64 { return u.Maxrss }
