// Package dist holds the keeper programs that are placed on targets. They are built before moorage and embedded in it; a
// moorage built without them serves as the keeper itself, on machines of its own platform (see cmd/moorage). Package
// server hands them to the drivers.
package dist

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

//go:embed *
var files embed.FS

// Programs knows the keeper programs of this executable. The zero value is ready; it is safe for concurrent use.
type Programs struct {
	mu    sync.Mutex
	known map[string]compute.Program
}

// Program gives the keeper for a platform. The first call for one reads it whole, to know its hash.
func (p *Programs) Program(goos, goarch string) (compute.Program, error) {
	platform := goos + "-" + goarch
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.known[platform]; ok {
		return k, nil
	}
	open := func() (io.ReadCloser, error) { return embedded(platform) }
	if _, err := files.Open("keeper-" + platform + ".zst"); err != nil {
		if goos != runtime.GOOS || goarch != runtime.GOARCH {
			return compute.Program{}, notBuilt(platform)
		}
		open = self
	}
	k, err := measure(open)
	if err != nil {
		return compute.Program{}, fmt.Errorf("dist: keeper for %s: %w", platform, err)
	}
	if p.known == nil {
		p.known = map[string]compute.Program{}
	}
	p.known[platform] = k
	return k, nil
}

func embedded(platform string) (io.ReadCloser, error) {
	f, err := files.Open("keeper-" + platform + ".zst")
	if err != nil {
		return nil, err
	}
	d, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d.IOReadCloser(), nil
}

func self() (io.ReadCloser, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

func measure(open func() (io.ReadCloser, error)) (compute.Program, error) {
	r, err := open()
	if err != nil {
		return compute.Program{}, err
	}
	defer r.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, r)
	return compute.Program{Hash: snapshot.Hash(hex.EncodeToString(sum.Sum(nil))), Size: size, Open: open}, err
}

func notBuilt(platform string) error {
	return &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedPlatform",
		Message: "this moorage has no keeper for " + platform,
		Cause:   "it holds keepers for linux-amd64 and linux-arm64 when it was built with make, and else only its own platform's",
		Mend:    "use a release, or build with make; other platforms cannot be attached",
	}}
}
