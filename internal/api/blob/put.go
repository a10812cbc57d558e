package blob

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	store "github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// put serves the four writes: a whole blob, a block, a list of blocks, and metadata.
func (h handlers) put(w http.ResponseWriter, r *http.Request) error {
	common(w, r)
	name, err := place(r.PathValue("container"), r.PathValue("path"))
	if err != nil {
		return err
	}
	if r.PathValue("path") == "" {
		return h.makeContainer(w, r)
	}
	switch comp := r.URL.Query().Get("comp"); comp {
	case "":
		return h.putBlob(w, r, name)
	case "block":
		return h.putBlock(w, r, name)
	case "blocklist":
		return h.putBlockList(w, r, name)
	case "metadata":
		return h.putMetadata(w, r, name)
	default:
		return unsupported("comp=" + comp)
	}
}

func (h handlers) putBlob(w http.ResponseWriter, r *http.Request, name string) error {
	if kind := r.Header.Get("x-ms-blob-type"); kind != "" && kind != "BlockBlob" {
		return unsupported("blobs of type " + kind)
	}
	if r.Header.Get("x-ms-copy-source") != "" {
		return unsupported("copying from a URL")
	}
	meta, err := h.mayWrite(r, name)
	if err != nil {
		return err
	}
	info, err := h.blobs.Put(r.Context(), name, r.Body, r.ContentLength, meta)
	if err != nil {
		return err
	}
	created(w, info)
	return nil
}

// mayWrite reads metadata, and holds a client to its own wish not to overwrite.
func (h handlers) mayWrite(r *http.Request, name string) (store.Meta, error) {
	values, err := metadata(r.Header)
	meta := store.Meta{User: values, ContentType: r.Header.Get("x-ms-blob-content-type")}
	if err != nil {
		return meta, err
	}
	if meta.ContentType == "" && r.URL.Query().Get("comp") == "" {
		meta.ContentType = r.Header.Get("Content-Type")
	}
	if r.Header.Get("If-None-Match") != "*" {
		return meta, nil
	}
	_, err = h.blobs.Stat(r.Context(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return meta, nil
	}
	if err != nil {
		return meta, err
	}
	return meta, &workspace.Problem{Class: workspace.Conflict, Code: "BlobAlreadyExists", Message: "the specified blob already exists", Mend: "overwrite it, or take another name"}
}

func created(w http.ResponseWriter, info store.Info) {
	w.Header().Set("ETag", etag(info))
	w.Header().Set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	w.Header().Set("x-ms-request-server-encrypted", "false")
	w.WriteHeader(http.StatusCreated)
}

// staged is where a block waits for its list. Blocks that no list ever names are left to the sweep.
func staged(name, blockID string) (string, error) {
	id, err := base64.StdEncoding.DecodeString(blockID)
	if err != nil || len(id) == 0 || len(id) > 64 {
		return "", &workspace.Problem{Class: workspace.Invalid, Code: "InvalidQueryParameterValue", Target: "blockid", Message: "the block's id is not base64 of 1 to 64 bytes", Mend: "encode it"}
	}
	return "staged/" + string(snapshot.Sum([]byte(name))) + "/" + hex.EncodeToString(id), nil
}

func (h handlers) putBlock(w http.ResponseWriter, r *http.Request, name string) error {
	at, err := staged(name, r.URL.Query().Get("blockid"))
	if err != nil {
		return err
	}
	if _, err := h.blobs.Put(r.Context(), at, r.Body, r.ContentLength, store.Meta{}); err != nil {
		return err
	}
	w.Header().Set("x-ms-request-server-encrypted", "false")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// blockList is the body of comp=blocklist: ids in the order of their elements.
type blockList struct {
	Blocks []struct {
		XMLName xml.Name
		ID      string `xml:",chardata"`
	} `xml:",any"`
}

const (
	maxBlockList = 8 << 20
	maxBlocks    = 50_000
)

// readBlockList is safe on bytes from outside.
func readBlockList(r io.Reader) ([]string, error) {
	var list blockList
	err := xml.NewDecoder(io.LimitReader(r, maxBlockList)).Decode(&list)
	if err != nil || len(list.Blocks) > maxBlocks {
		return nil, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidXmlDocument", Message: "the list of blocks cannot be read, or is too long", Mend: fmt.Sprintf("send at most %d blocks as XML", maxBlocks)}
	}
	ids := make([]string, len(list.Blocks))
	for i, b := range list.Blocks {
		if n := b.XMLName.Local; n != "Latest" && n != "Uncommitted" {
			return nil, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidBlockList", Message: "the list names blocks that are not waiting", Mend: "upload every block anew before its list"}
		}
		ids[i] = b.ID
	}
	return ids, nil
}

func (h handlers) putBlockList(w http.ResponseWriter, r *http.Request, name string) error {
	ids, err := readBlockList(r.Body)
	if err != nil {
		return err
	}
	meta, err := h.mayWrite(r, name)
	if err != nil {
		return err
	}
	var size int64
	places := make([]string, len(ids))
	for i, id := range ids {
		if places[i], err = staged(name, id); err != nil {
			return err
		}
		info, err := h.blobs.Stat(r.Context(), places[i])
		if errors.Is(err, fs.ErrNotExist) {
			return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidBlockList", Message: "the specified block list is invalid: a block of it is not there", Mend: "upload every block before its list"}
		}
		if err != nil {
			return err
		}
		size += info.Size
	}
	joined := &blocks{places: places, next: func(at string) (io.ReadCloser, error) {
		b, _, err := h.blobs.Get(r.Context(), at, 0, -1)
		return b, err
	}}
	defer joined.close()
	info, err := h.blobs.Put(r.Context(), name, joined, size, meta)
	if err != nil {
		return err
	}
	for _, at := range places {
		_ = h.blobs.Delete(r.Context(), at) // the sweep finds what stays
	}
	created(w, info)
	return nil
}

// blocks reads staged blocks one after the other, with one of them open at a time.
type blocks struct {
	places []string
	next   func(place string) (io.ReadCloser, error)
	open   io.ReadCloser
}

func (b *blocks) Read(p []byte) (int, error) {
	for {
		if b.open == nil {
			if len(b.places) == 0 {
				return 0, io.EOF
			}
			r, err := b.next(b.places[0])
			if err != nil {
				return 0, err
			}
			b.open, b.places = r, b.places[1:]
		}
		n, err := b.open.Read(p)
		if err == io.EOF {
			b.close()
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (b *blocks) close() {
	if b.open != nil {
		_ = b.open.Close() // only read
		b.open = nil
	}
}

// putMetadata replaces the metadata of a blob. The store keeps both together, so the content is written again.
func (h handlers) putMetadata(w http.ResponseWriter, r *http.Request, name string) error {
	values, err := metadata(r.Header)
	if err != nil {
		return err
	}
	body, had, err := h.blobs.Get(r.Context(), name, 0, -1)
	if err != nil {
		return missing(err, r.PathValue("path"))
	}
	defer func() { _ = body.Close() }() // only read
	info, err := h.blobs.Put(r.Context(), name, body, had.Size, store.Meta{User: values, ContentType: had.ContentType})
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(info))
	w.Header().Set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	w.WriteHeader(http.StatusOK)
	return nil
}
