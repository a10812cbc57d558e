package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Pinner remembers for all servers which objects must not be swept; package store has it.
type Pinner interface {
	// Pin keeps objects for a time and lists those that a sweep is removing right now, which count as not there.
	Pin(ctx context.Context, hashes []string, keep time.Duration) (condemned []string, err error)
	// Condemn marks those of the objects that nobody has pinned as being removed, and lists them.
	Condemn(ctx context.Context, hashes []string) (condemned []string, err error)
	// Forget takes the marks of Condemn away.
	Forget(ctx context.Context, hashes []string) error
}

// CAS keeps the objects of snapshots by their hash, once each. What it says it has, it keeps for a day at least, so that
// a client may rely on the answer. It is safe for concurrent use, by several servers too.
type CAS struct {
	store Store
	pins  Pinner
	clock clock.Source

	mu       sync.Mutex
	pinned   map[[32]byte]time.Time // objects that are there and pinned; until half of the pin has passed
	expected map[[32]byte]time.Time // objects that were missing when they were pinned, likewise
	trees    map[snapshot.Hash]snapshot.Tree
	entries  int                      // in all of trees
	imports  map[string]snapshot.Hash // by name and ETag
}

// keep is how long an answer "have it" holds.
const keep = 24 * time.Hour

// The sizes of what is remembered in memory.
const (
	rememberPins    = 50_000
	rememberEntries = 50_000 // of trees; some 250 bytes each
	rememberImports = 10_000
)

// MaxTree is the largest encoding of one folder.
const MaxTree = 64 << 20

// NewCAS keeps objects in a store.
func NewCAS(s Store, p Pinner, c clock.Source) *CAS {
	return &CAS{store: s, pins: p, clock: c, pinned: map[[32]byte]time.Time{}, expected: map[[32]byte]time.Time{}, trees: map[snapshot.Hash]snapshot.Tree{}, imports: map[string]snapshot.Hash{}}
}

const casPrefix = "cas/"

func objectName(h snapshot.Hash) string { return casPrefix + string(h[:2]) + "/" + string(h) }

func key(h snapshot.Hash) (k [32]byte) {
	_, _ = hex.Decode(k[:], []byte(h)) // callers have checked the form
	return k
}

// Has lists those of the objects that are missing, and pins the others for a day.
func (c *CAS) Has(ctx context.Context, hashes []snapshot.Hash) (missing []snapshot.Hash, err error) {
	var ask []snapshot.Hash
	for _, h := range hashes {
		if !h.Valid() {
			return nil, badHash(h)
		}
		if !c.remembers(h) {
			ask = append(ask, h)
		}
	}
	// Pinned first and looked for then: a sweep may end in between, but not after.
	missing, err = c.pin(ctx, ask)
	if err != nil {
		return nil, err
	}
	var there, expected []snapshot.Hash
	for _, h := range without(ask, missing) {
		_, err := c.store.Stat(ctx, objectName(h))
		switch {
		case err == nil:
			there = append(there, h)
		case errors.Is(err, fs.ErrNotExist):
			missing, expected = append(missing, h), append(expected, h)
		default:
			return nil, err
		}
	}
	c.remember(c.pinned, there...)
	c.remember(c.expected, expected...)
	return missing, nil
}

func badHash(h snapshot.Hash) error {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidHash", Message: fmt.Sprintf("%.80q is not the hash of an object", string(h)), Mend: "send SHA-256 as 64 lower-case hexadecimal digits",
	}
}

func (c *CAS) remembers(h snapshot.Hash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock.Now().Before(c.pinned[key(h)])
}

// expects tells that an object was pinned before it came, so that storing it need not pin it again.
func (c *CAS) expects(h snapshot.Hash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock.Now().Before(c.expected[key(h)])
}

// pin pins objects, there or not, and gives back those that are being swept and are not pinned.
func (c *CAS) pin(ctx context.Context, hashes []snapshot.Hash) (condemned []snapshot.Hash, err error) {
	if len(hashes) == 0 {
		return nil, nil
	}
	names := make([]string, len(hashes))
	for i, h := range hashes {
		names[i] = string(h)
	}
	gone, err := c.pins.Pin(ctx, names, keep)
	for _, h := range gone {
		condemned = append(condemned, snapshot.Hash(h))
	}
	return condemned, err
}

// remember notes that objects are pinned, in pinned or expected.
func (c *CAS) remember(in map[[32]byte]time.Time, hashes ...snapshot.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(in)+len(hashes) > rememberPins {
		clear(in)
	}
	until := c.clock.Now().Add(keep / 2)
	for _, h := range hashes {
		in[key(h)] = until
	}
}

// Put stores an object of size bytes (-1: not known) after checking its hash, and pins it.
func (c *CAS) Put(ctx context.Context, h snapshot.Hash, r io.Reader, size int64) error {
	if !h.Valid() {
		return badHash(h)
	}
	if !c.expects(h) {
		if err := c.spare(ctx, h); err != nil {
			return err
		}
	}
	_, err := c.store.Put(ctx, objectName(h), &checked{r: r, sum: sha256.New(), want: h}, size, Meta{})
	if err != nil {
		return err
	}
	c.remember(c.pinned, h)
	return nil
}

