package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func newJobStream(n *connection) *cobra.Command {
	var from int64
	cmd := &cobra.Command{
		Use: "stream NAME", Short: "Follow a job's log until its end",
		Long: `Follow a job's log, from its beginning to the job's end. The log goes to standard output as the job wrote it; states go
to standard error. A broken connection is made again and the log goes on where it was.
` + outcomeHelp,
		Example: `  moorage job stream calm_anchor_k2f9
  moorage job stream -n calm_anchor_k2f9 --from 1000000 > log.txt`,
		ValidArgsFunction: n.completeJobs,
	}
	name := named(cmd, "job")
	cmd.Flags().Int64Var(&from, "from", 0, "begin at this byte of the log")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if from < 0 {
			return usage("--from cannot be negative")
		}
		c, err := n.open()
		if err != nil {
			return err
		}
		return stream(cmd, n, c, *name, from, false)
	}
	return cmd
}

// interruptible is a context that Ctrl-C ends, so that watching stops and what is left is said.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
}

// interrupted says how to go on after Ctrl-C; any other error stays what it is.
func interrupted(ctx context.Context, cmd *cobra.Command, name string, err error) error {
	if ctx.Err() == nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "\nstopped watching; the job goes on\n  watch again:  moorage job stream %[1]s\n  end it:       moorage job cancel %[1]s\n", name)
	return Exit(exitCanceled)
}

// stream shows a job's log and states until its end, and returns its outcome. known says that the server has just
// answered, so that it is worth waiting for.
func stream(cmd *cobra.Command, n *connection, c *client.Client, name string, from int64, known bool) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	w := &watch{c: c, clock: n.clock, name: name, known: known, out: cmd.OutOrStdout(), err: &lockedWriter{w: cmd.ErrOrStderr()}}
	j, err := w.run(ctx, from)
	if err != nil {
		return interrupted(ctx, cmd, name, err)
	}
	if err := printEnd(cmd.ErrOrStderr(), j); err != nil {
		return err
	}
	return ended(j)
}

// watch follows one job: its log to out, its states to err.
type watch struct {
	c     *client.Client
	clock clock.Source
	name  string
	known bool // the server has answered before
	out   io.Writer
	err   io.Writer

	mu   sync.Mutex
	last *client.Job // as the events told it
}

// lockedWriter keeps lines of several goroutines apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes p as one piece.
func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (w *watch) run(ctx context.Context, from int64) (*client.Job, error) {
	inner, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	over := make(chan struct{}) // closed when the events told of the end, or cannot tell any more
	wg.Go(func() {
		defer close(over)
		w.states(inner)
	})
	defer wg.Wait()
	defer cancel()
	if err := w.log(ctx, from, over); err != nil {
		return nil, err
	}
	// The log ends with the job, and the events tell the same moment how.
	if j := w.told(ctx, over); j != nil {
		return j, nil
	}
	return waitFor(ctx, w.clock, w.c, w.name, waiter{known: true, say: w.err})
}

// eventsPatience is how long the events may be behind the log before the job itself is asked.
const eventsPatience = time.Second

// told is the job's end as the events tell it, or nil if they do not in time.
func (w *watch) told(ctx context.Context, over <-chan struct{}) *client.Job {
	ctx, cancel := context.WithTimeout(ctx, eventsPatience)
	defer cancel()
	select {
	case <-over:
	case <-ctx.Done():
	}
	if j := w.seen(); j != nil && j.State.Terminal() {
		return j
	}
	return nil
}

func (w *watch) seen() *client.Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// quietly is how long a connection has to last for its end to be no trouble: what lies between cuts quiet ones off.
const quietly = 10 * time.Second

