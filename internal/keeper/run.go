package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
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
	ranks, err := s.ranks()
	if err != nil {
		return s.failed(ctx, err)
	}
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
	limit := limitLogs(ranks, s.spec.Job.logLimit())
	t, err := s.start(text, ranks)
	if err != nil {
		limit()
		return s.failed(ctx, err)
	}
	running := time.AfterFunc(showRunning, s.agent.changed)
	x := s.exit(ctx, t.wait(ctx.Done(), s.spec.Job.grace()))
	running.Stop()
	s.clean = ctx.Err() == nil
	s.slot.release() // its processes are gone; the next job need not wait for the disk
	x.LogSize, x.LogDropped = limit()
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

// running is what a job's command runs as.
type running interface {
	// wait returns when the command has ended and nothing of it is left. When stop is closed it is asked to end, and made to
	// after the grace.
	wait(stop <-chan struct{}, grace time.Duration) result
}

// result is how a command ended.
type result struct {
	Status      syscall.WaitStatus `json:"status"`
	Rank        int                `json:"rank,omitempty"` // whose end it is, on this node
	Peak        int64              `json:"peak,omitempty"`
	Asked       bool               `json:"asked,omitempty"` // it had not ended when it was asked to
	OutOfMemory bool               `json:"out_of_memory,omitempty"`

	Problem *workspace.Problem `json:"problem,omitempty"` // the command was not started, or how it ended is not known
}

// codeKilled is the exit code that stands for an end by SIGKILL.
const codeKilled = 128 + int(syscall.SIGKILL)

// exit says how it went.
func (s *supervisor) exit(ctx context.Context, r result) Exit {
	x := Exit{Code: -1, PeakMemory: r.Peak, Ended: time.Now().UTC(), Problem: r.Problem}
	switch {
	case r.Problem != nil:
	case r.Status.Signaled():
		x.Signal = signalName(r.Status.Signal())
	default:
		x.Code = r.Status.ExitStatus()
	}
	if ctx.Err() != nil && (r.Asked || r.Problem != nil) {
		y := stopped(ctx, x.Signal)
		y.Code, y.PeakMemory, y.Ended = x.Code, x.PeakMemory, x.Ended
		return y
	}
	what := "the command"
	if n := s.spec.Job.Ranks; n.perNode()*n.nodes() > 1 {
		node, _ := n.node() // it was read before
		what = fmt.Sprintf("rank %d of %d", node*n.perNode()+r.Rank, n.perNode()*n.nodes())
	}
	switch {
	case x.Problem != nil:
		x.Outcome = Failed
	case r.OutOfMemory:
		x.Outcome, x.Code = Failed, codeKilled
		x.Problem = &workspace.Problem{
			Code: "OutOfMemory", Message: fmt.Sprintf("%s was ended because memory ran out, with exit code %d", what, codeKilled), Cause: "the kernel killed one of its processes for that",
			Mend: "ask for more memory, or let it use less: smaller batches, fewer workers",
		}
		if b := s.spec.Job.Bounds; b != nil && b.Memory > 0 {
			x.Problem.Cause = fmt.Sprintf("the job's container may use %d MB", b.Memory>>20)
		}
	case x.Signal != "":
		x.Outcome = Failed
		x.Problem = &workspace.Problem{Code: "CommandKilled", Message: what + " was ended by signal " + x.Signal, Mend: "look at the end of the log"}
		if x.Signal == "KILL" {
			x.Problem.Cause = "the kernel does so when memory runs out"
		}
	case x.Code != 0:
		x.Outcome = Failed
		x.Problem = &workspace.Problem{Code: "CommandFailed", Message: fmt.Sprintf("%s ended with exit code %d", what, x.Code), Mend: "look at the end of the log"}
	default:
		x.Outcome = Succeeded
	}
	if x.Problem != nil && r.Rank > 0 {
		x.Problem.Mend = fmt.Sprintf("look at the end of its log, logs/rank-%s.txt", strings.Fields(what)[1])
	}
	return x
}

// start starts the command's processes, here or in a container.
func (s *supervisor) start(text string, ranks []rank) (running, error) {
	if s.spec.Job.Image != nil {
		return s.startContained(text, ranks)
	}
	env := s.environ()
	var programs []program
	for _, r := range ranks {
		out, err := openFile(r.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		defer func() { _ = out.Close() }()
		programs = append(programs, program{env: overlay(env, r.vars), out: out})
	}
	t, err := s.names.start(text, programs, filepath.Join(s.dir, dirCode))
	if err != nil {
		return nil, notStarted(err)
	}
	return t, nil
}

func notStarted(err error) *workspace.Problem {
	return &workspace.Problem{
		Code: "CommandNotStarted", Message: "the command could not be started", Cause: err.Error(),
		Mend: "check that /bin/sh is there and that its arguments and environment are not too long",
	}
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
	vars := s.variables(s.given.Login)
	if len(s.path) > 0 && s.spec.Job.Env["PATH"] == "" {
		vars["PATH"] = prefixed(s.path, vars["PATH"])
	}
	if s.slot != nil && len(s.slot.gpus) > 0 {
		vars["CUDA_VISIBLE_DEVICES"] = strings.Join(s.slot.gpus, ",")
	} else if s.spec.HideGPUs {
		vars["CUDA_VISIBLE_DEVICES"] = ""
	}
	return flat(vars)
}

// variables are those of the job over others.
func (s *supervisor) variables(under []string) map[string]string {
	vars := map[string]string{}
	for _, p := range slices.Concat(under, s.vars) {
		if name, value, ok := strings.Cut(p, "="); ok && name != "" {
			vars[name] = value
		}
	}
	fill := strings.NewReplacer(WayBackAddress, s.back.address(), BlobHost, s.names.host(), CAFile, filepath.Join(s.dir, fileCA))
	for name, value := range s.spec.Job.Env {
		vars[name] = fill.Replace(value)
	}
	maps.Copy(vars, s.given.Secrets)
	s.names.enter(vars, s.back != nil)
	vars[processMark] = s.mark
	vars["PWD"] = filepath.Join(s.dir, dirCode)
	return vars
}

func prefixed(path []string, rest string) string {
	if rest != "" {
		path = append(slices.Clone(path), rest)
	}
	return strings.Join(path, string(os.PathListSeparator))
}

// flat is a list of NAME=value, sorted. What the kernel cannot pass is left out.
func flat(vars map[string]string) []string {
	out := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if !strings.ContainsRune(name+vars[name], 0) {
			out = append(out, name+"="+vars[name])
		}
	}
	return out
}

// overlay is an environment with variables added or replaced.
func overlay(env, over []string) []string {
	if len(over) == 0 {
		return env
	}
	vars := map[string]string{}
	for _, p := range slices.Concat(env, over) {
		name, value, _ := strings.Cut(p, "=")
		vars[name] = value
	}
	return flat(vars)
}
