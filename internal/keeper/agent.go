package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"

	"github.com/hashicorp/yamux"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// AgentOptions says where an agent works.
type AgentOptions struct {
	Folder string   // machine-wide; "~/" stands for the home. Its subfolders are those of servers and computes
	Self   []string // the command that starts the keeper; a subcommand follows
	Plain  bool     // jobs get the agent's own environment, not that of a login
}

// agent serves one connection. What it keeps in memory is only to save work; all that matters is in the folder.
type agent struct {
	opts  AgentOptions
	sess  *yamux.Session
	login func() login // the login's environment; waits for it
	gpus  func() []gpu // waits for nvidia-smi

	mu       sync.Mutex
	scope    *scope
	root     root
	watchers map[*watcher]bool
	notes    *notifier
	spares   spares
	seats    []*seat // supervisors that stand by
	ended    bool    // none shall stand by any more

	engineMu sync.Mutex
	engine   *engine // that jobs with an image use; nil: not found yet

	executable string // the executable that supervisors are started from

	wholeMu sync.Mutex
	whole   map[snapshot.Hash]bool // folders found whole, as long as nothing is evicted
}

// RunAgent serves one connection over in and out until in ends. Jobs go on after it.
func RunAgent(ctx context.Context, in io.Reader, out io.Writer, opts AgentOptions) error {
	home, _ := os.UserHomeDir()
	if rest, ok := cutHome(opts.Folder); ok {
		opts.Folder = filepath.Join(home, rest)
	}
	if !filepath.IsAbs(opts.Folder) {
		return fmt.Errorf("keeper: folder %q is not an absolute path", opts.Folder)
	}
	a := &agent{opts: opts, whole: map[snapshot.Hash]bool{}, watchers: map[*watcher]bool{}}
	a.executable, _ = os.Executable()
	a.login = sync.OnceValue(func() login { return readLogin(ctx, opts.Self) })
	if opts.Plain {
		a.login = func() login { return login{env: clean(os.Environ()), shell: "/bin/sh"} }
	}
	a.gpus = sync.OnceValue(func() []gpu { return findGPUs(ctx, a.login()) })
	go a.gpus() // ahead of the first question; ends by itself within its own limit
	err := writeHello(out, Hello{
		Protocol: Protocol, OS: runtime.GOOS, Arch: runtime.GOARCH, Boot: bootID(), Home: home, PID: os.Getpid(),
	})
	if err != nil {
		return err
	}
	closer, _ := in.(io.Closer)
	sess, err := yamux.Server(readWriteCloser{in, &joined{w: out}, closerFunc(func() error {
		if closer != nil {
			return closer.Close()
		}
		return nil
	})}, muxConfig(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	a.sess = sess
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = sess.Close() })
	defer stop()
	for {
		st, err := sess.AcceptStream()
		if err != nil {
			a.close()
			return nil // the server went away, which is how an agent ends
		}
		go a.serve(ctx, st) // ends with its stream
	}
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

func cutHome(path string) (string, bool) {
	if path == "~" {
		return "", true
	}
	if len(path) > 1 && path[:2] == "~/" {
		return path[2:], true
	}
	return "", false
}

func (a *agent) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.notes != nil {
		a.notes.close()
	}
}

func (a *agent) serve(ctx context.Context, st *yamux.Stream) {
	defer func() { _ = st.Close() }()
	var r request
	if err := readFrame(st, &r); err != nil {
		return
	}
	if r.Op != opOpen && !a.opened() {
		_ = writeFrame(st, answer{Fault: fault(Invalid, workspace.Problem{Code: "NotOpen", Message: "the first request was not to open"})})
		return
	}
	var err error
	switch r.Op {
	case opLogs:
		a.logs(ctx, st, r)
		return
	case opCollect:
		a.collect(st, r)
		return
	case opWatch:
		a.watch(st)
		return
	case opDial:
		a.dial(ctx, st, r)
		return
	case opSubmit:
		a.submit(st, r)
		return
	}
	var out answer
	switch r.Op {
	case opOpen:
		err = a.open(r.Scope)
	case opProbe:
		var f Facts
		f, err = a.probe(ctx)
		out.Facts = &f
	case opHave:
		objects := a.root.objects()
		for _, h := range r.Hashes {
			if !objects.has(h) {
				out.Missing = append(out.Missing, h)
			}
		}
	case opStatus:
		out.Statuses, err = a.status(r.Keys)
	case opCancel:
		err = a.cancel(r.Key, r.Epoch)
	case opRelease:
		err = a.release(ctx, r.Key, r.Epoch)
	case opRemove:
		err = a.removeAll(ctx)
	case opRun:
		out.Out, err = a.program(r.Path, r.Args, nil)
	case opBury:
		err = a.buryLaunched(r.Key, r.Why)
	default:
		err = fault(Invalid, workspace.Problem{Code: "UnknownRequest", Message: fmt.Sprintf("the keeper knows no request %.40q", r.Op)})
	}
	if err != nil {
		out = answer{Fault: asFault(err)}
	}
	_ = writeFrame(st, out)
}

func (a *agent) opened() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.scope != nil
}

