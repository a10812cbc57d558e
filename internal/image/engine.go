package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Engine is a Docker engine: it builds Dockerfiles by the builder that every engine has had since the first, and as a
// Destination it takes images for the containers that it runs itself.
type Engine struct {
	client *client.Client
	// RunNetwork is that of the build's commands; "" is the engine's default, "none" or "host" are others.
	RunNetwork string
}

var (
	_ leaver      = (*Engine)(nil)
	_ Destination = (*Engine)(nil)
)

// NewEngine speaks to an engine by a client that the caller closes.
func NewEngine(c *client.Client) *Engine { return &Engine{client: c} }

// OpenEngine speaks to the engine at an address: "unix:///path/of/socket" or "tcp://host:port". Nothing is sent yet.
func OpenEngine(address string) (*Engine, error) {
	c, err := client.New(client.WithHost(address))
	if err != nil {
		return nil, invalid("images.engine", fmt.Sprintf("%q is not the address of a Docker engine", address), err.Error(), "write it like unix:///var/run/docker.sock")
	}
	return NewEngine(c), nil
}

// Close drops connections.
func (e *Engine) Close() error { return e.client.Close() }

// ID is the engine's own, by which two addresses of one engine are known.
func (e *Engine) ID(ctx context.Context) (string, error) {
	info, err := e.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return "", engineFailed(ctx, err)
	}
	return info.Info.ID, nil
}

// stepsStay is how long an engine keeps what it built here and gave away: the next build begins with its steps.
const stepsStay = "720h"

// BuildFile builds and reads the image out of the engine, which keeps it without a name for a month, since it keeps no step that
// no image has.
func (e *Engine) BuildFile(ctx context.Context, b FileBuild, scratch string, log io.Writer) (Image, error) {
	id, err := e.build(ctx, b, "", log)
	if err != nil {
		return nil, err
	}
	old := make(client.Filters).Add("label", builtLabel+"=true").Add("dangling", "true").Add("until", stepsStay)
	if _, err := e.client.ImagePrune(ctx, client.ImagePruneOptions{Filters: old}); err != nil {
		say(log, "warning: what was built long ago could not be removed from the engine: %v", err)
	}
	saved, err := e.client.ImageSave(ctx, []string{id})
	if err != nil {
		return nil, engineFailed(ctx, err)
	}
	defer saved.Close()
	file := filepath.Join(scratch, "built.tar")
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("image: engine: %w", err)
	}
	_, err = io.Copy(f, saved)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, engineFailed(ctx, err)
	}
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		return nil, engineFailed(ctx, err)
	}
	return img, nil
}

// leave builds and leaves the image at the engine under a name.
func (e *Engine) leave(ctx context.Context, to string, b FileBuild, log io.Writer) (Result, error) {
	id, err := e.build(ctx, b, to, log)
	if err != nil {
		return Result{}, err
	}
	say(log, "the image stays at the engine as %s, %s", to, id)
	return Result{Name: to, Digest: id}, nil
}

// Put loads an image into the engine.
func (e *Engine) Put(ctx context.Context, to string, img Image, log io.Writer) (Result, error) {
	tag, err := name.NewTag(to)
	if err != nil {
		return Result{}, invalid("name", fmt.Sprintf("%q cannot be the name of a built image", to), err.Error(), "write it like team/train:1")
	}
	id, err := img.ConfigName()
	if err != nil {
		return Result{}, engineFailed(ctx, err)
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(tarball.Write(tag, img, w))
	}()
	say(log, "loading %s into the engine", to)
	answer, err := e.client.ImageLoad(ctx, r)
	if err == nil {
		_, err = follow(answer, log)
		err = errors.Join(err, answer.Close())
	}
	r.CloseWithError(io.ErrClosedPipe)
	<-done
	if err != nil {
		return Result{}, engineFailed(ctx, err)
	}
	return Result{Name: to, Digest: id.String()}, nil
}

