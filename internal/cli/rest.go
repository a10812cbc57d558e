package cli

import "io"

// rest passes on what is new of a text that is read from its beginning again and again.
type rest struct {
	to   io.Writer
	seen int // bytes passed on
	at   int // bytes of the text read this time
}

// begin is called before each reading.
func (r *rest) begin() { r.at = 0 }

// Write takes the next bytes of the text.
func (r *rest) Write(p []byte) (int, error) {
	old := min(max(r.seen-r.at, 0), len(p))
	r.at += len(p)
	if old == len(p) {
		return len(p), nil
	}
	r.seen = r.at
	n, err := r.to.Write(p[old:])
	return old + n, err
}
