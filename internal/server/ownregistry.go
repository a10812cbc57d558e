package server

import (
	"bytes"
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/moorage-ml/moorage/internal/image"
	"github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/store"
)

// ownRegistry takes images into the server's own registry, without a way over the network.
type ownRegistry struct{ images *registry.Registry }

var _ image.Destination = ownRegistry{}

// Put stores what the registry lacks of an image, and its manifest last.
func (o ownRegistry) Put(ctx context.Context, name string, img image.Image, log io.Writer) (image.Result, error) {
	in, tag, err := locate(ctx, o.images, name)
	if err != nil {
		return image.Result{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return image.Result{}, fmt.Errorf("server: image %s: %w", name, err)
	}
	for _, l := range layers {
		digest, err := l.Digest()
		if err == nil {
			err = o.blob(ctx, in, digest, l.Compressed)
		}
		if err != nil {
			return image.Result{}, fmt.Errorf("server: image %s: %w", name, err)
		}
	}
	config, err := img.ConfigName()
	if err == nil {
		err = o.blob(ctx, in, config, func() (io.ReadCloser, error) {
			b, err := img.RawConfigFile()
			return io.NopCloser(bytes.NewReader(b)), err
		})
	}
	if err != nil {
		return image.Result{}, fmt.Errorf("server: image %s: %w", name, err)
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return image.Result{}, fmt.Errorf("server: image %s: %w", name, err)
	}
	media, err := img.MediaType()
	if err != nil {
		return image.Result{}, fmt.Errorf("server: image %s: %w", name, err)
	}
	m, err := o.images.PutManifest(ctx, in, tag, string(media), manifest)
	if err != nil {
		return image.Result{}, err
	}
	fmt.Fprintf(log, "stored %s@%s\n", name, m.Digest)
	return image.Result{Name: name, Digest: m.Digest}, nil
}

// blob stores one blob, unless it is in the repository or in another one of the workspace.
func (o ownRegistry) blob(ctx context.Context, in store.Repository, digest v1.Hash, open func() (io.ReadCloser, error)) error {
	d, err := registry.ParseDigest(digest.String())
	if err != nil {
		return err
	}
	if _, err := o.images.Blob(ctx, in, d); err == nil {
		return nil
	}
	if _, there, err := o.images.Mount(ctx, in, "", d); err != nil || there {
		return err
	}
	u, err := o.images.Begin(ctx, in)
	if err != nil {
		return err
	}
	r, err := open()
	if err == nil {
		u, err = o.images.Append(ctx, u, r)
		_ = r.Close() // only read
	}
	if err == nil {
		_, err = o.images.Finish(ctx, u, d)
	}
	if err != nil {
		_ = o.images.Cancel(context.WithoutCancel(ctx), in, u.ID) // what stays is swept in a day
	}
	return err
}
