package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/test/engine"
)

// startRegistry starts a registry in this process and gives its host:port.
func startRegistry(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithBlobHandler(registry.NewDiskBlobHandler(t.TempDir()))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// forgets is an object store that keeps nothing: uv's program stays in its folder.
type forgets struct{}

func (forgets) Has(_ context.Context, hashes []snapshot.Hash) ([]snapshot.Hash, error) {
	return hashes, nil
}

func (forgets) Put(_ context.Context, _ snapshot.Hash, r io.Reader, _ int64) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// realUv gives the command of a real uv, kept between runs in the tests' cache folder.
func realUv(t *testing.T) func(context.Context) ([]string, error) {
	t.Helper()
	cache := os.Getenv("MOORAGE_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(base, "moorage-test")
	}
	u, err := environment.NewUvTool(environment.UvConfig{Dir: filepath.Join(cache, "uv"), Objects: forgets{}})
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(cache, "uv-image")
	if _, err := u.Command(t.Context(), home); err != nil {
		engine.Absent(t, "uv cannot be fetched here: "+err.Error())
	}
	return func(ctx context.Context) ([]string, error) { return u.Command(ctx, home) }
}

var libraries = regexp.MustCompile(`/[^ )\n]+`)

// debianPython makes the smallest image with this machine's Debian Python in it: the program, its standard library and the C
// libraries that they need.
func debianPython(t *testing.T) v1.Image {
	t.Helper()
	program, err := filepath.EvalSymlinks("/usr/bin/python3")
	if err != nil || !strings.HasPrefix(program, "/usr/bin/python3.") {
		engine.Absent(t, "there is no Debian Python on this machine: apt-get install python3")
	}
	library := "/usr/lib/" + filepath.Base(program)
	files := []string{program}
	add := func(file string) {
		out, err := exec.CommandContext(t.Context(), "ldd", file).Output()
		if err != nil {
			return // static, or no program
		}
		for _, f := range libraries.FindAllString(string(out), -1) {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	add(program)
	err = filepath.WalkDir(library, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{"__pycache__", "test", "idlelib", "tkinter", "lib2to3", "ensurepip", "config-3.11-x86_64-linux-gnu"}, d.Name()):
			return filepath.SkipDir
		case d.Type().IsRegular():
			files = append(files, file)
		}
		if filepath.Ext(file) == ".so" {
			add(file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	key := hash(append([]string{"python"}, files...)...)
	layer, _, err := layers{dir: t.TempDir()}.get(key, func(w *tar.Writer) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o777, ModTime: epoch}); err != nil {
			return err
		}
		// As Debian has it: a name without a number, and /lib as a link.
		for name, to := range map[string]string{"usr/bin/python3": filepath.Base(program), "lib": "usr/lib", "lib64": "usr/lib64"} {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777, ModTime: epoch}); err != nil {
				return err
			}
		}
		for _, file := range files {
			if err := addFile(w, file); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		img, err = mutate.ConfigFile(img, configOf(t, img))
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func addFile(w *tar.Writer, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(file, "/")
	if strings.HasPrefix(name, "lib") {
		name = "usr/" + name
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(b)), Mode: 0o755, ModTime: epoch}); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func configOf(t *testing.T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}
	return config
}

// push puts an image into a registry as it is.
func push(t *testing.T, img v1.Image, name string) {
	t.Helper()
	ref, err := parseName(name)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func pulled(t *testing.T, name string) v1.Image {
	t.Helper()
	ref, err := parseName(name)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// names lists what is in an image's layers from one on.
func names(t *testing.T, img v1.Image, from int) map[string]*tar.Header {
	t.Helper()
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*tar.Header{}
	for _, l := range all[from:] {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		in := tar.NewReader(r)
		for {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			found[h.Name] = h
		}
		r.Close()
	}
	return found
}
