package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bootID names the machine's present boot. MOORAGE_BOOT_ID stands for it in tests.
func bootID() string {
	if id := os.Getenv("MOORAGE_BOOT_ID"); id != "" {
		return id
	}
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

type process struct {
	pid, parent int
	state       byte
	start       uint64 // clock ticks since boot
}

// readProcess reads /proc/PID/stat.
func readProcess(pid int) (process, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	return parseStat(pid, b)
}

func parseStat(pid int, b []byte) (process, error) {
	// The name, in parentheses, may hold anything, a parenthesis too.
	end := bytes.LastIndexByte(b, ')')
	fields := strings.Fields(string(b[end+1:]))
	if end < 0 || len(fields) < 20 || len(fields[0]) != 1 {
		return process{}, fmt.Errorf("keeper: /proc/%d/stat cannot be read", pid)
	}
	parent, err := strconv.Atoi(fields[1])
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	return process{pid: pid, parent: parent, state: fields[0][0], start: start}, errors.Join(err, err2)
}

// processes lists all that are alive; a zombie is not.
func processes() ([]process, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []process
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil && p.state != 'Z' && p.state != 'X' {
			out = append(out, p)
		}
	}
	return out, nil
}

// descendants are the processes below any of those that is holds for, and those themselves if with.
func descendants(all []process, is func(process) bool, with bool) []process {
	children := map[int][]process{}
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p)
	}
	var out []process
	seen := map[int]bool{}
	var below func(pid int)
	below = func(pid int) {
		for _, c := range children[pid] {
			if !seen[c.pid] {
				seen[c.pid] = true
				out = append(out, c)
				below(c.pid)
			}
		}
	}
	for _, p := range all {
		if !is(p) {
			continue
		}
		if with && !seen[p.pid] {
			seen[p.pid] = true
			out = append(out, p)
		}
		below(p.pid)
	}
	return out
}

// signalProcess sends a signal to that very process and never to another that got its number since.
func signalProcess(pid int, start uint64, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
	} else if !errors.Is(err, unix.ENOSYS) {
		return err
	}
	p, rerr := readProcess(pid)
	if rerr != nil || p.start != start {
		return unix.ESRCH
	}
	if err != nil {
		return unix.Kill(pid, sig)
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// endBelow sends a signal to everything below this process. As subreaper, this process stays above whatever the job
// starts, however it detaches itself. With asked, those in it are left out and the others added to it; only the first
// time does everything get the signal, and later only what lost its parent since: a process that was forked while the
// first signals were sent is caught, and the commands by which a handler tidies up are left in peace.
func endBelow(sig syscall.Signal, asked map[process]bool) error {
	self := os.Getpid()
	all, err := processes()
	if err != nil {
		return err
	}
	tree := descendants(all, func(p process) bool { return p.pid == self }, false)
	if len(asked) > 0 {
		tree = descendants(all, func(p process) bool { return p.parent == self && !asked[p.identity()] }, true)
	}
	for _, p := range tree {
		id := p.identity()
		if asked[id] {
			continue
		}
		_ = signalProcess(p.pid, p.start, sig)
		if asked != nil {
			asked[id] = true
		}
	}
	return nil
}

// identity is what stays of a process while its parent and state change.
func (p process) identity() process { return process{pid: p.pid, start: p.start} }

// processMark is in the environment of every process of a job.
const processMark = "MOORAGE_PROCESS"

// endMarked kills the processes that carry a mark, and what is below them, until there are none.
func endMarked(mark string) error {
	if mark == "" {
		return nil
	}
	want := []byte(processMark + "=" + mark)
	for wait := time.Millisecond; wait < 4*time.Second; wait *= 2 {
		all, err := processes()
		if err != nil {
			return nil // without /proc nothing can be found; the direct child died with its supervisor
		}
		self := os.Getpid()
		tree := descendants(all, func(p process) bool { return p.pid != self && marked(p.pid, want) }, true)
		if len(tree) == 0 {
			return nil
		}
		for _, p := range tree {
			if p.pid != self {
				_ = signalProcess(p.pid, p.start, unix.SIGKILL)
			}
		}
		time.Sleep(wait)
	}
	return errors.New("keeper: processes of the job do not end")
}

func marked(pid int, want []byte) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if bytes.Equal(v, want) {
			return true
		}
	}
	return false
}

// becomeReaper makes this process the parent of every orphan below it.
func becomeReaper() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// commandAttr starts a command in a session of its own, and lets it die with the thread that starts it.
func commandAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// How late the kernel may wake a thread. A keeper does nothing that is due to the microsecond, but while it is awake the Go
// runtime looks every 20 of them whether it needs another thread, which costs more than what the keeper does.
const (
	keeperSlack = 500 * time.Microsecond
	usualSlack  = 50 * time.Microsecond // the kernel's own value
)

// relaxed is set in the environment of the second start, which is the last even where the slack does not outlive it.
const relaxed = "MOORAGE_KEEPER_RELAXED"

// relax starts this program once more if its timers are the usual ones. The slack is a thread's and passes to the threads
// and processes that it starts, and the runtime's are there before any code of ours runs.
func relax() error {
	if os.Getenv(relaxed) != "" {
		return os.Unsetenv(relaxed)
	}
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || slack != int(usualSlack) {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(keeperSlack), 0, 0, 0); err != nil {
		return err
	}
	defer usualTimers()
	return syscall.Exec(exe, os.Args, append(os.Environ(), relaxed+"=1"))
}

// usualTimers gives this thread, and the commands that it starts, the kernel's own slack.
func usualTimers() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(usualSlack), 0, 0, 0)
}

// peak is the memory of the largest process of a reaped one and those that it reaped, in bytes. After a fork it begins with
// the parent's, so it is never less than the supervisor's own.
func peak(u *syscall.Rusage) int64 { return u.Maxrss << 10 }
