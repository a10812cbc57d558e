package keeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Objects reads content-addressed objects, as compute.Objects.
type Objects interface {
	Open(ctx context.Context, hash snapshot.Hash) (io.ReadCloser, int64, error)
}

// Options is what a client and its agent need to know.
type Options struct {
	Server  string // with Compute it scopes everything on the target
	Compute string
	// Slots is how many jobs run at once on the machine, over all attachments of the login; 0: one per CPU.
	Slots int
	// GPUs is how many devices there are; 0: as many as nvidia-smi finds.
	GPUs int
	// HideGPUs lets jobs that want no GPU see none.
	HideGPUs bool
	// CA is the server's certificate authority, PEM, for compute.CAFile.
	CA []byte
	// Objects gives what the target lacks.
	Objects Objects
	// WayBack takes over and closes a connection that a job made towards the server. Nil: refused.
	WayBack func(key string, conn net.Conn)
	// Launcher, if not nil, starts supervisors by a queueing system.
	Launcher *Launcher
	// Log gets what the connection's machinery says. Nil: nothing.
	Log *slog.Logger
}

// Client is a connection to one agent. It is safe for concurrent use. Its errors are *Fault, or those of a context.
type Client struct {
	opts  Options
	hello Hello
	sess  *yamux.Session
	known *known
}

// Dial speaks to the agent at the other end of rwc and takes rwc over; it is closed with the client, or when Dial fails.
// ctx bounds only the dialling.
func Dial(ctx context.Context, rwc io.ReadWriteCloser, opts Options) (*Client, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	stop := context.AfterFunc(ctx, func() { _ = rwc.Close() })
	c, err := dial(ctx, rwc, opts)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = rwc.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("keeper: dial: %w", context.Cause(ctx))
		}
		return nil, err
	}
	return c, nil
}

func dial(ctx context.Context, rwc io.ReadWriteCloser, opts Options) (*Client, error) {
	br := bufio.NewReaderSize(rwc, 64<<10)
	hello, err := readHello(br)
	if err != nil {
		said := ""
		if n, ok := errors.AsType[*noHelloError](err); ok {
			said = n.noise
		}
		return nil, &Fault{Cause: Gone, Err: err, Problem: workspace.Problem{
			Class: workspace.Unavailable, Code: "KeeperNotStarted", Message: "the keeper did not start on the target", Cause: said,
			Mend: "run a command there by hand; a login that prints an error, a full disk or a noexec home are the usual causes",
		}}
	}
	if hello.Protocol != Protocol {
		return nil, fault(Invalid, workspace.Problem{
			Class: workspace.Invalid, Code: "KeeperVersion",
			Message: fmt.Sprintf("the target's keeper speaks protocol %d and this server %d", hello.Protocol, Protocol),
			Mend:    "remove the keeper program from the target's folder; the server places its own again",
		})
	}
	sess, err := yamux.Client(readWriteCloser{br, &joined{w: rwc}, rwc}, muxConfig(opts.Log))
	if err != nil {
		return nil, fmt.Errorf("keeper: dial: %w", err)
	}
	c := &Client{opts: opts, hello: hello, sess: sess, known: newKnown()}
	_, err = c.ask(ctx, request{Op: opOpen, Scope: &scope{
		Server: opts.Server, Compute: opts.Compute, Slots: opts.Slots, GPUs: opts.GPUs, HideGPUs: opts.HideGPUs, CA: string(opts.CA), Launcher: opts.Launcher,
	}})
	if err != nil {
		_ = sess.Close()
		return nil, err
	}
	go c.accept() // ends with the session
	return c, nil
}

type readWriteCloser struct {
	io.Reader
	io.Writer
	io.Closer
}

// muxConfig has windows that fill a fast line over a long distance, and notices a dead line within half a minute.
func muxConfig(log *slog.Logger) *yamux.Config {
	c := yamux.DefaultConfig()
	c.MaxStreamWindowSize = 4 << 20
	c.KeepAliveInterval = 10 * time.Second
	c.ConnectionWriteTimeout = 20 * time.Second
	c.LogOutput = nil
	c.Logger = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	return c
}

// Hello is what the agent said of itself.
func (c *Client) Hello() Hello { return c.hello }

// Done is closed when the connection is lost or closed.
func (c *Client) Done() <-chan struct{} { return c.sess.CloseChan() }

// Close ends the connection and its agent. Jobs go on.
func (c *Client) Close() error { return c.sess.Close() }

// call is one stream, bound to a context.
type call struct {
	*yamux.Stream
	c    *Client
	ctx  context.Context //nolint:containedctx // of the one call that this is
	stop func() bool
}

func (c *Client) open(ctx context.Context, r request) (*call, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	st, err := c.sess.OpenStream()
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	l := &call{Stream: st, c: c, ctx: ctx}
	l.stop = context.AfterFunc(ctx, func() { _ = st.SetDeadline(time.Unix(1, 0)) })
	if err := writeFrame(st, r); err != nil {
		l.end()
		return nil, c.fail(ctx, err)
	}
	return l, nil
}

// end gives the stream up.
func (l *call) end() {
	l.stop()
	_ = l.Stream.Close()
}

