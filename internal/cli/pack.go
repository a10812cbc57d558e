package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// hashPatience is how long hashing may take before it is told how far it is.
const hashPatience = 2 * time.Second

// walk hashes a folder or file, with the hashes that earlier walks of it left in the user's cache folder. How far it is
// goes to say.
func walk(ctx context.Context, clk clock.Source, path string, say io.Writer) (*snapshot.Local, error) {
	now, patience := clk.Now(), hashPatience
	if show.Terminal(say) {
		patience /= 4 // a bar goes away
	}
	var bar *show.Progress
	local, err := snapshot.Walk(ctx, path, hashCache(path, now), now, func(files int, bytes int64) func(int64) {
		label := fmt.Sprintf("hashing %d files:", files)
		if files == 1 {
			label = "hashing 1 file:"
		}
		bar = show.NewProgress(say, label, 0, clk.Now).After(patience)
		bar.Total(bytes)
		return bar.Add
	})
	if bar != nil {
		bar.End()
	}
	if we, ok := errors.AsType[*snapshot.WalkError](err); ok {
		return nil, &workspace.Problem{Class: workspace.Invalid, Code: "CannotSnapshot", Target: we.Path, Message: we.Path + " cannot be sent", Cause: we.Why, Mend: we.Mend}
	}
	return local, err
}

// keepHashes is how long the hashes of a folder that is not submitted any more are kept.
const keepHashes = 90 * 24 * time.Hour

// hashCache is the cache file for a folder. A folder that comes for the first time sweeps out what is old.
func hashCache(path string, now time.Time) string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	if path, err = filepath.Abs(path); err != nil {
		return ""
	}
	dir := filepath.Join(cache, "moorage", "hashes")
	at := filepath.Join(dir, string(snapshot.Sum([]byte(path))[:32]))
	if _, err := os.Stat(at); err == nil {
		return at
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return at
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) > keepHashes {
			_ = os.Remove(filepath.Join(dir, e.Name())) // a cache that stays only takes room
		}
	}
	return at
}

// objects are the objects of snapshots, each once; what a tree names comes before the tree.
func objects(locals []*snapshot.Local) []client.Object {
	seen := map[snapshot.Hash]bool{}
	var all []client.Object
	add := func(o client.Object) {
		if !seen[o.Hash] {
			seen[o.Hash] = true
			all = append(all, o)
		}
	}
	for _, l := range locals {
		for _, f := range l.Files {
			add(client.Object{Hash: f.Hash, Size: f.Size, Name: f.Path, Open: func() (io.ReadCloser, error) { return os.Open(f.Path) }})
		}
	}
	for _, l := range locals {
		for _, t := range l.Trees {
			add(client.Object{Hash: t.Hash, Size: int64(len(t.Text)), Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(t.Text)), nil }})
		}
	}
	return all
}
