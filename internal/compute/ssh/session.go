package ssh

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// session is one program on the machine: its standard input and output. What it says on standard error goes to the log.
type session struct {
	ch   ssh.Channel
	in   *bufio.Reader
	log  *slog.Logger
	drop func() // gives the connection up
	wg   sync.WaitGroup
	once sync.Once

	mu   sync.Mutex
	tail []byte // the last of what came on standard error
	exit string // how it ended, in words; empty while unknown
}

const tailSize = 2 << 10

// closeLimit is how long the machine may take to close its side of a session.
const closeLimit = 2 * time.Second

func newSession(ch ssh.Channel, reqs <-chan *ssh.Request, log *slog.Logger, drop func()) *session {
	s := &session{ch: ch, in: bufio.NewReaderSize(ch, 32<<10), log: log, drop: drop}
	s.wg.Go(func() { s.requests(reqs) })
	s.wg.Go(s.complaints)
	return s
}

// exec runs a command by the login's shell. It does not wait for the machine's word on it: the command's own first words
// are as good. A refusal ends the session.
func (s *session) exec(command string) {
	s.wg.Go(func() {
		ok, err := s.ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{command}))
		if err == nil && !ok {
			s.mu.Lock()
			s.exit = "the machine refuses to run commands"
			s.mu.Unlock()
			_ = s.Close()
		}
	})
}

// Read reads standard output.
func (s *session) Read(b []byte) (int, error) { return s.in.Read(b) }

// Write writes standard input.
func (s *session) Write(b []byte) (int, error) { return s.ch.Write(b) }

// Close ends the program by the end of its input, and Reads with it. It does not wait for it. The whole connection of a
// machine that does not close its side is given up.
func (s *session) Close() error {
	s.once.Do(func() {
		_ = s.ch.Close() // a channel of a lost connection cannot be closed well
		limit := time.AfterFunc(closeLimit, s.drop)
		go func() { // ends with the session, or with the connection
			s.wg.Wait()
			limit.Stop()
		}()
	})
	return nil
}

// requests notes how the program ended.
func (s *session) requests(reqs <-chan *ssh.Request) {
	for r := range reqs {
		words := ""
		switch r.Type {
		case "exit-status":
			if len(r.Payload) >= 4 {
				words = fmt.Sprintf("exit code %d", binary.BigEndian.Uint32(r.Payload))
			}
		case "exit-signal":
			var sig struct {
				Name string
				Rest []byte `ssh:"rest"`
			}
			if err := ssh.Unmarshal(r.Payload, &sig); err == nil {
				words = "signal " + sig.Name
			}
		}
		if words != "" {
			s.mu.Lock()
			s.exit = words
			s.mu.Unlock()
		}
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
}

// complaints reads standard error to its end, line by line.
func (s *session) complaints() {
	r := bufio.NewReaderSize(s.ch.Stderr(), 4<<10)
	for {
		line, err := r.ReadSlice('\n')
		if text := bytes.TrimSpace(line); len(text) > 0 {
			s.log.Debug("the machine says", "line", string(text))
			s.mu.Lock()
			s.tail = append(append(s.tail, text...), '\n')
			if over := len(s.tail) - tailSize; over > 0 {
				s.tail = s.tail[over:]
			}
			s.mu.Unlock()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// last tells how the program ended and what it said last. It waits for the end, which must be near.
func (s *session) last() string {
	s.wg.Wait()
	return s.said()
}

// said tells what is known by now of the end and of the last words.
func (s *session) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := strings.ToValidUTF8(strings.TrimSpace(string(s.tail)), "�")
	switch {
	case said == "":
		return s.exit
	case s.exit == "":
		return said
	}
	return s.exit + ": " + said
}

var _ io.ReadWriteCloser = (*session)(nil)
