package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Dockerfile is an image that a builder makes by running commands.
type Dockerfile struct {
	// Context is the folder of the build; nil: an empty one.
	Context Source
	// Path is that of the Dockerfile in Context; "" is "Dockerfile".
	Path string
	// Text is the Dockerfile itself; Path is not looked for then.
	Text string
	// Args are its build arguments. They are seen in the image's history: no place for a secret.
	Args   map[string]string
	Target string // the stage to build; "": the last
}

// FileBuild is what a DockerfileBuilder is asked for.
type FileBuild struct {
	Dockerfile

	Platform string
	Logins   []Login // for the registries of its bases
	// Network tells the proxy. A builder trusts certificates and finds registries by its own configuration.
	Network Network
}

func (d Dockerfile) key(ctx context.Context) (string, error) {
	parts := []string{d.path(), d.Text, d.Target}
	if d.Context != nil {
		key, err := d.Context.Key(ctx)
		if err != nil {
			return "", err
		}
		parts = append(parts, "context", key)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Args)) {
		parts = append(parts, name, d.Args[name])
	}
	return hash(parts...), nil
}

func (d Dockerfile) path() string {
	switch {
	case d.Text != "":
		return textName
	case d.Path == "":
		return "Dockerfile"
	}
	return path.Clean(filepath.ToSlash(d.Path))
}

// textName is that of a Dockerfile given as text, which must not take the place of a file of the context.
const textName = ".moorage.Dockerfile"

// args are the build arguments with the proxy, which every Dockerfile has without declaring it and which stays out of its
// history.
func (b FileBuild) args() map[string]string {
	args := map[string]string{}
	if proxy := b.Network.Proxy; !proxy.Empty() {
		for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
			args[name], args[strings.ToLower(name)] = proxy.Reveal(), proxy.Reveal()
		}
		args["NO_PROXY"], args["no_proxy"] = b.Network.NoProxy, b.Network.NoProxy
	}
	maps.Copy(args, b.Args)
	return args
}

// maxText bounds a Dockerfile and a .dockerignore, in bytes.
const maxText = 1 << 20

// peek reads the Dockerfile and the .dockerignore of the context. A missing Dockerfile is a Problem.
func (b FileBuild) peek(ctx context.Context) (ignore []string, err error) {
	names := []string{b.path() + ".dockerignore", ".dockerignore"}
	found := map[string][]byte{}
	if b.Context != nil {
		err = b.entries(ctx, func(name string, h *tar.Header, r io.Reader) error {
			if h.Typeflag != tar.TypeReg || name != b.path() && !slices.Contains(names, name) {
				return nil
			}
			text, err := io.ReadAll(io.LimitReader(r, maxText))
			found[name] = text
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if found[b.path()] == nil && b.Text == "" {
		return nil, invalid("dockerfile_path", "the build context has no file "+b.path(), "", "correct dockerfile_path, which is relative to the build's path")
	}
	for _, name := range names {
		if text := found[name]; text != nil {
			if ignore, err = ignorefile.ReadAll(bytes.NewReader(text)); err != nil {
				return nil, invalid(name, "the file "+name+" cannot be read", err.Error(), "correct it")
			}
			return ignore, nil
		}
	}
	return nil, nil
}

// entries calls fn for each entry of the context.
func (b FileBuild) entries(ctx context.Context, fn func(name string, h *tar.Header, r io.Reader) error) error {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(b.Context.Tar(ctx, w))
	}()
	err := func() error {
		t := tar.NewReader(r)
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				_, err = io.Copy(io.Discard, r)
				return err
			}
			if err != nil {
				return err
			}
			if err := fn(path.Clean(h.Name), h, t); err != nil {
				return err
			}
		}
	}()
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	<-done
	return err
}

// send writes the context as a builder wants it: without what its .dockerignore leaves out, and with the Dockerfile.
func (b FileBuild) send(ctx context.Context, ignore []string, w io.Writer) error {
	match, err := patternmatcher.New(ignore)
	if err != nil {
		return invalid(".dockerignore", "the patterns of .dockerignore cannot be used", err.Error(), "correct them")
	}
	t := tar.NewWriter(w)
	if b.Text != "" {
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: textName, Size: int64(len(b.Text)), Mode: 0o644, ModTime: epoch})
		if err == nil {
			_, err = io.WriteString(t, b.Text)
		}
		if err != nil {
			return err
		}
	}
	if b.Context == nil {
		return t.Close()
	}
	err = b.entries(ctx, func(name string, h *tar.Header, r io.Reader) error {
		if name == "." {
			return nil
		}
		out, err := match.MatchesOrParentMatches(name)
		if err != nil {
			return err
		}
		if out && name != b.path() && name != ".dockerignore" {
			return nil
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err = io.Copy(t, r)
		return err
	})
	return errors.Join(err, t.Close())
}

// unpack writes the context below a folder, whole: BuildKit reads its .dockerignore itself.
func (b FileBuild) unpack(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if b.Text != "" {
		if err := root.WriteFile(textName, []byte(b.Text), 0o600); err != nil {
			return err
		}
	}
	if b.Context == nil {
		return nil
	}
	return b.entries(ctx, func(name string, h *tar.Header, r io.Reader) error {
		switch h.Typeflag {
		case tar.TypeDir:
			return root.MkdirAll(name, 0o755)
		case tar.TypeSymlink:
			if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
				return err
			}
			return root.Symlink(h.Linkname, name)
		case tar.TypeReg:
			if err := writeBelow(root, name, r, os.FileMode(h.Mode&0o777)); err != nil {
				return err
			}
			return root.Chtimes(name, epoch, epoch)
		}
		return fmt.Errorf("image: %q of the build context is neither a file, a folder nor a link", name)
	})
}
