// Package blob keeps bytes under names: artifacts, logs, uploads, and the content-addressed objects of snapshots. Store
// is the interface of a place; disk.go is a folder. It knows nothing of what the bytes mean. control, reconcile,
// tracking and the API stream to and from it.
package blob

import (
	"context"
	"io"
	"time"
)

// Store keeps blobs. A blob is written whole or not at all: readers see the old bytes or the new ones, never a part.
// Names are slash-separated and clean (CheckName); a name may be another's prefix. It is safe for concurrent use.
// A blob that is not there is fs.ErrNotExist.
type Store interface {
	// Put keeps what r gives under a name, in place of what is there, durable when it returns. size is the number of
	// bytes, -1 if it is not known; fewer or more are io.ErrUnexpectedEOF or a Problem, and nothing is kept.
	Put(ctx context.Context, name string, r io.Reader, size int64, meta Meta) (Info, error)
	// Get reads length bytes from offset on; -1 is to the end. An offset after the end gives no bytes.
	Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, Info, error)
	// Stat tells about a blob.
	Stat(ctx context.Context, name string) (Info, error)
	// List gives blobs whose names begin with prefix and come after a name, in byte order of names. With a delimiter "/",
	// names that go on after the next slash are folded into one prefix. limit bounds blobs and prefixes together; 0: 1,000.
	List(ctx context.Context, prefix, delimiter, after string, limit int) (Page, error)
	// Delete removes a blob.
	Delete(ctx context.Context, name string) error
}

// Meta is what is kept beside the bytes.
type Meta struct {
	ContentType string            `json:"type,omitempty"`
	User        map[string]string `json:"user,omitempty"` // the client's own, names in lower case
	// Blocks are the parts of which a client of Azure's protocol put the blob together, which it may name again.
	Blocks []Block `json:"blocks,omitempty"`
	// Append says that it is an append blob of that protocol, and Appended how many blocks it got.
	Append   bool `json:"append,omitempty"`
	Appended int  `json:"appended,omitempty"`
}

// Block is a part of a blob; they lie one after the other.
type Block struct {
	ID   string `json:"id"`
	Size int64  `json:"size"`
}

func (m Meta) empty() bool {
	return m.ContentType == "" && len(m.User) == 0 && len(m.Blocks) == 0 && !m.Append
}

// Info tells about a blob.
type Info struct {
	Name     string
	Size     int64
	Modified time.Time
	ETag     string // changes with every Put; without quotes
	Meta
}

// Page is a part of a list.
type Page struct {
	Blobs    []Info
	Prefixes []string // folded names, with the delimiter at their end
	Next     string   // what to give as after for the next page; empty on the last
}
