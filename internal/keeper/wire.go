package keeper

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The wire. The agent writes one line, the preamble: magic and a Hello in JSON. What a login shell printed before it is
// skipped. Then both speak yamux. A request is one stream: the caller sends a frame with a request, the other side answers
// with a frame; what follows depends on the operation and stands beside it. A frame is its length in four bytes, big
// endian, and that many bytes. Data frames carry raw bytes; an empty one ends a run of them. Closing a stream is never
// the sign that something is complete, because a lost connection looks the same.

// Protocol is the version of the wire. Client and agent refuse another.
const Protocol = 1

const (
	magic      = "MOORAGE-KEEPER "
	maxNoise   = 256 << 10 // bytes that a login shell may print before the preamble
	maxFrame   = 16 << 20
	dataFrame  = 256 << 10
	inlineSize = 1 << 20 // objects up to this total are sent without asking
	haveBatch  = 50_000  // hashes in one question
)

// Hello is what the agent says of itself before anything is asked.
type Hello struct {
	Protocol int    `json:"protocol"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Boot     string `json:"boot"`
	Home     string `json:"home"`
	PID      int    `json:"pid"`
}

// scope says for whom an agent works. It is sent in the first request of a connection.
type scope struct {
	Server   string    `json:"server"`
	Compute  string    `json:"compute"`
	Slots    int       `json:"slots,omitempty"`     // 0: one per CPU
	GPUs     int       `json:"gpus,omitempty"`      // 0: what nvidia-smi finds
	HideGPUs bool      `json:"hide_gpus,omitempty"` // jobs that want none see none
	CA       string    `json:"ca,omitempty"`        // PEM
	Launcher *Launcher `json:"launcher,omitempty"`
}

type operation string

const (
	opOpen    operation = "open"    // answer
	opProbe   operation = "probe"   // answer with Facts
	opHave    operation = "have"    // answer with Missing
	opSubmit  operation = "submit"  // then objects; answer with Status or Missing, and so on until a Status or Fault
	opStatus  operation = "status"  // answer with Statuses
	opCancel  operation = "cancel"  // answer
	opLogs    operation = "logs"    // answer; data frames; an empty one; answer with Next
	opCollect operation = "collect" // see files.go
	opRelease operation = "release" // answer
	opWatch   operation = "watch"   // answer; then a frame with a Status for each change
	opRemove  operation = "remove"  // answer
	opRun     operation = "run"     // answer with Out
	opBury    operation = "bury"    // answer
	opDial    operation = "dial"    // answer; then the bytes of the connection
	opWayBack operation = "wayback" // by the agent: answer; then the bytes of the connection
)

type request struct {
	Op       operation          `json:"op"`
	Scope    *scope             `json:"scope,omitempty"`
	Key      string             `json:"key,omitempty"`
	Keys     []string           `json:"keys,omitempty"`
	Epoch    int64              `json:"epoch,omitempty"`
	Job      *Job               `json:"job,omitempty"`
	Secrets  map[string]string  `json:"secrets,omitempty"`
	Password string             `json:"password,omitempty"` // of the registry of the job's image
	Hashes   []snapshot.Hash    `json:"hashes,omitempty"`
	Stream   string             `json:"stream,omitempty"`
	From     int64              `json:"from,omitempty"`
	Follow   bool               `json:"follow,omitempty"`
	Port     int                `json:"port,omitempty"`
	Path     string             `json:"path,omitempty"`
	Args     []string           `json:"args,omitempty"`
	Why      *workspace.Problem `json:"why,omitempty"`
}

type answer struct {
	Fault    *Fault          `json:"fault,omitempty"`
	Status   *Status         `json:"status,omitempty"`
	Statuses []Status        `json:"statuses,omitempty"`
	Missing  []snapshot.Hash `json:"missing,omitempty"`
	Facts    *Facts          `json:"facts,omitempty"`
	Next     int64           `json:"next,omitempty"`
	Out      []byte          `json:"out,omitempty"`
}

// Cause sorts faults by what follows from them.
type Cause string

// The causes.
const (
	Internal Cause = "internal"  // the target could not; try again
	Invalid  Cause = "invalid"   // will never succeed
	Stale    Cause = "stale"     // a higher epoch was seen
	Denied   Cause = "denied"    // a person must act
	NotFound Cause = "not_found" // authoritative
	Gone     Cause = "gone"      // the connection is lost; made by the client only
)

// Fault is an error that the agent answers, or that the client makes of a lost connection.
type Fault struct {
	Cause   Cause             `json:"cause"`
	Problem workspace.Problem `json:"problem"`
	Err     error             `json:"-"`
}

// Error is the problem's text.
func (f *Fault) Error() string { return f.Problem.Error() }

// Unwrap gives what was underneath.
func (f *Fault) Unwrap() error { return f.Err }

func fault(cause Cause, p workspace.Problem) *Fault { return &Fault{Cause: cause, Problem: p} }

// asFault makes a fault of any error, for the wire.
func asFault(err error) *Fault {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	if p, ok := errors.AsType[*workspace.Problem](err); ok {
		return fault(Internal, *p)
	}
	return fault(Internal, workspace.Problem{
		Class: workspace.Unavailable, Code: "TargetFailed", Message: "the target could not do it", Cause: err.Error(),
		Mend: "look at the target's disk and permissions, then try again",
	})
}

// object announces one object in a submit; Size data bytes follow it in as many reads. An empty hash ends the run.
type object struct {
	Hash snapshot.Hash `json:"h,omitempty"`
	Size int64         `json:"s,omitempty"`
}

func writeFrame(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("keeper: frame: %w", err)
	}
	return writeData(w, b)
}

func writeData(w io.Writer, b []byte) error {
	if len(b) > maxFrame {
		return fmt.Errorf("keeper: frame: %d bytes are more than %d", len(b), maxFrame)
	}
	out := make([]byte, 4, 4+len(b))
	binary.BigEndian.PutUint32(out, uint32(len(b)))
	_, err := w.Write(append(out, b...))
	return err
}

func readFrame(r io.Reader, v any) error {
	b, err := readData(r, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("keeper: frame: %w", err)
	}
	return nil
}

// readData reads one frame, into buf if it is large enough. What a length claims is not allocated before it arrives.
func readData(r io.Reader, buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > maxFrame {
		return nil, fmt.Errorf("keeper: frame: %d bytes are more than %d", n, maxFrame)
	}
	if n <= cap(buf) {
		buf = buf[:n]
		_, err := io.ReadFull(r, buf)
		return buf, noEOF(err)
	}
	buf = make([]byte, 0, min(n, 64<<10))
	for len(buf) < n {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(n, 2*cap(buf)))
			copy(grown, buf)
			buf = grown
		}
		m, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		if err != nil && len(buf) < n {
			return nil, noEOF(err)
		}
	}
	return buf, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// writeHello is the agent's first line.
func writeHello(w io.Writer, h Hello) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = w.Write([]byte("\n" + magic + string(b) + "\n"))
	return err
}

// readHello skips what a login shell printed and reads the agent's first line. The noise is in the error if none comes.
func readHello(r *bufio.Reader) (Hello, error) {
	var h Hello
	var noise strings.Builder
	for {
		line, err := r.ReadSlice('\n')
		if rest, ok := strings.CutPrefix(string(line), magic); ok && err == nil {
			if err := json.Unmarshal([]byte(rest), &h); err != nil {
				return h, fmt.Errorf("keeper: hello: %w", err)
			}
			return h, nil
		}
		noise.Write(line)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return h, &noHelloError{noise: strings.TrimSpace(noise.String()), err: err}
		}
		if noise.Len() > maxNoise {
			return h, &noHelloError{noise: strings.TrimSpace(noise.String()[:1024]), err: errors.New("too much other output")}
		}
	}
}

type noHelloError struct {
	noise string
	err   error
}

func (e *noHelloError) Error() string {
	return "keeper: no hello: " + e.err.Error() + ": " + e.noise
}
func (e *noHelloError) Unwrap() error { return e.err }