// spare pins an object that is about to be stored; one that is being swept is waited for, so that it is not stored
// first and removed then.
func (c *CAS) spare(ctx context.Context, h snapshot.Hash) error {
	for {
		condemned, err := c.pin(ctx, []snapshot.Hash{h})
		if err != nil || len(condemned) == 0 {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// checked fails at its end when the bytes do not have the hash.
type checked struct {
	r    io.Reader
	sum  hash.Hash
	want snapshot.Hash
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(c.sum.Sum(nil)) != string(c.want) {
		return n, &workspace.Problem{
			Class: workspace.Invalid, Code: "WrongHash", Message: "the bytes of object " + string(c.want[:12]) + " do not have that hash",
			Cause: "the file changed while it was sent, or the transfer was damaged", Mend: "send it again",
		}
	}
	return n, err
}

// Open reads an object. It satisfies compute.Objects.
func (c *CAS) Open(ctx context.Context, h snapshot.Hash) (io.ReadCloser, int64, error) {
	if !h.Valid() {
		return nil, 0, badHash(h)
	}
	r, info, err := c.store.Get(ctx, objectName(h), 0, -1)
	return r, info.Size, err
}

// Tree reads a folder.
func (c *CAS) Tree(ctx context.Context, h snapshot.Hash) (snapshot.Tree, error) {
	c.mu.Lock()
	t, ok := c.trees[h]
	c.mu.Unlock()
	if ok {
		return t, nil
	}
	r, _, err := c.Open(ctx, h)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, MaxTree))
	if err != nil {
		return nil, err
	}
	if t, err = snapshot.Decode(b); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries += len(t) + 1; c.entries > rememberEntries {
		clear(c.trees)
		c.entries = len(t) + 1
	}
	c.trees[h] = t
	return t, nil
}

// PutTree stores a folder and gives its hash.
func (c *CAS) PutTree(ctx context.Context, t snapshot.Tree) (snapshot.Hash, error) {
	b := t.Encode()
	h := snapshot.Sum(b)
	if missing, err := c.Has(ctx, []snapshot.Hash{h}); err != nil || len(missing) == 0 {
		return h, err
	}
	return h, c.Put(ctx, h, bytes.NewReader(b), int64(len(b)))
}

// Closure lists the objects of a snapshot, the root first, each once. A tree that is missing is fs.ErrNotExist.
func (c *CAS) Closure(ctx context.Context, root snapshot.Hash) ([]snapshot.Hash, error) {
	seen := map[snapshot.Hash]bool{root: true}
	all := []snapshot.Hash{root}
	var walk func(h snapshot.Hash) error
	walk = func(h snapshot.Hash) error {
		t, err := c.Tree(ctx, h)
		if err != nil {
			return err
		}
		for _, e := range t {
			if e.Kind == snapshot.Link || seen[e.Hash] {
				continue
			}
			seen[e.Hash] = true
			all = append(all, e.Hash)
			if e.Kind == snapshot.Folder {
				if err := walk(e.Hash); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return all, walk(root)
}

// Complete lists the objects of a snapshot that are missing, and pins those that are there. Below a missing tree
// nothing is known, so nothing of it is listed. Bytes that are no tree are a Problem.
func (c *CAS) Complete(ctx context.Context, root snapshot.Hash) (missing []snapshot.Hash, err error) {
	if missing, err := c.Has(ctx, []snapshot.Hash{root}); err != nil || len(missing) > 0 {
		return missing, err
	}
	var files []snapshot.Hash
	seen := map[snapshot.Hash]bool{root: true}
	level := []snapshot.Hash{root}
	for len(level) > 0 {
		var folders []snapshot.Hash
		for _, h := range level {
			t, err := c.Tree(ctx, h)
			if err != nil {
				return nil, notTree(h, err)
			}
			for _, e := range t {
				if e.Kind == snapshot.Link || seen[e.Hash] {
					continue
				}
				seen[e.Hash] = true
				if e.Kind == snapshot.Folder {
					folders = append(folders, e.Hash)
				} else {
					files = append(files, e.Hash)
				}
			}
		}
		gone, err := c.Has(ctx, folders)
		if err != nil {
			return nil, err
		}
		missing = append(missing, gone...)
		level = without(folders, gone)
	}
	gone, err := c.Has(ctx, files)
	return append(missing, gone...), err
}

func notTree(h snapshot.Hash, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidSnapshot", Message: "object " + string(h[:12]) + " is not a folder of a snapshot", Cause: err.Error(),
		Mend: "send trees as the snapshot format describes them",
	}
}

func without(all, gone []snapshot.Hash) []snapshot.Hash {
	if len(gone) == 0 {
		return all
	}
	drop := map[snapshot.Hash]bool{}
	for _, h := range gone {
		drop[h] = true
	}
	var rest []snapshot.Hash
	for _, h := range all {
		if !drop[h] {
			rest = append(rest, h)
		}
	}
	return rest
}

// Import makes an object of a blob that is already kept under a name, and gives its hash. The same version of a blob is
// read only once.
func (c *CAS) Import(ctx context.Context, info Info) (snapshot.Hash, error) {
	version := info.Name + "\x00" + info.ETag
	c.mu.Lock()
	h, known := c.imports[version]
	c.mu.Unlock()
	if !known {
		r, _, err := c.store.Get(ctx, info.Name, 0, -1)
		if err != nil {
			return "", err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return "", err
		}
		h = snapshot.Hash(hex.EncodeToString(sum.Sum(nil)))
		c.mu.Lock()
		if len(c.imports) >= rememberImports {
			clear(c.imports)
		}
		c.imports[version] = h
		c.mu.Unlock()
	}
	missing, err := c.Has(ctx, []snapshot.Hash{h})
	if err != nil || len(missing) == 0 {
		return h, err
	}
	r, _, err := c.store.Get(ctx, info.Name, 0, -1)
	if err != nil {
		return "", err
	}
	return h, errors.Join(c.Put(ctx, h, r, info.Size), r.Close())
}