// answer reads one answer; a fault in it is the error.
func (l *call) answer() (answer, error) {
	var a answer
	if err := readFrame(l.Stream, &a); err != nil {
		return a, l.c.fail(l.ctx, err)
	}
	if a.Fault != nil {
		return a, a.Fault
	}
	return a, nil
}

// ask is a request with one answer.
func (c *Client) ask(ctx context.Context, r request) (answer, error) {
	l, err := c.open(ctx, r)
	if err != nil {
		return answer{}, err
	}
	defer l.end()
	return l.answer()
}

// fail makes the error of a broken call: the context's, or that the connection is gone.
func (c *Client) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &Fault{Cause: Gone, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: "ConnectionLost", Message: "the connection to the target's agent was lost", Cause: err.Error(),
		Mend: "nothing needs doing: jobs go on there, and the server connects again",
	}}
}

// Status tells how jobs are, in the order asked.
func (c *Client) Status(ctx context.Context, keys []string) ([]Status, error) {
	a, err := c.ask(ctx, request{Op: opStatus, Keys: keys})
	if err == nil && len(a.Statuses) != len(keys) {
		err = c.fail(ctx, fmt.Errorf("keeper: %d statuses for %d jobs", len(a.Statuses), len(keys)))
	}
	return a.Statuses, err
}

// Cancel records the wish to end the job and tells its supervisor. An unknown job is fenced.
func (c *Client) Cancel(ctx context.Context, key string, epoch int64) error {
	_, err := c.ask(ctx, request{Op: opCancel, Key: key, Epoch: epoch})
	return err
}

// Release removes the job's folder. Unknown: nil. A job that is still running is a Fault JobRunning.
func (c *Client) Release(ctx context.Context, key string, epoch int64) error {
	_, err := c.ask(ctx, request{Op: opRelease, Key: key, Epoch: epoch})
	return err
}

// RemoveAll ends all jobs of this server and compute and removes everything that was placed for them.
func (c *Client) RemoveAll(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: opRemove})
	return err
}

// Probe looks at the target.
func (c *Client) Probe(ctx context.Context) (Facts, error) {
	a, err := c.ask(ctx, request{Op: opProbe})
	if err != nil {
		return Facts{}, err
	}
	if a.Facts == nil {
		return Facts{}, c.fail(ctx, errors.New("keeper: an answer without facts"))
	}
	return *a.Facts, nil
}

// Watch calls fn for each change, one call at a time. It returns when ctx ends or the connection is lost.
func (c *Client) Watch(ctx context.Context, fn func(Status)) error {
	l, err := c.open(ctx, request{Op: opWatch})
	if err != nil {
		return err
	}
	defer l.end()
	if _, err := l.answer(); err != nil {
		return err
	}
	for {
		var s Status
		if err := readFrame(l.Stream, &s); err != nil {
			return c.fail(ctx, err)
		}
		fn(s)
	}
}

// Logs writes a job's log from an offset on and returns the offset after the last byte written.
func (c *Client) Logs(ctx context.Context, key, stream string, from int64, follow bool, w io.Writer) (int64, error) {
	l, err := c.open(ctx, request{Op: opLogs, Key: key, Stream: stream, From: from, Follow: follow})
	if err != nil {
		return from, err
	}
	defer l.end()
	if _, err := l.answer(); err != nil {
		return from, err
	}
	buf := make([]byte, dataFrame)
	for next := from; ; {
		b, err := readData(l.Stream, buf)
		if err != nil {
			return next, c.fail(ctx, err)
		}
		if len(b) == 0 {
			a, err := l.answer()
			return max(next, a.Next), err
		}
		n, err := w.Write(b)
		next += int64(n)
		if err != nil {
			return next, err
		}
	}
}

// Dial connects to a TCP port on the target's loopback, for a running job.
func (c *Client) Dial(ctx context.Context, key string, port int) (net.Conn, error) {
	l, err := c.open(ctx, request{Op: opDial, Key: key, Port: port})
	if err != nil {
		return nil, err
	}
	if _, err := l.answer(); err != nil {
		l.end()
		return nil, err
	}
	if !l.stop() {
		_ = l.Stream.Close()
		return nil, context.Cause(ctx)
	}
	return l.Stream, nil
}

// accept serves the streams that the agent opens. It ends with the session.
func (c *Client) accept() {
	for {
		st, err := c.sess.AcceptStream()
		if err != nil {
			return
		}
		go c.wayBack(st) // ends with the connection that it carries
	}
}

func (c *Client) wayBack(st *yamux.Stream) {
	var r request
	_ = st.SetReadDeadline(time.Now().Add(30 * time.Second))
	err := readFrame(st, &r)
	_ = st.SetReadDeadline(time.Time{})
	if err != nil || r.Op != opWayBack || c.opts.WayBack == nil {
		_ = writeFrame(st, answer{Fault: fault(Denied, workspace.Problem{Code: "NoWayBack", Message: "the server takes no connections of jobs"})})
		_ = st.Close()
		return
	}
	if err := writeFrame(st, answer{}); err != nil {
		_ = st.Close()
		return
	}
	c.opts.WayBack(r.Key, st)
}