// log copies the log until the job is over, over as many connections as it takes.
func (w *watch) log(ctx context.Context, from int64, over <-chan struct{}) error {
	for try := 0; ; {
		began := w.clock.Now()
		next, err := w.c.Log(ctx, w.name, "", from, true, w.out)
		more := next > from
		if from = next; more || w.clock.Now().Sub(began) > quietly {
			try = 0
		}
		if err == nil {
			// A server that stops ends the stream in good order, with the job still running.
			w.known = true
			j := w.told(ctx, over)
			if j == nil {
				j, err = w.c.Job(ctx, w.name)
			}
			if err == nil && (j.State.Terminal() || j.State == workspace.Finalizing) && (from >= j.LogSize || !more) {
				return nil
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			w.known = w.known || client.Broken(err)
			if !w.known || !transient(err) {
				return err
			}
			if more || try == 1 { // a quiet one may go unsaid, unless the next does not come either
				fmt.Fprintf(w.err, "%s; the job goes on; trying again\n", trouble(err, fmt.Sprintf("connection lost at byte %d of the log", from)))
				try = 1
			}
			try++
		}
		if err := client.Pause(ctx, backoff(try)); err != nil {
			return err
		}
	}
}

// longPoll is how long one request waits for a job. It is below what servers and proxies cut off as idle.
const longPoll = 50 * time.Second

// backoff is how long to wait before the next try.
func backoff(try int) time.Duration {
	return min(50*time.Millisecond<<min(try, 6), 3*time.Second)
}

// transient tells whether trying again may help: the connection is lost, or the server is busy.
func transient(err error) bool {
	p, ok := errors.AsType[*workspace.Problem](err)
	return client.Lost(err) || ok && (p.Class == workspace.Unavailable || p.Class == workspace.Throttled)
}

// trouble is a transient error in a few words: the server's own where it answered, else lost.
func trouble(err error, lost string) string {
	if p, ok := errors.AsType[*workspace.Problem](err); ok && !client.Lost(err) {
		return show.Plain(p.Message)
	}
	return lost
}

// states tells of each change of state on one line, until the job is over.
func (w *watch) states(ctx context.Context) {
	said := ""
	var prepare context.CancelFunc = func() {}
	defer func() { prepare() }()
	for ctx.Err() == nil {
		err := w.c.Events(ctx, w.name, func(j *client.Job) {
			w.mu.Lock()
			w.last = j
			w.mu.Unlock()
			prepare()
			if j.State == workspace.Preparing {
				prepare = w.preparing(ctx)
			}
			if line := stateLine(j); line != said && !j.State.Terminal() {
				said = line
				fmt.Fprintln(w.err, line)
			}
		})
		if j := w.seen(); j != nil && j.State.Terminal() {
			return
		}
		if err != nil && !transient(err) {
			return // the log tells the same error
		}
		if client.Pause(ctx, time.Second) != nil {
			return
		}
	}
}

// prepareAfter is how long making an environment may take before its log is shown.
const prepareAfter = 400 * time.Millisecond

// preparing shows the log of the environment's making on err while that goes on, if it takes a while.
func (w *watch) preparing(ctx context.Context) context.CancelFunc {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if client.Pause(ctx, prepareAfter) == nil {
			_, _ = w.c.Log(ctx, w.name, "prepare", 0, true, w.err) // an extra: the job's own log and error tell the rest
		}
	})
	return func() { cancel(); wg.Wait() }
}

// stateLine is a state with its reason: "Queued: waits for a slot on gpu (2 before it)".
func stateLine(j *client.Job) string {
	line := string(j.State)
	if text := waiting(j); text != "" {
		line += ": " + text
	}
	return show.Plain(line)
}

// printEnd says how a job ended, with cause and mend of a failure.
func printEnd(w io.Writer, j *client.Job) error {
	line := string(j.State)
	if j.State == workspace.Failed && j.ExitCode != nil && *j.ExitCode > 0 {
		line += fmt.Sprintf(" with exit code %d", *j.ExitCode)
	}
	if took := duration(j); took != "" {
		line += " after " + took
	}
	if _, err := fmt.Fprintf(w, "%s: %s\n", j.Name, line); err != nil {
		return err
	}
	if j.Error != nil && j.Error.Message != "" && j.State != workspace.Completed {
		show.Finding(w, *j.Error)
	}
	return nil
}

// waiter says how to wait: at most timeout if that is not 0, telling of lost connections on say. known says that the
// server has just answered, so that one which is away is worth waiting for.
type waiter struct {
	timeout time.Duration
	known   bool
	say     io.Writer
}

// waitShowing waits like waitFor, and on a terminal tells of each change of state meanwhile.
func waitShowing(ctx context.Context, cmd *cobra.Command, n *connection, c *client.Client, name string, how waiter) (*client.Job, error) {
	if !show.Terminal(cmd.ErrOrStderr()) {
		return waitFor(ctx, n.clock, c, name, how)
	}
	lines := &lockedWriter{w: cmd.ErrOrStderr()}
	how.say = lines
	w := &watch{c: c, clock: n.clock, name: name, err: lines}
	inner, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { w.states(inner) })
	defer wg.Wait()
	defer cancel()
	return waitFor(ctx, n.clock, c, name, how)
}

// waitFor waits for a job's end, or until the time is up, over as many connections as it takes.
func waitFor(ctx context.Context, clk clock.Source, c *client.Client, name string, w waiter) (*client.Job, error) {
	began := clk.Now()
	for lost := 0; ; {
		patience := longPoll
		if w.timeout > 0 {
			patience = max(min(patience, w.timeout-clk.Now().Sub(began)), 0)
		}
		j, err := c.WaitJob(ctx, name, patience.Round(time.Millisecond))
		late := w.timeout > 0 && clk.Now().Sub(began) >= w.timeout
		if err == nil && (j.State.Terminal() || late) {
			return j, nil
		}
		if err == nil {
			w.known, lost = true, 0
			continue
		}
		if ctx.Err() != nil || !w.known || late || !transient(err) {
			return nil, err
		}
		if lost == 0 {
			fmt.Fprintln(w.say, trouble(err, "connection lost")+"; the job goes on; trying again")
		}
		lost++
		if err := client.Pause(ctx, backoff(lost)); err != nil {
			return nil, err
		}
	}
}
