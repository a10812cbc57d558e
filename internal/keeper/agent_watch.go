package keeper

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"
)

// Supervisors speak to the agent over a socket in the root, or near it. Frames:
//
//	note{Key}                     "this is my job"; then note{Key, Changed} after each change, note{Key, Bye} at the end.
//	                              The end of the connection without Bye says that the supervisor was killed
//	note{Key, Bye, Program}       the same, and "I stand by": the agent may answer with an assignment, or ends the connection
//	note{Key, WayBack}            the agent answers with an empty note when the server has taken the connection; then its bytes

type note struct {
	Key     string `json:"key,omitempty"`
	Changed bool   `json:"changed,omitempty"`
	Bye     bool   `json:"bye,omitempty"`
	Program string `json:"program,omitempty"`
	WayBack bool   `json:"wayback,omitempty"`
}

// maxSocketPath is less than what every system allows in a socket's address.
const maxSocketPath = 90

// socketPath is where the newest agent of a root listens: in the root, or in a short place if its path is too long.
func socketPath(r root) string {
	if p := r.file("agent.sock"); len(p) <= maxSocketPath {
		return p
	}
	sum := sha256.Sum256([]byte(r.path))
	uid := strconv.Itoa(os.Getuid())
	dir := "/run/user/" + uid
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		dir = "/tmp/moorage-" + uid
	}
	return filepath.Join(dir, "moorage-"+hex.EncodeToString(sum[:8])+".sock")
}

// listenAgent makes this agent the newest: the name of the socket goes to it in one step.
func listenAgent(r root) (net.Listener, error) {
	path := socketPath(r)
	dir := filepath.Dir(path)
	if dir != r.path {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := onlyOurs(dir); err != nil {
			return nil, err
		}
	}
	temp := path + "." + strconv.Itoa(os.Getpid())
	_ = os.Remove(temp)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if err := os.Rename(temp, path); err != nil {
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

// onlyOurs refuses a folder in a shared place that somebody else made.
func onlyOurs(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(st.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a folder of ours alone", dir)
	}
	return nil
}

// dialAgent reaches the newest agent. In a shared place it speaks only to what is in a folder of ours alone.
func dialAgent(r root) (*net.UnixConn, error) {
	path := socketPath(r)
	if dir := filepath.Dir(path); dir != r.path {
		if err := onlyOurs(dir); err != nil {
			return nil, err
		}
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// lookSocket is how often an agent looks whether anybody answers at the socket. A newer agent that had its name may be
// gone, as that of a pre-flight is; and those who clean /tmp may take it away.
const lookSocket = 5 * time.Second

// stay listens for supervisors until the connection ends.
func (a *agent) stay(ln net.Listener) {
	go a.acceptSupervisors(ln) // ends with the listener
	tick := time.NewTicker(lookSocket)
	defer tick.Stop()
	for {
		select {
		case <-a.sess.CloseChan():
			_ = ln.Close()
			return
		case <-tick.C:
			if answers(a.root) || !exists(a.root.path) {
				continue
			}
			if again, err := listenAgent(a.root); err == nil {
				_ = ln.Close()
				ln = again
				go a.acceptSupervisors(ln)
			}
		}
	}
}

// answers tells whether an agent listens for a root.
func answers(r root) bool {
	conn, err := dialAgent(r)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func removeSocket(r root) { _ = os.Remove(socketPath(r)) }

func (a *agent) acceptSupervisors(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of files; there is nobody to tell
			continue
		}
		go a.supervisor(conn.(*net.UnixConn)) // ends with the connection
	}
}

func (a *agent) supervisor(conn *net.UnixConn) {
	stop := closeWith(a.sess, conn)
	defer stop()
	var first note
	if err := readFrame(conn, &first); err != nil || checkKey(first.Key) != nil {
		return
	}
	if first.WayBack {
		a.carryBack(conn, first.Key)
		return
	}
	s := &seat{conn: conn, key: first.Key}
	for {
		var n note
		err := readFrame(conn, &n)
		key := s.job()
		switch {
		case err == nil && n.Bye:
			if n.Program == "" || !a.standby(s, n.Program) {
				return
			}
		case err == nil:
			a.changed(key)
		case key == "": // it stood by
			a.unseat(s)
			return
		default:
			// The supervisor was killed. What is left of its job is ended now, watched or not.
			_, _ = statusOf(a.root.job(key), key)
			a.changed(key)
			return
		}
	}
}

// closeWith closes conn when the session ends, or when the returned function is called.
func closeWith(sess *yamux.Session, conn io.Closer) func() {
	done := make(chan struct{})
	var once sync.Once
	go func() {
		select {
		case <-sess.CloseChan():
		case <-done:
		}
		_ = conn.Close()
	}()
	return func() { once.Do(func() { close(done) }) }
}

// carryBack joins a job's connection to a stream to the server.
func (a *agent) carryBack(conn net.Conn, key string) {
	st, err := a.sess.OpenStream()
	if err != nil {
		return
	}
	defer func() { _ = st.Close() }()
	_ = st.SetDeadline(time.Now().Add(30 * time.Second))
	if err := writeFrame(st, request{Op: opWayBack, Key: key}); err != nil {
		return
	}
	var ans answer
	if err := readFrame(st, &ans); err != nil || ans.Fault != nil {
		return
	}
	_ = st.SetDeadline(time.Time{})
	if err := writeFrame(conn, note{}); err != nil {
		return
	}
	pipe(conn, st)
}

// watcher is one client that watches. Changes of one job that it has not taken yet are one.
type watcher struct {
	mu   sync.Mutex
	keys []string
	has  map[string]bool
	wake chan struct{}
}

// changed tells the watchers that a job changed.
func (a *agent) changed(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for w := range a.watchers {
		w.mu.Lock()
		if !w.has[key] {
			w.has[key] = true
			w.keys = append(w.keys, key)
		}
		w.mu.Unlock()
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := w.keys
	w.keys, w.has = nil, map[string]bool{}
	return keys
}

func (a *agent) watch(st *yamux.Stream) {
	w := &watcher{has: map[string]bool{}, wake: make(chan struct{}, 1)}
	a.mu.Lock()
	a.watchers[w] = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.watchers, w)
		a.mu.Unlock()
	}()
	if err := writeFrame(st, answer{}); err != nil {
		return
	}
	gone := make(chan struct{})
	go func() { // ends when the client closes the stream
		defer close(gone)
		_, _ = io.Copy(io.Discard, st)
	}()
	for {
		select {
		case <-gone:
			return
		case <-w.wake:
		}
		for _, key := range w.take() {
			s, err := statusOf(a.root.job(key), key)
			if err != nil || s.Phase == Missing {
				continue
			}
			if err := writeFrame(st, s); err != nil {
				return
			}
		}
	}
}
