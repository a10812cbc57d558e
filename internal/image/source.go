package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Folder is a folder of this machine as a Source. What is neither a file, a folder nor a symbolic link is an error.
type Folder string

var _ Source = Folder("")

// Tar writes the folder in the order of its names.
func (f Folder) Tar(ctx context.Context, w io.Writer) error {
	root, err := os.OpenRoot(string(f))
	if err != nil {
		return fmt.Errorf("image: folder: %w", err)
	}
	defer root.Close()
	t := tar.NewWriter(w)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if name == "." {
			return nil
		}
		return add(t, root, name, name, d)
	})
	if err != nil {
		return fmt.Errorf("image: folder: %w", err)
	}
	return t.Close()
}

// Key is the hash of its tar.
func (f Folder) Key(ctx context.Context) (string, error) { return tarKey(ctx, f) }

// Archive is a tar file of this machine, uncompressed, as a Source.
type Archive string

var _ Source = Archive("")

// Tar writes the file's bytes.
func (a Archive) Tar(ctx context.Context, w io.Writer) error {
	f, err := os.Open(string(a))
	if err != nil {
		return fmt.Errorf("image: archive: %w", err)
	}
	defer f.Close()
	_, err = io.Copy(w, stopping{ctx: ctx, r: f})
	return err
}

// Key is the hash of its bytes.
func (a Archive) Key(ctx context.Context) (string, error) { return tarKey(ctx, a) }

func tarKey(ctx context.Context, s Source) (string, error) {
	h := sha256.New()
	if err := s.Tar(ctx, h); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// stopping is a reader that ends with a context.
type stopping struct {
	ctx context.Context //nolint:containedctx // of the one call that reads
	r   io.Reader
}

func (s stopping) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// add writes one entry of a folder under a name.
func add(t *tar.Writer, root *os.Root, file, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: path.Clean(filepath.ToSlash(name)), Mode: int64(info.Mode().Perm()), ModTime: epoch}
	switch {
	case info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return t.WriteHeader(h)
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = root.Readlink(file); err != nil {
			return err
		}
		return t.WriteHeader(h)
	case !info.Mode().IsRegular():
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidImage", Target: name, Message: fmt.Sprintf("%q cannot be placed in an image", name),
			Cause: "it is neither a file, a folder nor a link", Mend: "remove it",
		}
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	f, err := root.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(t, f)
	return err
}

func fileHash(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
