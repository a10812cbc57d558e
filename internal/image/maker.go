package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Maker is the Builder: it lays layers on a base by itself, and has Dockerfiles built by a builder that runs their commands.
type Maker struct {
	// Dir is a folder for layers and what is being worked on. Its content may be removed while nothing is built.
	Dir string
	// Uv gives the command of uv 0.13, with words before it if it needs some.
	Uv func(ctx context.Context) ([]string, error)
	// Dockerfiles builds from Dockerfiles; nil: they are a Problem NoImageBuilder.
	Dockerfiles DockerfileBuilder
	// Network is for bases and packages.
	Network Network
	// Logins are for bases, beside those of a recipe.
	Logins []Login
	// To takes the images.
	To Destination
}

var _ Builder = (*Maker)(nil)

// DockerfileBuilder builds images from Dockerfiles.
type DockerfileBuilder interface {
	// BuildFile builds and gives an image that can be read until scratch, a folder, is removed.
	BuildFile(ctx context.Context, b FileBuild, scratch string, log io.Writer) (Image, error)
}

// leaver is a DockerfileBuilder that keeps what it builds where it is used: the engine of a compute.
type leaver interface {
	DockerfileBuilder
	leave(ctx context.Context, name string, b FileBuild, log io.Writer) (Result, error)
}

// Build makes the image of a recipe and hands it to m.To.
func (m *Maker) Build(ctx context.Context, r Recipe, log io.Writer) (Result, error) {
	if err := r.check(); err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return Result{}, fmt.Errorf("image: %w", err)
	}
	scratch, err := os.MkdirTemp(m.Dir, "build-*")
	if err != nil {
		return Result{}, fmt.Errorf("image: %w", err)
	}
	defer os.RemoveAll(scratch)
	begun := time.Now()
	result, err := m.build(ctx, r, scratch, log)
	switch {
	case ctx.Err() != nil:
		return Result{}, context.Cause(ctx)
	case err != nil:
		return Result{}, err
	}
	say(log, "the image was made in %v", time.Since(begun).Round(10*time.Millisecond))
	return result, nil
}

func (m *Maker) build(ctx context.Context, r Recipe, scratch string, log io.Writer) (Result, error) {
	if l, ok := m.leaves(r); ok {
		return l.leave(ctx, r.Name, m.fileBuild(r), log)
	}
	base, err := m.base(ctx, r, scratch, log)
	if err != nil {
		return Result{}, err
	}
	img, err := m.lay(ctx, base, r, scratch, log)
	if err != nil {
		return Result{}, err
	}
	return m.To.Put(ctx, r.Name, img, log)
}

// leaves tells whether a Dockerfile's image need not move: where it is built is where it goes, and nothing is laid on it.
func (m *Maker) leaves(r Recipe) (leaver, bool) {
	l, ok := m.Dockerfiles.(leaver)
	to, same := m.To.(leaver)
	return l, ok && same && l == to && r.Dockerfile != nil && len(r.Files) == 0 && r.Packages == nil && len(r.Env) == 0
}

func (m *Maker) fileBuild(r Recipe) FileBuild {
	return FileBuild{Dockerfile: *r.Dockerfile, Platform: r.platform(), Logins: slices.Concat(r.Logins, m.Logins), Network: m.Network}
}

// base gives the image to begin with.
func (m *Maker) base(ctx context.Context, r Recipe, scratch string, log io.Writer) (Image, error) {
	switch {
	case r.Archive != "":
		say(log, "base: archive %s", filepath.Base(r.Archive))
		return openArchive(ctx, r.Archive, r.platform(), scratch)
	case r.Dockerfile != nil:
		if m.Dockerfiles == nil {
			return nil, NoBuilder()
		}
		return m.Dockerfiles.BuildFile(ctx, m.fileBuild(r), scratch, log)
	}
	logins := slices.Concat(r.Logins, m.Logins)
	if to, ok := m.To.(Registry); ok {
		logins = append(logins, to.Logins...)
	}
	img, err := Registry{Logins: logins, Network: m.Network}.get(ctx, r.Base, r.platform())
	if err != nil {
		return nil, err
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, failed(ctx, r.Base, err)
	}
	say(log, "base: %s, %s", r.Base, digest)
	if m.beside(r) {
		return img, nil // its layers are where they shall be
	}
	dir := filepath.Join(scratch, "base")
	return spooled{Image: img, dir: dir, log: log}, os.Mkdir(dir, 0o700)
}

// beside tells whether the base is in the registry to which the image goes.
func (m *Maker) beside(r Recipe) bool {
	if _, ok := m.To.(Registry); !ok {
		return false
	}
	from, err := parseName(r.Base)
	if err != nil {
		return false
	}
	to, err := parseName(r.Name)
	return err == nil && from.Context().RegistryStr() == to.Context().RegistryStr()
}

