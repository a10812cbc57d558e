package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// Source is where Place finds objects: each is a file on the same machine.
type Source interface {
	Tree(h Hash) (Tree, error)
	Path(h Hash) string
}

// PlaceOptions says how.
type PlaceOptions struct {
	// Link makes files hard links to the objects where that is possible. Whoever writes to one changes the object, so it is
	// only for what is read.
	Link bool
	// Idle does the work when the machine has nothing better to do, by one worker.
	Idle bool
}

// maxDepth is how deep folders may be nested.
const maxDepth = 200

// Place makes the folder dir, which must not exist, and in it the files, folders and links of a tree. Files are clones
// where the file system can share their content, else copies, made by several at once. A link that leads out of dir is
// refused. After an error or the end of ctx, what was made so far is left.
func Place(ctx context.Context, from Source, root Hash, dir string, opts PlaceOptions) error {
	return withWorkers(ctx, from, opts, func(ctx context.Context, p *placing) error { return p.folder(ctx, root, dir, "", 0) })
}

// withWorkers runs fn, which gives files to workers, and waits for them.
func withWorkers(ctx context.Context, from Source, opts PlaceOptions, fn func(context.Context, *placing) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &placing{from: from, opts: opts, work: make(chan job, 64)}
	workers := min(4, max(2, runtime.NumCPU()))
	if opts.Idle {
		workers = 1
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			if opts.Idle {
				runtime.LockOSThread() // and never unlock: the thread ends with this goroutine, and its priority too
				becomeIdle()
			}
			for j := range p.work {
				if ctx.Err() != nil {
					continue
				}
				if err := p.file(j); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := fn(ctx, p)
	close(p.work)
	wg.Wait()
	if err == nil || ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("snapshot: place: %w", err)
	}
	return nil
}

type job struct {
	entry Entry
	path  string
}

type placing struct {
	from Source
	opts PlaceOptions
	work chan job
}

func (p *placing) folder(ctx context.Context, h Hash, dir, rel string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%q is nested too deep", rel)
	}
	t, err := p.from.Tree(h)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, e := range t {
		if err := p.entry(ctx, e, dir, rel, depth); err != nil {
			return err
		}
	}
	return nil
}

func (p *placing) entry(ctx context.Context, e Entry, dir, rel string, depth int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	at := filepath.Join(dir, e.Name)
	switch e.Kind {
	case File:
		p.work <- job{e, at}
	case Folder:
		return p.folder(ctx, e.Hash, at, path.Join(rel, e.Name), depth+1)
	case Link:
		if !inside(rel, e.Target) {
			return fmt.Errorf("link %q leads out of the snapshot", path.Join(rel, e.Name))
		}
		return os.Symlink(e.Target, at)
	}
	return nil
}

// inside tells whether a link in the folder rel that points to target stays below the top.
func inside(rel, target string) bool {
	if path.IsAbs(target) {
		return false
	}
	at := path.Join(rel, target)
	return at != ".." && !strings.HasPrefix(at, "../")
}

func (p *placing) file(j job) error {
	object := p.from.Path(j.entry.Hash)
	mode := os.FileMode(0o644)
	if j.entry.Exec {
		mode = 0o755
	} else if p.opts.Link && os.Link(object, j.path) == nil {
		return nil
	}
	n, err := copyFile(object, j.path, mode)
	if err == nil && n != j.entry.Size {
		err = fmt.Errorf("object %.12s has %d bytes instead of %d", j.entry.Hash, n, j.entry.Size)
	}
	return err
}

// CopyFile makes the file to, which must not exist, with the content of from: a clone where the file system can.
func CopyFile(from, to string, mode os.FileMode) error {
	_, err := copyFile(from, to, mode)
	return err
}

func copyFile(from, to string, mode os.FileMode) (int64, error) {
	src, err := openQuietly(from)
	if err != nil {
		return 0, err
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return 0, err
	}
	n, err := cloneOrCopy(dst, src)
	return n, errors.Join(err, dst.Close())
}

func plainCopy(dst, src *os.File) (int64, error) { return io.Copy(dst, src) }
