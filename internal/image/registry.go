package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Image is a container image whose layers are read when they are needed.
type Image = v1.Image

// Registry is a Destination: any registry that speaks OCI's or Docker's protocol. Layers are streamed to it, and those that
// it has are not sent.
type Registry struct {
	Logins  []Login
	Network Network
}

var _ Destination = Registry{}

// Put pushes the image.
func (g Registry) Put(ctx context.Context, to string, img Image, log io.Writer) (Result, error) {
	ref, err := parseName(to)
	if err != nil {
		return Result{}, err
	}
	options, err := g.options(ctx)
	if err != nil {
		return Result{}, err
	}
	size, err := partial.Size(img)
	if err != nil {
		return Result{}, failed(ctx, to, err)
	}
	say(log, "pushing %s, %s at most", ref, bytesText(size))
	if err := remote.Write(ref, img, options...); err != nil {
		return Result{}, failed(ctx, to, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Result{}, failed(ctx, to, err)
	}
	say(log, "pushed %s@%s", ref, digest)
	return Result{Name: to, Digest: digest.String()}, nil
}

// get finds an image of a platform in a registry. Nothing of its layers is fetched yet.
func (g Registry) get(ctx context.Context, base, platform string) (Image, error) {
	ref, err := parseName(base)
	if err != nil {
		return nil, err
	}
	options, err := g.options(ctx)
	if err != nil {
		return nil, err
	}
	wanted, err := v1.ParsePlatform(platform)
	if err != nil {
		return nil, invalid("platform", fmt.Sprintf("%q is no platform", platform), err.Error(), "write it like linux/amd64")
	}
	img, err := remote.Image(ref, append(options, remote.WithPlatform(*wanted))...)
	if err != nil {
		return nil, failed(ctx, base, err)
	}
	return img, nil
}

func (g Registry) options(ctx context.Context) ([]remote.Option, error) {
	t, err := g.Network.transport()
	if err != nil {
		return nil, err
	}
	return []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(t), remote.WithAuthFromKeychain(keys(g.Logins)), remote.WithUserAgent("moorage"), remote.WithJobs(2),
	}, nil
}

// keys gives the login of a registry. Nobody else's credentials are used: not those of the server's own user either.
type keys []Login

func (k keys) Resolve(r authn.Resource) (authn.Authenticator, error) {
	for _, l := range k {
		if l.Username != "" && sameRegistry(l.Server, r.RegistryStr()) {
			return &authn.Basic{Username: l.Username, Password: l.Password.Reveal()}, nil
		}
	}
	return authn.Anonymous, nil
}

// sameRegistry compares registries as people write them: Docker Hub has three names.
func sameRegistry(a, b string) bool { return registryHost(a) == registryHost(b) }

func registryHost(server string) string {
	server = strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	server, _, _ = strings.Cut(server, "/")
	switch server = strings.ToLower(server); server {
	case "docker.io", "registry-1.docker.io":
		return name.DefaultRegistry
	}
	return server
}

func parseName(s string) (name.Reference, error) {
	ref, err := name.ParseReference(s)
	if err != nil {
		return nil, invalid("image", fmt.Sprintf("%q is not the name of an image", s), err.Error(), "write it as an engine takes it, e.g. python:3.12 or registry.example/team/train:1")
	}
	return ref, nil
}

// failed makes a problem of what a registry, or the way to it, said of an image.
func failed(ctx context.Context, of string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*workspace.Problem](err); ok {
		return err
	}
	p := &workspace.Problem{
		Class: workspace.Unavailable, Code: "RegistryFailed", Target: of, Message: "the registry of image " + of + " could not be used", Cause: err.Error(),
		Mend: "see that it can be reached from the server, and that the server trusts its certificate",
	}
	if t, ok := errors.AsType[*transport.Error](err); ok {
		switch t.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			p.Class, p.Code, p.Message = workspace.Invalid, "RegistryDenied", "the registry refuses image "+of
			p.Mend = "give a login that may use it, or correct the name: many registries refuse what they do not have"
		case http.StatusNotFound:
			p.Class, p.Code, p.Message = workspace.Invalid, "ImageNotFound", "there is no image "+of
			p.Mend = "correct its name or tag"
		}
	} else if strings.Contains(err.Error(), "no child with platform") {
		p.Class, p.Code, p.Message = workspace.Invalid, "ImageNotFound", "image "+of+" is not there for the wanted platform"
		p.Mend = "choose an image that is built for it"
	}
	return fmt.Errorf("image: %w", errors.Join(p, err))
}

// spooled is an image of a registry whose layers are fetched once each, into files of a folder, when they are first read.
type spooled struct {
	v1.Image
	dir string
	log io.Writer
}

func (s spooled) Layers() ([]v1.Layer, error) {
	all, err := s.Image.Layers()
	for i := range all {
		all[i] = spooledLayer{Layer: all[i], image: s}
	}
	return all, err
}

func (s spooled) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := s.Image.LayerByDigest(h)
	if err != nil {
		return nil, err
	}
	if config, err := s.Image.ConfigName(); err == nil && config == h {
		return l, nil
	}
	return spooledLayer{Layer: l, image: s}, nil
}

func (s spooled) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	l, err := s.Image.LayerByDiffID(h)
	if err != nil {
		return nil, err
	}
	return spooledLayer{Layer: l, image: s}, nil
}

type spooledLayer struct {
	v1.Layer
	image spooled
}

func (l spooledLayer) Compressed() (io.ReadCloser, error) {
	digest, err := l.Digest()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(l.image.dir, digest.Hex)
	if f, err := os.Open(file); err == nil {
		return f, nil
	}
	size, err := l.Size()
	if err != nil {
		return nil, err
	}
	say(l.image.log, "fetching layer %s of the base, %s", digest.Hex[:12], bytesText(size))
	r, err := l.Layer.Compressed() // it checks the digest
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := os.CreateTemp(l.image.dir, "fetching-*")
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return nil, err
	}
	return os.Open(file)
}

func (l spooledLayer) Uncompressed() (io.ReadCloser, error) {
	plain, err := partial.CompressedToLayer(compressedOnly{l})
	if err != nil {
		return nil, err
	}
	return plain.Uncompressed()
}

// compressedOnly hides Uncompressed, which is what it is made for.
type compressedOnly struct{ l spooledLayer }

func (c compressedOnly) Digest() (v1.Hash, error)            { return c.l.Digest() }
func (c compressedOnly) Compressed() (io.ReadCloser, error)  { return c.l.Compressed() }
func (c compressedOnly) Size() (int64, error)                { return c.l.Size() }
func (c compressedOnly) MediaType() (types.MediaType, error) { return c.l.MediaType() }

func bytesText(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%d kB", n>>10)
	}
	return fmt.Sprintf("%d MB", n>>20)
}
