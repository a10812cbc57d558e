package keeper

import (
	"encoding/json"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A supervisor whose job is over stands by for a moment: the agent can give it another job of the same attachment over the
// connection by which it reports, instead of starting a process. At any time it has one job or none; what it hands over
// for a job, the job's lock and its place in the queue, are the open files that a new process would inherit. If it is
// killed with a job on the way to it, the files are closed and the job counts as never started.

// standbyTime is how long a supervisor stands by.
const standbyTime = 10 * time.Second

// assignment is a job for a supervisor that stands by. Its frame brings two files: the job's lock and its place.
type assignment struct {
	Dir   string `json:"dir"`
	Given given  `json:"given"`

	lock, turn *os.File
}

// seat is a supervisor's connection, as the agent sees it.
type seat struct {
	conn *net.UnixConn
	mu   sync.Mutex
	key  string // of its job; empty: it stands by
}

func (s *seat) job() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key
}

func (s *seat) give(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// standby keeps a supervisor for the next job, unless enough do so or it is of another version.
func (a *agent) standby(s *seat, program string) bool {
	if program != a.executable {
		return false
	}
	s.give("")
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended || len(a.seats) >= 2*a.slots()+2 {
		return false
	}
	a.seats = append(a.seats, s)
	time.AfterFunc(standbyTime, func() {
		if a.unseat(s) {
			_ = s.conn.Close()
		}
	})
	return true
}

// unseat takes a supervisor from those that stand by, and tells whether it was one.
func (a *agent) unseat(s *seat) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.Index(a.seats, s)
	if i < 0 {
		return false
	}
	a.seats = slices.Delete(a.seats, i, i+1)
	return true
}

// dismiss sends all home that stand by, and those that will.
func (a *agent) dismiss() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	for _, s := range a.seats {
		_ = s.conn.Close()
	}
	a.seats = nil
}

// assign gives a job to a supervisor that stands by, if there is one. The one that came last has the warmest caches.
func (a *agent) assign(key string, job assignment) bool {
	for {
		a.mu.Lock()
		n := len(a.seats)
		if n == 0 {
			a.mu.Unlock()
			return false
		}
		s := a.seats[n-1]
		a.seats = a.seats[:n-1]
		a.mu.Unlock()
		s.give(key)
		if sendAssignment(s.conn, job) == nil {
			return true
		}
		s.give("")
		_ = s.conn.Close()
	}
}

func sendAssignment(conn *net.UnixConn, job assignment) error {
	b, err := json.Marshal(job)
	if err != nil {
		return err
	}
	// One that was stopped does not read, and the agent has more to do than wait for it.
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	// The files go with a byte of their own, ahead of the frame.
	rights := syscall.UnixRights(int(job.lock.Fd()), int(job.turn.Fd()))
	if _, _, err := conn.WriteMsgUnix([]byte{0}, rights, nil); err != nil {
		return err
	}
	return writeData(conn, b)
}

// receiveAssignment waits for a job. Any error means that none will come.
func receiveAssignment(conn *net.UnixConn) (*assignment, error) {
	var mark [1]byte
	rights := make([]byte, syscall.CmsgSpace(2*4))
	n, with, _, _, err := conn.ReadMsgUnix(mark[:], rights)
	if err != nil || n == 0 {
		return nil, net.ErrClosed
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:with])
	if err != nil || len(messages) != 1 {
		return nil, net.ErrClosed
	}
	files, err := syscall.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		unix.CloseOnExec(f)
	}
	var job assignment
	if err := readFrame(conn, &job); err != nil || len(files) != 2 {
		for _, f := range files {
			_ = unix.Close(f)
		}
		return nil, net.ErrClosed
	}
	job.lock, job.turn = os.NewFile(uintptr(files[0]), "lock"), os.NewFile(uintptr(files[1]), "place")
	return &job, nil
}
