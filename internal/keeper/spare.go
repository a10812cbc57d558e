package keeper

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

// A spare is a placed copy of the last large tree, in spare/HASH below the root, made while the machine has nothing better
// to do. The next job takes it by renaming it and changes only what differs, so that submitting a large folder again does
// not wait for its files to be copied. It is worth nothing: without it files are placed as ever.

// What trees have a spare.
const (
	spareFiles = 100
	spareBytes = 4 << 20
	spareMost  = 2 << 30
	spareAge   = 7 * 24 * time.Hour
)

const spareTemp = ".new-"

func (r root) spares() string { return r.file("spare") }

// spares makes them, one at a time.
type spares struct {
	mu   sync.Mutex
	stop context.CancelFunc // of the making under way
	done chan struct{}
	over bool
}

// spare makes a spare of a job's code when the job has started, which is when it has taken one that is there now. If one
// is being made, that is enough.
func (a *agent) spare(dir string, tree snapshot.Hash) {
	if tree == "" {
		return
	}
	a.spares.mu.Lock()
	defer a.spares.mu.Unlock()
	if a.spares.over || a.spares.done != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	done := make(chan struct{})
	a.spares.stop, a.spares.done = cancel, done
	go func() { // ends with ctx at the latest
		defer func() {
			cancel()
			a.spares.mu.Lock()
			defer a.spares.mu.Unlock()
			a.spares.stop, a.spares.done = nil, nil
			close(done)
		}()
		if a.awaitStart(ctx, dir) && !exists(filepath.Join(a.root.spares(), string(tree))) {
			a.makeSpare(ctx, tree)
		}
	}()
}

// endSpares ends the making of spares, now and later.
func (a *agent) endSpares() {
	a.spares.mu.Lock()
	stop, done := a.spares.stop, a.spares.done
	a.spares.over = true
	a.spares.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

// awaitStart waits until the job has its files.
func (a *agent) awaitStart(ctx context.Context, dir string) bool {
	told, stop := a.notes.watch(dir)
	defer stop()
	tick := time.NewTicker(slowLook)
	defer tick.Stop()
	for {
		if exists(filepath.Join(dir, fileStarted)) {
			return true
		}
		if !exists(dir) || exists(filepath.Join(dir, fileExit)) {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-a.sess.CloseChan():
			return false
		case <-told:
		case <-tick.C:
		}
	}
}

func (a *agent) makeSpare(ctx context.Context, tree snapshot.Hash) {
	files, bytes := a.root.objects().measure(tree)
	if files < spareFiles && bytes < spareBytes || bytes > spareMost || os.MkdirAll(a.root.spares(), 0o700) != nil {
		return
	}
	if room, ok := diskFree(a.root.path); ok && room < 10*bytes {
		return
	}
	temp, err := os.MkdirTemp(a.root.spares(), spareTemp)
	if err != nil {
		return
	}
	defer func() { _ = os.RemoveAll(temp) }()
	made := filepath.Join(temp, "tree")
	if snapshot.Place(ctx, a.root.objects(), tree, made, snapshot.PlaceOptions{Idle: true}) != nil {
		return
	}
	entries, _ := os.ReadDir(a.root.spares())
	if os.Rename(made, filepath.Join(a.root.spares(), string(tree))) != nil {
		return
	}
	for _, e := range entries { // those of other trees
		if !strings.HasPrefix(e.Name(), spareTemp) && e.Name() != string(tree) {
			dropSpare(a.root, e.Name())
		}
	}
}

// dropSpare removes a spare, by another name first: half a spare must not be taken.
func dropSpare(r root, name string) {
	temp, err := os.MkdirTemp(r.spares(), spareTemp)
	if err != nil {
		return
	}
	_ = os.Rename(filepath.Join(r.spares(), name), filepath.Join(temp, "tree"))
	_ = os.RemoveAll(temp)
}

// measure counts a tree's files and their bytes.
func (s store) measure(tree snapshot.Hash) (files int, bytes int64) {
	t, err := s.Tree(tree)
	if err != nil {
		return 0, 0
	}
	for _, e := range t {
		switch e.Kind {
		case snapshot.File:
			files++
			bytes += e.Size
		case snapshot.Folder:
			f, b := s.measure(e.Hash)
			files, bytes = files+f, bytes+b
		case snapshot.Link:
		}
	}
	return files, bytes
}

// takeSpare makes dir of a spare, if there is one, and tells whether it did. dir must not exist.
func (s *supervisor) takeSpare(ctx context.Context, tree snapshot.Hash, dir string) bool {
	from := filepath.Join(s.root.spares(), string(tree))
	old := tree
	if os.Rename(from, dir) != nil {
		old = ""
		entries, _ := os.ReadDir(s.root.spares())
		for _, e := range entries {
			if h := snapshot.Hash(e.Name()); h.Valid() && os.Rename(filepath.Join(s.root.spares(), e.Name()), dir) == nil {
				old = h
				break
			}
		}
		if old == "" {
			return false
		}
	}
	if snapshot.Patch(ctx, s.root.objects(), old, tree, dir) == nil {
		return true
	}
	_ = os.RemoveAll(dir)
	return false
}

// tidySpares removes spares that nobody took for long, and what a killed agent left of one.
func tidySpares(r root) {
	entries, _ := os.ReadDir(r.spares())
	for _, e := range entries {
		age := time.Since(modified(filepath.Join(r.spares(), e.Name())))
		if strings.HasPrefix(e.Name(), spareTemp) && age > time.Hour {
			_ = os.RemoveAll(filepath.Join(r.spares(), e.Name()))
		} else if age > spareAge {
			dropSpare(r, e.Name())
		}
	}
}
