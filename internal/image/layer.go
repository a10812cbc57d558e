package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// epoch is the time of every file in a layer: equal contents are equal bytes. Zip, which Python packs with, knows none earlier.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// layers keeps finished layers by the key of what is in them.
type layers struct {
	dir   string
	limit int64 // bytes; 0 is keepLayers
}

// keepLayers bounds the folder of layers; those used longest ago go first.
const keepLayers = 20 << 30

// layerNote is what is kept beside a layer's bytes.
type layerNote struct {
	Digest v1.Hash `json:"digest"`
	DiffID v1.Hash `json:"diff_id"`
	Size   int64   `json:"size"`
}

// get gives the layer of a key, making it by fill if it is not there yet. made tells that it was.
func (l layers) get(key string, fill func(w *tar.Writer) error) (layer *fileLayer, made bool, err error) {
	if layer, err = l.find(key); err == nil {
		return layer, false, nil
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("image: layer: %w", err)
	}
	f, err := os.CreateTemp(l.dir, "making-*")
	if err != nil {
		return nil, false, fmt.Errorf("image: layer: %w", err)
	}
	defer os.Remove(f.Name())
	note, err := writeLayer(f, fill)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, false, fmt.Errorf("image: layer: %w", err)
	}
	b, err := json.Marshal(note)
	if err != nil {
		return nil, false, fmt.Errorf("image: layer: %w", err)
	}
	// The note comes last: a layer without one is made again.
	if err := os.Rename(f.Name(), l.path(key)); err != nil {
		return nil, false, fmt.Errorf("image: layer: %w", err)
	}
	if err := os.WriteFile(f.Name()+".json", b, 0o600); err != nil {
		return nil, false, fmt.Errorf("image: layer: %w", err)
	}
	if err := os.Rename(f.Name()+".json", l.path(key)+".json"); err != nil {
		return nil, false, fmt.Errorf("image: layer: %w", err)
	}
	l.evict(key)
	layer, err = l.find(key)
	return layer, true, err
}

func (l layers) path(key string) string { return filepath.Join(l.dir, key) }

func (l layers) find(key string) (*fileLayer, error) {
	b, err := os.ReadFile(l.path(key) + ".json")
	if err != nil {
		return nil, fmt.Errorf("image: layer: %w", err)
	}
	layer := &fileLayer{path: l.path(key)}
	if err := json.Unmarshal(b, &layer.note); err != nil {
		return nil, fmt.Errorf("image: layer: %w", err)
	}
	info, err := os.Stat(layer.path)
	if err == nil && info.Size() != layer.note.Size {
		err = errors.New("its size changed")
	}
	if err != nil {
		return nil, fmt.Errorf("image: layer: %w", err)
	}
	now := time.Now()
	_ = os.Chtimes(layer.path, now, now) // it counts as used
	return layer, nil
}

// evict removes the layers used longest ago until the folder is below its limit; the one of key stays.
func (l layers) evict(key string) {
	limit := l.limit
	if limit == 0 {
		limit = keepLayers
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return // another look comes with the next layer
	}
	var infos []os.FileInfo
	var total int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !strings.HasSuffix(e.Name(), ".json") {
			infos, total = append(infos, info), total+info.Size()
		}
	}
	slices.SortFunc(infos, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range infos {
		if total <= limit {
			return
		}
		if info.Name() == key || strings.HasPrefix(info.Name(), "making-") && time.Since(info.ModTime()) < time.Hour {
			continue
		}
		_ = os.Remove(l.path(info.Name()) + ".json")
		_ = os.Remove(l.path(info.Name()))
		total -= info.Size()
	}
}

// writeLayer writes a compressed tar and tells its hashes.
func writeLayer(f io.Writer, fill func(w *tar.Writer) error) (layerNote, error) {
	compressed, plain := sha256.New(), sha256.New()
	count := &counter{w: io.MultiWriter(f, compressed)}
	z, err := gzip.NewWriterLevel(count, gzip.BestSpeed)
	if err != nil {
		return layerNote{}, err
	}
	t := tar.NewWriter(io.MultiWriter(z, plain))
	if err := fill(t); err != nil {
		return layerNote{}, err
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return layerNote{}, err
	}
	sum := func(b []byte) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(b)} }
	return layerNote{Digest: sum(compressed.Sum(nil)), DiffID: sum(plain.Sum(nil)), Size: count.n}, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// fileLayer is a layer in a file.
type fileLayer struct {
	path string
	note layerNote
	oci  bool
}

var _ v1.Layer = (*fileLayer)(nil)

func (l *fileLayer) Digest() (v1.Hash, error) { return l.note.Digest, nil }
func (l *fileLayer) DiffID() (v1.Hash, error) { return l.note.DiffID, nil }
func (l *fileLayer) Size() (int64, error)     { return l.note.Size, nil }
func (l *fileLayer) MediaType() (types.MediaType, error) {
	if l.oci {
		return types.OCILayer, nil
	}
	return types.DockerLayer, nil
}
func (l *fileLayer) Compressed() (io.ReadCloser, error) { return os.Open(l.path) }

func (l *fileLayer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return unzipped{Reader: z, file: f}, nil
}

type unzipped struct {
	io.Reader
	file *os.File
}

func (u unzipped) Close() error { return u.file.Close() }

// folders writes the folder of an image and those above it.
func folders(t *tar.Writer, folder string) error {
	clean := strings.Trim(path.Clean(folder), "/") + "/"
	for i, c := range clean {
		if c != '/' || i == 0 {
			continue
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: clean[:i+1], Mode: 0o755, ModTime: epoch}); err != nil {
			return err
		}
	}
	return nil
}

// place copies a source's tar below a folder, with one owner and one time for all. Names that lead out of it are an error.
func place(ctx context.Context, t *tar.Writer, from Source, folder string) error {
	if err := folders(t, folder); err != nil {
		return err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(from.Tar(ctx, w))
	}()
	err := copyTar(t, r, strings.Trim(path.Clean(folder), "/"))
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	<-done
	return err
}

func copyTar(t *tar.Writer, r io.Reader, folder string) error {
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // what pads it
			return err
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if name == "." {
			continue
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("the name %q leads out of its folder", h.Name)
		}
		out := &tar.Header{Typeflag: h.Typeflag, Name: path.Join(folder, name), Linkname: h.Linkname, Size: h.Size, Mode: h.Mode & 0o777, ModTime: epoch}
		switch h.Typeflag {
		case tar.TypeDir:
			out.Name += "/"
		case tar.TypeReg, tar.TypeSymlink:
		case tar.TypeLink:
			if !filepath.IsLocal(path.Clean(h.Linkname)) {
				return fmt.Errorf("the link %q leads out of its folder", h.Name)
			}
			out.Linkname = path.Join(folder, path.Clean(h.Linkname))
		default:
			return fmt.Errorf("%q is neither a file, a folder nor a link", h.Name)
		}
		if err := t.WriteHeader(out); err != nil {
			return err
		}
		if _, err := io.CopyN(t, in, h.Size); err != nil {
			return err
		}
	}
}
