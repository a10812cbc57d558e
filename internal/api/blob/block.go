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
	"path"

	store "github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The limits of lists of blocks.
const (
	maxBlockList = 8 << 20
	maxBlocks    = 50_000
	// maxKnown is how many blocks a blob may have for them to be known after their list: what is kept of a blob is read
	// with every look at it.
	maxKnown = 1000
)

// waiting is where the blocks of a blob wait for their list. Blocks that no list ever names are left to the sweep.
func waiting(name string) string { return "staged/" + string(snapshot.Sum([]byte(name))) + "/" }

// staged is where a block waits.
func staged(name, blockID string) (string, error) {
	id, err := base64.StdEncoding.DecodeString(blockID)
	if err != nil || len(id) == 0 || len(id) > 64 {
		return "", &workspace.Problem{Class: workspace.Invalid, Code: "InvalidQueryParameterValue", Target: "blockid", Message: "the block's id is not base64 of 1 to 64 bytes", Mend: "encode it"}
	}
	return waiting(name) + hex.EncodeToString(id), nil
}

func (h handlers) putBlock(w http.ResponseWriter, r *http.Request, name string) error {
	at, err := staged(name, r.URL.Query().Get("blockid"))
	if err != nil {
		return err
	}
	body, err := checked(r)
	if err != nil {
		return err
	}
	info, err := h.blobs.Put(r.Context(), at, body, r.ContentLength, store.Meta{})
	if err != nil {
		return err
	}
	created(w, r, info)
	return nil
}

// blockList is the body of comp=blocklist: ids in the order of their elements, whose names say where a block is: Latest,
// Uncommitted or Committed (azureml-v1.md §16).
type blockList struct {
	Blocks []namedBlock `xml:",any"`
}

type namedBlock struct {
	XMLName xml.Name
	ID      string `xml:",chardata"`
}

// readBlockList is safe on bytes from outside.
func readBlockList(r io.Reader) ([]namedBlock, error) {
	var list blockList
	err := xml.NewDecoder(io.LimitReader(r, maxBlockList)).Decode(&list)
	if err != nil || len(list.Blocks) > maxBlocks {
		return nil, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidXmlDocument", Message: "the list of blocks cannot be read, or is too long", Mend: fmt.Sprintf("send at most %d blocks as XML", maxBlocks)}
	}
	for _, b := range list.Blocks {
		switch b.XMLName.Local {
		case "Latest", "Uncommitted", "Committed":
		default:
			return nil, invalidBlockList("it has an element that is not Latest, Uncommitted or Committed")
		}
	}
	return list.Blocks, nil
}

func invalidBlockList(cause string) error {
	return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidBlockList", Message: "the specified block list is invalid", Cause: cause, Mend: "upload every block before its list"}
}

func (h handlers) putBlockList(w http.ResponseWriter, r *http.Request, name string) error {
	body, err := checked(r)
	if err != nil {
		return err
	}
	list, err := readBlockList(body)
	if err != nil {
		return err
	}
	meta, err := h.mayWrite(r, name)
	if err != nil {
		return err
	}
	defer h.writing.enter(name)()
	parts, err := h.parts(r, name, list)
	if err != nil {
		return err
	}
	var size int64
	for i, p := range parts {
		size += p.length
		if len(parts) <= maxKnown {
			meta.Blocks = append(meta.Blocks, store.Block{ID: list[i].ID, Size: p.length})
		}
	}
	joined := &joint{parts: parts, open: func(p section) (io.ReadCloser, error) {
		b, _, err := h.blobs.Get(r.Context(), p.blob, p.offset, p.length)
		return b, err
	}}
	defer joined.close()
	info, err := h.blobs.Put(r.Context(), name, joined, size, meta)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.blob != name {
			_ = h.blobs.Delete(r.Context(), p.blob) // the sweep finds what stays
		}
	}
	created(w, r, info)
	return nil
}

// section is a part of a blob in the store.
type section struct {
	blob           string
	offset, length int64
}

// parts finds the blocks of a list: those that wait, and those of which the blob is made.
func (h handlers) parts(r *http.Request, name string, list []namedBlock) ([]section, error) {
	had, err := h.blobs.Stat(r.Context(), name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	committed, offset := map[string]section{}, int64(0)
	for _, b := range had.Blocks {
		committed[b.ID] = section{name, offset, b.Size}
		offset += b.Size
	}
	parts := make([]section, len(list))
	for i, b := range list {
		at, err := staged(name, b.ID)
		if err != nil {
			return nil, err
		}
		old, known := committed[b.ID]
		if b.XMLName.Local == "Committed" {
			if !known {
				return nil, invalidBlockList("a block is named that the blob does not have")
			}
			parts[i] = old
			continue
		}
		info, err := h.blobs.Stat(r.Context(), at)
		switch {
		case err == nil:
			parts[i] = section{at, 0, info.Size}
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case known && b.XMLName.Local == "Latest":
			parts[i] = old
		default:
			return nil, invalidBlockList("a block of it is not there")
		}
	}
	return parts, nil
}

// joint reads sections one after the other, with one of them open at a time.
type joint struct {
	parts []section
	open  func(section) (io.ReadCloser, error)
	now   io.ReadCloser
}

func (j *joint) Read(p []byte) (int, error) {
	for {
		if j.now == nil {
			if len(j.parts) == 0 {
				return 0, io.EOF
			}
			r, err := j.open(j.parts[0])
			if err != nil {
				return 0, err
			}
			j.now, j.parts = r, j.parts[1:]
		}
		n, err := j.now.Read(p)
		if err == io.EOF {
			j.close()
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (j *joint) close() {
	if j.now != nil {
		_ = j.now.Close() // only read
		j.now = nil
	}
}

// listedBlocks is the answer to GET comp=blocklist.
type listedBlocks struct {
	XMLName     xml.Name      `xml:"BlockList"`
	Committed   *[]sizedBlock `xml:"CommittedBlocks>Block"`
	Uncommitted *[]sizedBlock `xml:"UncommittedBlocks>Block"`
}

type sizedBlock struct {
	Name string
	Size int64
}

// getBlockList lists the blocks of a blob: those of which it is made, those that wait, or both.
func (h handlers) getBlockList(w http.ResponseWriter, r *http.Request, name string) error {
	which := r.URL.Query().Get("blocklisttype")
	info, err := h.blobs.Stat(r.Context(), name)
	none := errors.Is(err, fs.ErrNotExist)
	if err != nil && !none {
		return err
	}
	var out listedBlocks
	if which != "uncommitted" {
		out.Committed = &[]sizedBlock{}
		for _, b := range info.Blocks {
			*out.Committed = append(*out.Committed, sizedBlock{b.ID, b.Size})
		}
	}
	page, err := h.blobs.List(r.Context(), waiting(name), "", "", maxBlocks)
	if err != nil {
		return err
	}
	if none && len(page.Blobs) == 0 {
		return missing(fs.ErrNotExist, r.PathValue("path"))
	}
	if which == "uncommitted" || which == "all" {
		out.Uncommitted = &[]sizedBlock{}
		for _, b := range page.Blobs {
			id, err := hex.DecodeString(path.Base(b.Name))
			if err == nil {
				*out.Uncommitted = append(*out.Uncommitted, sizedBlock{base64.StdEncoding.EncodeToString(id), b.Size})
			}
		}
	}
	if !none {
		w.Header().Set("ETag", etag(info))
		w.Header().Set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	}
	return writeXML(w, out)
}
