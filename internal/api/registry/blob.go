package registry

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"

	images "github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// getBlob serves GET and HEAD of a blob, whole or in part. HEAD is how a client asks what it need not send.
func (h handlers) getBlob(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	digest, err := images.ParseDigest(e.reference)
	if err != nil {
		return err
	}
	b, err := h.Images.Blob(r.Context(), in, digest)
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Docker-Content-Digest", b.Digest)
	header.Set("ETag", `"`+b.Digest+`"`)
	header.Set("Accept-Ranges", "bytes")
	from, length, part, err := rangeOf(r, b.Size)
	if err != nil {
		header.Set("Content-Range", fmt.Sprintf("bytes */%d", b.Size))
		return err
	}
	status := http.StatusOK
	if part {
		status = http.StatusPartialContent
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, from+length-1, b.Size))
	}
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Length", strconv.FormatInt(length, 10))
	if r.Method == http.MethodHead {
		w.WriteHeader(status)
		return nil
	}
	content, err := h.Images.Open(r.Context(), b, from, length)
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }() // only read
	w.WriteHeader(status)
	return copyOut(w, content)
}

// buffers are for sending blobs; with small ones TLS would cost a system call for each record.
var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }} //nolint:gochecknoglobals // holds nothing that lasts

func copyOut(w io.Writer, from io.Reader) error {
	buffer, ok := buffers.Get().(*[256 << 10]byte)
	if !ok {
		buffer = new([256 << 10]byte)
	}
	defer buffers.Put(buffer)
	_, err := io.CopyBuffer(w, from, buffer[:])
	return err
}

var byteRange = regexp.MustCompile(`^bytes=(\d{0,18})-(\d{0,18})$`)

// rangeOf reads Range. One that is not understood is ignored, as HTTP says.
func rangeOf(r *http.Request, size int64) (from, length int64, part bool, err error) {
	m := byteRange.FindStringSubmatch(strings.ReplaceAll(r.Header.Get("Range"), " ", ""))
	if m == nil || m[1] == "" && m[2] == "" {
		return 0, size, false, nil
	}
	first, _ := strconv.ParseInt(m[1], 10, 64) // digits only, and few enough; empty is 0
	last, _ := strconv.ParseInt(m[2], 10, 64)
	switch {
	case m[1] == "": // the last so many bytes
		first, last = max(size-last, 0), size-1
	case m[2] == "" || last >= size:
		last = size - 1
	}
	if first >= size || last < first {
		return 0, 0, false, &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidRange", Message: fmt.Sprintf("the blob has %d bytes, and none in that range", size), Mend: "ask within its size",
		}
	}
	return first, last - first + 1, true, nil
}

func (h handlers) deleteBlob(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	digest, err := images.ParseDigest(e.reference)
	if err == nil {
		err = h.Images.DeleteBlob(r.Context(), in, digest)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
