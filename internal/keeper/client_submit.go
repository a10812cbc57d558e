package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Submit hands a job over. The same key again starts nothing and tells how the job is. Objects that the target lacks go
// along: without a question when they are few, so that a job whose objects are there takes one round trip.
func (c *Client) Submit(ctx context.Context, key string, epoch int64, job Job, secrets map[string]string) (Status, error) {
	send, err := c.unknown(ctx, job)
	if err != nil {
		return Status{}, err
	}
	if total(send) > inlineSize {
		if send, err = c.have(ctx, send); err != nil {
			return Status{}, err
		}
	}
	r := request{Op: opSubmit, Key: key, Epoch: epoch, Job: &job, Secrets: secrets}
	if job.Image != nil {
		r.Password = job.Image.Password.Reveal()
	}
	l, err := c.open(ctx, r)
	if err != nil {
		return Status{}, err
	}
	defer l.end()
	for range 4 {
		if err := c.send(l, send); err != nil {
			return Status{}, err
		}
		a, err := l.answer()
		if err != nil {
			return Status{}, err
		}
		if a.Status != nil {
			return *a.Status, nil
		}
		send = nil
		for _, h := range a.Missing {
			c.known.forget(h)
			send = append(send, object{Hash: h, Size: -1})
		}
	}
	return Status{}, c.fail(ctx, errors.New("keeper: the target keeps asking for objects"))
}

// unknown lists the objects of a job that are not known to be on the target, each once. Folders come before what is in
// them, so a folder that the target does not know is looked into and one that it knows is not.
func (c *Client) unknown(ctx context.Context, job Job) ([]object, error) {
	var out []object
	seen := map[snapshot.Hash]bool{}
	var tree func(h snapshot.Hash, depth int) error
	tree = func(h snapshot.Hash, depth int) error {
		if seen[h] || c.known.has(h) {
			return nil
		}
		seen[h] = true
		t, size, err := c.tree(ctx, h)
		if err != nil {
			return err
		}
		if depth > maxDepth {
			return objectFault(h, errors.New("folders are nested too deep"))
		}
		out = append(out, object{h, size})
		for _, e := range t {
			switch {
			case e.Kind == snapshot.Folder:
				if err := tree(e.Hash, depth+1); err != nil {
					return err
				}
			case e.Kind == snapshot.File && !seen[e.Hash] && !c.known.has(e.Hash):
				seen[e.Hash] = true
				out = append(out, object{e.Hash, e.Size})
			}
		}
		return nil
	}
	for _, root := range job.roots() {
		if err := tree(root, 0); err != nil {
			return nil, err
		}
	}
	if job.Environment != nil {
		for _, t := range job.Environment.Tools {
			if !seen[t.Object] && !c.known.has(t.Object) {
				seen[t.Object] = true
				out = append(out, object{t.Object, inlineSize + 1}) // its size is not known here, and it is never small
			}
		}
	}
	return out, nil
}

const maxDepth = 200

// roots are the trees that a job needs.
func (j Job) roots() []snapshot.Hash {
	var out []snapshot.Hash
	if j.Code != "" {
		out = append(out, j.Code)
	}
	for _, in := range j.Inputs {
		if in.Tree != "" {
			out = append(out, in.Tree)
		}
	}
	return out
}

func (c *Client) tree(ctx context.Context, h snapshot.Hash) (snapshot.Tree, int64, error) {
	r, size, err := c.opts.Objects.Open(ctx, h)
	if err != nil {
		return nil, 0, objectFault(h, err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, 0, objectFault(h, err)
	}
	t, err := snapshot.Decode(b)
	if err != nil {
		return nil, 0, objectFault(h, err)
	}
	return t, size, nil
}

func objectFault(h snapshot.Hash, err error) error {
	cause := Internal
	if errors.Is(err, fs.ErrNotExist) {
		cause = Invalid
	}
	return &Fault{Cause: cause, Err: err, Problem: workspace.Problem{
		Class: workspace.Invalid, Code: "SnapshotIncomplete", Message: "the job's files cannot be read at the server",
		Cause: fmt.Sprintf("object %.12s: %v", h, err), Mend: "submit the job again, so that its folder is sent anew",
	}}
}

func total(objects []object) (n int64) {
	for _, o := range objects {
		n += o.Size
	}
	return n
}

// have asks which of the objects the target lacks, and remembers the others.
func (c *Client) have(ctx context.Context, objects []object) ([]object, error) {
	var missing []object
	for batch := range slices.Chunk(objects, haveBatch) {
		r := request{Op: opHave}
		for _, o := range batch {
			r.Hashes = append(r.Hashes, o.Hash)
		}
		a, err := c.ask(ctx, r)
		if err != nil {
			return nil, err
		}
		lacks := map[snapshot.Hash]bool{}
		for _, h := range a.Missing {
			lacks[h] = true
		}
		for _, o := range batch {
			if lacks[o.Hash] {
				missing = append(missing, o)
			} else {
				c.known.add(o.Hash)
			}
		}
	}
	return missing, nil
}

// send streams objects and the mark of their end.
func (c *Client) send(l *call, objects []object) error {
	w := newBatchWriter(l.Stream)
	for _, o := range objects {
		if err := c.sendOne(l.ctx, w, o.Hash); err != nil {
			if _, ok := errors.AsType[*Fault](err); ok {
				return err
			}
			return c.fail(l.ctx, err)
		}
	}
	err := writeFrame(w, object{})
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return c.fail(l.ctx, err)
	}
	// A folder known is a folder whose content is known, so nothing is remembered before all of it was sent.
	for _, o := range objects {
		c.known.add(o.Hash)
	}
	return nil
}

func (c *Client) sendOne(ctx context.Context, w io.Writer, h snapshot.Hash) error {
	r, size, err := c.opts.Objects.Open(ctx, h)
	if err != nil {
		return objectFault(h, err)
	}
	defer func() { _ = r.Close() }()
	if err := writeFrame(w, object{h, size}); err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(r, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
