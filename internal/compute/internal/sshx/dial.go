// Package sshx connects to OpenSSH servers as the ssh driver and its kin need it: pinned host keys, every usual way to
// log in, jump hosts, aliases of ssh_config, limits in time for all of it, and errors that a person can act on. It runs
// nothing on the other side and stores nothing. Its errors are *compute.Error.
package sshx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Limits in time of one hop.
const (
	DialTimeout      = 10 * time.Second // to a TCP connection
	HandshakeTimeout = 20 * time.Second // from there to a login
	keepAliveEvery   = 5 * time.Second
	keepAliveLimit   = 12 * time.Second // a line silent for so long after a question is dead
)

// Config says where to connect and how to log in. The credentials serve for jump hosts too.
type Config struct {
	Address    string // "ssh://user@host:22"; scheme, user and port may be missing
	User       string // goes before the user of Address
	Password   string // for the methods password and keyboard-interactive
	PrivateKey string // PEM
	Passphrase string // of PrivateKey and of identity files
	UseAgent   bool   // the ssh-agent of $SSH_AUTH_SOCK
	Jump       []string
	// HostKey pins the target's key: "ssh-ed25519 AAAA…". Empty: any is taken, and told by Client.HostKey.
	HostKey string
	// JumpHostKeys pins the keys of Jump, one each; fewer, or empty ones: any is taken.
	JumpHostKeys []string
	// ConfigFile is an ssh_config of the server's own user. Empty: ~/.ssh/config, and only for an address without a dot
	// that stands in it.
	ConfigFile string
	Log        *slog.Logger // nil: nothing is logged
}

// Client is a connection with a login. It is closed when the line is dead.
type Client struct {
	*ssh.Client
	// HostKey is the key that the target showed, HostKey.Config's form. JumpHostKeys are those of the hops before it.
	HostKey      string
	JumpHostKeys []string
	User         string
	Host         string // host:port

	hops []*ssh.Client
	done chan struct{}
	once sync.Once
	wg   sync.WaitGroup
}

// Check tells what is wrong with the configuration, as far as that can be seen without connecting.
func Check(cfg Config) error {
	_, err := plan(cfg)
	return err
}

// Dial connects and logs in. ctx bounds only the dialling.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	hops, err := plan(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{done: make(chan struct{})}
	for i, h := range hops {
		shown, err := c.hop(ctx, h, cfg.Log)
		if err != nil {
			c.closeHops()
			return nil, err
		}
		if i < len(hops)-1 {
			c.JumpHostKeys = append(c.JumpHostKeys, shown)
		} else {
			c.HostKey, c.User, c.Host = shown, h.user, h.addr
		}
	}
	c.Client = c.hops[len(c.hops)-1]
	c.wg.Go(c.keepAlive)
	return c, nil
}

// hop goes one machine further and gives the key that it showed.
func (c *Client) hop(ctx context.Context, h hop, log *slog.Logger) (string, error) {
	conn, err := c.tcp(ctx, h)
	if err != nil {
		return "", err
	}
	login, err := h.methods()
	if err != nil {
		_ = conn.Close()
		return "", err
	}
	defer login.close()
	check := hostKeyCheck{hop: h}
	cc := &ssh.ClientConfig{
		User: h.user, Auth: login.auth, AuthCallback: login.offered,
		HostKeyCallback: check.see, HostKeyAlgorithms: check.algorithms(),
		BannerCallback: func(text string) error {
			log.DebugContext(ctx, "the machine shows a banner", "host", h.addr, "banner", text)
			return nil
		},
	}
	limit, cancel := context.WithTimeoutCause(ctx, HandshakeTimeout, errHandshake)
	defer cancel()
	stop := context.AfterFunc(limit, func() { _ = conn.Close() })
	sc, chans, reqs, err := ssh.NewClientConn(conn, h.addr, cc)
	if !stop() && err == nil {
		_ = sc.Close()
		err = context.Cause(limit)
	}
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return "", fmt.Errorf("sshx: dial: %w", context.Cause(ctx))
		case check.problem != nil:
			return "", check.problem
		case limit.Err() != nil:
			err = errors.Join(errHandshake, err)
		}
		return "", h.handshakeFailed(err, login)
	}
	c.hops = append(c.hops, ssh.NewClient(sc, chans, reqs))
	return check.shown, nil
}

var errHandshake = errors.New("sshx: no login in time")

// tcp connects to the next machine, through the last one if there is one.
func (c *Client) tcp(ctx context.Context, h hop) (net.Conn, error) {
	limit, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	var conn net.Conn
	var err error
	if len(c.hops) == 0 {
		var d net.Dialer
		conn, err = d.DialContext(limit, "tcp", h.addr)
	} else {
		conn, err = c.hops[len(c.hops)-1].DialContext(limit, "tcp", h.addr)
	}
	if err == nil {
		return conn, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("sshx: dial: %w", context.Cause(ctx))
	}
	return nil, h.dialFailed(err)
}

// Done is closed when the connection is lost or closed.
func (c *Client) Done() <-chan struct{} { return c.done }

// Alive tells whether the connection is not known to be lost.
func (c *Client) Alive() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// Close ends the connection and those to jump hosts.
func (c *Client) Close() error {
	c.drop()
	c.wg.Wait()
	return nil
}

func (c *Client) drop() {
	c.once.Do(func() {
		close(c.done)
		c.closeHops()
	})
}

// closeHops closes the farthest first.
func (c *Client) closeHops() {
	for _, h := range slices.Backward(c.hops) {
		_ = h.Close() // what is lost cannot be closed well
	}
}

// keepAlive asks the machine again and again whether it is there, and drops a connection that does not answer: TCP alone
// would take a quarter of an hour to notice.
func (c *Client) keepAlive() {
	ended := make(chan struct{})
	c.wg.Go(func() {
		_ = c.Wait()
		close(ended)
	})
	tick := time.NewTicker(keepAliveEvery)
	defer tick.Stop()
	defer c.drop()
	for {
		select {
		case <-ended:
			return
		case <-c.done:
			return
		case <-tick.C:
		}
		limit := time.AfterFunc(keepAliveLimit, c.drop)
		_, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
		limit.Stop()
		if err != nil {
			return
		}
	}
}
