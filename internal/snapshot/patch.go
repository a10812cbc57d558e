package snapshot

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
)

// Patch turns the folder dir, which is what Place made of the tree old and nobody changed since, into what Place would
// make of the tree root. Only what differs is touched. After an error dir is of no use.
func Patch(ctx context.Context, from Source, old, root Hash, dir string) error {
	return withWorkers(ctx, from, PlaceOptions{}, func(ctx context.Context, p *placing) error { return p.patch(ctx, old, root, dir, "", 0) })
}

func (p *placing) patch(ctx context.Context, old, root Hash, dir, rel string, depth int) error {
	if old == root {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%q is nested too deep", rel)
	}
	was, err := p.from.Tree(old)
	if err != nil {
		return err
	}
	want, err := p.from.Tree(root)
	if err != nil {
		return err
	}
	before := make(map[string]Entry, len(was))
	for _, e := range was {
		before[e.Name] = e
	}
	for _, e := range want {
		b, there := before[e.Name]
		delete(before, e.Name)
		switch {
		case there && b == e:
			continue
		case there && b.Kind == Folder && e.Kind == Folder:
			if err := p.patch(ctx, b.Hash, e.Hash, filepath.Join(dir, e.Name), path.Join(rel, e.Name), depth+1); err != nil {
				return err
			}
			continue
		case there:
			if err := os.RemoveAll(filepath.Join(dir, e.Name)); err != nil {
				return err
			}
		}
		if err := p.entry(ctx, e, dir, rel, depth); err != nil {
			return err
		}
	}
	for name := range before {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
