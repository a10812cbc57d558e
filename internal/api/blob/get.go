package blob

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	store "github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// get serves GET and HEAD of a blob, whole or in part.
func (h handlers) get(w http.ResponseWriter, r *http.Request) error {
	common(w, r)
	name, err := place(r.PathValue("container"), r.PathValue("path"))
	if err != nil {
		return err
	}
	switch comp := r.URL.Query().Get("comp"); comp {
	case "", "metadata":
	case "blocklist":
		return h.getBlockList(w, r, name)
	default:
		return unsupported("comp=" + comp)
	}
	info, err := h.blobs.Stat(r.Context(), name)
	if err != nil {
		return missing(err, r.PathValue("path"))
	}
	if err := condition(r, info); err != nil {
		return err
	}
	describe(w, info)
	part, err := rangeOf(r, info.Size)
	if err != nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", info.Size))
		return err
	}
	if r.URL.Query().Get("comp") == "metadata" {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	status := http.StatusOK
	if part.some {
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.from, part.from+part.length-1, info.Size))
	}
	w.Header().Set("Content-Type", contentType(info))
	w.Header().Set("Content-Length", strconv.FormatInt(part.length, 10))
	if r.Method == http.MethodHead {
		w.WriteHeader(status)
		return nil
	}
	body, _, err := h.blobs.Get(r.Context(), name, part.from, part.length)
	if err != nil {
		return missing(err, r.PathValue("path"))
	}
	defer func() { _ = body.Close() }() // only read
	w.WriteHeader(status)
	_, err = io.Copy(w, body)
	return err
}

// condition is If-Match and If-None-Match, by which a client that fetches in parts sees that the blob changed.
func condition(r *http.Request, info store.Info) error {
	unmet := &workspace.Problem{Class: workspace.Conflict, Code: "ConditionNotMet", Message: "the blob is not the one that the request's condition names", Mend: "fetch it anew"}
	if m := r.Header.Get("If-Match"); m != "" && m != "*" && !matches(m, info) {
		return unmet
	}
	if m := r.Header.Get("If-None-Match"); m != "" && (m == "*" || matches(m, info)) {
		return unmet
	}
	return nil
}

func matches(header string, info store.Info) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if strings.Trim(strings.TrimSpace(tag), `"`) == strings.Trim(info.ETag, `"`) {
			return true
		}
	}
	return false
}

type part struct {
	from, length int64
	some         bool // less than the whole was asked for
}

var byteRange = regexp.MustCompile(`^bytes=(\d{0,18})-(\d{0,18})$`)

// rangeOf reads x-ms-range or Range. One that is not understood is ignored, as HTTP says.
func rangeOf(r *http.Request, size int64) (part, error) {
	header := r.Header.Get("x-ms-range")
	if header == "" {
		header = r.Header.Get("Range")
	}
	m := byteRange.FindStringSubmatch(strings.ReplaceAll(header, " ", ""))
	if m == nil || m[1] == "" && m[2] == "" {
		return part{0, size, false}, nil
	}
	if m[1] == "" { // the last so many bytes
		n, _ := strconv.ParseInt(m[2], 10, 64) // digits only, and few enough
		n = min(n, size)
		if n == 0 {
			return part{}, invalidRange()
		}
		return part{size - n, n, true}, nil
	}
	from, _ := strconv.ParseInt(m[1], 10, 64) // as above
	to := size - 1
	if m[2] != "" {
		end, _ := strconv.ParseInt(m[2], 10, 64) // as above
		to = min(to, end)
	}
	if from >= size || to < from {
		return part{}, invalidRange()
	}
	return part{from, to - from + 1, true}, nil
}

func invalidRange() error {
	return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidRange", Message: "the range specified is invalid for the current size of the resource", Mend: "ask within the blob's size"}
}
