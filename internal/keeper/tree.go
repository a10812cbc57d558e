package keeper

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// program is what a tree begins with. Standard output and error are the file itself, never a pipe.
type program struct {
	argv, env []string
	in        *os.File // nil: nothing to read
	out       *os.File
}

// tree is one or several commands and everything that they started.
type tree struct {
	pids  []int // of the commands
	asked bool  // they were told to end before they had

	ended  chan struct{} // closed when all commands have ended, or one has failed
	gone   chan struct{} // closed when nothing is left below this process
	status []syscall.WaitStatus
	done   []bool
	first  int // the command whose end counts: the one that failed first, else 0
	peak   int64
}

// startTree starts commands, each in a session of its own. Either all are started or none is left.
func startTree(programs []program, dir string, attr *syscall.SysProcAttr) (*tree, error) {
	null, err := openFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = null.Close() }()
	t := &tree{ended: make(chan struct{}), gone: make(chan struct{})}
	began := make(chan error, 1)
	go func() { // ends with the tree
		// The commands are to die with the thread that started them, which must therefore live as long.
		runtime.LockOSThread()
		usualTimers()
		for _, p := range programs {
			in := p.in
			if in == nil {
				in = null
			}
			pid, err := syscall.ForkExec(p.argv[0], p.argv, &syscall.ProcAttr{
				Dir: dir, Env: p.env, Files: []uintptr{in.Fd(), p.out.Fd(), p.out.Fd()}, Sys: attr,
			})
			if err != nil {
				t.undo()
				began <- err
				return
			}
			t.pids = append(t.pids, pid)
		}
		t.status, t.done = make([]syscall.WaitStatus, len(t.pids)), make([]bool, len(t.pids))
		began <- nil
		t.reap()
	}()
	if err := <-began; err != nil {
		return nil, err
	}
	return t, nil
}

// undo ends the commands that were started before one could not be.
func (t *tree) undo() {
	for _, pid := range t.pids {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	for _, pid := range t.pids {
		for {
			if _, err := syscall.Wait4(pid, nil, 0, nil); !errors.Is(err, syscall.EINTR) {
				break
			}
		}
	}
}

// reap waits for every process below this one, orphans too.
func (t *tree) reap() {
	defer close(t.gone)
	left, told := len(t.pids), false
	for {
		var st syscall.WaitStatus
		var use syscall.Rusage
		pid, err := syscall.Wait4(-1, &st, 0, &use)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return // no children
		}
		t.peak = max(t.peak, peak(&use))
		i := slices.Index(t.pids, pid)
		if i < 0 || t.done[i] {
			continue
		}
		t.status[i], t.done[i] = st, true
		left--
		failed := !st.Exited() || st.ExitStatus() != 0
		if failed && !told {
			t.first = i
		}
		if (failed || left == 0) && !told {
			told = true
			close(t.ended)
		}
	}
}

// lingering is how long what a command leaves behind may take to end after it was asked.
const lingering = 2 * time.Second

// wait waits for the end of the commands, or with stop asks for it, and ends what they leave behind. When it returns nothing is left.
func (t *tree) wait(stop <-chan struct{}, grace time.Duration) result {
	kills := memoryKills()
	select {
	case <-t.ended:
		t.endRest(grace)
	case <-stop:
		t.end(grace)
	}
	<-t.gone
	r := result{Status: t.status[t.first], Rank: t.first, Peak: t.peak, Asked: t.asked}
	r.OutOfMemory = memoryKills() > kills && killed(r.Status)
	return r
}

// killed tells an end by SIGKILL, also as a shell tells it.
func killed(st syscall.WaitStatus) bool {
	return st.Signaled() && st.Signal() == syscall.SIGKILL || st.Exited() && st.ExitStatus() == codeKilled
}

// endRest ends what the commands left behind, and the commands that are still there because another failed.
func (t *tree) endRest(grace time.Duration) {
	select {
	case <-t.gone:
		return
	case <-time.After(5 * time.Millisecond): // pipelines and the like end by themselves
	}
	if len(t.pids) == 1 {
		grace = min(grace, lingering)
	}
	t.stop(grace)
}

// end asks the tree to end, and ends it after the grace.
func (t *tree) end(grace time.Duration) {
	select {
	case <-t.ended: // by itself, at the same moment
	default:
		t.asked = true
	}
	t.stop(grace)
}

func (t *tree) stop(grace time.Duration) {
	asked := map[process]bool{}
	t.signal(syscall.SIGTERM, asked)
	t.signal(syscall.SIGCONT, nil) // who is stopped hears nothing
	over := time.After(grace)
	for wait := time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		select {
		case <-t.gone:
			return
		case <-time.After(wait):
			t.signal(syscall.SIGTERM, asked)
			continue
		case <-over:
		}
		break
	}
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		t.signal(syscall.SIGKILL, nil)
		select {
		case <-t.gone:
			return
		case <-time.After(wait):
		}
	}
}

// signal reaches everything below this process; without /proc, the commands' groups, and those only once with asked.
func (t *tree) signal(sig syscall.Signal, asked map[process]bool) {
	if err := endBelow(sig, asked); err == nil {
		return
	}
	for _, pid := range t.pids {
		group := process{pid: -pid}
		if !asked[group] {
			_ = syscall.Kill(-pid, sig)
		}
		if asked != nil {
			asked[group] = true
		}
	}
}

// kill ends the commands themselves.
func (t *tree) kill() error {
	var errs []error
	for _, pid := range t.pids {
		errs = append(errs, syscall.Kill(-pid, syscall.SIGKILL))
	}
	return errors.Join(errs...)
}
