package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/snapshot"
)

// cargo is what a store lacks of a job.
type cargo struct {
	objects compute.Objects
	have    func(name string) bool
	seen    map[string]bool
	items   []item
}

// item is one file of a store. Without open it is the object of that name.
type item struct {
	name string // relative to the store
	hash snapshot.Hash
	size int64
	text []byte // of a tree, which was read already
	open func() (io.ReadCloser, error)
}

func objectName(h snapshot.Hash) string { return string(h[:2]) + "/" + string(h) }

func keeperName(p compute.Program) string { return "keeper/" + string(p.Hash) }

// job lists what is lacking, a tree after what is below it.
func (c *cargo) job(ctx context.Context, k compute.Program, job compute.Job) error {
	if name := keeperName(k); !c.have(name) {
		c.items = append(c.items, item{name: name, size: k.Size, open: k.Open})
	}
	roots := []snapshot.Hash{job.Code}
	for _, in := range job.Inputs {
		roots = append(roots, in.Tree)
	}
	for _, root := range roots {
		if root != "" {
			if err := c.tree(ctx, root, 0); err != nil {
				return err
			}
		}
	}
	if job.Environment != nil {
		for _, tool := range job.Environment.Tools {
			if err := c.file(ctx, tool.Object, -1); err != nil {
				return err
			}
		}
	}
	return nil
}

// lacks tells whether an object is to be sent that was not looked at before.
func (c *cargo) lacks(h snapshot.Hash) (bool, error) {
	if !h.Valid() {
		return false, incomplete(h, errors.New("it is not a hash"))
	}
	if c.seen[string(h)] {
		return false, nil
	}
	c.seen[string(h)] = true
	return !c.have(objectName(h)), nil
}

const maxDepth = 200

// tree adds a folder's object and all below it. Where the object is, all below it is.
func (c *cargo) tree(ctx context.Context, h snapshot.Hash, depth int) error {
	if depth > maxDepth {
		return incomplete(h, errors.New("folders are nested too deep"))
	}
	if need, err := c.lacks(h); err != nil || !need {
		return err
	}
	r, _, err := c.objects.Open(ctx, h)
	if err != nil {
		return incomplete(h, err)
	}
	b, err := io.ReadAll(r)
	_ = r.Close()
	if err != nil {
		return incomplete(h, err)
	}
	t, err := snapshot.Decode(b)
	if err != nil {
		return incomplete(h, err)
	}
	for _, e := range t {
		switch e.Kind {
		case snapshot.Folder:
			err = c.tree(ctx, e.Hash, depth+1)
		case snapshot.File:
			err = c.file(ctx, e.Hash, e.Size)
		case snapshot.Link:
		}
		if err != nil {
			return err
		}
	}
	c.items = append(c.items, item{name: objectName(h), hash: h, size: int64(len(b)), text: b})
	return nil
}

// file adds a file's object; a size below 0 is not known.
func (c *cargo) file(ctx context.Context, h snapshot.Hash, size int64) error {
	need, err := c.lacks(h)
	if err != nil || !need {
		return err
	}
	if size < 0 {
		r, n, err := c.objects.Open(ctx, h)
		if err != nil {
			return incomplete(h, err)
		}
		_ = r.Close()
		size = n
	}
	c.items = append(c.items, item{name: objectName(h), hash: h, size: size})
	return nil
}

// write sends the files, and then the list of them.
func (c *cargo) write(ctx context.Context, a *archive, id string) error {
	var index bytes.Buffer
	for _, i := range c.items {
		if err := a.folders(path.Dir(i.name)); err != nil {
			return err
		}
		if err := c.send(ctx, a, i); err != nil {
			return err
		}
		fmt.Fprintf(&index, "%s %d\n", i.name, i.size)
	}
	if err := a.folders(indexFolder); err != nil {
		return err
	}
	return a.file(path.Join(indexFolder, id), 0o400, int64(index.Len()), &index)
}

func (c *cargo) send(ctx context.Context, a *archive, i item) error {
	if i.text != nil {
		return a.file(i.name, 0o400, i.size, bytes.NewReader(i.text))
	}
	if i.open != nil {
		r, err := i.open()
		if err != nil {
			return fmt.Errorf("docker: the keeper: %w", err)
		}
		defer func() { _ = r.Close() }()
		return a.file(i.name, 0o755, i.size, r)
	}
	r, size, err := c.objects.Open(ctx, i.hash)
	if err == nil && size != i.size {
		_ = r.Close()
		err = fmt.Errorf("it has %d bytes instead of %d", size, i.size)
	}
	if err != nil {
		return incomplete(i.hash, err)
	}
	defer func() { _ = r.Close() }()
	return a.file(i.name, 0o400, i.size, r)
}
