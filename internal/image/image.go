// Package image makes container images without a container engine and pushes them: a base image from a registry or an
// archive, with layers of files and of Python packages laid on top. Only a Dockerfile needs a builder that runs commands,
// BuildKit or a Docker engine; both are spoken to here as well.
//
// Nothing of an image is ever run on the server: which Python and C library a base has is read out of its layers. Package
// reconcile calls it; it knows nothing of jobs and computes.
package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Builder makes images. It is safe for concurrent use.
type Builder interface {
	// Build makes the image that r asks for and puts it where the builder's images go. What it does is told line by line on
	// log, which never gets a secret. It ends with ctx, leaving no half-made image under r.Name. A failure that a person can
	// mend is a *workspace.Problem: Invalid and NotFound will fail again, Unavailable may not.
	Build(ctx context.Context, r Recipe, log io.Writer) (Result, error)
}

// Recipe is what an image is made of: a Dockerfile, or a base image by Base or Archive; then Files, then Packages.
type Recipe struct {
	// Name is the image's, with its tag: "registry.example/team/train:1". It is no part of the key.
	Name string
	// Platform is "linux/amd64" or another; "" is linux/amd64.
	Platform string
	// Base is an image of a registry, as an engine takes it: "python:3.12", "registry.example/base@sha256:…".
	Base string
	// Archive is the path of an OCI or Docker archive on the server, to begin with instead of Base.
	Archive    string
	Dockerfile *Dockerfile
	Files      []Files
	Packages   *Packages
	// Env is set in the image's configuration.
	Env map[string]string
	// Logins are for the registries of the bases. They are no part of the key.
	Logins []Login
}

// Files are placed in an image as a layer of their own.
type Files struct {
	From Source
	To   string // an absolute folder in the image
}

// Source is the content of a folder, as a tar stream.
type Source interface {
	// Tar writes folders, regular files and symbolic links with relative names, in an order that its content alone decides.
	Tar(ctx context.Context, w io.Writer) error
	// Key is one text for equal contents.
	Key(ctx context.Context) (string, error)
}

// Login is how a private registry is used.
type Login struct {
	Server   string // host, with the port if it has one
	Username string
	Password workspace.Secret
}

// Result is a finished image.
type Result struct {
	Name string // under which engines find it
	// Digest is that of its manifest, "sha256:…"; of an image that was only left at an engine it is the engine's id.
	Digest string
}

// Destination is where finished images go.
type Destination interface {
	// Put stores an image under a name; when it returns the image is whole.
	Put(ctx context.Context, name string, img Image, log io.Writer) (Result, error)
}

// DefaultPlatform is that of a recipe which names none.
const DefaultPlatform = "linux/amd64"

func (r Recipe) platform() string {
	if r.Platform == "" {
		return DefaultPlatform
	}
	return r.Platform
}

// Key is a text that recipes for equal images share: the hash by which a finished one is found again. A tag is taken at its
// word: what it names may change without a new key.
func (r Recipe) Key(ctx context.Context) (string, error) {
	parts := []string{r.platform(), r.Base}
	if r.Archive != "" {
		sum, err := fileHash(r.Archive)
		if err != nil {
			return "", archiveProblem(r.Archive, err)
		}
		parts = append(parts, "archive", sum)
	}
	if r.Dockerfile != nil {
		key, err := r.Dockerfile.key(ctx)
		if err != nil {
			return "", err
		}
		parts = append(parts, "dockerfile", key)
	}
	for _, f := range r.Files {
		key, err := f.From.Key(ctx)
		if err != nil {
			return "", err
		}
		parts = append(parts, "files", key, f.To)
	}
	if r.Packages != nil {
		parts = append(parts, "packages", r.Packages.key())
	}
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		parts = append(parts, "env", name, r.Env[name])
	}
	return hash(parts...), nil
}

func (r Recipe) check() error {
	bases := 0
	for _, given := range []bool{r.Base != "", r.Archive != "", r.Dockerfile != nil} {
		if given {
			bases++
		}
	}
	if bases != 1 {
		return invalid("base", "an image begins with one base image, one archive or one Dockerfile", fmt.Sprintf("%d of them are named", bases), "name one")
	}
	for _, f := range r.Files {
		if !strings.HasPrefix(f.To, "/") {
			return invalid("files", fmt.Sprintf("%q is no folder of an image", f.To), "", "give an absolute path")
		}
	}
	return nil
}

// hash names what parts say. Two lists have one hash only if they are equal.
func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func invalid(target, message, cause, mend string) error {
	return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidImage", Target: target, Message: message, Cause: cause, Mend: mend}
}

func say(log io.Writer, format string, args ...any) {
	fmt.Fprintf(log, format+"\n", args...) // a log that is gone ends no build
}
