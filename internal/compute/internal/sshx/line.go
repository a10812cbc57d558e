package sshx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Line is the way to one machine: a connection that is made anew when it was lost. Where no host key is pinned, it holds on to
// the one that the first login showed. It is safe for concurrent use.
type Line struct {
	cfg     Config
	dialing chan struct{} // held by whoever logs in

	mu     sync.Mutex
	conn   *Client
	shown  string   // host key of the last login
	jumps  []string // host keys of the jump hosts
	closed bool
}

// NewLine makes a line, which connects when it is first used.
func NewLine(cfg Config) *Line { return &Line{cfg: cfg, dialing: make(chan struct{}, 1)} }

// Login gives the connection, and whether it was made just now.
func (l *Line) Login(ctx context.Context) (conn *Client, fresh bool, err error) {
	select {
	case l.dialing <- struct{}{}:
		defer func() { <-l.dialing }()
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	l.mu.Lock()
	conn, cfg := l.conn, l.cfg
	if cfg.HostKey == "" {
		cfg.HostKey = l.shown
	}
	if len(cfg.JumpHostKeys) == 0 {
		cfg.JumpHostKeys = l.jumps
	}
	l.mu.Unlock()
	if conn != nil && conn.Alive() {
		return conn, false, nil
	}
	if conn, err = Dial(ctx, cfg); err != nil {
		return nil, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return nil, false, fmt.Errorf("sshx: the line: %w", net.ErrClosed)
	}
	l.conn, l.shown, l.jumps = conn, conn.HostKey, conn.JumpHostKeys
	return conn, true, nil
}

// Close ends the connection. None is made after it.
func (l *Line) Close() error {
	l.mu.Lock()
	conn := l.conn
	l.closed = true
	l.mu.Unlock()
	if conn == nil {
		return nil
	}
	return conn.Close()
}

// HostKey is the key that the last login showed, Config.HostKey's form; empty before the first.
func (l *Line) HostKey() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shown
}

// Report adds what the login showed, what of it is to be pinned, and a warning if the key was not known before.
func (l *Line) Report(f *compute.Facts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.Details["host_key"] = l.shown
	f.Details["host_key_fingerprint"] = Fingerprint(l.shown)
	if l.conn != nil {
		f.Details["user"], f.Details["address"] = l.conn.User, l.conn.Host
	}
	f.Pins = map[string]any{"host_key": l.shown}
	if len(l.jumps) > 0 {
		f.Details["jump_host_keys"] = strings.Join(l.jumps, "\n")
		f.Pins["jump_host_keys"] = slices.Clone(l.jumps)
	}
	if l.cfg.HostKey == "" {
		f.Problems = append(f.Problems, workspace.Problem{
			Code: "HostKeyLearnt", Warning: true, Target: "host_key",
			Message: "the host key of the machine was not known before; attaching pins it",
			Cause:   fmt.Sprintf("it shows %s", Fingerprint(l.shown)),
			Mend:    "compare it with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the machine's console",
		})
	}
}

// ErrLost is that the connection ended before the machine answered.
var ErrLost = errors.New("the SSH connection was lost")

// Await calls open, which opens a channel of the connection. One that the machine does not answer about is given up with ctx,
// and the connection with it; and when the connection ends, because x/crypto/ssh lets one wait for ever that is asked for just
// then. Its goroutine stays in that case.
func Await[T any](ctx context.Context, conn *Client, open func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	got := make(chan result, 1)
	go func() {
		v, err := open()
		got <- result{v, err}
	}()
	var none T
	select {
	case r := <-got:
		return r.value, r.err
	case <-conn.Done():
		return none, ErrLost
	case <-ctx.Done():
		_ = conn.Close()
		return none, context.Cause(ctx)
	}
}
