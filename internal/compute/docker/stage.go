package docker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// stage copies the keeper, the job's spec and the objects that it needs into a container that was made and not started.
func (t *Target) stage(ctx context.Context, id string, l keeper.Layout, job compute.Job) error {
	p, err := t.platform(ctx)
	if err != nil {
		return err
	}
	spec, err := l.Spec()
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	var wg sync.WaitGroup
	var made error
	wg.Go(func() {
		a := archive{Writer: tar.NewWriter(w), seen: map[string]bool{}, objects: t.env.Objects, layout: l}
		made = a.fill(ctx, p.keeper, spec, job)
		if made == nil {
			made = a.Close()
		}
		_ = w.CloseWithError(made)
	})
	_, err = t.engine.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/", Content: r})
	_ = r.CloseWithError(err)
	wg.Wait()
	if err == nil || isOwn(made) {
		err = made
	}
	return err
}

// isOwn tells that an error is about the server's objects and not about the engine.
func isOwn(err error) bool {
	_, ok := errors.AsType[*compute.Error](err)
	return ok
}

// archive writes what a container needs. Everything in it belongs to root.
type archive struct {
	*tar.Writer
	seen    map[string]bool
	objects compute.Objects
	layout  keeper.Layout
}

func (a *archive) fill(ctx context.Context, k compute.Program, spec []byte, job compute.Job) error {
	for _, dir := range append([]string{path.Dir(program)}, a.layout.Folders()...) {
		if err := a.folder(dir); err != nil {
			return err
		}
	}
	r, err := k.Open()
	if err != nil {
		return fmt.Errorf("docker: the keeper: %w", err)
	}
	err = a.file(program, 0o755, k.Size, r)
	_ = r.Close()
	if err != nil {
		return err
	}
	if err := a.file(path.Join(a.layout.Dir(), keeper.SpecFile), 0o600, int64(len(spec)), strings.NewReader(string(spec))); err != nil {
		return err
	}
	roots := []snapshot.Hash{job.Code}
	for _, in := range job.Inputs {
		roots = append(roots, in.Tree)
	}
	for _, root := range roots {
		if root != "" {
			if err := a.tree(ctx, root, 0); err != nil {
				return err
			}
		}
	}
	if job.Environment != nil {
		for _, tool := range job.Environment.Tools {
			if _, err := a.object(ctx, tool.Object, false); err != nil {
				return err
			}
		}
	}
	return nil
}

const maxDepth = 200

// tree writes a folder's object and all below it, each object once.
func (a *archive) tree(ctx context.Context, h snapshot.Hash, depth int) error {
	if depth > maxDepth {
		return incomplete(h, errors.New("folders are nested too deep"))
	}
	if a.seen[string(h)] {
		return nil
	}
	b, err := a.object(ctx, h, true)
	if err != nil {
		return err
	}
	t, err := snapshot.Decode(b)
	if err != nil {
		return incomplete(h, err)
	}
	for _, e := range t {
		switch e.Kind {
		case snapshot.Folder:
			err = a.tree(ctx, e.Hash, depth+1)
		case snapshot.File:
			_, err = a.object(ctx, e.Hash, false)
		case snapshot.Link:
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// object writes one object, and gives its bytes if asked.
func (a *archive) object(ctx context.Context, h snapshot.Hash, keep bool) ([]byte, error) {
	if a.seen[string(h)] {
		return nil, nil
	}
	if !h.Valid() {
		return nil, incomplete(h, errors.New("it is not a hash"))
	}
	a.seen[string(h)] = true
	r, size, err := a.objects.Open(ctx, h)
	if err != nil {
		return nil, incomplete(h, err)
	}
	defer func() { _ = r.Close() }()
	at := a.layout.Object(h)
	if err := a.folder(path.Dir(at)); err != nil {
		return nil, err
	}
	if !keep {
		return nil, a.file(at, 0o400, size, r)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, incomplete(h, err)
	}
	return b, a.file(at, 0o400, int64(len(b)), strings.NewReader(string(b)))
}

func (a *archive) folder(name string) error {
	if a.seen[name] {
		return nil
	}
	a.seen[name] = true
	return a.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(name, "/") + "/", Mode: 0o700})
}

func (a *archive) file(name string, mode, size int64, r io.Reader) error {
	if err := a.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: size}); err != nil {
		return err
	}
	n, err := io.Copy(a.Writer, io.LimitReader(r, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func incomplete(h snapshot.Hash, err error) error {
	kind := compute.ErrUnreachable
	if errors.Is(err, fs.ErrNotExist) {
		kind = compute.ErrInvalid
	}
	return &compute.Error{Kind: kind, Err: err, Problem: workspace.Problem{
		Class: workspace.Invalid, Code: "SnapshotIncomplete", Message: "the job's files cannot be read at the server",
		Cause: fmt.Sprintf("object %.12s: %v", h, err), Mend: "submit the job again, so that its folder is sent anew",
	}}
}

// platform is what is known of the engine once it was asked.
type platform struct {
	cpus   int
	keeper compute.Program
}

func (t *Target) platform(ctx context.Context) (platform, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known.cpus > 0 {
		return t.known, nil
	}
	r, err := t.engine.Info(ctx, client.InfoOptions{})
	if err != nil {
		return platform{}, t.failed(ctx, err)
	}
	if t.env.Keeper == nil {
		return platform{}, invalid("there is no keeper program for containers", nil)
	}
	k, err := t.env.Keeper("linux", goarch(r.Info.Architecture))
	if err != nil {
		return platform{}, err
	}
	t.known = platform{cpus: max(r.Info.NCPU, 1), keeper: k}
	return t.known, nil
}
