package environment

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// UvVersion is the release of uv that is placed on targets.
const UvVersion = "0.13.9"

// Keeping keeps objects by content, as blob's CAS does.
type Keeping interface {
	// Has tells which of the hashes are missing, and pins the others for a day.
	Has(ctx context.Context, hashes []snapshot.Hash) (missing []snapshot.Hash, err error)
	// Put stores an object of size bytes after checking its hash.
	Put(ctx context.Context, hash snapshot.Hash, r io.Reader, size int64) error
}

// UvConfig is what a UvTool needs.
type UvConfig struct {
	// Dir is a folder for downloaded programs. It may be emptied at any time.
	Dir string
	// Objects is where targets get the program from.
	Objects Keeping
	// Index is the simple index to fetch from, as the operator set it; it may hold credentials. "" is what uv or pip
	// would use on this server: their environment variables, pip.conf, and else pip itself.
	Index workspace.Secret
	// CA is a PEM bundle to trust besides the machine's roots.
	CA string
	// Version is the release; "" is UvVersion.
	Version string
	Log     *slog.Logger
}

// UvTool brings uv's program for a platform from its wheel on a Python package index into the object store, once per
// platform and release. It is safe for concurrent use.
type UvTool struct {
	cfg    UvConfig
	client *http.Client
	pip    func(ctx context.Context, platform wheelPlatform, version, dir string) (wheel string, err error)

	mu    sync.Mutex
	known map[string]*program // by platform
}

type program struct {
	mu   sync.Mutex // held while it is being fetched
	hash snapshot.Hash
}

// NewUvTool makes one. It fetches nothing yet.
func NewUvTool(cfg UvConfig) (*UvTool, error) {
	cfg.Version = cmp.Or(cfg.Version, UvVersion)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	client, err := indexClient(cfg.CA)
	if err != nil {
		return nil, err
	}
	return &UvTool{cfg: cfg, client: client, pip: pipDownload, known: map[string]*program{}}, nil
}

// Get gives the tool "uv" for a platform, fetching it if need be. A Problem UvUnavailable says why it cannot be had.
func (u *UvTool) Get(ctx context.Context, goos, goarch string) (compute.Tool, error) {
	platform, ok := wheelPlatforms[goos+"/"+goarch]
	if !ok {
		return compute.Tool{}, &workspace.Problem{
			Class: workspace.Unsupported, Code: "UvUnavailable", Target: "environment",
			Message: fmt.Sprintf("packages cannot be installed on %s/%s", goos, goarch),
			Cause:   "uv is placed on linux and darwin, amd64 and arm64",
			Mend:    "install micromamba, conda or uv on the compute",
		}
	}
	u.mu.Lock()
	p := u.known[platform.name]
	if p == nil {
		p = &program{}
		u.known[platform.name] = p
	}
	u.mu.Unlock()

	p.mu.Lock()
	defer p.mu.Unlock()
	if err := u.ensure(ctx, platform, p); err != nil {
		return compute.Tool{}, err
	}
	return compute.Tool{Name: "uv", Object: p.hash}, nil
}

// ensure sees to it that the program is in the object store, and sets its hash.
func (u *UvTool) ensure(ctx context.Context, platform wheelPlatform, p *program) error {
	if p.hash != "" {
		if missing, err := u.cfg.Objects.Has(ctx, []snapshot.Hash{p.hash}); err != nil {
			return fmt.Errorf("environment: uv: %w", err)
		} else if len(missing) == 0 {
			return nil
		}
	}
	path := filepath.Join(u.cfg.Dir, "uv-"+u.cfg.Version+"-"+platform.name)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = u.fetch(ctx, platform, path); err != nil {
			return u.unavailable(platform, err)
		}
		f, err = os.Open(path)
	}
	if err != nil {
		return fmt.Errorf("environment: uv: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return fmt.Errorf("environment: uv: %w", err)
	}
	hash := snapshot.Hash(hex.EncodeToString(h.Sum(nil)))
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("environment: uv: %w", err)
	}
	if err := u.cfg.Objects.Put(ctx, hash, f, size); err != nil {
		return fmt.Errorf("environment: uv: %w", err)
	}
	p.hash = hash
	return nil
}

// fetch downloads the wheel and leaves its program at path.
func (u *UvTool) fetch(ctx context.Context, platform wheelPlatform, path string) error {
	if err := os.MkdirAll(u.cfg.Dir, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(u.cfg.Dir, "fetch-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	wheel, err := u.download(ctx, platform, dir)
	if err != nil {
		return err
	}
	unpacked := filepath.Join(dir, "uv")
	if err := unpackUv(wheel, unpacked); err != nil {
		return err
	}
	return os.Rename(unpacked, path)
}

func (u *UvTool) download(ctx context.Context, platform wheelPlatform, dir string) (wheel string, err error) {
	index := u.cfg.Index.Reveal()
	if index == "" {
		index = configuredIndex(os.Getenv, os.ReadFile)
	}
	if index == "" {
		u.cfg.Log.InfoContext(ctx, "fetching uv with pip", "version", u.cfg.Version, "platform", platform.name)
		return u.pip(ctx, platform, u.cfg.Version, dir)
	}
	s := simpleIndex{client: u.client, base: index}
	file, err := s.find(ctx, "uv", func(name string) bool { return platform.matches(name, u.cfg.Version) })
	if err != nil {
		return "", err
	}
	u.cfg.Log.InfoContext(ctx, "fetching uv", "version", u.cfg.Version, "platform", platform.name, "file", file.Name)
	wheel = filepath.Join(dir, "uv.whl")
	return wheel, s.download(ctx, file, wheel)
}

func (u *UvTool) unavailable(platform wheelPlatform, err error) error {
	return fmt.Errorf("environment: uv: %w", errors.Join(&workspace.Problem{
		Class: workspace.Unavailable, Code: "UvUnavailable", Target: "environment",
		Message: fmt.Sprintf("the server cannot get uv %s for %s, with which it installs packages", u.cfg.Version, platform.name),
		Cause:   err.Error(),
		Mend:    "set the server's package index to one that it can reach, or install micromamba, conda or uv on the compute",
	}, err))
}
