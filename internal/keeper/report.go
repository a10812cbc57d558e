package keeper

import (
	"io"
	"net"
	"sync"
	"time"
)

// retryAgent is how often a supervisor looks for an agent when there is none.
const (
	retryAgent    = 250 * time.Millisecond
	maxRetryAgent = 5 * time.Second
)

// reporter tells the newest agent of changes. Nobody there is nothing wrong: the folder says it all.
type reporter struct {
	root root
	key  string
	mu   sync.Mutex
	conn net.Conn
	stop chan struct{}
}

func newReporter(r root, key string) *reporter {
	p := &reporter{root: r, key: key, stop: make(chan struct{})}
	p.connect()
	go p.keep() // lives as long as the process
	return p
}

// connect introduces this supervisor to the newest agent.
func (p *reporter) connect() net.Conn {
	conn, err := dialAgent(p.root)
	if err != nil {
		return nil
	}
	if err := writeFrame(conn, note{Key: p.key}); err != nil {
		_ = conn.Close()
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = conn
	return conn
}

// keep holds a connection, so that an agent notices if this supervisor is killed.
func (p *reporter) keep() {
	wait := retryAgent
	for {
		p.mu.Lock()
		conn := p.conn
		p.mu.Unlock()
		if conn != nil {
			wait = retryAgent
			_, _ = io.Copy(io.Discard, conn) // until the agent ends
			p.mu.Lock()
			p.conn = nil
			p.mu.Unlock()
			_ = conn.Close()
		}
		select {
		case <-p.stop:
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, maxRetryAgent)
		p.connect()
	}
}

// changed tells of a change.
func (p *reporter) changed() { p.tell(note{Key: p.key, Changed: true}) }

// bye tells that this supervisor ends as it should.
func (p *reporter) bye() {
	close(p.stop)
	p.tell(note{Key: p.key, Bye: true})
}

func (p *reporter) tell(n note) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if conn := p.conn; conn != nil {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_ = writeFrame(conn, n)
	}
}
