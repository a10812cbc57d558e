package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// OCIArchive is a Destination: a tar file of an OCI image layout, as skopeo and podman read it. A new image takes the place
// of the file.
type OCIArchive string

var _ Destination = OCIArchive("")

// Put writes the file beside its place and moves it there when it is whole.
func (a OCIArchive) Put(ctx context.Context, to string, img Image, log io.Writer) (Result, error) {
	dir, err := os.MkdirTemp(filepath.Dir(string(a)), ".oci-*")
	if err != nil {
		return Result{}, archiveProblem(string(a), err)
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(filepath.Join(dir, "image"), empty.Index)
	if err == nil {
		err = l.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": to}))
	}
	if err == nil {
		err = tarFolder(ctx, filepath.Join(dir, "image"), filepath.Join(dir, "tar"))
	}
	if err == nil {
		err = os.Rename(filepath.Join(dir, "tar"), string(a))
	}
	if err != nil {
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		return Result{}, archiveProblem(string(a), err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Result{}, archiveProblem(string(a), err)
	}
	say(log, "wrote %s, %s", filepath.Base(string(a)), digest)
	return Result{Name: to, Digest: digest.String()}, nil
}

func tarFolder(ctx context.Context, dir, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(Folder(dir).Tar(ctx, f), f.Close())
}

// openArchive opens an OCI or Docker archive; what is to be unpacked goes below scratch. Of a layout with several images
// it takes that of the platform.
func openArchive(ctx context.Context, file, platform, scratch string) (Image, error) {
	names, err := archiveNames(file)
	if err != nil {
		return nil, archiveProblem(file, err)
	}
	switch {
	case names["manifest.json"]: // Docker's; newer engines write both into one
		img, err := tarball.ImageFromPath(file, nil)
		if err != nil {
			return nil, archiveProblem(file, err)
		}
		return img, nil
	case names["oci-layout"]:
		dir, err := os.MkdirTemp(scratch, "oci-*")
		if err == nil {
			err = unpackArchive(ctx, file, dir)
		}
		if err != nil {
			return nil, archiveProblem(file, err)
		}
		img, err := layoutImage(dir, platform)
		if err != nil {
			return nil, archiveProblem(file, err)
		}
		return img, nil
	}
	return nil, archiveProblem(file, errors.New("it holds neither manifest.json nor oci-layout"))
}

func archiveNames(file string) (map[string]bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names := map[string]bool{}
	t := tar.NewReader(f)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names[path.Clean(h.Name)] = true
	}
}

// unpackArchive unpacks the files of a layout; anything else in it is left out.
func unpackArchive(ctx context.Context, file, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	t := tar.NewReader(stopping{ctx: ctx, r: f})
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeBelow(root, path.Clean(h.Name), t, 0o600); err != nil {
			return err
		}
	}
}

// writeBelow writes a file below a root, with the folders that it needs.
func writeBelow(root *os.Root, name string, r io.Reader, mode os.FileMode) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	w, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

func layoutImage(dir, platform string) (Image, error) {
	l, err := layout.FromPath(dir)
	if err != nil {
		return nil, err
	}
	index, err := l.ImageIndex()
	if err != nil {
		return nil, err
	}
	wanted, err := v1.ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	return indexImage(index, *wanted, 0)
}

// indexImage finds the image of a platform in an index, and in those within it.
func indexImage(index v1.ImageIndex, wanted v1.Platform, depth int) (Image, error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		switch {
		case d.MediaType.IsIndex() && depth < 4:
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			if img, err := indexImage(inner, wanted, depth+1); err == nil {
				return img, nil
			}
		case d.MediaType.IsImage() && (d.Platform == nil || d.Platform.Satisfies(wanted)):
			return index.Image(d.Digest)
		}
	}
	b, err := json.Marshal(wanted)
	return nil, errors.Join(fmt.Errorf("it has no image for the platform %s", b), err)
}

func archiveProblem(file string, err error) error {
	if _, ok := errors.AsType[*workspace.Problem](err); ok {
		return err
	}
	p := &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidImageArchive", Target: filepath.Base(file), Message: "the image archive " + filepath.Base(file) + " cannot be used",
		Cause: err.Error(), Mend: "give a file that docker save, or skopeo copy to oci-archive:, wrote",
	}
	return fmt.Errorf("image: %w", errors.Join(p, err))
}