// lay lays files and packages on a base and sets its configuration.
func (m *Maker) lay(ctx context.Context, base Image, r Recipe, scratch string, log io.Writer) (Image, error) {
	media, err := base.MediaType()
	if err != nil {
		return nil, failed(ctx, r.Base, err)
	}
	var adds []mutate.Addendum
	add := func(layer *fileLayer, made bool, what string) {
		layer.oci = media == types.OCIManifestSchema1
		adds = append(adds, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "moorage: " + what, Created: v1.Time{Time: epoch}}})
		how := "as made before"
		if made {
			how = "new"
		}
		say(log, "layer: %s, %s, %s", what, bytesText(layer.note.Size), how)
	}
	kept := layers{dir: filepath.Join(m.Dir, "layers")}
	for _, f := range r.Files {
		key, err := f.From.Key(ctx)
		if err != nil {
			return nil, err
		}
		layer, made, err := kept.get(hash("files", key, f.To), func(t *tar.Writer) error { return place(ctx, t, f.From, f.To) })
		if err != nil {
			return nil, err
		}
		add(layer, made, "files in "+f.To)
	}
	vars := maps.Clone(r.Env)
	if vars == nil {
		vars = map[string]string{}
	}
	path := ""
	if r.Packages != nil {
		layer, made, folder, err := m.packages(ctx, base, r, kept, scratch, log)
		if err != nil {
			return nil, err
		}
		add(layer, made, "Python packages in "+folder)
		vars["VIRTUAL_ENV"], path = folder, folder+"/bin"
	}
	img, err := mutate.Append(base, adds...)
	if err != nil {
		return nil, failed(ctx, r.Base, err)
	}
	return configured(img, vars, path)
}

// packages gives the layer of the recipe's packages, and the folder in the image where they are.
func (m *Maker) packages(ctx context.Context, base Image, r Recipe, kept layers, scratch string, log io.Writer) (layer *fileLayer, made bool, folder string, err error) {
	python, err := m.python(base, r)
	if err != nil {
		return nil, false, "", failed(ctx, r.Base, err)
	}
	say(log, "its Python is %s, version %s for %s, %s %d.%d", python.Path, python.Version, python.Arch, python.System, python.Major, python.Minor)
	if wanted := r.Packages.Python; !serves(python.Version, wanted) {
		if r.Packages.Exact {
			return nil, false, "", &workspace.Problem{
				Class: workspace.Invalid, Code: "WrongPython", Target: r.Base, Message: "the environment asks for Python " + wanted + ", and its image has " + python.Version,
				Mend: "choose an image with that Python, or let the server take what is there: python: compatible",
			}
		}
		say(log, "warning: Python %s is asked for, and the image's %s is taken", wanted, python.Version)
	}
	facts, err := json.Marshal(python)
	if err != nil {
		return nil, false, "", fmt.Errorf("image: packages: %w", err)
	}
	key := hash("packages", r.Packages.key(), string(facts), m.Network.Index.Reveal())
	folder = home(key)
	layer, made, err = kept.get(key, func(t *tar.Writer) error {
		installed := filepath.Join(scratch, "packages")
		if err := os.Mkdir(installed, 0o700); err != nil {
			return err
		}
		if err := m.install(ctx, *r.Packages, python, folder, installed, scratch, log); err != nil {
			return err
		}
		return writeHome(ctx, t, installed, folder, python)
	})
	return layer, made, folder, err
}

// python finds the Python of a base, or remembers it.
func (m *Maker) python(base Image, r Recipe) (Python, error) {
	config, err := base.ConfigName()
	if err != nil {
		return Python{}, err
	}
	file := filepath.Join(m.Dir, "bases", config.Hex+".json")
	var p Python
	if b, err := os.ReadFile(file); err == nil && json.Unmarshal(b, &p) == nil {
		return p, nil
	}
	of := r.Base
	if of == "" {
		of = r.Name
	}
	if p, err = findPython(base, of); err != nil {
		return p, err
	}
	b, err := json.Marshal(p)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	return p, err
}

// configured sets variables in an image's configuration, and a folder before its PATH.
func configured(img Image, vars map[string]string, path string) (Image, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	config = config.DeepCopy()
	had := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	config.Config.Env = slices.DeleteFunc(config.Config.Env, func(v string) bool {
		name, value, _ := strings.Cut(v, "=")
		if name == "PATH" {
			had = value
		}
		_, set := vars[name]
		return set || name == "PATH"
	})
	if own, set := vars["PATH"]; set {
		had = own
	}
	if path != "" {
		had = path + ":" + had
	}
	vars["PATH"] = had
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		config.Config.Env = append(config.Config.Env, name+"="+vars[name])
	}
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return img, nil
}

// NoBuilder is the problem of a Dockerfile where nothing builds one.
func NoBuilder() error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "NoImageBuilder", Target: "environment", Message: "the environment is a Dockerfile, and this server has nothing that builds one",
		Cause: "neither a BuildKit nor a Docker engine is set for image builds", Mend: "ask the operator to set images.buildkit or images.engine, or list packages in a conda_file on a base image",
	}
}
