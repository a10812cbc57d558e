package blob

import (
	"io"
	"net/http"
	"strconv"
	"sync"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// appendBlock adds a block to the end of an append blob. The answer's two headers say where it went; without them the
// client takes the block as not stored, and sends it for ever (azureml-v1.md §20). The store keeps blobs whole, so what
// is there is copied: append blobs carry logs, which are small and grow every few seconds.
func (h handlers) appendBlock(w http.ResponseWriter, r *http.Request, name string) error {
	block, err := checked(r)
	if err != nil {
		return err
	}
	defer h.writing.enter(name)()
	body, had, err := h.blobs.Get(r.Context(), name, 0, -1)
	if err != nil {
		return missing(err, r.PathValue("path"))
	}
	defer func() { _ = body.Close() }() // only read
	if !had.Append {
		return &workspace.Problem{Class: workspace.Conflict, Code: "InvalidBlobType", Message: "the blob is of another type, to which nothing can be appended", Mend: "make it anew as an AppendBlob, or upload it whole"}
	}
	if err := appendCondition(r, had.Size); err != nil {
		return err
	}
	size := int64(-1)
	if r.ContentLength >= 0 {
		size = had.Size + r.ContentLength
	}
	meta := had.Meta
	meta.Appended++
	info, err := h.blobs.Put(r.Context(), name, io.MultiReader(body, block), size, meta)
	if err != nil {
		return err
	}
	w.Header().Set("x-ms-blob-append-offset", strconv.FormatInt(had.Size, 10))
	w.Header().Set("x-ms-blob-committed-block-count", strconv.Itoa(meta.Appended))
	created(w, r, info)
	return nil
}

// appendCondition holds a client to the place at which it means to append, and to the size that it allows.
func appendCondition(r *http.Request, size int64) error {
	if at := r.Header.Get("x-ms-blob-condition-appendpos"); at != "" && at != strconv.FormatInt(size, 10) {
		return &workspace.Problem{Class: workspace.Conflict, Code: "AppendPositionConditionNotMet", Message: "the blob does not end where the request wants to append", Mend: "look at its size and go on from there"}
	}
	if most := r.Header.Get("x-ms-blob-condition-maxsize"); most != "" {
		limit, err := strconv.ParseInt(most, 10, 64)
		if err != nil || size+max(r.ContentLength, 0) > limit {
			return &workspace.Problem{Class: workspace.Conflict, Code: "MaxBlobSizeConditionNotMet", Message: "the blob would be larger than the request allows", Mend: "begin another blob"}
		}
	}
	return nil
}

// names lets one request at a time change a blob on the ground of what it was. Servers that share a store do not see
// each other's; each blob that grows has one client, which comes by one connection.
type names struct {
	mu   sync.Mutex
	held map[string]*turn
}

type turn struct {
	sync.Mutex
	wanted int
}

// enter waits for the name's turn; the caller leaves it.
func (n *names) enter(name string) (leave func()) {
	n.mu.Lock()
	if n.held == nil {
		n.held = map[string]*turn{}
	}
	t := n.held[name]
	if t == nil {
		t = &turn{}
		n.held[name] = t
	}
	t.wanted++
	n.mu.Unlock()
	t.Lock()
	return func() {
		t.Unlock()
		n.mu.Lock()
		defer n.mu.Unlock()
		if t.wanted--; t.wanted == 0 {
			delete(n.held, name)
		}
	}
}
