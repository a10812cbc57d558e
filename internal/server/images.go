package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/image"
	"github.com/moorage-ml/moorage/internal/reconcile"
	"github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Images says how images are made of environments and where they go. Without any of it, the Dockerfiles of jobs on a Docker
// engine of the server's own machine are built by that engine and stay there; no other images are made.
type Images struct {
	// Host is how computes reach this server's registry, host:port. Images then go there.
	Host string `yaml:"host"`
	// Registry is another one to which images go instead, with a path: "registry.example/team". Workspaces have a connection
	// with its login.
	Registry string `yaml:"registry"`
	// BuildKit is the address of a BuildKit that builds Dockerfiles, "unix:///run/buildkit/buildkitd.sock" or "tcp://host:port";
	// the server needs its client program, buildctl. BuildKitCA, BuildKitCert and BuildKitKey are files for TLS.
	BuildKit     string `yaml:"buildkit"`
	BuildKitCA   string `yaml:"buildkit_ca"`
	BuildKitCert string `yaml:"buildkit_cert"`
	BuildKitKey  string `yaml:"buildkit_key"`
	// Engine is the address of a Docker engine that builds Dockerfiles, where there is no BuildKit: "unix:///var/run/docker.sock".
	Engine string `yaml:"engine"`
	// CA is a file of certificates that are trusted beside the machine's, of registries and the package index.
	CA string `yaml:"ca"`
	// Proxy is for registries, the package index and the commands of Dockerfiles; NoProxy lists hosts that are reached without.
	Proxy   string `yaml:"proxy"`
	NoProxy string `yaml:"no_proxy"`
	// Plain are registries that are spoken to without TLS, host or host:port.
	Plain []string `yaml:"plain_registries"`
	// Keep is how long an image stays that no job uses; default 2160h.
	Keep time.Duration `yaml:"keep"`
}

// enginePlace begins the place of images that stay at an engine, before its address.
const enginePlace = "engine:"

// makers make the server's images.
type makers struct {
	server  *Server
	cfg     Images
	network image.Network
	uv      *environment.UvTool
}