// open makes the folder of the attachment and becomes its newest agent.
func (a *agent) open(s *scope) error {
	if s == nil {
		return fault(Invalid, workspace.Problem{Code: "NotOpen", Message: "the request to open says not for whom"})
	}
	r, err := newRoot(a.opts.Folder, s.Server, s.Compute)
	if err != nil {
		return err
	}
	err = makeRoot(r)
	if err == nil && s.Launcher == nil { // several machines use a launcher's folder, each with a boot of its own
		err = forgetOldBoot(r)
	}
	if err != nil {
		return folderFault(r.folder, err)
	}
	ln, err := listenAgent(r)
	if err != nil {
		return folderFault(r.folder, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.scope != nil {
		_ = ln.Close()
		return fault(Invalid, workspace.Problem{Code: "OpenTwice", Message: "the connection is open already"})
	}
	a.scope, a.root = s, r
	a.notes = newNotifier()
	go a.stay(ln) // ends with the connection
	go a.tidy()   // runs once
	return nil
}

func makeRoot(r root) error {
	for _, dir := range []string{r.folder, r.slots(), r.jobs(), r.objects().dir, r.objects().roots, r.file("env"), r.file("tools")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := os.Chmod(r.folder, 0o700); err != nil {
		return err
	}
	return nil
}

// forgetOldBoot empties the cache of objects after a restart of the machine.
func forgetOldBoot(r root) error {
	now := bootID()
	lock, err := takeLock(r.file("objects.lock"), exclusive, true)
	if err != nil {
		return err
	}
	defer lock.release()
	was, err := os.ReadFile(r.file("boot"))
	if err == nil && string(was) == now {
		return nil
	}
	if err == nil {
		s := r.objects()
		for _, dir := range []string{s.dir, s.roots, r.file("tools")} {
			if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(r.file("boot"), []byte(now), 0o600)
}

func folderFault(folder string, err error) error {
	return &Fault{Cause: Denied, Err: err, Problem: workspace.Problem{
		Class: workspace.Denied, Code: "FolderNotWritable", Message: "the folder " + folder + " cannot be used on the target", Cause: err.Error(),
		Mend: "free some room or correct its owner and mode, or name another folder in the compute's settings",
	}}
}

// status tells how jobs are. Each is a few system calls, so there is nothing to gain from doing them together.
func (a *agent) status(keys []string) ([]Status, error) {
	out := make([]Status, len(keys))
	for i, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, err
		}
		s, err := statusOf(a.root.job(key), key)
		if err != nil {
			return nil, err
		}
		out[i] = s
	}
	return out, nil
}

// fence passes whoever holds an epoch that is not lower than the highest seen, and keeps others from raising it until
// the returned lock is released.
func (a *agent) fence(epoch int64) (*fileLock, error) {
	path := a.root.file("epoch.lock")
	for {
		lock, err := takeLock(path, shared, true)
		if err != nil {
			return nil, err
		}
		seen, err := a.epoch()
		switch {
		case err != nil:
			lock.release()
			return nil, err
		case epoch == seen:
			return lock, nil
		case epoch < seen:
			lock.release()
			return nil, fault(Stale, workspace.Problem{
				Class: workspace.Conflict, Code: "StaleLease", Message: "another server holds the compute now",
				Cause: fmt.Sprintf("epoch %d was seen at the target, and this request is of epoch %d", seen, epoch),
				Mend:  "nothing needs doing: the other server goes on with the job",
			})
		}
		lock.release()
		if err := a.raise(path, epoch); err != nil {
			return nil, err
		}
	}
}

func (a *agent) epoch() (int64, error) {
	b, err := readFile(a.root.file("epoch"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(trimLine(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("keeper: the record of the epoch: %w", err)
	}
	return n, nil
}

func (a *agent) raise(path string, epoch int64) error {
	lock, err := takeLock(path, exclusive, true)
	if err != nil {
		return err
	}
	defer lock.release()
	if seen, err := a.epoch(); err != nil || seen >= epoch {
		return err
	}
	return writeRecord(a.root.path, "epoch", epoch, true)
}

func trimLine(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	return b
}

// dial connects to a port of a running job.
func (a *agent) dial(ctx context.Context, st *yamux.Stream, r request) {
	conn, err := a.dialJob(ctx, r)
	if err != nil {
		_ = writeFrame(st, answer{Fault: asFault(err)})
		return
	}
	if err := writeFrame(st, answer{}); err != nil {
		_ = conn.Close()
		return
	}
	pipe(st, conn)
}

func (a *agent) dialJob(ctx context.Context, r request) (net.Conn, error) {
	if err := checkKey(r.Key); err != nil {
		return nil, err
	}
	s, err := statusOf(a.root.job(r.Key), r.Key)
	if err != nil {
		return nil, err
	}
	if s.Phase != Running {
		return nil, fault(NotFound, workspace.Problem{
			Class: workspace.Conflict, Code: "JobNotRunning", Message: "the job does not run, so nothing listens in it", Mend: "wait until it runs",
		})
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("localhost", strconv.Itoa(r.Port)))
	if err != nil {
		return nil, fault(Internal, workspace.Problem{
			Class: workspace.Unavailable, Code: "NothingListens", Message: fmt.Sprintf("nothing answers on port %d of the target", r.Port), Cause: err.Error(),
			Mend: "let the job listen on 127.0.0.1 and try again when it does",
		})
	}
	return conn, nil
}
