package metric

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
)

// decode reads a request's body. Python's encoder writes NaN and infinities as bare words, which JSON does not have; they
// become texts.
func decode(r *http.Request, v any) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("metric: read body: %w", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(quoteWords(b)))
	return api.DecodeJSON(r, v)
}

var bareWords = [][]byte{[]byte("NaN"), []byte("Infinity"), []byte("-Infinity")}

// quoteWords puts bare words outside of texts in quotes. A body without any is given back as it is.
func quoteWords(b []byte) []byte {
	if !bytes.Contains(b, bareWords[0]) && !bytes.Contains(b, bareWords[1]) {
		return b
	}
	out := make([]byte, 0, len(b)+64)
	text := false
next:
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case text && c == '\\' && i+1 < len(b):
			out = append(out, c, b[i+1])
			i++
			continue
		case c == '"':
			text = !text
		case !text:
			for _, w := range bareWords {
				if bytes.HasPrefix(b[i:], w) {
					out = append(append(append(out, '"'), w...), '"')
					i += len(w) - 1
					continue next
				}
			}
		}
		out = append(out, b[i])
	}
	return out
}
