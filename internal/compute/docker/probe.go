package docker

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Probe asks the engine who it is, and whether the keeper and the default image fit it.
func (t *Target) Probe(ctx context.Context) (compute.Facts, error) {
	if err := t.open(); err != nil {
		return compute.Facts{}, err
	}
	r, err := t.engine.Info(ctx, client.InfoOptions{})
	if err != nil {
		return compute.Facts{}, t.failed(ctx, err)
	}
	i := r.Info
	slots := t.settings.Slots
	if slots == 0 {
		slots = max(i.NCPU, 1)
	}
	f := compute.Facts{Identity: []string{i.ID}, Details: map[string]string{
		"os": i.OperatingSystem, "arch": goarch(i.Architecture), "cpus": strconv.Itoa(i.NCPU), "memory": strconv.FormatInt(i.MemTotal, 10),
		"engine": i.ServerVersion, "slots": strconv.Itoa(slots), "storage": i.Driver, "host": i.Name, "containers": "docker",
	}}
	if i.OSType != "linux" {
		f.Problems = append(f.Problems, workspace.Problem{
			Class: workspace.Unsupported, Code: "EngineNotLinux", Message: "the engine runs containers of " + i.OSType, Mend: "attach an engine that runs Linux containers",
		})
	}
	if t.env.Keeper != nil {
		if _, err := t.env.Keeper("linux", goarch(i.Architecture)); err != nil {
			f.Problems = append(f.Problems, workspace.Problem{
				Class: workspace.Unsupported, Code: "NoKeeper", Message: "there is no keeper for the engine's architecture " + i.Architecture, Cause: err.Error(),
				Mend: "attach an engine on amd64 or arm64",
			})
		}
	}
	t.probeGPUs(i, &f)
	if t.way.facts != nil {
		t.way.facts(&f)
	}
	if t.settings.Image == "" {
		return f, nil
	}
	f.Details["image"] = t.settings.Image
	return f, t.probeImage(ctx, i, &f)
}

// probeImage looks at the compute's default image.
func (t *Target) probeImage(ctx context.Context, i system.Info, f *compute.Facts) error {
	img, err := t.engine.ImageInspect(ctx, t.settings.Image)
	switch {
	case gone(err):
		f.Problems = append(f.Problems, workspace.Problem{
			Code: "ImageMissing", Message: "image " + t.settings.Image + " is not at the engine", Cause: "it is pulled when the first job needs it",
			Mend: "nothing needs doing, if the registry gives it without a login; docker pull " + t.settings.Image + " shows whether it does", Warning: true,
		})
	case err != nil:
		return t.failed(ctx, err)
	case img.Architecture != "" && img.Architecture != goarch(i.Architecture):
		f.Problems = append(f.Problems, workspace.Problem{
			Class: workspace.Invalid, Code: "ImageForeign", Message: fmt.Sprintf("image %s is for %s and the engine for %s", t.settings.Image, img.Architecture, goarch(i.Architecture)),
			Mend: "choose an image that is built for the engine", Warning: true,
		})
	}
	return nil
}

// platform is what is known of the engine once it was asked.
type platform struct {
	cpus    int
	keeper  compute.Program
	devices devices
}

func (t *Target) platform(ctx context.Context) (platform, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known.cpus > 0 {
		return t.known, nil
	}
	r, err := t.engine.Info(ctx, client.InfoOptions{})
	if err != nil {
		return platform{}, t.failed(ctx, err)
	}
	if t.env.Keeper == nil {
		return platform{}, invalid("", "there is no keeper program for containers", nil)
	}
	k, err := t.env.Keeper("linux", goarch(r.Info.Architecture))
	if err != nil {
		return platform{}, err
	}
	t.known = platform{cpus: max(r.Info.NCPU, 1), keeper: k, devices: devicesOf(r.Info)}
	return t.known, nil
}

// goarch is Go's word for what an engine calls its architecture.
func goarch(arch string) string {
	switch strings.ToLower(arch) {
	case "x86_64", "amd64":
		return "amd64"
	case "aarch64", "arm64":
		return "arm64"
	case "":
		return runtime.GOARCH
	}
	return arch
}
