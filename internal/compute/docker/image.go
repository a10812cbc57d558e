package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// image is the name of the image that a job runs in.
func (t *Target) image(job compute.Job) (string, error) {
	if job.Image != nil && job.Image.Name != "" {
		return job.Image.Name, nil
	}
	if t.settings.Image != "" {
		return t.settings.Image, nil
	}
	return "", &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{
		Class: workspace.Invalid, Code: "NoImage", Message: "the job names no container image, and the compute has no default",
		Cause: "a docker compute runs each job in a container of an image",
		Mend:  "give the job an environment with an image, or the compute a default: moorage compute update NAME --set image=python:3.12 (setting image)",
	}}
}

// badImage says that what an engine was asked for is not the name of an image.
func badImage(name string, err error) error {
	return &compute.Error{Kind: compute.ErrInvalid, Err: err, Problem: workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidImage", Message: fmt.Sprintf("%.200q cannot be the name of an image", name), Cause: err.Error(),
		Mend: "write it as an engine takes it, e.g. python:3.12 or registry.example/team/train:1",
	}}
}

// The empty image is of tombstones, marks and records of failed pulls: containers that are never started, so that they
// need no image that could be missing. It has no files, and all attachments of an engine share it.
const (
	emptyRepository = "moorage.local/empty"
	emptyTag        = "1"
	emptyImage      = emptyRepository + ":" + emptyTag
)

// makeEmpty makes the empty image at the engine. Made twice, it is the same.
func (t *Target) makeEmpty(ctx context.Context) error {
	var files bytes.Buffer
	if err := tar.NewWriter(&files).Close(); err != nil {
		return err
	}
	r, err := t.engine.ImageImport(ctx, client.ImageImportSource{Source: &files, SourceName: "-"}, emptyRepository, client.ImageImportOptions{Tag: emptyTag})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	_ = r.Close()
	return err
}

// removeEmpty removes the empty image, unless another attachment has containers of it.
func (t *Target) removeEmpty(ctx context.Context) error {
	_, err := t.engine.ImageRemove(ctx, emptyImage, client.ImageRemoveOptions{})
	if err != nil && !gone(err) && !conflict(err) {
		return t.failed(ctx, err)
	}
	return nil
}
