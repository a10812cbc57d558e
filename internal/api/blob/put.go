package blob

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the protocol's own sum of bytes
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"io/fs"
	"net/http"

	store "github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// put serves the five writes: a whole blob, a block, a list of blocks, a block at the end, and metadata.
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
	case "appendblock":
		return h.appendBlock(w, r, name)
	case "metadata":
		return h.putMetadata(w, r, name)
	default:
		return unsupported("comp=" + comp)
	}
}

func (h handlers) putBlob(w http.ResponseWriter, r *http.Request, name string) error {
	kind := r.Header.Get("x-ms-blob-type")
	if kind != "" && kind != blockBlob && kind != appendBlob {
		return unsupported("blobs of type " + kind)
	}
	if r.Header.Get("x-ms-copy-source") != "" {
		return unsupported("copying from a URL")
	}
	meta, err := h.mayWrite(r, name)
	if err != nil {
		return err
	}
	body, err := checked(r)
	if err != nil {
		return err
	}
	meta.Append = kind == appendBlob
	info, err := h.blobs.Put(r.Context(), name, body, r.ContentLength, meta)
	if err != nil {
		return err
	}
	created(w, r, info)
	return nil
}

// The types of blobs, as the protocol calls them.
const (
	blockBlob  = "BlockBlob"
	appendBlob = "AppendBlob"
)

func typeOf(info store.Info) string {
	if info.Append {
		return appendBlob
	}
	return blockBlob
}

// checked gives a request's body. Where the client says what MD5 sum it has (azureml-v1.md §16), the end of another body is
// an error, so that nothing of it is kept.
func checked(r *http.Request) (io.Reader, error) {
	header := r.Header.Get("Content-MD5")
	if header == "" {
		return r.Body, nil
	}
	want, err := base64.StdEncoding.DecodeString(header)
	if err != nil || len(want) != md5.Size {
		return nil, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidMd5", Target: "Content-MD5", Message: "the MD5 sum in the request's header is not one", Mend: "send 16 bytes as base64, or leave it out"}
	}
	return &summed{r: r.Body, sum: md5.New(), want: want}, nil //nolint:gosec // against accidents on the way, as the protocol has it
}

// summed is a reader whose end is an error when its bytes do not have the sum.
type summed struct {
	r    io.Reader
	sum  hash.Hash
	want []byte
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	if err == io.EOF && !bytes.Equal(s.sum.Sum(nil), s.want) {
		return n, &workspace.Problem{Class: workspace.Invalid, Code: "Md5Mismatch", Message: "the bytes that came do not have the MD5 sum that the client gave", Mend: "send them again"}
	}
	return n, err
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

func created(w http.ResponseWriter, r *http.Request, info store.Info) {
	if sum := r.Header.Get("Content-MD5"); sum != "" {
		w.Header().Set("Content-MD5", sum)
	}
	w.Header().Set("ETag", etag(info))
	w.Header().Set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	w.Header().Set("x-ms-request-server-encrypted", "false")
	w.WriteHeader(http.StatusCreated)
}

// putMetadata replaces the metadata of a blob. The store keeps both together, so the content is written again.
func (h handlers) putMetadata(w http.ResponseWriter, r *http.Request, name string) error {
	values, err := metadata(r.Header)
	if err != nil {
		return err
	}
	defer h.writing.enter(name)()
	body, had, err := h.blobs.Get(r.Context(), name, 0, -1)
	if err != nil {
		return missing(err, r.PathValue("path"))
	}
	defer func() { _ = body.Close() }() // only read
	meta := had.Meta
	meta.User = values
	info, err := h.blobs.Put(r.Context(), name, body, had.Size, meta)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(info))
	w.Header().Set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	w.WriteHeader(http.StatusOK)
	return nil
}
