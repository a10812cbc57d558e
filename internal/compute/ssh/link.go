package ssh

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"golang.org/x/crypto/ssh"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/sshx"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// link starts agents on the machine. A lost agent alone costs only a new session of the connection.
type link struct {
	line     *sshx.Line
	settings Settings
	env      compute.Env
}

func newLink(s Settings, env compute.Env) *link {
	return &link{line: sshx.NewLine(s.config(env.Log)), settings: s, env: env}
}

// config is the part of the settings that is about logging in.
func (s Settings) config(log *slog.Logger) sshx.Config {
	return sshx.Config{
		Address: s.Address, User: s.Username, Password: s.Password, PrivateKey: s.PrivateKey, Passphrase: s.Passphrase, UseAgent: s.UseAgent,
		Jump: s.Jump, HostKey: s.HostKey, JumpHostKeys: s.JumpHostKeys, ConfigFile: s.ConfigFile, Log: log,
	}
}

// dial gives the standard input and output of an agent on the machine. It is called by one at a time.
func (l *link) dial(ctx context.Context) (io.ReadWriteCloser, error) {
	conn, fresh, err := l.line.Login(ctx)
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
	if conn, _, err = l.line.Login(ctx); err != nil {
		return nil, err
	}
	return l.agent(ctx, conn)
}

// facts adds what the login showed.
func (l *link) facts(f *compute.Facts) {
	f.Identity = append(f.Identity, l.line.HostKey())
	l.line.Report(f)
}

// agent starts an agent in a session of the connection, placing the keeper first if need be.
func (l *link) agent(ctx context.Context, conn *sshx.Client) (io.ReadWriteCloser, error) {
	b, err := newBootstrap(l.settings, l.env)
	if err != nil {
		return nil, err
	}
	ch, err := openSession(ctx, conn)
	if err != nil {
		return nil, err
	}
	s := newSession(ch.Channel, ch.requests, l.env.Log, func() { _ = conn.Close() })
	if err := b.run(ctx, s); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// channel is a session that was opened.
type channel struct {
	ssh.Channel
	requests <-chan *ssh.Request
}

func openSession(ctx context.Context, conn *sshx.Client) (channel, error) {
	c, err := sshx.Await(ctx, conn, func() (channel, error) {
		ch, requests, err := conn.OpenChannel("session", nil)
		return channel{ch, requests}, err
	})
	var refused *ssh.OpenChannelError
	switch {
	case err == nil || ctx.Err() != nil:
		return c, err
	case errors.As(err, &refused):
		return c, unreachable(err, "SessionRefused", "the machine refuses a session", refused.Message,
			"raise MaxSessions in sshd_config on the machine, or log in as another user")
	}
	return c, connectionLost(err)
}

func connectionLost(err error) error {
	return unreachable(err, "ConnectionLost", "the connection was lost", err.Error(), "nothing needs doing: the server connects again")
}

func unreachable(err error, code, message, cause, mend string) error {
	return &compute.Error{Kind: compute.ErrUnreachable, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: code, Message: message, Cause: cause, Mend: mend,
	}}
}
