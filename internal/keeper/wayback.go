package keeper

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"time"
)

// waitServer is how long a connection of a job waits for the server to be there.
const waitServer = 10 * time.Minute

// maxBack is how many connections of a job are carried at once; more wait.
const maxBack = 256

// wayBack is a loopback port through which the job reaches the server. Other logins of the machine can connect to it too:
// what comes out at the server must show the job's own secret.
type wayBack struct {
	ln   net.Listener
	root root
	key  string
	stop context.CancelFunc
}

// doors opens the way back and writes the CA bundle, if the job asks for them.
func (s *supervisor) doors(job Job) error {
	if asksFor(job.Env, CAFile) {
		if err := placeCA(s.root, s.boot(), s.given.Login, s.spec.CA, filepath.Join(s.dir, fileCA)); err != nil {
			return err
		}
	}
	if !asksFor(job.Env, WayBackAddress) && !asksFor(job.Env, BlobHost) {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // asking whether there is such a thing costs more than the port
	ln, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		cancel()
		return err
	}
	s.back = &wayBack{ln: ln, root: s.root, key: s.key, stop: cancel}
	go acceptAll(ctx, ln, maxBack, s.back.carry) // ends when closed
	return nil
}

// address is host:port, or nothing if there is no way back.
func (w *wayBack) address() string {
	if w == nil {
		return ""
	}
	return w.ln.Addr().String()
}

func (w *wayBack) close() {
	if w != nil {
		w.stop()
		_ = w.ln.Close()
	}
}

// acceptAll hands connections to handle, no more than most at once, until the listener is closed. It returns when all are
// handled, and closes those that are open when ctx ends.
func acceptAll(ctx context.Context, ln net.Listener, most int, handle func(context.Context, net.Conn)) {
	var work sync.WaitGroup
	defer work.Wait()
	room := make(chan struct{}, most)
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of files
			continue
		}
		room <- struct{}{}
		work.Go(func() { // ends with the connection
			defer func() { <-room }()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			defer func() { _ = conn.Close() }()
			handle(ctx, conn)
		})
	}
}

// carry joins a connection of the job to the server, and waits while the server is away.
func (w *wayBack) carry(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, waitServer)
	defer cancel()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		if up, err := w.dial(ctx); err == nil {
			pipe(conn, up)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// dial reaches the server through the newest agent.
func (w *wayBack) dial(ctx context.Context) (net.Conn, error) {
	conn, err := dialAgent(w.root)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var ok note
	_ = conn.SetDeadline(time.Now().Add(35 * time.Second))
	if err := errors.Join(writeFrame(conn, note{Key: w.key, WayBack: true}), readFrame(conn, &ok)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}
