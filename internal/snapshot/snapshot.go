// Package snapshot is the form in which folders of files travel and are kept: a Merkle tree of SHA-256 hashes.
//
// An object is a sequence of bytes named by its hash: the content of a file, or the canonical encoding of one folder (a
// Tree). A folder is named by the hash of its tree, so equal folders have equal names, and what changed between two is
// found without reading what did not. The client hashes, the server keeps objects in package blob, and the keeper on a
// target places them; all three use this package. It knows nothing of any of them.
package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Hash names an object: SHA-256, 64 lower-case hexadecimal digits. The zero value is "none".
type Hash string

// Sum is the hash of an object's bytes.
func Sum(b []byte) Hash {
	s := sha256.Sum256(b)
	return Hash(hex.EncodeToString(s[:]))
}

// Valid tells whether h has the form of a hash.
func (h Hash) Valid() bool {
	if len(h) != 64 {
		return false
	}
	for _, c := range []byte(h) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Kind is what an entry is.
type Kind string

// The kinds.
const (
	File   Kind = "f"
	Folder Kind = "d"
	Link   Kind = "l" // symbolic
)

// Entry is one name in a folder.
type Entry struct {
	Name   string `json:"n"`
	Kind   Kind   `json:"k"`
	Exec   bool   `json:"x,omitempty"` // a file that may be executed; other permission bits do not travel
	Size   int64  `json:"s,omitempty"` // of a file, in bytes
	Hash   Hash   `json:"h,omitempty"` // of a file's content or a folder's tree
	Target string `json:"t,omitempty"` // of a link: relative, and inside the snapshot
}

// Tree is one folder: its entries in ascending byte order of their names.
type Tree []Entry

// Encode gives the canonical bytes: JSON lines, one an entry. Equal folders have equal bytes.
func (t Tree) Encode() []byte {
	t = slices.Clone(t)
	slices.SortFunc(t, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, e := range t {
		if err := enc.Encode(e); err != nil {
			panic("snapshot: an entry cannot be encoded: " + err.Error()) // strings and numbers always can
		}
	}
	return b.Bytes()
}

// Decode reads what Encode wrote and refuses anything else: names that are not plain, a wrong order, doubled names,
// hashes of a wrong form, links out of sight, another spelling. It is safe on bytes from outside.
func Decode(b []byte) (Tree, error) {
	var t Tree
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	for dec.More() {
		var e Entry
		if err := dec.Decode(&e); err != nil {
			return nil, fmt.Errorf("snapshot: tree: %w", err)
		}
		if err := e.check(); err != nil {
			return nil, err
		}
		if n := len(t); n > 0 && t[n-1].Name >= e.Name {
			return nil, fmt.Errorf("snapshot: tree: %q is out of order", e.Name)
		}
		t = append(t, e)
	}
	// One folder has one encoding: other spellings of the same JSON, doubled fields and names that are not UTF-8 end here.
	if !bytes.Equal(t.Encode(), b) {
		return nil, errors.New("snapshot: tree: it is not in its canonical form")
	}
	return t, nil
}

func (e Entry) check() error {
	if e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") || len(e.Name) > 255 {
		return fmt.Errorf("snapshot: tree: %q is not the name of a file", e.Name)
	}
	switch e.Kind {
	case File, Folder:
		if !e.Hash.Valid() || e.Size < 0 || e.Target != "" {
			return fmt.Errorf("snapshot: tree: %q has no valid hash or size", e.Name)
		}
	case Link:
		if e.Target == "" || strings.HasPrefix(e.Target, "/") || strings.ContainsRune(e.Target, 0) || e.Hash != "" {
			return fmt.Errorf("snapshot: tree: link %q leads nowhere or out of the snapshot", e.Name)
		}
	default:
		return fmt.Errorf("snapshot: tree: %q is of unknown kind %q", e.Name, e.Kind)
	}
	return nil
}
