package snapshot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Local is a folder or file of this machine in the form of a snapshot.
type Local struct {
	Root  Hash
	Size  int64 // bytes of all files
	Files []LocalFile
	Trees []LocalTree // a tree comes after those that it names; the last is the root
}

// LocalFile is one file of a Local. The same content may stand in it more than once.
type LocalFile struct {
	Path string // on this machine
	Name string // relative to the folder, slash-separated
	Size int64
	Hash Hash
}

// LocalTree is the encoding of one folder.
type LocalTree struct {
	Hash Hash
	Text []byte
}

// WalkError is what stands in the way of a snapshot: Path, and Why in the words for a person.
type WalkError struct {
	Path string
	Why  string
	Mend string
	Err  error // underneath; may be nil
}

// Error is path and reason.
func (e *WalkError) Error() string { return fmt.Sprintf("snapshot: %s: %s", e.Path, e.Why) }

// Unwrap gives what was underneath.
func (e *WalkError) Unwrap() error { return e.Err }

// Walk hashes the folder or file at root. A file becomes a folder that holds it alone. Left out are .git, what the
// folder's .amlignore names, or its .gitignore if it has no .amlignore, and what is neither file, folder nor link. A
// link is kept as it is; one that leads out of the folder is refused.
//
// cache is a file that keeps the hashes between walks, keyed by size, times and inode; "" keeps none. A file that was
// changed less than a moment before the walk is hashed every time, because the clock of the file system is too coarse to tell
// that it changed once more.
//
// reading may be nil. It is called once before the files are read whose hash is not known, if there are any, with their
// number and bytes; what it returns is called, by several goroutines, with the bytes of each piece that was read.
func Walk(ctx context.Context, root, cache string, now time.Time, reading func(files int, bytes int64) (read func(n int64))) (*Local, error) {
	info, err := os.Stat(root) // the root itself may be a link
	if err != nil {
		return nil, cannotRead(root, err)
	}
	w := &walk{root: root, known: readCache(cache), fresh: now.Add(-freshness).UnixNano()}
	top := &node{}
	if info.IsDir() {
		if w.ignores, err = readIgnores(root); err == nil {
			err = w.list(ctx, top, "")
		}
	} else {
		w.root = filepath.Dir(root)
		err = w.add(top, filepath.Base(root), info)
	}
	if err != nil {
		return nil, err
	}
	read := func(int64) {}
	if reading != nil && len(w.missed) > 0 {
		var size int64
		for _, f := range w.missed {
			size += f.stat.size
		}
		read = reading(len(w.missed), size)
	}
	if err := w.hash(ctx, read); err != nil {
		return nil, err
	}
	l := &Local{}
	w.trees(top, l)
	l.Root = l.Trees[len(l.Trees)-1].Hash
	for _, f := range w.files {
		l.Files = append(l.Files, LocalFile{Path: w.path(f.name), Name: f.name, Size: f.stat.size, Hash: f.hash})
		l.Size += f.stat.size
	}
	w.remember(cache)
	return l, nil
}

// freshness is within what time of the walk a change makes a file's hash one not to be remembered.
const freshness = 2 * time.Second

type walk struct {
	root    string
	ignores ignores
	known   map[string]cached
	fresh   int64 // nanoseconds; files changed after it are not remembered
	files   []*file
	missed  []*file // those whose hash is not known
}

// node is a folder that is being walked.
type node struct {
	entries Tree
	files   map[int]*file // by index of the entry
	folders map[int]*node
}

type file struct {
	name string // relative
	stat stat
	hash Hash
}

// stat is what a file's hash is remembered by.
type stat struct {
	size, modified, changed int64 // times in nanoseconds
	device, inode           uint64
}

func (w *walk) path(name string) string { return filepath.Join(w.root, filepath.FromSlash(name)) }

func cannotRead(at string, err error) error {
	why := err.Error()
	if pe, ok := err.(*fs.PathError); ok { //nolint:errorlint // only the outermost names the path that we name already
		why = pe.Err.Error()
	}
	return &WalkError{Path: at, Why: why, Mend: "give yourself the right to read it, or name it in .amlignore", Err: err}
}

