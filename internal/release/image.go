package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody owns no file and runs the program: the number that images without a system agree on.
const nobody = "65532"

// image writes an OCI archive of an image for linux: the program in /usr/local/bin as its entry point, Mozilla's
// certificate authorities, /tmp, and a user who is not root. No shell and no library is in it, so the program must be
// static. The archive is also one that `docker load` reads.
func image(w io.Writer, reference, arch, program string) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	system, err := systemLayer()
	if err != nil {
		return err
	}
	own, err := programLayer(program)
	if err != nil {
		return err
	}
	made, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), system, own)
	if err != nil {
		return err
	}
	config, err := made.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config = v1.Config{
		User: nobody + ":" + nobody, Entrypoint: []string{"/usr/local/bin/" + filepath.Base(program)}, WorkingDir: "/",
		Env: []string{"PATH=/usr/local/bin", "HOME=/tmp"},
	}
	config.History = nil // it would name the tools and the time
	if made, err = mutate.ConfigFile(made, config); err != nil {
		return err
	}
	return writeImage(w, tag, made)
}

// layer packs files into a layer without owners and times.
func layer(fill func(*tar.Writer) error) (v1.Layer, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	if err := errors.Join(fill(t), t.Close()); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
}

func systemLayer() (v1.Layer, error) {
	var roots bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue // trusted only in part, which a bundle file cannot say
		}
		if err := pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	return layer(func(t *tar.Writer) error {
		for _, f := range []struct {
			name string
			mode int64
			text string
		}{
			{"etc/", 0o755, ""},
			{"etc/group", 0o644, "root:x:0:\nmoorage:x:" + nobody + ":\n"},
			{"etc/passwd", 0o644, "root:x:0:0:root:/:/sbin/nologin\nmoorage:x:" + nobody + ":" + nobody + ":moorage:/tmp:/sbin/nologin\n"},
			{"etc/ssl/", 0o755, ""},
			{"etc/ssl/certs/", 0o755, ""},
			{"etc/ssl/certs/ca-certificates.crt", 0o644, roots.String()},
			{"tmp/", 0o1777, ""},
		} {
			if err := entry(t, f.name, f.mode, int64(len(f.text)), bytes.NewReader([]byte(f.text))); err != nil {
				return err
			}
		}
		return nil
	})
}

func programLayer(program string) (v1.Layer, error) {
	f, err := os.Open(program)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return layer(func(t *tar.Writer) error {
		for _, dir := range []string{"usr/", "usr/local/", "usr/local/bin/"} {
			if err := entry(t, dir, 0o755, 0, nil); err != nil {
				return err
			}
		}
		return entry(t, "usr/local/bin/"+filepath.Base(program), 0o755, info.Size(), f)
	})
}

// entry writes a file, or a folder if its name ends in a slash.
func entry(t *tar.Writer, name string, mode, size int64, content io.Reader) error {
	h := &tar.Header{Name: name, Mode: mode, Size: size, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
	if name[len(name)-1] == '/' {
		h.Typeflag, content = tar.TypeDir, nil
	}
	if err := t.WriteHeader(h); err != nil || content == nil {
		return err
	}
	_, err := io.Copy(t, content)
	return err
}

// writeImage writes an OCI image layout with Docker's manifest.json beside it, as one tar.
func writeImage(w io.Writer, tag name.Tag, image v1.Image) error {
	l := &imageArchive{t: tar.NewWriter(w)}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	var paths []string
	for _, one := range layers {
		paths = append(paths, l.blob(one.Digest, func() ([]byte, error) { return compressed(one) }))
	}
	config := l.blob(image.ConfigName, image.RawConfigFile)
	l.blob(image.Digest, image.RawManifest)
	described, err := partial.Descriptor(image)
	if err != nil {
		return err
	}
	described.Annotations = map[string]string{
		"io.containerd.image.name":          strings.Replace(tag.Name(), name.DefaultRegistry, "docker.io", 1),
		"org.opencontainers.image.ref.name": tag.TagStr(),
	}
	l.json("index.json", v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{*described}})
	l.json("oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"})
	l.json("manifest.json", []map[string]any{{"Config": config, "RepoTags": []string{tag.String()}, "Layers": paths}})
	return errors.Join(l.err, l.t.Close())
}

// imageArchive is an archive of blobs and the files that name them. Its first error stays, and nothing is written after it.
type imageArchive struct {
	t   *tar.Writer
	err error
}

// blob writes content where its hash leads, and gives that path.
func (l *imageArchive) blob(digest func() (v1.Hash, error), content func() ([]byte, error)) string {
	h, err := digest()
	b, contentErr := content()
	if l.err = errors.Join(l.err, err, contentErr); l.err != nil {
		return ""
	}
	at := path.Join("blobs", h.Algorithm, h.Hex)
	l.file(at, b)
	return at
}

func (l *imageArchive) json(name string, content any) {
	b, err := json.Marshal(content)
	if l.err = errors.Join(l.err, err); l.err == nil {
		l.file(name, b)
	}
}

func (l *imageArchive) file(name string, content []byte) {
	l.err = entry(l.t, name, 0o644, int64(len(content)), bytes.NewReader(content))
}

func compressed(l v1.Layer) ([]byte, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}
