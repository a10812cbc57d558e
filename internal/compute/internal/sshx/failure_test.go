package sshx

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/test/engine"
)

func listen(t testing.TB) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// serve answers each connection with fn, one at a time.
func serve(t testing.TB, fn func(net.Conn)) string {
	l := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fn(c)
			_ = c.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

type keyboard struct{ addr string }

func serveKeyboard(t testing.TB, cfg *ssh.ServerConfig) *keyboard {
	return &keyboard{serve(t, func(c net.Conn) {
		conn, chans, reqs, err := ssh.NewServerConn(c, cfg)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(reqs)
		go func() {
			for ch := range chans {
				_ = ch.Reject(ssh.Prohibited, "nothing here")
			}
		}()
		_ = conn.Wait()
	})}
}

func TestWhyAMachineCannotBeReachedIsSaid(t *testing.T) {
	free := listen(t)
	_ = free.Close()
	private, _ := engine.NewKey(t, "")
	for name, c := range map[string]struct{ addr, code string }{
		"nothing listens":      {free.Addr().String(), "ConnectionRefused"},
		"no such name":         {"no-such-machine.invalid:22", "HostUnknown"},
		"another protocol":     {serve(t, func(c net.Conn) { _, _ = c.Write(make([]byte, 4000)) }), "NotSSH"},
		"closed at once":       {serve(t, func(net.Conn) {}), "ConnectionLost"},
		"closed after version": {serve(t, func(c net.Conn) { _, _ = c.Write([]byte("SSH-2.0-x\r\n")) }), "ConnectionLost"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := dial(t, Config{Address: "u@" + c.addr, PrivateKey: private})
			fails(t, err, compute.ErrUnreachable, c.code)
		})
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	held := make(chan struct{})
	addr := serve(t, func(net.Conn) { <-held })
	defer close(held)
	private, _ := engine.NewKey(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := Dial(ctx, Config{Address: "u@" + addr, PrivateKey: private})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
}

func TestStalledConnectionIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 17 s")
	}
	t.Parallel()
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	p := engine.StartProxy(t, s.Addr)
	cfg := target(t, s)
	cfg.Address = s.User + "@" + p.Addr
	c, err := dial(t, cfg)
	works(t, c, err)
	p.Stall(true)
	begun := time.Now()
	select {
	case <-c.Done():
		t.Logf("noticed after %s", time.Since(begun).Round(time.Millisecond))
	case <-time.After(25 * time.Second):
		t.Error("a stalled connection is still taken for alive")
	}
	if c.Alive() {
		t.Error("it says that it is alive")
	}
}

func TestLoginThatStallsIsGivenUp(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20 s")
	}
	t.Parallel()
	held := make(chan struct{})
	addr := serve(t, func(net.Conn) { <-held })
	defer close(held)
	private, _ := engine.NewKey(t, "")
	begun := time.Now()
	_, err := dial(t, Config{Address: "u@" + addr, PrivateKey: private})
	fails(t, err, compute.ErrUnreachable, "LoginTimedOut")
	if took := time.Since(begun); took > HandshakeTimeout+5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestCutConnectionIsNoticedAtOnce(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	c, err := dial(t, target(t, s))
	works(t, c, err)
	s.Stop(t)
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Error("the end of the server is not noticed")
	}
}
