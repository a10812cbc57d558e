package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/sshx"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// link is the connection to the machine. It is made anew when it was lost; a lost agent alone costs only a new session.
type link struct {
	settings Settings
	env      compute.Env

	mu     sync.Mutex
	conn   *sshx.Client
	shown  string   // host key of the last login, pinned from the first on
	jumps  []string // host keys of the jump hosts
	closed bool
}

func newLink(s Settings, env compute.Env) *link { return &link{settings: s, env: env} }

// config is the part of the settings that is about logging in.
func (s Settings) config(log *slog.Logger) sshx.Config {
	return sshx.Config{
		Address: s.Address, User: s.Username, Password: s.Password, PrivateKey: s.PrivateKey, Passphrase: s.Passphrase, UseAgent: s.UseAgent,
		Jump: s.Jump, HostKey: s.HostKey, JumpHostKeys: s.JumpHostKeys, ConfigFile: s.ConfigFile, Log: log,
	}
}

// dial gives the standard input and output of an agent on the machine. It is called by one at a time.
func (l *link) dial(ctx context.Context) (io.ReadWriteCloser, error) {
	conn, fresh, err := l.login(ctx)
	if err != nil {
		return nil, err
	}
	s, err := l.agent(ctx, conn)
	if err == nil || fresh || ctx.Err() != nil {
		return s, err
	}
	if p, ok := errors.AsType[*compute.Error](err); ok && !errors.Is(p, compute.ErrUnreachable) {
		return nil, err
	}
	// The old connection may be dead without a sign yet.
	_ = conn.Close()
	if conn, _, err = l.login(ctx); err != nil {
		return nil, err
	}
	return l.agent(ctx, conn)
}

// login gives the connection, and whether it was made just now.
func (l *link) login(ctx context.Context) (conn *sshx.Client, fresh bool, err error) {
	l.mu.Lock()
	conn, cfg := l.conn, l.settings.config(l.env.Log)
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
	conn, err = sshx.Dial(ctx, cfg)
	if err != nil {
		return nil, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return nil, false, errors.New("ssh: the target was closed")
	}
	l.conn, l.shown, l.jumps = conn, conn.HostKey, conn.JumpHostKeys
	return conn, true, nil
}

func (l *link) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.conn != nil {
		return l.conn.Close()
	}
	return nil
}

// facts adds what the login showed.
func (l *link) facts(f *compute.Facts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.Identity = append(f.Identity, l.shown)
	f.Details["host_key"] = l.shown
	f.Details["host_key_fingerprint"] = sshx.Fingerprint(l.shown)
	if l.conn != nil {
		f.Details["user"], f.Details["address"] = l.conn.User, l.conn.Host
	}
	f.Pins = map[string]any{"host_key": l.shown}
	if len(l.jumps) > 0 {
		f.Details["jump_host_keys"] = strings.Join(l.jumps, "\n")
		f.Pins["jump_host_keys"] = slices.Clone(l.jumps)
	}
	if l.settings.HostKey == "" {
		f.Problems = append(f.Problems, workspace.Problem{
			Code: "HostKeyLearnt", Warning: true, Target: "host_key",
			Message: "the host key of the machine was not known before; attaching pins it",
			Cause:   fmt.Sprintf("it shows %s", sshx.Fingerprint(l.shown)),
			Mend:    "compare it with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the machine's console",
		})
	}
}

// agent starts an agent in a session of the connection, placing the keeper first if need be.
func (l *link) agent(ctx context.Context, conn *sshx.Client) (io.ReadWriteCloser, error) {
	b, err := newBootstrap(l.settings, l.env)
	if err != nil {
		return nil, err
	}
	ch, reqs, err := openSession(ctx, conn)
	if err != nil {
		return nil, err
	}
	s := newSession(ch, reqs, l.env.Log, func() { _ = conn.Close() })
	if err := b.run(ctx, s); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// openSession opens a channel. One that the machine does not answer about is given up with ctx, and with the connection:
// x/crypto/ssh lets one wait for ever that is asked for while its connection ends.
func openSession(ctx context.Context, conn *sshx.Client) (ssh.Channel, <-chan *ssh.Request, error) {
	type result struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	got := make(chan result, 1)
	go func() {
		ch, reqs, err := conn.OpenChannel("session", nil)
		got <- result{ch, reqs, err}
	}()
	select {
	case r := <-got:
		if r.err == nil {
			return r.ch, r.reqs, nil
		}
		if no, ok := errors.AsType[*ssh.OpenChannelError](r.err); ok {
			return nil, nil, unreachable(r.err, "SessionRefused", "the machine refuses a session", no.Message,
				"raise MaxSessions in sshd_config on the machine, or log in as another user")
		}
		return nil, nil, connectionLost(r.err)
	case <-conn.Done():
		return nil, nil, connectionLost(io.EOF)
	case <-ctx.Done():
		_ = conn.Close() // a machine that does not open a session is as good as gone
		return nil, nil, context.Cause(ctx)
	}
}

func connectionLost(err error) error {
	return unreachable(err, "ConnectionLost", "the connection was lost", err.Error(), "nothing needs doing: the server connects again")
}

func unreachable(err error, code, message, cause, mend string) error {
	return &compute.Error{Kind: compute.ErrUnreachable, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: code, Message: message, Cause: cause, Mend: mend,
	}}
}