// builtLabel is on what is built at an engine.
const builtLabel = "ml.moorage.built"

// build has the engine build, and gives the image's id. tag may be empty.
func (e *Engine) build(ctx context.Context, b FileBuild, tag string, log io.Writer) (id string, err error) {
	ignore, err := b.peek(ctx)
	if err != nil {
		return "", err
	}
	options := client.ImageBuildOptions{
		Dockerfile: b.path(), Target: b.Target, Remove: true, ForceRemove: true, Version: build.BuilderV1, NetworkMode: e.RunNetwork,
		BuildArgs: map[string]*string{}, AuthConfigs: map[string]registry.AuthConfig{}, Labels: map[string]string{builtLabel: "true"},
	}
	if tag != "" {
		options.Tags = []string{tag}
	}
	for name, value := range b.args() {
		options.BuildArgs[name] = &value
	}
	for _, l := range b.Logins {
		options.AuthConfigs[hubAddress(l.Server)] = registry.AuthConfig{Username: l.Username, Password: l.Password.Reveal(), ServerAddress: hubAddress(l.Server)}
	}
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := b.send(ctx, ignore, w)
		w.CloseWithError(err)
		sent <- err
	}()
	say(log, "building the Dockerfile at the Docker engine")
	answer, err := e.client.ImageBuild(ctx, r, options)
	if err == nil {
		id, err = follow(answer.Body, log)
		err = errors.Join(err, answer.Body.Close())
	}
	r.CloseWithError(io.ErrClosedPipe)
	if problem := <-sent; problem != nil && !errors.Is(problem, io.ErrClosedPipe) && ctx.Err() == nil {
		return "", problem // the engine only saw the end of it
	}
	switch {
	case err != nil:
		return "", engineFailed(ctx, err)
	case id == "":
		return "", engineFailed(ctx, errors.New("it ended without an image"))
	}
	return id, nil
}

// hubAddress is a registry as engines file its login.
func hubAddress(server string) string {
	if registryHost(server) == name.DefaultRegistry {
		return "https://index.docker.io/v1/"
	}
	return registryHost(server)
}

// buildError is what an engine says when a step of a Dockerfile fails.
type buildError struct{ text string }

func (b buildError) Error() string { return b.text }

// follow copies the engine's words to the log and gives the id that it tells. Its verdict is a buildError.
func follow(r io.Reader, log io.Writer) (id string, err error) {
	in := json.NewDecoder(r)
	for {
		var m jsonstream.Message
		if err := in.Decode(&m); errors.Is(err, io.EOF) {
			return id, nil
		} else if err != nil {
			return id, err
		}
		switch {
		case m.Error != nil:
			say(log, "%s", m.Error.Message)
			return id, buildError{m.Error.Message}
		case m.Aux != nil:
			var aux struct{ ID string }
			if json.Unmarshal(*m.Aux, &aux) == nil && aux.ID != "" {
				id = aux.ID
			}
		case m.Stream != "":
			fmt.Fprint(log, m.Stream) // a log that is gone ends no build
		case m.Status != "" && m.Progress == nil:
			say(log, "%s", strings.TrimSpace(m.ID+" "+m.Status))
		}
	}
}

// engineFailed makes a problem of what the engine, or the way to it, said.
func engineFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*workspace.Problem](err); ok {
		return err
	}
	p := &workspace.Problem{
		Class: workspace.Unavailable, Code: "EngineFailed", Target: "environment", Message: "the Docker engine for image builds could not do it", Cause: err.Error(),
		Mend: "see that it runs and that the server may use it",
	}
	if b, ok := errors.AsType[buildError](err); ok || errdefs.IsInvalidArgument(err) {
		p.Class, p.Code, p.Message = workspace.Invalid, "ImageBuildFailed", "the image could not be built from its Dockerfile"
		p.Mend = "read the build's log and correct the Dockerfile"
		if ok {
			p.Cause = b.text
		}
	}
	return fmt.Errorf("image: %w", errors.Join(p, err))
}