func (w *walk) list(ctx context.Context, n *node, name string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if strings.Count(name, "/") >= maxDepth-1 {
		return &WalkError{Path: w.path(name), Why: fmt.Sprintf("folders are nested deeper than %d", maxDepth), Mend: "name it in .amlignore"}
	}
	entries, err := os.ReadDir(w.path(name)) // in order of names
	if err != nil {
		return cannotRead(w.path(name), err)
	}
	for _, e := range entries {
		at := path.Join(name, e.Name())
		if w.ignores.leftOut(at, e.IsDir()) {
			continue
		}
		if e.IsDir() {
			child := &node{}
			if err := plainName(w.path(at), e.Name()); err != nil {
				return err
			}
			if err := w.list(ctx, child, at); err != nil {
				return err
			}
			if n.folders == nil {
				n.folders = map[int]*node{}
			}
			n.folders[len(n.entries)] = child
			n.entries = append(n.entries, Entry{Name: e.Name(), Kind: Folder})
			continue
		}
		info, err := e.Info()
		if os.IsNotExist(err) {
			continue // gone since the folder was listed
		}
		if err != nil {
			return cannotRead(w.path(at), err)
		}
		if err := w.add(n, at, info); err != nil {
			return err
		}
	}
	return nil
}

func plainName(at, name string) error {
	if !utf8.ValidString(name) {
		return &WalkError{Path: fmt.Sprintf("%q", at), Why: "its name is not UTF-8", Mend: "rename it, or name it in .amlignore"}
	}
	return nil
}

// add takes a file or link into its folder.
func (w *walk) add(n *node, name string, info fs.FileInfo) error {
	base := path.Base(name)
	if err := plainName(w.path(name), base); err != nil {
		return err
	}
	switch {
	case info.Mode().IsRegular():
		f := &file{name: name, stat: statOf(info)}
		if k, ok := w.known[name]; ok && k.stat == f.stat {
			f.hash = k.hash
		} else {
			w.missed = append(w.missed, f)
		}
		w.files = append(w.files, f)
		if n.files == nil {
			n.files = map[int]*file{}
		}
		n.files[len(n.entries)] = f
		n.entries = append(n.entries, Entry{Name: base, Kind: File, Exec: info.Mode()&0o111 != 0, Size: info.Size()})
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(w.path(name))
		if err != nil {
			return cannotRead(w.path(name), err)
		}
		target = filepath.ToSlash(target)
		if path.IsAbs(target) || !filepath.IsLocal(filepath.FromSlash(path.Join(path.Dir(name), target))) || !utf8.ValidString(target) {
			return &WalkError{Path: w.path(name), Why: fmt.Sprintf("the link leads out of the folder, to %q", target), Mend: "put a copy in its place, or name it in .amlignore"}
		}
		n.entries = append(n.entries, Entry{Name: base, Kind: Link, Target: target})
	}
	return nil
}

// hash reads the files whose hash is not known, on all processors.
func (w *walk) hash(ctx context.Context, read func(n int64)) error {
	var wg sync.WaitGroup
	next := make(chan *file)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for range min(runtime.NumCPU(), len(w.missed)) {
		wg.Go(func() {
			buf := make([]byte, 256<<10)
			for f := range next {
				if err := w.read(f, buf, read); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, f := range w.missed {
		select {
		case next <- f:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (w *walk) read(f *file, buf []byte, read func(n int64)) error {
	at := w.path(f.name)
	in, err := os.Open(at)
	if err != nil {
		return cannotRead(at, err)
	}
	defer in.Close()
	sum := sha256.New()
	n, err := io.CopyBuffer(counter{sum, read}, struct{ io.Reader }{in}, buf)
	if err != nil {
		return cannotRead(at, err)
	}
	if n != f.stat.size {
		return &WalkError{Path: at, Why: "it changed while it was being read", Mend: "try again when nothing writes to the folder"}
	}
	f.hash = Hash(hex.EncodeToString(sum.Sum(nil)))
	return nil
}

// counter tells how much was written.
type counter struct {
	io.Writer
	wrote func(n int64)
}

func (c counter) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.wrote(int64(n))
	return n, err
}

// trees encodes n and what is below it, deepest first, and gives n's hash.
func (w *walk) trees(n *node, l *Local) Hash {
	for i := range n.entries {
		if f := n.files[i]; f != nil {
			n.entries[i].Hash = f.hash
		} else if sub := n.folders[i]; sub != nil {
			n.entries[i].Hash = w.trees(sub, l)
		}
	}
	text := n.entries.Encode()
	h := Sum(text)
	l.Trees = append(l.Trees, LocalTree{Hash: h, Text: text})
	return h
}

// Largest are the n largest files, the largest first.
func (l *Local) Largest(n int) []LocalFile {
	files := slices.Clone(l.Files)
	slices.SortStableFunc(files, func(a, b LocalFile) int { return cmp.Compare(b.Size, a.Size) })
	return files[:min(n, len(files))]
}
