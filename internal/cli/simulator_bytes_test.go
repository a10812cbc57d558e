package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

func (s *simulator) listFiles(w http.ResponseWriter, r *http.Request, j *simJob) {
	files := []any{}
	for _, key := range sorted(j.files) {
		output, path, _ := strings.Cut(key, "\x00")
		files = append(files, map[string]any{
			"output": output, "path": path, "size": j.files[key], "mode": 0o755, "url": fmt.Sprintf("%s/signed/%d?file=%s-%s", s.URL, j.files[key], output, strings.ReplaceAll(path, "/", "-")),
		})
	}
	answerJSON(w, 200, map[string]any{"files": files})
}

// cutConnection ends a handler with its connection, as a server that dies does.
func cutConnection() {
	panic(http.ErrAbortHandler)
}

// signed gives a file of letters, and cuts the first transfer of each in its middle.
func (s *simulator) signed(w http.ResponseWriter, r *http.Request) {
	size, _ := strconv.Atoi(r.PathValue("size"))
	text := strings.Repeat("moorage\n", size/8+1)[:size]
	if strings.HasSuffix(r.URL.Query().Get("file"), "short.txt") {
		text = text[:size-1]
	}
	s.mu.Lock()
	first := !s.broken[r.URL.RawQuery]
	s.broken[r.URL.RawQuery] = true
	s.mu.Unlock()
	if first && size > 100 {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = io.WriteString(w, text[:size/2])
		w.(http.Flusher).Flush()
		cutConnection()
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
}

func (s *simulator) missing(w http.ResponseWriter, r *http.Request) {
	var in struct{ Hashes []snapshot.Hash }
	_ = json.NewDecoder(r.Body).Decode(&in)
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []snapshot.Hash{}
	for _, h := range in.Hashes {
		if !s.objects[h] {
			out = append(out, h)
		}
	}
	answerJSON(w, 200, map[string]any{"missing": out})
}

func (s *simulator) store(w http.ResponseWriter, r *http.Request) {
	z, err := zstd.NewReader(r.Body)
	if err != nil {
		fail(w, 400, "InvalidStream", "not zstd", err.Error(), "")
		return
	}
	defer z.Close()
	text, err := io.ReadAll(z)
	stored := 0
	for err == nil && len(text) > 0 {
		head, rest, ok := bytes.Cut(text, []byte("\n"))
		hash, size, _ := strings.Cut(string(head), " ")
		n, nerr := strconv.Atoi(size)
		if !ok || nerr != nil || n > len(rest) || snapshot.Sum(rest[:n]) != snapshot.Hash(hash) {
			fail(w, 400, "InvalidStream", "record "+string(head)+" is wrong", "", "")
			return
		}
		s.mu.Lock()
		s.objects[snapshot.Hash(hash)] = true
		s.mu.Unlock()
		text, stored = rest[n:], stored+1
	}
	if err != nil {
		fail(w, 400, "InvalidStream", "the stream is cut", err.Error(), "")
		return
	}
	answerJSON(w, 200, map[string]any{"stored": stored})
}
