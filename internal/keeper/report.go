package keeper

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// retryAgent is how often a supervisor looks for an agent when there is none.
const (
	retryAgent    = 250 * time.Millisecond
	maxRetryAgent = 5 * time.Second
)

// reporter tells the newest agent of changes, and takes the next job from it. Nobody there is nothing wrong: the folder
// says it all.
type reporter struct {
	root root
	mu   sync.Mutex
	key  string // of the job; empty: between two jobs
	conn *net.UnixConn
	once sync.Once
	stop chan struct{}
	next chan *assignment // one for each offer to stand by; nil: there is none
}

func newReporter(r root) *reporter {
	return &reporter{root: r, stop: make(chan struct{}), next: make(chan *assignment, 1)}
}

// begin introduces the supervisor with its first job. Of later ones the agent knows, who gave them.
func (p *reporter) begin(key string) {
	p.once.Do(func() {
		p.key = key
		p.connect()
		go p.keep() // ends with the process
	})
}

// connect introduces this supervisor to the newest agent.
func (p *reporter) connect() {
	conn, err := dialAgent(p.root)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key == "" || writeFrame(conn, note{Key: p.key}) != nil {
		_ = conn.Close()
		return
	}
	p.conn = conn
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
			if !p.listen(conn) {
				return
			}
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

// listen takes assignments until the agent ends. It is false when that happens between two jobs.
func (p *reporter) listen(conn *net.UnixConn) bool {
	for {
		job, err := receiveAssignment(conn)
		p.mu.Lock()
		if err != nil {
			p.conn = nil
			_ = conn.Close()
		}
		idle := p.key == ""
		if job != nil {
			p.key = filepath.Base(job.Dir)
		}
		p.mu.Unlock()
		switch {
		case idle: // a job, or nil: none will come
			p.next <- job
			if err != nil {
				return false
			}
		case err != nil:
			return true
		}
	}
}

// changed tells of a change.
func (p *reporter) changed() { p.tell(note{Changed: true}) }

// bye tells that the job is over. With stand it offers to take another and returns the next, or nil if there is none.
func (p *reporter) bye(stand bool, signals <-chan os.Signal) *assignment {
	n := note{Bye: true}
	if stand {
		n.Program, _ = os.Executable()
	}
	if !p.tell(n) || !stand {
		close(p.stop)
		return nil
	}
	for {
		select {
		case job := <-p.next:
			return job
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return nil
			}
		}
	}
}

// tell is false when nobody hears it.
func (p *reporter) tell(n note) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.Key = p.key; n.Key == "" {
		return false // it is late, the job is over
	}
	if n.Bye {
		p.key = ""
	}
	if p.conn == nil {
		return false
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(time.Second))
	return writeFrame(p.conn, n) == nil
}
