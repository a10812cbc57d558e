package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes TCP connections on to a server and can misbehave as networks do. It is safe for concurrent use.
type Proxy struct {
	Addr string // host:port to connect to instead

	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and renewed at each change
	target  string
	refuse  bool
	stalled bool
	delay   time.Duration
	rate    int
	conns   map[net.Conn]bool
	opened  int
}

// StartProxy starts a proxy on loopback that ends with the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	return StartProxyAt(t, "127.0.0.1", target)
}

// StartProxyAt is StartProxy on another address of this machine, such as the one that a cluster's pods reach.
func StartProxyAt(t testing.TB, host, target string) *Proxy {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), listener: l, target: target, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.change(func() { p.refuse, p.stalled = true, false })
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Cut drops every connection; new ones are taken.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// Refuse drops every connection and each new one at once, until false is said.
func (p *Proxy) Refuse(refuse bool) {
	p.change(func() { p.refuse = refuse })
	if refuse {
		p.Cut()
	}
}

// Stall lets nothing through, without closing anything, until false is said: a machine that lost its network.
func (p *Proxy) Stall(stalled bool) { p.change(func() { p.stalled = stalled }) }

// Slow delays each piece of data, in each direction, and passes at most rate bytes a second; 0 is no limit.
func (p *Proxy) Slow(delay time.Duration, rate int) {
	p.change(func() { p.delay, p.rate = delay, rate })
}

// Opened tells how many connections were made so far.
func (p *Proxy) Opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

func (p *Proxy) change(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.refuse
		if !refuse {
			p.opened++
			p.conns[c] = true
		}
		p.mu.Unlock()
		if refuse {
			_ = c.Close()
			continue
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(c net.Conn) {
	defer p.forget(c)
	p.ready()
	var d net.Dialer
	s, err := d.DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.conns[s] = true
	p.mu.Unlock()
	defer p.forget(s)
	var wg sync.WaitGroup
	wg.Go(func() { p.carry(s, c) })
	wg.Go(func() { p.carry(c, s) })
	wg.Wait()
}

func (p *Proxy) forget(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// piece is data on its way, and when it arrives.
type piece struct {
	bytes []byte
	due   time.Time
}

// carry passes data one way until either end is gone. Delay does not lower the throughput: pieces are on their way together.
func (p *Proxy) carry(to, from net.Conn) {
	way := make(chan piece, 1024)
	var wg sync.WaitGroup
	wg.Go(func() {
		for d := range way {
			time.Sleep(time.Until(d.due))
			p.ready()
			if _, err := to.Write(d.bytes); err != nil {
				_ = from.Close()
			}
		}
		_ = to.Close()
	})
	for {
		buf := make([]byte, 32<<10)
		n, err := from.Read(buf)
		if n > 0 {
			p.mu.Lock()
			delay, rate := p.delay, p.rate
			p.mu.Unlock()
			if rate > 0 {
				time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
			}
			way <- piece{buf[:n], time.Now().Add(delay)}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = to.Close()
			}
			break
		}
	}
	close(way)
	wg.Wait()
}

// ready waits while the proxy is stalled.
func (p *Proxy) ready() {
	for {
		p.mu.Lock()
		stalled, changed := p.stalled, p.changed
		p.mu.Unlock()
		if !stalled {
			return
		}
		<-changed
	}
}
