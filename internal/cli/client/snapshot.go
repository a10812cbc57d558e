package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Object is one object of a local snapshot.
type Object struct {
	Hash snapshot.Hash
	Size int64
	Name string // for messages: the file, or "" for a folder's tree
	Open func() (io.ReadCloser, error)
}

// Changed is the code of the problem that a file is no longer what was hashed; walking again mends it.
const Changed = "FileChanged"

const (
	askAtOnce  = 50_000   // hashes a request
	streamSize = 64 << 20 // bytes a request, before compression
	smallSize  = 4 << 20  // what goes in one request
)

// Upload sends what the server lacks of a snapshot: objects in an order in which what a tree names comes before the
// tree. before is told the number of bytes to send, sent of each part that went. Memory is bounded whatever the size.
func (c *Client) Upload(ctx context.Context, root snapshot.Hash, objects []Object, before, sent func(n int64)) error {
	for try := 0; ; try++ {
		err := c.upload(ctx, root, objects, before, sent)
		if err == nil || try == 4 || ctx.Err() != nil || !Lost(err) {
			return err
		}
		before, sent = func(int64) {}, func(int64) {}
		if err := Pause(ctx, time.Duration(200<<try)*time.Millisecond); err != nil {
			return err
		}
	}
}

func (c *Client) upload(ctx context.Context, root snapshot.Hash, objects []Object, before, sent func(n int64)) error {
	missing, err := c.missing(ctx, root, objects)
	if err != nil {
		return err
	}
	var total int64
	for _, o := range missing {
		total += o.Size
	}
	before(total)
	files, trees := split(missing)
	if total <= smallSize {
		return c.stream(ctx, feed(missing), sent)
	}
	next := feed(files)
	workers := min(4, max(2, runtime.NumCPU()), len(files))
	group, inner := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			for {
				var batch []Object
				var size int64
				for size < streamSize {
					o, ok := next()
					if !ok {
						break
					}
					batch, size = append(batch, o), size+o.Size
				}
				if len(batch) == 0 {
					return nil
				}
				if err := c.stream(inner, feed(batch), sent); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(trees) == 0 {
		return nil
	}
	return c.stream(ctx, feed(trees), sent)
}

func (c *Client) missing(ctx context.Context, root snapshot.Hash, objects []Object) ([]Object, error) {
	var lacks []Object
	for len(objects) > 0 {
		part := objects[:min(len(objects), askAtOnce)]
		objects = objects[len(part):]
		hashes := make([]snapshot.Hash, len(part))
		for i, o := range part {
			hashes[i] = o.Hash
		}
		var out struct {
			Missing []snapshot.Hash `json:"missing"`
		}
		if _, err := c.call(ctx, http.MethodPost, c.native("snapshots", "missing"), map[string]any{"root": root, "hashes": hashes}, &out); err != nil {
			return nil, err
		}
		want := make(map[snapshot.Hash]bool, len(out.Missing))
		for _, h := range out.Missing {
			want[h] = true
		}
		for _, o := range part {
			if want[o.Hash] {
				lacks = append(lacks, o)
				delete(want, o.Hash)
			}
		}
	}
	return lacks, nil
}

func split(objects []Object) (files, trees []Object) {
	for _, o := range objects {
		if o.Name == "" {
			trees = append(trees, o)
		} else {
			files = append(files, o)
		}
	}
	return files, trees
}

// feed hands out objects one by one to any number of callers.
func feed(objects []Object) func() (Object, bool) {
	var mu sync.Mutex
	return func() (Object, bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(objects) == 0 {
			return Object{}, false
		}
		o := objects[0]
		objects = objects[1:]
		return o, true
	}
}

// stream sends objects as compressed records in one request.
func (c *Client) stream(ctx context.Context, next func() (Object, bool), sent func(n int64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := records(w, next, sent)
		_ = w.CloseWithError(err)
		wrote <- err
	}()
	resp, err := c.send(ctx, http.MethodPost, c.native("snapshots", "objects"), r, "application/zstd")
	_ = r.CloseWithError(errors.New("the request is over"))
	ours := <-wrote
	if err == nil {
		defer resp.Body.Close()
		drain(resp.Body)
		return ours
	}
	var p *workspace.Problem
	if errors.As(ours, &p) {
		return ours
	}
	return err
}

func records(w io.Writer, next func() (Object, bool), sent func(n int64)) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return fmt.Errorf("client: zstd: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		o, ok := next()
		if !ok {
			return z.Close()
		}
		if err := record(z, o, buf, sent); err != nil {
			return err
		}
	}
}

// record writes one object, and refuses a file whose content is no longer what its hash says.
func record(z io.Writer, o Object, buf []byte, sent func(n int64)) error {
	f, err := o.Open()
	if err != nil {
		return changed(o, err.Error())
	}
	defer f.Close()
	if _, err := fmt.Fprintf(z, "%s %d\n", o.Hash, o.Size); err != nil {
		return err
	}
	sum := sha256.New()
	left := o.Size
	for left > 0 {
		n, err := f.Read(buf[:min(int64(len(buf)), left)])
		sum.Write(buf[:n])
		if _, werr := z.Write(buf[:n]); werr != nil {
			return werr
		}
		left -= int64(n)
		sent(int64(n))
		if err == io.EOF && left > 0 {
			return changed(o, "it became shorter")
		}
		if err != nil && err != io.EOF {
			return changed(o, err.Error())
		}
	}
	if snapshot.Hash(hex.EncodeToString(sum.Sum(nil))) != o.Hash {
		return changed(o, "its content changed")
	}
	return nil
}

func changed(o Object, cause string) error {
	return &workspace.Problem{
		Class: workspace.Conflict, Code: Changed, Target: o.Name, Message: o.Name + " changed while it was being uploaded", Cause: cause,
		Mend: "submit again when nothing writes to the folder",
	}
}
