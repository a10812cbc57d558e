package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// packed makes the image of a small program and gives its archive.
func packed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "moorage")
	if err := os.WriteFile(program, []byte("a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "image.tar")
	if err := run([]string{"image", archive, "moorage:1", "arm64", program}); err != nil {
		t.Fatal(err)
	}
	return archive
}

func TestImageRunsTheProgramAsNobodyAndTrustsWhatMozillaTrusts(t *testing.T) {
	made, err := tarball.ImageFromPath(packed(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "arm64" || config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/usr/local/bin/moorage"}) {
		t.Errorf("its configuration is %+v", config)
	}
	files := map[string]*tar.Header{}
	roots := x509.NewCertPool()
	for r := tar.NewReader(mutate.Extract(made)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = h
		if h.Name == "etc/ssl/certs/ca-certificates.crt" {
			b, err := io.ReadAll(r)
			if err != nil || !roots.AppendCertsFromPEM(b) {
				t.Errorf("it has no authorities: %v", err)
			}
		}
	}
	if p := files["usr/local/bin/moorage"]; p == nil || p.Mode != 0o755 || p.Uid != 0 {
		t.Errorf("the program is %+v", p)
	}
	if tmp := files["tmp"]; tmp == nil || tmp.Mode != 0o1777 {
		t.Errorf("/tmp is %+v", tmp)
	}
	if roots.Equal(x509.NewCertPool()) {
		t.Error("it trusts nobody")
	}
}

func TestImageIsAnOCILayoutToo(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Open(packed(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := io.Copy(&b, r); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Manifests[0].Annotations["io.containerd.image.name"]; got != "docker.io/library/moorage:1" {
		t.Errorf("containerd would name it %q", got)
	}
}

func TestImageHasTheSameBytesEachTime(t *testing.T) {
	first, err := os.ReadFile(packed(t))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(packed(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two images of the same program differ")
	}
}
