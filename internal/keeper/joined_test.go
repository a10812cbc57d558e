package keeper

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/yamux"
)

// writes records what came in which write.
type writes struct {
	net.Conn
	all [][]byte
}

func (w *writes) Write(p []byte) (int, error) {
	w.all = append(w.all, slices.Clone(p))
	return w.Conn.Write(p)
}

func TestARequestIsOneWrite(t *testing.T) {
	near, far := net.Pipe()
	there, err := yamux.Server(far, nil)
	check(t, err)
	defer func() { _ = there.Close() }()
	got := make(chan string, 1)
	go func() { // ends with the stream
		st, err := there.AcceptStream()
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(st)
		got <- string(b)
	}()
	w := &writes{Conn: near}
	here, err := yamux.Client(readWriteCloser{near, &joined{w: w}, near}, nil)
	check(t, err)
	defer func() { _ = here.Close() }()
	st, err := here.OpenStream()
	check(t, err)
	// Twelve bytes are as long as a header, and the last is too long to be joined.
	long := strings.Repeat("x", joinBelow)
	for _, text := range []string{"a request", "\x00\x01\x00\x01 2 bytes", long} {
		_, err := st.Write([]byte(text))
		check(t, err)
	}
	check(t, st.Close())
	if text := <-got; text != "a request\x00\x01\x00\x01 2 bytes"+long {
		t.Fatalf("%d bytes came: %.60q", len(text), text)
	}
	check(t, here.Close())
	if len(w.all) < 3 || !bytes.HasSuffix(w.all[0], []byte("a request")) || len(w.all[0]) != 2*muxHeader+9 || len(w.all[1]) != muxHeader+12 {
		t.Errorf("writes: %.60q", w.all)
	}
}
