package docker

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
)

// Collect brings outputs home: by an agent in the container while it runs, because a file that grows meanwhile spoils an
// archive, and as archives after that.
func (t *Target) Collect(ctx context.Context, job compute.Handle, out compute.Outputs) error {
	var last error
	for again := range asks {
		if err := kept.Pause(ctx, again); err != nil {
			return err
		}
		b, found, err := t.find(ctx, job.Key)
		switch {
		case err != nil:
			return err
		case found && b.verdict() != nil:
			return nil
		case !found || b.made():
			return unknown(job.Key)
		case !b.alive():
			return t.unpack(ctx, b.id, job.Key, out)
		}
		c, err := t.agents.get(ctx, b.id)
		if err == nil {
			r := &kept.Receiver{Out: out}
			err = c.Collect(ctx, job.Key.String(), r)
			if r.Err != nil {
				return r.Err
			}
			if f, ok := errors.AsType[*keeper.Fault](err); !ok || f.Cause != keeper.Gone {
				return kept.Failed(ctx, err)
			}
		}
		last = err
	}
	return t.failed(ctx, last)
}

// unpack reads each output of a stopped container as an archive.
func (t *Target) unpack(ctx context.Context, id string, key compute.Key, out compute.Outputs) error {
	dir := t.layout(key).Dir()
	spec, err := t.read(ctx, id, path.Join(dir, keeper.SpecFile))
	if errors.Is(err, fs.ErrNotExist) { // it never came to a command
		return unknown(key)
	}
	if err != nil {
		return t.failed(ctx, err)
	}
	outputs, err := keeper.OutputsOf(spec)
	if err != nil {
		return kept.Failed(ctx, err)
	}
	for name, at := range keeper.OutputFolders(outputs) {
		u := unpacking{t: t, id: id, at: path.Join(dir, at), output: name, out: out, files: map[string]compute.File{}, links: map[string]string{}}
		if err := u.run(ctx); err != nil {
			if u.own {
				return err
			}
			return t.failed(ctx, err)
		}
	}
	return nil
}

// unpacking is one output on its way home.
type unpacking struct {
	t      *Target
	id     string
	at     string
	output string
	out    compute.Outputs
	files  map[string]compute.File // regular ones
	links  map[string]string       // what they lead to, inside the output
	own    bool                    // the error is the server's own failure to keep a file
}

func (u *unpacking) run(ctx context.Context) error {
	r, err := u.t.engine.CopyFromContainer(ctx, u.id, client.CopyFromContainerOptions{SourcePath: u.at})
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = r.Content.Close() }()
	base := path.Base(u.at)
	for in := tar.NewReader(r.Content); ; {
		h, err := in.Next()
		if err == io.EOF {
			return u.follow(ctx)
		}
		if err != nil {
			return err
		}
		name, ok := below(base, h.Name)
		if !ok {
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg:
			f := compute.File{Path: name, Size: h.Size, Mode: uint32(h.FileInfo().Mode().Perm())}
			// Archives tell times in whole seconds, which would make another version of a file that came home before.
			st, err := u.t.engine.ContainerStatPath(ctx, u.id, client.ContainerStatPathOptions{Path: path.Join(u.at, name)})
			if err != nil {
				return err
			}
			f.Modified = st.Stat.Mtime.UnixNano()
			u.files[name] = f
			if err := u.put(ctx, f, in); err != nil {
				return err
			}
		case tar.TypeSymlink:
			if to := path.Join(path.Dir(name), h.Linkname); !path.IsAbs(h.Linkname) && fs.ValidPath(to) { //nolint:gosec // a path that leaves is no valid one
				u.links[name] = to
			}
		case tar.TypeLink:
			if to, ok := below(base, h.Linkname); ok {
				u.links[name] = to
			}
		}
	}
}

// below is a name of the archive, relative to the output; empty for the output itself.
func below(base, name string) (string, bool) {
	name = path.Clean(name)
	if name == base {
		return "", true
	}
	rest, ok := strings.CutPrefix(name, base+"/")
	return rest, ok && fs.ValidPath(rest)
}

func (u *unpacking) put(ctx context.Context, f compute.File, r io.Reader) error {
	if !u.out.Want(u.output, f) {
		return nil
	}
	err := u.out.Put(ctx, u.output, f, r)
	u.own = err != nil
	return err
}

// follow brings home what links inside the output lead to, each under the link's name.
func (u *unpacking) follow(ctx context.Context) error {
	for name, to := range u.links {
		for range 16 {
			next, ok := u.links[to]
			if !ok {
				break
			}
			to = next
		}
		f, ok := u.files[to]
		if !ok {
			continue
		}
		f.Path = name
		if !u.out.Want(u.output, f) {
			continue
		}
		r, err := u.t.stream(ctx, u.id, path.Join(u.at, to))
		if err != nil {
			return err
		}
		err = u.put(ctx, f, r)
		_ = r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
