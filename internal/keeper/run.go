package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// showRunning is how long a command runs before that is worth telling: the end of a short one tells all.
const showRunning = 50 * time.Millisecond

// command runs the job's command, and ends only when its whole tree of processes has.
func (s *supervisor) command(ctx context.Context) Exit {
	log, err := openFile(filepath.Join(s.dir, fileLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return s.failed(ctx, err)
	}
	defer func() { _ = log.Close() }()
	s.mark = randomMark()
	text := substitute(s.spec.Job.Command, s.paths)
	env := s.environ()
	started := startRecord{Format: format, Boot: s.boot(), Mark: s.mark, Started: time.Now().UTC()}
	// From here on it may have run. Should the machine lose power now, nobody starts it again.
	if err := errors.Join(s.write(fileStarted, started, true), syncDir(s.root.jobs())); err != nil {
		return s.failed(ctx, err)
	}
	if ctx.Err() != nil {
		return stopped(ctx, "")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.spec.Job.Timeout > 0 {
		timer := time.AfterFunc(time.Until(started.Started.Add(s.spec.Job.Timeout)), func() { cancel(errTimedOut) })
		defer timer.Stop()
	}
	t, err := s.names.start(text, env, filepath.Join(s.dir, dirCode), log)
	if err != nil {
		return Exit{Outcome: Failed, Code: -1, Problem: &workspace.Problem{
			Code: "CommandNotStarted", Message: "the command could not be started", Cause: err.Error(),
			Mend: "check that /bin/sh is there and that its arguments and environment are not too long",
		}}
	}
	running := time.AfterFunc(showRunning, s.agent.changed)
	limit := newLimiter(filepath.Join(s.dir, fileLog), s.spec.Job.logLimit())
	x := s.wait(ctx, t)
	running.Stop()
	s.clean = ctx.Err() == nil
	s.slot.release() // its processes are gone; the next job need not wait for the disk
	x.LogSize, x.LogDropped = limit.finish()
	if x.LogSize == 0 {
		return x
	}
	if x.LogSize <= InlineLog {
		if b, err := os.ReadFile(log.Name()); err == nil && int64(len(b)) == x.LogSize {
			x.Log = b // the record makes it durable
			return x
		}
	}
	if err := log.Sync(); err != nil && x.Problem == nil {
		x.Problem = &workspace.Problem{Code: "LogIncomplete", Message: "the log may be incomplete", Cause: err.Error(), Warning: true, Mend: "look at the target's disk"}
	}
	return x
}

// wait waits for the command, ends the tree, and says how it went.
func (s *supervisor) wait(ctx context.Context, t *tree) Exit {
	select {
	case <-t.ended:
		t.endRest(s.spec.Job.grace())
	case <-ctx.Done():
		t.end(s.spec.Job.grace())
	}
	status, peak := t.result()
	x := Exit{Code: -1, PeakMemory: peak, Ended: time.Now().UTC()}
	if status.Signaled() {
		x.Signal = signalName(status.Signal())
	} else {
		x.Code = status.ExitStatus()
	}
	if ctx.Err() != nil && t.asked {
		y := stopped(ctx, x.Signal)
		y.Code, y.PeakMemory, y.Ended = x.Code, x.PeakMemory, x.Ended
		return y
	}
	switch {
	case x.Signal != "":
		x.Outcome = Failed
		x.Problem = &workspace.Problem{Code: "CommandKilled", Message: "the command was ended by signal " + x.Signal, Mend: "look at the end of the log"}
		if x.Signal == "KILL" {
			x.Problem.Cause = "the kernel does so when memory runs out"
		}
	case x.Code != 0:
		x.Outcome = Failed
		x.Problem = &workspace.Problem{Code: "CommandFailed", Message: fmt.Sprintf("the command ended with exit code %d", x.Code), Mend: "look at the end of the log"}
	default:
		x.Outcome = Succeeded
	}
	return x
}

func signalName(sig syscall.Signal) string {
	names := map[syscall.Signal]string{
		syscall.SIGABRT: "ABRT", syscall.SIGALRM: "ALRM", syscall.SIGBUS: "BUS", syscall.SIGFPE: "FPE", syscall.SIGHUP: "HUP", syscall.SIGILL: "ILL",
		syscall.SIGINT: "INT", syscall.SIGKILL: "KILL", syscall.SIGPIPE: "PIPE", syscall.SIGQUIT: "QUIT", syscall.SIGSEGV: "SEGV", syscall.SIGTERM: "TERM",
		syscall.SIGTRAP: "TRAP", syscall.SIGUSR1: "USR1", syscall.SIGUSR2: "USR2", syscall.SIGXCPU: "XCPU", syscall.SIGXFSZ: "XFSZ",
	}
	if n, ok := names[sig]; ok {
		return n
	}
	return fmt.Sprint(int(sig))
}

// environ is the login's environment, then the job environment's, then the job's own, then secrets. The last wins.
func (s *supervisor) environ() []string {
	vars := map[string]string{}
	set := func(pairs []string) {
		for _, p := range pairs {
			if name, value, ok := strings.Cut(p, "="); ok && name != "" {
				vars[name] = value
			}
		}
	}
	set(s.given.Login)
	set(s.vars)
	if s.slot != nil && len(s.slot.gpus) > 0 {
		vars["CUDA_VISIBLE_DEVICES"] = strings.Join(s.slot.gpus, ",")
	} else if s.spec.HideGPUs {
		vars["CUDA_VISIBLE_DEVICES"] = ""
	}
	fill := strings.NewReplacer(WayBackAddress, s.back.address(), BlobHost, s.names.host(), CAFile, filepath.Join(s.dir, fileCA))
	for name, value := range s.spec.Job.Env {
		vars[name] = fill.Replace(value)
	}
	maps.Copy(vars, s.given.Secrets)
	s.names.enter(vars, s.back != nil)
	vars[processMark] = s.mark
	vars["PWD"] = filepath.Join(s.dir, dirCode)
	out := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if !strings.ContainsRune(name+vars[name], 0) {
			out = append(out, name+"="+vars[name])
		}
	}
	return out
}

// tree is a command and everything that it started.
type tree struct {
	pid   int
	asked bool // it was told to end before it had

	ended  chan struct{} // closed when the command itself has ended
	gone   chan struct{} // closed when nothing is left below this process
	status syscall.WaitStatus
	peak   int64
}

// startTree starts a command in a session of its own. Standard output and error are the file itself, never a pipe.
func startTree(argv, env []string, dir string, out *os.File, attr *syscall.SysProcAttr) (*tree, error) {
	null, err := openFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = null.Close() }()
	t := &tree{ended: make(chan struct{}), gone: make(chan struct{})}
	began := make(chan error, 1)
	go func() { // ends with the tree
		// The command is to die with the thread that started it, which must therefore live as long.
		runtime.LockOSThread()
		usualTimers()
		t.pid, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
			Dir: dir, Env: env, Files: []uintptr{null.Fd(), out.Fd(), out.Fd()}, Sys: attr,
		})
		began <- err
		if err == nil {
			t.reap()
		}
	}()
	if err := <-began; err != nil {
		return nil, err
	}
	return t, nil
}

// reap waits for every process below this one, orphans too.
func (t *tree) reap() {
	defer close(t.gone)
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
		if pid == t.pid {
			t.status = st
			close(t.ended)
		}
	}
}

// lingering is how long what a command leaves behind may take to end after it was asked.
const lingering = 2 * time.Second

// endRest ends what the command left behind.
func (t *tree) endRest(grace time.Duration) {
	select {
	case <-t.gone:
		return
	case <-time.After(5 * time.Millisecond): // pipelines and the like end by themselves
	}
	t.stop(min(grace, lingering))
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

// signal reaches everything below this process; without /proc, the command's group, and that only once with asked.
func (t *tree) signal(sig syscall.Signal, asked map[process]bool) {
	if err := endBelow(sig, asked); err != nil {
		group := process{pid: -t.pid}
		if !asked[group] {
			_ = syscall.Kill(-t.pid, sig)
		}
		if asked != nil {
			asked[group] = true
		}
	}
}

func (t *tree) result() (syscall.WaitStatus, int64) {
	<-t.gone
	return t.status, t.peak
}
