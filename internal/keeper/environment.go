package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// An environment is whole when its folder holds the file "ok". Its time is that of the last use, and its content how long
// the environment may stay unused. Its lock is held
// exclusively while it is made or removed, and shared by each job that uses it.
const environmentReady = "ok"

// environmentSaid is the file of an environment in which its steps leave what each job that uses it shall find in its log of
// preparing, as the one for which it was made does.
const environmentSaid = "say"

// environment makes the environment, or finds it made, and adds its variables to the job's.
func (s *supervisor) environment(ctx context.Context, e Environment) error {
	if e.Say != "" {
		s.note("%s", e.Say)
	}
	dir := s.root.env(e.Hash)
	if len(e.Steps) > 0 {
		if !plain(e.Hash) {
			return badName("environment", e.Hash)
		}
		if err := s.prepared(ctx, e, dir); err != nil {
			return err
		}
	}
	fill := strings.NewReplacer("{{env}}", dir)
	for _, v := range e.Env {
		s.vars = append(s.vars, fill.Replace(v))
	}
	for _, p := range e.Path {
		s.path = append(s.path, filepath.Join(dir, filepath.FromSlash(p)))
	}
	return nil
}

func lookup(env []string, name string) string {
	for _, v := range env {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			return rest
		}
	}
	return ""
}

// prepared returns when the environment is whole; s.env is then held.
func (s *supervisor) prepared(ctx context.Context, e Environment, dir string) error {
	path := dir + ".lock"
	found := true
	for {
		use, err := takeLock(path, shared, false)
		if err != nil {
			return err
		}
		if use != nil && exists(filepath.Join(dir, environmentReady)) {
			now := time.Now()
			_ = os.Chtimes(filepath.Join(dir, environmentReady), now, now)
			s.env = use
			if said, err := os.ReadFile(filepath.Join(dir, environmentSaid)); err == nil && found {
				s.note("%s", bytes.TrimSpace(said))
			}
			return nil
		}
		use.releaseIfHeld()
		s.preparing(e.Hash)
		// Another job may be making it; the wait ends with it, or with this process.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		made, err := waitLock(ctx, f)
		if err != nil {
			return err
		}
		if !exists(filepath.Join(dir, environmentReady)) {
			found = false
			err = s.make(ctx, e, dir)
		}
		made.release()
		if err != nil {
			return err
		}
	}
}

// make runs the steps. What fails leaves nothing behind.
func (s *supervisor) make(ctx context.Context, e Environment, dir string) (err error) {
	// Whoever holds the lock is the only maker; what still runs was left by one that was killed.
	if err := endMarked(stepMark(dir)); err != nil {
		return err
	}
	if err := removeTree(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = removeTree(dir)
		}
	}()
	pairs := []string{"{{env}}", dir}
	for _, t := range e.Tools {
		path, err := s.tool(t)
		if err != nil {
			return err
		}
		pairs = append(pairs, "{{tool."+t.Name+"}}", path)
	}
	fill := strings.NewReplacer(pairs...)
	// What the log shows is short: steps run in the environment's folder.
	brief := []string{"{{env}}", "."}
	for _, t := range e.Tools {
		brief = append(brief, "{{tool."+t.Name+"}}", t.Name)
	}
	for _, step := range e.Steps {
		if len(step.Args) > 0 {
			s.note("+ %s", strings.NewReplacer(brief...).Replace(strings.Join(step.Args, " ")))
		}
		if err := s.step(ctx, step, dir, fill); err != nil {
			return err
		}
	}
	keep := e.Keep
	if keep <= 0 {
		keep = DefaultKeep
	}
	return os.WriteFile(filepath.Join(dir, environmentReady), []byte(keep.String()), 0o600)
}

// tool places a program, by content, and gives its path.
func (s *supervisor) tool(t Tool) (string, error) {
	if !t.Object.Valid() {
		return "", badHash(string(t.Object))
	}
	path := s.root.tool(string(t.Object))
	if exists(path) {
		return path, nil
	}
	temp := path + "." + s.key
	if err := snapshot.CopyFile(s.root.objects().Path(t.Object), temp, 0o700); err != nil {
		return "", err
	}
	return path, os.Rename(temp, path)
}

func (s *supervisor) step(ctx context.Context, step Step, dir string, fill *strings.Replacer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for name, text := range step.Files {
		if d := filepath.Dir(name); d != "." {
			if err := root.MkdirAll(d, 0o700); err != nil {
				return err
			}
		}
		if err := root.WriteFile(name, []byte(fill.Replace(text)), 0o600); err != nil {
			return err
		}
	}
	if len(step.Args) == 0 {
		return nil
	}
	args := make([]string, len(step.Args))
	for i, a := range step.Args {
		args[i] = fill.Replace(a)
	}
	return s.runStep(ctx, args, dir)
}

// stepMark marks the processes that make an environment.
func stepMark(dir string) string { return "environment:" + dir }

// tailBytes is how much of a failed step's output becomes the cause.
const tailBytes = 2000

// runStep runs one command with its output in the log of preparing.
func (s *supervisor) runStep(ctx context.Context, args []string, dir string) error {
	log, err := s.prepareLog()
	if err != nil {
		return err
	}
	from := fileSize(log.Name())
	how := ""
	if s.spec.Job.Image != nil {
		how, err = s.stepContained(ctx, args, dir)
	} else {
		err = s.runHere(ctx, args, dir, append(slices.Clone(s.given.Login), processMark+"="+stepMark(dir)))
		if x, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
			how, err = x.Error(), nil
		}
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok && e.Op == "fork/exec" {
		return &workspace.Problem{
			Code: "EnvironmentFailed", Message: fmt.Sprintf("%s cannot be started to make the environment", filepath.Base(args[0])), Cause: err.Error(),
			Mend: "look at the log of preparing, and check that the program is on the target",
		}
	}
	if err != nil || how == "" {
		return err
	}
	return &workspace.Problem{
		Code: "EnvironmentFailed", Message: fmt.Sprintf("the environment cannot be made: %s ended with %s", filepath.Base(args[0]), how),
		Cause: tail(log.Name(), from), Mend: "correct the environment's packages, then submit the job again; its log of preparing has all of it",
	}
}

// runHere runs a program of the target with its output in the log of preparing. When ctx ends, so does the program.
func (s *supervisor) runHere(ctx context.Context, args []string, dir string, env []string) error {
	log, err := s.prepareLog()
	if err != nil {
		return err
	}
	program := args[0]
	if !strings.Contains(program, "/") {
		program = lookPath(s.given.Login, program)
	}
	cmd := &exec.Cmd{Path: program, Args: args, Dir: dir, Env: env, Stdout: log, Stderr: log}
	cmd.SysProcAttr = commandAttr()
	runtime.LockOSThread() // the program is to die with the thread that started it
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		time.Sleep(min(s.spec.Job.grace(), lingering))
		_ = endBelow(syscall.SIGKILL, nil)
	})
	err = cmd.Wait()
	stop()
	_ = endBelow(syscall.SIGKILL, nil) // what a step leaves running would hold the environment
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// tail is the end of a file, in whole lines.
func tail(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	size := fileSize(path)
	start := max(from, size-tailBytes)
	b := make([]byte, size-start)
	n, _ := io.ReadFull(io.NewSectionReader(f, start, size-start), b)
	b = b[:n]
	if start > from {
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "�"))
}

// lookPath finds a program in the login's PATH.
func lookPath(env []string, name string) string {
	for _, dir := range filepath.SplitList(lookup(env, "PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return name
}