// imageBuilds wires what makes images.
func (s *Server) imageBuilds() (*reconcile.Images, error) {
	m := &makers{server: s, cfg: s.cfg.Images}
	m.network = image.Network{
		Proxy: workspace.NewSecret(m.cfg.Proxy), NoProxy: m.cfg.NoProxy, Plain: m.cfg.Plain, Index: workspace.NewSecret(s.cfg.PackageIndex),
	}
	var ca []byte
	if m.cfg.CA != "" {
		var err error
		if ca, err = os.ReadFile(m.cfg.CA); err != nil {
			return nil, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidConfig", Target: "images.ca", Message: "the certificates of images.ca cannot be read", Cause: err.Error(), Mend: "correct its path"}
		}
	}
	m.network.CA = string(append(ca, s.ca...))
	var err error
	m.uv, err = environment.NewUvTool(environment.UvConfig{
		Dir: filepath.Join(s.cfg.Data, "tools"), Objects: s.cas, Index: workspace.NewSecret(s.cfg.PackageIndex), CA: string(ca), Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	return reconcile.NewImages(reconcile.ImagesConfig{
		Store: s.store, Blob: s.blob, CAS: s.cas, Clock: s.opts.Clock, Log: s.log, Holder: "images " + s.opts.Clock.NewID(), Keep: m.cfg.Keep,
		Place: m.place, Builder: m.builder, Dockerfiles: m.dockerfiles, Name: m.name, Login: s.imageLogin, There: m.there, Remove: m.remove,
	}), nil
}

// place keeps the images of an engine on this machine there; others go to a registry, if there is one for them.
func (m *makers) place(c store.Compute, facts map[string]string) (place string, ok bool) {
	switch c.Kind {
	case "local": // its jobs run by the program docker, which finds its engine as here
		address := cmp.Or(os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock")
		if path.Base(facts["engine"]) == "docker" && strings.HasPrefix(address, "unix://") {
			return enginePlace + address, true
		}
	case "docker":
		var settings struct{ Address string }
		if json.Unmarshal(c.Settings, &settings) == nil {
			address := strings.TrimPrefix(cmp.Or(settings.Address, c.Address, "docker+unix:///var/run/docker.sock"), "docker+")
			if strings.HasPrefix(address, "unix://") {
				return enginePlace + address, true
			}
		}
	}
	return "", m.cfg.Host != "" || m.cfg.Registry != ""
}

func (m *makers) dockerfiles(place string) bool {
	return place != "" || m.cfg.BuildKit != "" || m.cfg.Engine != ""
}

// closing is a builder that lets go of its engine after a build.
type closing struct {
	*image.Maker
	engines []*image.Engine
}

// Build makes an image and closes what it was made with.
func (c closing) Build(ctx context.Context, r image.Recipe, log io.Writer) (image.Result, error) {
	defer func() {
		for _, e := range c.engines {
			_ = e.Close() // nothing is on its way
		}
	}()
	return c.Maker.Build(ctx, r, log)
}

// builder gives what makes one image for a place.
func (m *makers) builder(ctx context.Context, ws workspace.Workspace, place string) (image.Builder, error) {
	if err := m.server.space.room(); err != nil {
		return nil, err
	}
	maker := &image.Maker{
		Dir: filepath.Join(m.server.cfg.Data, "images"), Network: m.network,
		Uv: func(ctx context.Context) ([]string, error) {
			return m.uv.Command(ctx, filepath.Join(m.server.cfg.Data, "images", "uv"))
		},
	}
	b := closing{Maker: maker}
	engine := func(address string) (*image.Engine, error) {
		e, err := image.OpenEngine(address)
		if err == nil {
			b.engines = append(b.engines, e)
		}
		return e, err
	}
	if m.cfg.BuildKit != "" {
		maker.Dockerfiles = image.BuildKit{Address: m.cfg.BuildKit, CA: m.cfg.BuildKitCA, Cert: m.cfg.BuildKitCert, Key: m.cfg.BuildKitKey}
	}
	if address, ok := strings.CutPrefix(place, enginePlace); ok {
		e, err := engine(address)
		if maker.To = e; maker.Dockerfiles == nil {
			maker.Dockerfiles = e
		}
		return b, err
	}
	if m.cfg.Engine != "" && maker.Dockerfiles == nil {
		e, err := engine(m.cfg.Engine)
		if err != nil {
			return nil, err
		}
		maker.Dockerfiles = e
	}
	var err error
	maker.To, err = m.registry(ctx, ws)
	return b, err
}

// registry is where images go that stay at no engine.
func (m *makers) registry(ctx context.Context, ws workspace.Workspace) (image.Destination, error) {
	if m.cfg.Registry == "" {
		return ownRegistry{m.server.images}, nil
	}
	login, err := m.server.imageLogin(ctx, ws, m.cfg.Registry+"/x")
	to := image.Registry{Network: m.network}
	if login != nil {
		to.Logins = []image.Login{image.Login(*login)}
	}
	return to, err
}

// repository is that of all images made of environments of a workspace.
const repository = "environments"

func (m *makers) name(ctx context.Context, ws workspace.Workspace, place, tag string) (string, error) {
	first, err := m.server.images.PrefixOf(ctx, ws)
	if err != nil {
		return "", err
	}
	name := first + "/" + repository + ":" + tag
	switch {
	case place != "":
		return "moorage/" + name, nil
	case m.cfg.Registry != "":
		return path.Join(m.cfg.Registry, name), nil
	}
	return m.cfg.Host + "/" + name, nil
}

// own tells whether an image is in the server's own registry, and under which repository and reference.
func (m *makers) own(ctx context.Context, b store.ImageBuild) (in store.Repository, tag string, own bool, err error) {
	if b.Place != "" || m.cfg.Registry != "" {
		return in, "", false, nil
	}
	in, tag, err = locate(ctx, m.server.images, b.Image)
	return in, tag, true, err
}

// there looks for images where that costs little: in the server's own registry.
func (m *makers) there(ctx context.Context, _ workspace.Workspace, b store.ImageBuild) (bool, error) {
	in, tag, own, err := m.own(ctx, b)
	if err != nil || !own {
		return !own, err
	}
	_, err = m.server.images.Manifest(ctx, in, tag)
	if p, ok := errors.AsType[*workspace.Problem](err); ok && p.Class == workspace.NotFound {
		return false, nil
	}
	return true, err
}

// remove takes an image out of the server's own registry. In others it is theirs.
func (m *makers) remove(ctx context.Context, _ workspace.Workspace, b store.ImageBuild) error {
	in, tag, own, err := m.own(ctx, b)
	if err != nil || !own {
		return err
	}
	err = m.server.images.DeleteManifest(ctx, in, tag)
	if p, ok := errors.AsType[*workspace.Problem](err); ok && p.Class == workspace.NotFound {
		return nil
	}
	return err
}

// pullLife is how long a job's login to the server's own registry is good for.
const pullLife = 24 * time.Hour

// imageLogin gives the login by which a workspace's jobs, and the builds of its images, have an image.
func (s *Server) imageLogin(ctx context.Context, ws workspace.Workspace, name string) (*compute.Login, error) {
	if host := s.cfg.Images.Host; host != "" && strings.HasPrefix(name, host+"/") {
		token, _ := s.auth.RegistryToken(ws.ID, authn.RegistryPull, pullLife)
		return &compute.Login{Server: host, Username: "moorage", Password: token}, nil
	}
	return s.control.Login(ctx, ws, name)
}

// locate reads the name of an image in the server's own registry.
func locate(ctx context.Context, images *registry.Registry, name string) (in store.Repository, tag string, err error) {
	_, rest, _ := strings.Cut(name, "/")
	at := strings.LastIndexByte(rest, ':')
	if at < 0 {
		return in, "", fmt.Errorf("server: image %s has no tag", name)
	}
	in, err = images.Find(ctx, rest[:at])
	return in, rest[at+1:], err
}
