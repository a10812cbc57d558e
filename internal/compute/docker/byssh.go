package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
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
	line   *sshx.Line
	socket string

	mu   sync.Mutex
	last error // of the last attempt to get to the socket
}

// bySSH reads docker+ssh://user@host:port/path/of/socket.
func (s Settings) bySSH(u *url.URL, env compute.Env) (way, error) {
	t := &tunnel{socket: u.Path}
	if t.socket == "" || t.socket == "/" {
		t.socket = defaultSocket
	}
	at := *u
	at.Scheme, at.Path = "ssh", ""
	cfg := sshx.Config{
		Address: at.String(), User: s.Username, Password: s.Password, PrivateKey: s.PrivateKey, Passphrase: s.Passphrase, UseAgent: s.UseAgent,
		Jump: s.Jump, HostKey: s.HostKey, JumpHostKeys: s.JumpHostKeys, ConfigFile: s.ConfigFile, Log: env.Log,
	}
	if err := sshx.Check(cfg); err != nil {
		return way{}, err
	}
	t.line = sshx.NewLine(cfg)
	w, err := s.byClient(u.Host, "unix://"+t.socket, client.WithDialContext(t.dial))
	if err != nil {
		return w, err
	}
	closeClient := w.close
	w.facts, w.why, w.close = t.line.Report, t.why, func() error { return errors.Join(closeClient(), t.line.Close()) }
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
	conn, fresh, err := t.line.Login(ctx)
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
	if conn, _, err = t.line.Login(ctx); err != nil {
		return nil, err
	}
	return t.channel(ctx, conn)
}

// channel opens a way to the socket.
func (t *tunnel) channel(ctx context.Context, conn *sshx.Client) (net.Conn, error) {
	c, err := sshx.Await(ctx, conn, func() (net.Conn, error) { return conn.Dial("unix", t.socket) })
	if no, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		return nil, t.refused(no, conn)
	}
	return c, err
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
