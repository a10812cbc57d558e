package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/client"
	"golang.org/x/crypto/ssh"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/sshx"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// tunnel reaches the socket of an engine on another machine: one SSH connection, and in it a channel for each connection to
// the socket. Nothing is installed on the machine.
type tunnel struct {
	cfg    sshx.Config
	socket string
	pinned bool // the machine's host key was known before

	dialing chan struct{} // held by whoever logs in

	mu     sync.Mutex
	conn   *sshx.Client
	shown  string   // host key of the last login, pinned from the first on
	jumps  []string // host keys of the jump hosts
	last   error    // of the last attempt to get to the socket
	closed bool
}

// bySSH reads docker+ssh://user@host:port/path/of/socket.
func (s Settings) bySSH(u *url.URL, env compute.Env) (way, error) {
	t := &tunnel{socket: u.Path, dialing: make(chan struct{}, 1), pinned: s.HostKey != "", cfg: sshx.Config{
		User: s.Username, Password: s.Password, PrivateKey: s.PrivateKey, Passphrase: s.Passphrase, UseAgent: s.UseAgent,
		Jump: s.Jump, HostKey: s.HostKey, JumpHostKeys: s.JumpHostKeys, ConfigFile: s.ConfigFile, Log: env.Log,
	}}
	if t.socket == "" || t.socket == "/" {
		t.socket = defaultSocket
	}
	at := *u
	at.Scheme, at.Path = "ssh", ""
	t.cfg.Address = at.String()
	if err := sshx.Check(t.cfg); err != nil {
		return way{}, err
	}
	w, err := s.byClient(u.Host, "unix://"+t.socket, client.WithDialContext(t.dial))
	if err != nil {
		return w, err
	}
	closeClient := w.close
	w.facts, w.why, w.close = t.facts, t.why, func() error { return errors.Join(closeClient(), t.close()) }
	return w, nil
}

// dial connects to the socket.
func (t *tunnel) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := t.reach(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = err
	return conn, err
}

func (t *tunnel) reach(ctx context.Context) (net.Conn, error) {
	conn, fresh, err := t.login(ctx)
	if err != nil {
		return nil, err
	}
	c, err := t.channel(ctx, conn)
	if err == nil || fresh || ctx.Err() != nil {
		return c, err
	}
	if _, no := errors.AsType[*ssh.OpenChannelError](err); no {
		return nil, err
	}
	_ = conn.Close() // it may be dead without a sign yet
	if conn, _, err = t.login(ctx); err != nil {
		return nil, err
	}
	return t.channel(ctx, conn)
}

// login gives the connection, and whether it was made just now.
func (t *tunnel) login(ctx context.Context) (*sshx.Client, bool, error) {
	select {
	case t.dialing <- struct{}{}:
		defer func() { <-t.dialing }()
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	t.mu.Lock()
	conn, cfg := t.conn, t.cfg
	if cfg.HostKey == "" {
		cfg.HostKey = t.shown
	}
	if len(cfg.JumpHostKeys) == 0 {
		cfg.JumpHostKeys = t.jumps
	}
	t.mu.Unlock()
	if conn != nil && conn.Alive() {
		return conn, false, nil
	}
	conn, err := sshx.Dial(ctx, cfg)
	if err != nil {
		return nil, false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = conn.Close()
		return nil, false, net.ErrClosed
	}
	t.conn, t.shown, t.jumps = conn, conn.HostKey, conn.JumpHostKeys
	return conn, true, nil
}

// channel opens a way to the socket. One that the machine does not answer about is given up with ctx, and with the
// connection: x/crypto/ssh lets one wait for ever that is asked for while its connection ends.
func (t *tunnel) channel(ctx context.Context, conn *sshx.Client) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	got := make(chan result, 1)
	go func() { // ends with the connection, or stays as said
		c, err := conn.Dial("unix", t.socket)
		got <- result{c, err}
	}()
	select {
	case r := <-got:
		if no, ok := errors.AsType[*ssh.OpenChannelError](r.err); ok {
			return nil, t.refused(no, conn)
		}
		return r.c, r.err
	case <-conn.Done():
		return nil, errors.New("the SSH connection was lost")
	case <-ctx.Done():
		_ = conn.Close()
		return nil, context.Cause(ctx)
	}
}

// refused says why a machine that takes the login does not lead to the socket. OpenSSH does not tell a forbidden socket from
// one that nobody listens on.
func (t *tunnel) refused(err *ssh.OpenChannelError, conn *sshx.Client) error {
	return &compute.Error{Kind: compute.ErrUnreachable, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: "EngineUnreachable", Target: "address",
		Message: fmt.Sprintf("user %s at %s does not get to the Docker engine at %s", conn.User, conn.Host, t.socket), Cause: strings.TrimSpace(err.Message),
		Mend: "see whether docker -H unix://" + t.socket + " version works there as that user: if not, start the engine and let the user use it (usermod -aG docker " +
			conn.User + "); if it does, sshd forbids it (AllowStreamLocalForwarding, DisableForwarding in sshd_config)",
	}}
}

// why is what stood in the way to the socket when it was last tried.
func (t *tunnel) why(err error) error {
	if !client.IsErrConnectionFailed(err) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := errors.AsType[*compute.Error](t.last); ok {
		return e
	}
	return nil
}

func (t *tunnel) close() error {
	t.mu.Lock()
	conn := t.conn
	t.closed = true
	t.mu.Unlock()
	if conn == nil {
		return nil
	}
	return conn.Close()
}

// facts adds what the login showed.
func (t *tunnel) facts(f *compute.Facts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.Details["host_key"] = t.shown
	f.Details["host_key_fingerprint"] = sshx.Fingerprint(t.shown)
	if t.conn != nil {
		f.Details["user"], f.Details["address"] = t.conn.User, t.conn.Host
	}
	f.Pins = map[string]any{"host_key": t.shown}
	if len(t.jumps) > 0 {
		f.Details["jump_host_keys"] = strings.Join(t.jumps, "\n")
		f.Pins["jump_host_keys"] = slices.Clone(t.jumps)
	}
	if !t.pinned {
		f.Problems = append(f.Problems, workspace.Problem{
			Code: "HostKeyLearnt", Warning: true, Target: "host_key",
			Message: "the host key of the machine was not known before; attaching pins it",
			Cause:   fmt.Sprintf("it shows %s", sshx.Fingerprint(t.shown)),
			Mend:    "compare it with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the machine's console",
		})
	}
}
