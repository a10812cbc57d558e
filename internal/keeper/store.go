package keeper

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

// store keeps objects as read-only files named by their hash. It is a cache: after a restart of the machine it is
// emptied, because objects are not flushed one by one.
type store struct {
	dir   string
	roots string // an empty file for each tree that a job used; its time is that of the last use
}

// Path is where an object is.
func (s store) Path(h snapshot.Hash) string { return filepath.Join(s.dir, string(h[:2]), string(h)) }

// Tree reads a folder.
func (s store) Tree(h snapshot.Hash) (snapshot.Tree, error) {
	b, err := os.ReadFile(s.Path(h))
	if err != nil {
		return nil, err
	}
	return snapshot.Decode(b)
}

func (s store) has(h snapshot.Hash) bool { return h.Valid() && exists(s.Path(h)) }

// put reads size bytes and keeps them if they have that hash. A wrong hash is an error and keeps nothing; the bytes are
// read all the same.
func (s store) put(h snapshot.Hash, size int64, r io.Reader) error {
	r = io.LimitReader(r, size)
	if !h.Valid() || size < 0 {
		return fmt.Errorf("keeper: %.80q of %d bytes is not an object", h, size)
	}
	if s.has(h) {
		n, err := io.Copy(io.Discard, r)
		if err == nil && n < size {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	f, err := s.temp(h)
	if err != nil {
		_, _ = io.Copy(io.Discard, r)
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), r)
	if err != nil {
		_, _ = io.Copy(io.Discard, r)
	} else if n < size {
		err = io.ErrUnexpectedEOF
	}
	return s.keep(f, h, snapshot.Hash(hex.EncodeToString(sum.Sum(nil))), err)
}

// putBytes keeps an object that was read already.
func (s store) putBytes(h snapshot.Hash, b []byte) error {
	if !h.Valid() {
		return fmt.Errorf("keeper: %.80q is not an object", h)
	}
	if s.has(h) {
		return nil
	}
	got := snapshot.Sum(b)
	f, err := s.temp(h)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(b))
	return s.keep(f, h, got, err)
}

func (s store) temp(h snapshot.Hash) (*os.File, error) {
	dir := filepath.Dir(s.Path(h))
	f, err := os.CreateTemp(dir, "new-*")
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		f, err = os.CreateTemp(dir, "new-*")
	}
	return f, err
}

func (s store) keep(f *os.File, want, got snapshot.Hash, err error) error {
	if err == nil && want != got {
		err = fmt.Errorf("keeper: an object arrived as %.12s instead of %.12s", got, want)
	}
	if err == nil {
		err = f.Chmod(0o400)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return os.Rename(f.Name(), s.Path(want))
}

// missing lists what a tree needs and the store lacks, as far as it can see. Sizes are compared. Folders in whole are not
// looked into, and those found whole are added to it.
func (s store) missing(tree snapshot.Hash, whole map[snapshot.Hash]bool) ([]snapshot.Hash, error) {
	if whole[tree] && s.has(tree) {
		return nil, nil
	}
	if !s.has(tree) {
		return []snapshot.Hash{tree}, nil
	}
	t, err := s.Tree(tree)
	if err != nil {
		return nil, err
	}
	var out []snapshot.Hash
	for _, e := range t {
		switch e.Kind {
		case snapshot.Folder:
			more, err := s.missing(e.Hash, whole)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case snapshot.File:
			info, err := os.Lstat(s.Path(e.Hash))
			switch {
			case errors.Is(err, os.ErrNotExist):
				out = append(out, e.Hash)
			case err != nil:
				return nil, err
			case info.Size() != e.Size:
				_ = os.Remove(s.Path(e.Hash))
				out = append(out, e.Hash)
			}
		case snapshot.Link:
		}
	}
	if len(out) == 0 {
		whole[tree] = true
	}
	return out, nil
}
