package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/transport/websocket"
)

// Exec, by the WebSocket protocol that API servers speak since before version 1.5: each message is one byte that names a
// channel, and data. v5 adds only a way to close standard input, which is not needed here.
const (
	execProtocol = "v4.channel.k8s.io"

	channelIn     = 0
	channelOut    = 1
	channelErr    = 2
	channelStatus = 3

	binaryMessage = 2 // RFC 6455 §11.8
)

// mostMessage is how much is written as one message, in bytes.
const mostMessage = 32 << 10

// execution is the standard input and output of a program in a container. Its end is the reader's io.EOF if the exit code
// was 0, and an error that tells of code and standard error otherwise. One goroutine may read and others write.
type execution struct {
	conn interface {
		NextReader() (int, io.Reader, error)
		WriteMessage(int, []byte) error
		Close() error
	}
	in   io.Reader // rest of a message of standard output
	said bytes.Buffer

	mu  sync.Mutex
	buf []byte
}

// exec starts a program in the first container of a pod. ctx bounds only the start.
func (c *cluster) exec(ctx context.Context, pod string, argv ...string) (*execution, error) {
	query := url.Values{"stdin": {"true"}, "stdout": {"true"}, "stderr": {"true"}, "command": argv, "container": {containerName}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+c.path(pods, pod, "exec")+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	rt, holder, err := websocket.RoundTripperFor(c.config)
	if err != nil {
		return nil, err
	}
	conn, err := websocket.Negotiate(rt, holder, req, execProtocol)
	if err != nil {
		if s, ok := errors.AsType[*apierrors.StatusError](err); ok {
			return nil, &refusal{Code: int(s.ErrStatus.Code), Reason: string(s.ErrStatus.Reason), Message: s.ErrStatus.Message}
		}
		return nil, err
	}
	return &execution{conn: conn}, nil
}

func (e *execution) Read(b []byte) (int, error) {
	for {
		if e.in != nil {
			n, err := e.in.Read(b)
			if n > 0 {
				return n, nil
			}
			if !errors.Is(err, io.EOF) && err != nil {
				return 0, err
			}
			e.in = nil
		}
		_, r, err := e.conn.NextReader()
		if err != nil {
			return 0, err
		}
		var channel [1]byte
		if _, err := io.ReadFull(r, channel[:]); err != nil {
			continue // an empty message
		}
		switch channel[0] {
		case channelOut:
			e.in = r
		case channelErr:
			_, _ = e.said.ReadFrom(io.LimitReader(r, max(0, 4096-int64(e.said.Len()))))
		case channelStatus:
			return 0, e.over(r)
		}
	}
}

// over reads how the program ended.
func (e *execution) over(r io.Reader) error {
	var s struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Details struct {
			Causes []struct {
				Reason  string `json:"reason"`
				Message string `json:"message"`
			} `json:"causes"`
		} `json:"details"`
	}
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
	if s.Status == "Success" {
		return io.EOF
	}
	f := &programError{code: -1, said: s.Message}
	for _, c := range s.Details.Causes {
		if c.Reason == "ExitCode" {
			f.code, _ = strconv.Atoi(c.Message)
		}
	}
	if text := bytes.TrimSpace(e.said.Bytes()); len(text) > 0 {
		f.said = string(text)
	}
	return f
}

// programError is the end of a program in a container that did not succeed.
type programError struct {
	code int // -1: it did not start
	said string
}

func (e *programError) Error() string {
	if e.code < 0 {
		return e.said
	}
	return fmt.Sprintf("exit code %d: %s", e.code, e.said)
}

func (e *execution) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for n < len(b) {
		part := b[n:min(len(b), n+mostMessage)]
		e.buf = append(append(e.buf[:0], channelIn), part...)
		if err := e.conn.WriteMessage(binaryMessage, e.buf); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

func (e *execution) Close() error { return e.conn.Close() }
