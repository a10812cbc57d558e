package docker

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// shelf is a registry on loopback, which engines take without TLS. It can hold back layers and ask for a login.
type shelf struct {
	host   string
	layers atomic.Int32 // asked for so far

	mu     sync.Mutex
	gate   chan struct{} // layers wait for it; nil: they do not
	secret string        // password of user "puller"; empty: no login is asked for
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		gate, secret := s.gate, s.secret
		s.mu.Unlock()
		if _, password, _ := r.BasicAuth(); secret != "" && password != secret {
			w.Header().Set("WWW-Authenticate", `Basic realm="shelf"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			s.layers.Add(1)
			if gate != nil {
				select {
				case <-gate:
				case <-r.Context().Done():
					return
				}
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s.host = strings.TrimPrefix(srv.URL, "http://")
	return s
}

// hold lets layers wait until the returned function is called.
func (s *shelf) hold() (letGo func()) {
	gate := make(chan struct{})
	s.mu.Lock()
	s.gate = gate
	s.mu.Unlock()
	return sync.OnceFunc(func() {
		s.mu.Lock()
		s.gate = nil
		s.mu.Unlock()
		close(gate)
	})
}

// put makes an image of the engine's own available under a name that the engine has not, with a label so that no layer or
// configuration is there already. It returns the name.
func (s *shelf) put(t *testing.T, b bench, repository string) string {
	t.Helper()
	ref, err := name.NewTag(s.host+"/"+repository+":1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, distinct(t, b, repository)); err != nil {
		t.Fatal(err)
	}
	return ref.Name()
}

// putIndex makes a name available under which there is an image for another platform alone.
func (s *shelf) putIndex(t *testing.T, repository string) string {
	t.Helper()
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(s.host+"/"+repository+":1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}})
	if err := remote.WriteIndex(ref, index, remote.WithAuth(&authn.Basic{Username: "puller", Password: s.secret})); err != nil {
		t.Fatal(err)
	}
	return ref.Name()
}

// distinct is the engine's image with one layer of another content.
func distinct(t *testing.T, b bench, mark string) v1.Image {
	t.Helper()
	target := b.attach(t, nil)
	saved, err := target.engine.ImageSave(t.Context(), []string{b.Image})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = saved.Close() }()
	file := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, saved)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The layer anew, so that its digest is another's and the engine has to fetch it.
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(rc)
	_ = rc.Close()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(extra(t, mark)), bytes.NewReader(content))), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	out, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	own, err := out.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	own = own.DeepCopy()
	own.OS, own.Architecture, own.Config = config.OS, config.Architecture, config.Config
	if out, err = mutate.ConfigFile(out, own); err != nil {
		t.Fatal(err)
	}
	return out
}

// extra is one file of a tar archive without its end.
func extra(t *testing.T, mark string) []byte {
	t.Helper()
	var b bytes.Buffer
	a := newArchive(&b)
	if err := a.file("mark", 0o644, int64(len(mark)), strings.NewReader(mark)); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
