package api

import (
	"io"
	"net/http"
	"time"
)

// The limits of time, by the machine's clock, which is the sockets'. A client that does not take what is sent, or does not
// send what is expected, for so long is cut off, on streams too. A stream on which there is nothing to send may be quiet.
const (
	patience = time.Minute
	bodyTime = 5 * time.Minute // for a whole body, on routes that do not stream
)

// writer is the ResponseWriter that handlers get: it knows the status, and bounds clients that read slowly.
type writer struct {
	http.ResponseWriter
	control  *http.ResponseController
	status   int
	started  bool
	stream   bool
	override int // the status that takes the place of the dialect's
}

func newWriter(w http.ResponseWriter) *writer {
	out := &writer{ResponseWriter: w, control: http.NewResponseController(w), status: http.StatusOK}
	out.expectTaken()
	return out
}

// expectBody bounds the wait for a body, whoever reads it.
func (w *writer) expectBody() { _ = w.control.SetReadDeadline(time.Now().Add(patience)) }

// limit applies the route's limits to a request's body and to the answer.
func (w *writer) limit(r *http.Request, route *Route, maxBody int64) {
	w.stream = route.Stream
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	b := &body{ReadCloser: r.Body, control: w.control}
	if !route.Stream {
		b.ReadCloser = http.MaxBytesReader(w, r.Body, maxBody)
		b.end = time.Now().Add(bodyTime)
	}
	r.Body = b
}

// WriteHeader notes the status. The deadline starts anew, because making the answer may have taken long.
func (w *writer) WriteHeader(status int) {
	if w.override != 0 {
		status = w.override
	}
	if status >= 200 && !w.started {
		w.started, w.status = true, status
		w.expectTaken()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write writes with a deadline: on streams a new one for every write.
func (w *writer) Write(b []byte) (int, error) {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	if w.stream {
		w.expectTaken()
	}
	return w.ResponseWriter.Write(b)
}

// FlushError sends what was written, with a deadline as Write's. On a stream there is none after it, since nothing is
// left to be sent: HTTP/2 would cut a stream off that is only quiet.
func (w *writer) FlushError() error {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	w.expectTaken()
	err := w.control.Flush()
	if w.stream {
		_ = w.control.SetWriteDeadline(time.Time{})
	}
	return err
}

// expectTaken bounds the wait for the client to take what is sent. What cannot have deadlines has none.
func (w *writer) expectTaken() { _ = w.control.SetWriteDeadline(time.Now().Add(patience)) }

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// body is a request's body with a deadline for every read, and none after its end: net/http watches the connection
// then, and a deadline would look as if the client had gone.
type body struct {
	io.ReadCloser
	control *http.ResponseController
	end     time.Time // zero: no end of the whole
}

func (b *body) Read(p []byte) (int, error) {
	by := time.Now().Add(patience)
	if !b.end.IsZero() && b.end.Before(by) {
		by = b.end
	}
	_ = b.control.SetReadDeadline(by)
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	_ = b.control.SetReadDeadline(time.Time{})
	return err
}
