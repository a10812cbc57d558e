package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/compute"
)

// wayBack serves the connections that jobs make towards the server through their compute. What a target carries is a
// pipe of bytes: a job may speak TLS on it or not, and the first byte tells which. Every request on such a connection
// carries the job that it came from, and the credential of that very job is demanded like any other.
type wayBack struct {
	tls    *tls.Config
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// newWayBack offers HTTP/1.1 alone: net/http speaks HTTP/2 only where it did the handshake itself, and clients that could would be
// lost with the other's promise.
func newWayBack(config *tls.Config) *wayBack {
	config = config.Clone()
	config.NextProtos = []string{"http/1.1"}
	return &wayBack{tls: config, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Serve takes one connection over.
func (w *wayBack) Serve(job compute.Key, conn net.Conn) {
	go func() {
		buffered := &bufferedConn{Conn: conn, r: bufio.NewReader(conn)}
		_ = conn.SetReadDeadline(time.Now().Add(firstByte)) // one that cannot is closed by its job
		first, err := buffered.r.Peek(1)
		if err == nil {
			err = conn.SetReadDeadline(time.Time{})
		}
		if err != nil {
			_ = conn.Close() // the job went away before it said anything
			return
		}
		var c net.Conn = buffered
		if first[0] == tlsHandshake {
			c = tls.Server(c, w.tls)
		}
		select {
		case w.conns <- &jobConn{Conn: c, job: job}:
		case <-w.closed:
			_ = conn.Close() // the server stops
		}
	}()
}

// firstByte is how long a connection may be silent before it says anything.
const firstByte = time.Minute

// tlsHandshake is the first byte of a TLS connection (RFC 8446 §5.1).
const tlsHandshake = 22

// Accept, Close and Addr make it a net.Listener for http.Server.
func (w *wayBack) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (w *wayBack) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

// Addr names the listener in logs.
func (w *wayBack) Addr() net.Addr { return wayBackAddr{} }

type wayBackAddr struct{}

func (wayBackAddr) Network() string { return "wayback" }
func (wayBackAddr) String() string  { return "way back of jobs" }

type jobConn struct {
	net.Conn
	job compute.Key
}

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (b *bufferedConn) Read(p []byte) (int, error) { return b.r.Read(p) }

// wayContext tells package authn by which job's way back a request came.
func wayContext(ctx context.Context, c net.Conn) context.Context {
	j, ok := c.(*jobConn)
	if !ok {
		return ctx
	}
	if _, secure := j.Conn.(*tls.Conn); secure {
		ctx = api.Secure(ctx) // net/http does not see the TLS below the connection's wrapping
	}
	return authn.WithWayBack(ctx, j.job.Job, j.job.Attempt)
}

var _ net.Listener = (*wayBack)(nil)
