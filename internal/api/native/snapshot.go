package native

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Snapshots takes objects; package blob's CAS has it.
type Snapshots interface {
	// Has tells which of the objects are missing, and pins the others.
	Has(ctx context.Context, hashes []snapshot.Hash) (missing []snapshot.Hash, err error)
	// Put stores an object after it compared its bytes with the hash.
	Put(ctx context.Context, hash snapshot.Hash, r io.Reader, size int64) error
}

func (h handlers) snapshotRoutes() []api.Route {
	return []api.Route{
		{Method: "POST", Pattern: ws("/snapshots/missing"), Action: act("snapshots/write"), Handler: h.missing},
		{Method: "POST", Pattern: ws("/snapshots/objects"), Action: act("snapshots/write"), Stream: true, Handler: h.objects},
	}
}

const maxHashes = 100_000

func (h handlers) missing(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Root   snapshot.Hash   `json:"root"`
		Hashes []snapshot.Hash `json:"hashes"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	if req.Root != "" {
		req.Hashes = append(req.Hashes, req.Root)
	}
	if len(req.Hashes) > maxHashes {
		return &workspace.Problem{Class: workspace.TooLarge, Code: "TooManyHashes", Target: "hashes", Message: fmt.Sprintf("more than %d hashes in one request", maxHashes), Mend: "ask in parts"}
	}
	for _, hash := range req.Hashes {
		if !hash.Valid() {
			return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidHash", Target: "hashes", Message: fmt.Sprintf("%.80q is not a hash", string(hash)), Mend: "send SHA-256 as 64 small hexadecimal digits"}
		}
	}
	missing, err := h.Snapshots.Has(r.Context(), req.Hashes)
	if err != nil {
		return err
	}
	if missing == nil {
		missing = []snapshot.Hash{}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"missing": missing})
}

// objects takes records "HASH LENGTH\n" and so many bytes, compressed as one stream. Each object is stored when its
// record is through, so an upload that broke off is not lost.
func (h handlers) objects(w http.ResponseWriter, r *http.Request) error {
	// The window is bounded, or one small request could ask for gigabytes of memory.
	z, err := zstd.NewReader(r.Body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderLowmem(true))
	if err != nil {
		return fmt.Errorf("native: zstd: %w", err)
	}
	defer z.Close()
	stored, err := readRecords(z, func(hash snapshot.Hash, size int64, content io.Reader) error {
		return h.Snapshots.Put(r.Context(), hash, content, size)
	})
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"stored": stored})
}

const (
	maxObject = 1 << 40
	maxHeader = 64 + 1 + 14 // a hash, a space, a length
)

// readRecords gives each record to put, which reads content or leaves it. It is safe on bytes from outside.
func readRecords(r io.Reader, put func(hash snapshot.Hash, size int64, content io.Reader) error) (stored int, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return stored, nil
		}
		if err != nil || len(line) > maxHeader {
			return stored, invalidRecord(stored, err)
		}
		text, length, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
		hash := snapshot.Hash(text)
		size, err := strconv.ParseInt(length, 10, 64)
		if err != nil || size < 0 || size > maxObject || !hash.Valid() {
			return stored, invalidRecord(stored, err)
		}
		content := &io.LimitedReader{R: in, N: size}
		if err := put(hash, size, content); err != nil {
			return stored, err
		}
		if _, err := io.Copy(io.Discard, content); err != nil || content.N > 0 {
			return stored, invalidRecord(stored, err)
		}
		stored++
	}
}

func invalidRecord(n int, err error) error {
	p := &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidRecord", Message: fmt.Sprintf("record %d of the upload is broken", n+1),
		Mend: "send hash, space, length, newline and so many bytes, compressed with zstd",
	}
	if err != nil {
		p.Cause = err.Error()
	}
	return p
}

// escape writes a blob's name as the path of a URL.
func escape(name string) string { return (&url.URL{Path: name}).EscapedPath() }
