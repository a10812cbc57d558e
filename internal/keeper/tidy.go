package keeper

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

// What the store of objects may hold, and how long a tree that was used lately is never evicted.
const (
	storeLimit = 20 << 30
	storeYoung = time.Hour
)

// mostSaid is how much supervisors may say to nobody, in bytes.
const mostSaid = 1 << 20

// touch records the use of a tree.
func (s store) touch(tree snapshot.Hash) error {
	path := filepath.Join(s.roots, string(tree))
	now := time.Now()
	err := os.Chtimes(path, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.WriteFile(path, nil, 0o600)
	}
	return err
}

// tidy runs once per connection, beside everything else: it removes what killed programs left, environments that nobody
// used for long, and objects over the store's limit. It does nothing that matters if it fails.
func (a *agent) tidy() {
	if gone, err := filepath.Glob(filepath.Join(a.root.jobs(), ".gone-*")); err == nil {
		for _, dir := range gone {
			if time.Since(modified(dir)) > time.Minute {
				_ = removeTree(dir)
			}
		}
	}
	a.tidyEnvironments()
	tidySpares(a.root)
	tidyCA(a.root)
	if said := a.root.file(fileSaid); fileSize(said) > mostSaid {
		_ = os.Truncate(said, 0) // supervisors append to it
	}
	if a.root.objects().size() <= storeLimit {
		return
	}
	lock, err := takeLock(a.root.file("objects.lock"), exclusive, false)
	if err != nil || lock == nil {
		return
	}
	defer lock.release()
	_ = a.root.objects().evict(storeLimit, a.needed())
	a.wholeMu.Lock()
	defer a.wholeMu.Unlock()
	clear(a.whole)
}

// needed are the objects of jobs that have not ended.
func (a *agent) needed() []snapshot.Hash {
	var out []snapshot.Hash
	entries, _ := os.ReadDir(a.root.jobs())
	for _, e := range entries {
		dir := a.root.job(e.Name())
		if exists(filepath.Join(dir, fileExit)) {
			continue
		}
		var spec specRecord
		if readRecord(dir, fileSpec, &spec) == nil {
			out = append(out, spec.Job.roots()...)
			if spec.Job.Environment != nil {
				for _, t := range spec.Job.Environment.Tools {
					out = append(out, t.Object)
				}
			}
		}
	}
	return out
}

func (a *agent) tidyEnvironments() {
	ready, err := filepath.Glob(filepath.Join(a.root.file("env"), "*", environmentReady))
	if err != nil {
		return
	}
	for _, ok := range ready {
		keep := DefaultKeep
		if b, err := os.ReadFile(ok); err == nil {
			if d, err := time.ParseDuration(string(b)); err == nil {
				keep = d
			}
		}
		if time.Since(modified(ok)) < keep {
			continue
		}
		dir := filepath.Dir(ok)
		lock, err := takeLock(dir+".lock", exclusive, false)
		if err != nil || lock == nil {
			continue // in use
		}
		_ = os.Remove(ok)
		_ = removeTree(dir)
		lock.release()
	}
}

// size is the number of bytes in the store.
func (s store) size() (total int64) {
	_ = filepath.WalkDir(s.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}

// evict brings the store below its limit. Trees go by the time of their last use; an object goes when no tree that stays
// and no job needs it and it is not young.
func (s store) evict(limit int64, needed []snapshot.Hash) error {
	type object struct {
		hash snapshot.Hash
		size int64
		when time.Time
	}
	all := map[snapshot.Hash]object{}
	var total int64
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if strings.HasPrefix(d.Name(), "new-") {
			if time.Since(info.ModTime()) > storeYoung {
				_ = os.Remove(path)
			}
			return nil
		}
		h := snapshot.Hash(d.Name())
		all[h] = object{h, info.Size(), info.ModTime()}
		total += info.Size()
		return nil
	})
	if err != nil || total <= limit {
		return err
	}
	type used struct {
		hash snapshot.Hash
		when time.Time
	}
	var roots []used
	entries, err := os.ReadDir(s.roots)
	if err != nil {
		return err
	}
	for _, e := range entries {
		roots = append(roots, used{snapshot.Hash(e.Name()), modified(filepath.Join(s.roots, e.Name()))})
	}
	slices.SortFunc(roots, func(a, b used) int { return cmp.Compare(b.when.UnixNano(), a.when.UnixNano()) })
	stay := map[snapshot.Hash]bool{}
	var size int64
	mark := func(h snapshot.Hash) {
		if o, ok := all[h]; ok && !stay[h] {
			stay[h] = true
			size += o.size
		}
	}
	for _, h := range needed {
		s.walk(h, mark, map[snapshot.Hash]bool{})
	}
	for _, r := range roots {
		// Down to below the limit, so that it is not done at every connection.
		if size > limit*8/10 && time.Since(r.when) > storeYoung {
			_ = os.Remove(filepath.Join(s.roots, string(r.hash)))
			continue
		}
		s.walk(r.hash, mark, map[snapshot.Hash]bool{})
	}
	for h, o := range all {
		if !stay[h] && time.Since(o.when) > storeYoung {
			_ = os.Remove(s.Path(h))
		}
	}
	return nil
}

// walk calls fn for an object and, if it is a tree, for all below it.
func (s store) walk(h snapshot.Hash, fn func(snapshot.Hash), seen map[snapshot.Hash]bool) {
	if seen[h] || !h.Valid() {
		return
	}
	seen[h] = true
	fn(h)
	t, err := s.Tree(h)
	if err != nil {
		return
	}
	for _, e := range t {
		if e.Kind == snapshot.Folder {
			s.walk(e.Hash, fn, seen)
		} else if e.Kind == snapshot.File {
			fn(e.Hash)
		}
	}
}
