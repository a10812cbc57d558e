package history

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/workspace"
)

var from = regexp.MustCompile(`^bytes=(\d{1,18})-(\d{0,18})$`)

// maxPart is the most that one answer to a Range holds: its length must be known before the first byte goes.
const maxPart = 4 << 20

// log streams a job's log as it is now. Without a Range nothing is held in memory.
func (h handlers) log(w http.ResponseWriter, r *http.Request) error {
	stream := ""
	switch r.PathValue("file") {
	case logName:
	case preparingName:
		stream = "prepare"
	default:
		return &workspace.Problem{Class: workspace.NotFound, Code: "ResourceNotFound", Target: r.PathValue("file"), Message: "the job has no such log", Mend: "its log is " + logName}
	}
	p, ws, run := api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("run")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Cache-Control", "no-store")
	m := from.FindStringSubmatch(r.Header.Get("Range"))
	if m == nil {
		_, err := h.Jobs.JobLog(r.Context(), p, ws, run, stream, 0, false, w)
		return err
	}
	first, _ := strconv.ParseInt(m[1], 10, 64) // digits only, and few enough
	room := int64(maxPart)
	if m[2] != "" {
		last, _ := strconv.ParseInt(m[2], 10, 64) // as above
		room = min(room, last-first+1)
	}
	part := &bounded{room: max(room, 0)}
	next, err := h.Jobs.JobLog(r.Context(), p, ws, run, stream, first, false, part)
	if err != nil && !part.full {
		return err
	}
	begin := first
	if gap := next - first - part.seen; gap > 0 && !part.full {
		begin += gap // bytes that were dropped at the target
	}
	if part.Len() == 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", next))
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return nil
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", begin, begin+int64(part.Len())-1))
	w.Header().Set("Content-Length", strconv.Itoa(part.Len()))
	w.WriteHeader(http.StatusPartialContent)
	_, err = w.Write(part.Bytes())
	return err
}

// bounded keeps the first bytes and refuses the rest, which ends the reading.
type bounded struct {
	bytes.Buffer
	room int64
	seen int64
	full bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(int64(len(p)), b.room-int64(b.Len()))
	b.Buffer.Write(p[:n])
	b.seen += n
	if n < int64(len(p)) {
		b.full = true
		return int(n), io.ErrShortWrite
	}
	return len(p), nil
}
