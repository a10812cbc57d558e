package keeper

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// supervisor runs one job from its folder and records how it ends.
type supervisor struct {
	dir   string
	key   string
	root  root
	spec  specRecord
	given given
	in    io.Reader // of given; nil: it is there
	lock  *fileLock
	turn  *os.File  // the file of its place in the queue; nil: inherited
	tell  io.Writer // see tell.go; nil: nobody is told
	agent *reporter
	slot  *allotment

	vars    []string          // of the environment, NAME=value
	path    []string          // of the environment, before PATH
	paths   map[string]string // of ${{inputs.x}} and ${{outputs.x}}
	env     *fileLock         // shared, while the job uses an environment
	prepare *os.File
	back    *wayBack
	names   *names
	mark    string

	mu    sync.Mutex
	told  bool               // that it prepares, as long as it does
	all   bool               // it has prepared all
	lost  bool               // objects that it was promised are not there, see elsewhere.go
	lacks *workspace.Problem // why it waits, as long as it does

	clean bool // nothing of the job is left in this process
}

// Why a job is ended from outside.
var (
	errCanceled = errors.New("canceled")
	errTimedOut = errors.New("timed out")
	errTerm     = errors.New("the supervisor was asked to end")
)

// lockFD is where a supervisor inherits the job's lock.
const lockFD = 3

// supervise is the whole life of a supervisor. What goes wrong before there is a record is said on standard error, which
// is a file of the attachment.
func supervise(dir string, tell io.Writer) int {
	if tell != nil { // there is no agent that made it
		if err := makeJob(dir); err != nil {
			fmt.Fprintln(os.Stderr, "keeper: supervise:", err)
			return 1
		}
	}
	lock, err := inheritLock(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "keeper: supervise:", err)
		return 1
	}
	return superviseWith(dir, lock, os.Stdin, tell)
}

// superviseWith holds the job's lock, reads from in what it is given, and prints its records to tell unless that is nil.
// After that job it does those that the agent gives it, see standby.go.
func superviseWith(dir string, lock *fileLock, in io.Reader, tell io.Writer) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	agent := newReporter(rootOf(dir))
	job := &assignment{Dir: dir, lock: lock.f}
	for {
		s := &supervisor{
			dir: job.Dir, key: filepath.Base(job.Dir), root: rootOf(job.Dir), given: job.Given, in: in, lock: &fileLock{job.lock}, turn: job.turn,
			tell: tell, agent: agent, paths: map[string]string{},
		}
		code, err := s.life(signals)
		if err != nil {
			fmt.Fprintln(os.Stderr, "keeper: supervise:", s.key, err)
		}
		s.lock.release()
		if job, in = agent.bye(s.clean && err == nil && tell == nil, signals), nil; job == nil {
			return code
		}
	}
}

// inheritLock finds the lock that the agent took for us, or takes it.
func inheritLock(dir string) (*fileLock, error) {
	path := filepath.Join(dir, fileLockName)
	f := os.NewFile(lockFD, path)
	have, err := f.Stat()
	want, err2 := os.Lstat(path)
	if err == nil && err2 == nil && os.SameFile(have, want) {
		syscall.CloseOnExec(lockFD)
		if ok, err := lockFile(f, exclusive, false); err != nil || !ok {
			return nil, errors.Join(err, errors.New("the inherited lock is not ours"))
		}
		return &fileLock{f}, nil
	}
	l, err := takeLock(path, exclusive, false)
	if err == nil && l == nil {
		err = errors.New("the job has a supervisor")
	}
	return l, err
}

func (s *supervisor) life(signals <-chan os.Signal) (int, error) {
	if err := errors.Join(s.say(), becomeReaper()); err != nil {
		return 1, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	var ears sync.WaitGroup
	defer func() { // before the next job, whose signals are its own
		cancel(nil)
		ears.Wait()
	}()
	ears.Go(func() { s.listen(ctx, cancel, signals) })
	if s.in != nil {
		if err := json.NewDecoder(s.in).Decode(&s.given); err != nil {
			return 1, fmt.Errorf("what the agent gives: %w", err)
		}
	}
	if s.given.Login == nil { // nobody read a login's environment for it: a container's, or a batch job's
		s.given.Login = os.Environ()
	}
	if s.given.Spec != nil {
		s.spec = *s.given.Spec
		if err := s.keepSpec(); err != nil {
			return 1, err
		}
	} else if err := readRecord(s.dir, fileSpec, &s.spec); err != nil {
		return 1, err
	}
	for _, name := range []string{fileExit, fileStarted} {
		if exists(filepath.Join(s.dir, name)) {
			return 1, errors.New("the job was started before")
		}
	}
	s.agent.begin(s.key)
	x := s.run(ctx)
	s.slot.release()
	if s.tellLost() {
		return 1, errors.New("objects that were there are gone")
	}
	if errors.Is(context.Cause(ctx), errTerm) && !exists(filepath.Join(s.dir, fileStarted)) {
		return 1, errTerm // never started: a later submit starts it
	}
	if x.Ended.IsZero() {
		x.Ended = time.Now().UTC()
	}
	x.Files = hasFiles(s.dir)
	if err := s.record(x); err != nil {
		return 1, err
	}
	s.agent.changed()
	return 0, nil
}

// boot is the machine's present boot. An agent that gives the specification has just looked.
func (s *supervisor) boot() string {
	if s.given.Spec != nil {
		return s.spec.Boot
	}
	return bootID()
}

// record writes how the job ended. On a full disk it waits for room, because nobody else knows.
func (s *supervisor) record(x Exit) error {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := s.write(fileExit, exitRecord{Format: format, Exit: x}, true)
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
			return err
		}
		time.Sleep(wait)
	}
}

// thisProcess is what the lock of a job says that this process has.
var thisProcess = sync.OnceValue(func() holder {
	h := holder{PID: os.Getpid()}
	if p, err := readProcess(h.PID); err == nil {
		h.Start = p.start
	}
	return h
})

// say writes into the lock's file who holds it.
func (s *supervisor) say() error {
	b, err := json.Marshal(thisProcess())
	if err != nil {
		return err
	}
	if _, err := s.lock.f.WriteAt(b, 0); err != nil {
		return err
	}
	return s.lock.f.Truncate(int64(len(b)))
}

// slowWish is how often a supervisor looks for a tombstone that nobody told it of.
const slowWish = 2 * time.Second

// listen makes SIGTERM a reason to look for a tombstone, and to end the job without one. SIGHUP is a reason to look and no
// more. Signals are caught and not ignored, because what is ignored is inherited by the job.
func (s *supervisor) listen(ctx context.Context, cancel context.CancelCauseFunc, signals <-chan os.Signal) {
	tomb := filepath.Join(s.dir, fileCanceled)
	tick := time.NewTicker(slowWish)
	defer tick.Stop()
	for {
		if exists(tomb) {
			cancel(errCanceled)
			return
		}
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			if sig != syscall.SIGHUP && !exists(tomb) {
				cancel(errTerm)
			}
		case <-tick.C:
		}
	}
}

// run does the steps of a job. Whatever happens becomes an exit.
func (s *supervisor) run(ctx context.Context) Exit {
	if ctx.Err() != nil {
		return stopped(ctx, "")
	}
	// It is prepared while it waits for its slot. What fails in one ends the other.
	both, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	prepared := make(chan error, 1)
	go func() {
		err := s.ready(both)
		if err != nil {
			cancel(err)
		}
		prepared <- err
	}()
	err := s.allot(both)
	if err != nil {
		cancel(err)
	}
	defer func() {
		s.env.releaseIfHeld()
		s.names.close()
		s.back.close()
	}()
	if ready := <-prepared; ready != nil {
		err = ready
	}
	if err != nil {
		return s.failed(ctx, err)
	}
	return s.command(ctx)
}

// allot waits for the job's slot, unless what started the supervisor has allotted one.
func (s *supervisor) allot(ctx context.Context) error {
	if s.spec.Slots == 0 {
		return nil
	}
	turn, err := placeOf(s.root.queue(), s.given.Place, s.turn)
	if err != nil {
		return err
	}
	slot, err := allot(ctx, s.root, turn, s.spec, s.waits)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slot, s.lacks = slot, nil
	return err
}

// waits records why the job waits. It is a hint, so it is not flushed.
func (s *supervisor) waits(reason *workspace.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slot != nil {
		return // it came a moment late
	}
	if s.lacks = reason; !s.told {
		s.waiting()
	}
}

func (s *supervisor) waiting() {
	_ = s.write(filePhase, phaseRecord{Format: format, Phase: Waiting, Reason: s.lacks}, false)
	s.agent.changed()
}

// placed tells that preparing is over, and leaves it at waiting, if it still does.
func (s *supervisor) placed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told && s.lacks != nil {
		s.waiting()
	}
	s.told, s.all = false, true
}

func (s *supervisor) preparing(env string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all || s.told && env == "" {
		return // more is known already
	}
	s.told = true
	_ = s.write(filePhase, phaseRecord{Format: format, Phase: Preparing, Env: env}, false)
	s.agent.changed()
}

// failed is the exit of a job that did not come to its command.
func (s *supervisor) failed(ctx context.Context, err error) Exit {
	if ctx.Err() != nil {
		return stopped(ctx, "")
	}
	x := Exit{Outcome: Failed, Code: -1}
	if p, ok := errors.AsType[*workspace.Problem](err); ok {
		x.Problem = p
		return x
	}
	x.Problem = &workspace.Problem{
		Code: "PreparingFailed", Message: "the job could not be prepared on the target", Cause: err.Error(),
		Mend: "look at the target's disk and permissions, then submit the job again",
	}
	if errors.Is(err, fs.ErrNotExist) {
		x.Problem.Mend = "submit the job again; something removed files from the keeper's folder"
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		x.Problem.Code, x.Problem.Message, x.Problem.Mend = "DiskFull", "the target's disk is full", "free some room on the target, then submit the job again"
	}
	return x
}

// stopped is the exit of a job that was ended from outside.
func stopped(ctx context.Context, signal string) Exit {
	x := Exit{Outcome: Failed, Code: -1, Signal: signal}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errCanceled):
		x.Outcome = Canceled
	case errors.Is(cause, errTimedOut):
		x.Outcome = TimedOut
		x.Problem = &workspace.Problem{
			Code: "JobTimedOut", Message: "the command ran longer than the job's timeout", Mend: "give the job more time, or let it save its work and go on later",
		}
	default:
		x.Problem = &workspace.Problem{
			Code: "SupervisorEnded", Message: "somebody on the target asked the job's supervisor to end", Cause: cause.Error(),
			Mend: "submit the job again; a shutdown of the machine is the usual reason",
		}
	}
	return x
}

func (l *fileLock) releaseIfHeld() {
	if l != nil {
		l.release()
	}
}

func randomMark() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
