package docker

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// A container that has a GPU has all of them, and which of them are the job's the supervisor decides when it has a slot,
// as on any machine: by locks in the volume of slots, told by CUDA_VISIBLE_DEVICES. An engine must be told of devices when
// a container is made, which is before that.

// devices is how an engine gives GPUs to containers.
type devices struct {
	offered bool
	cdi     bool     // by names of the Container Device Interface; else by NVIDIA's hook
	names   []string // of single devices, where the engine tells them
}

const cdiKind = "nvidia.com/gpu="

// devicesOf reads what an engine tells of GPUs. One with NVIDIA's hook and no runtime of that name does not tell of it.
func devicesOf(i system.Info) devices {
	d := devices{}
	for _, one := range i.DiscoveredDevices {
		n, ok := strings.CutPrefix(one.ID, cdiKind)
		if one.Source != "cdi" || !ok {
			continue
		}
		d.offered, d.cdi = true, true
		if _, err := strconv.Atoi(n); err == nil {
			d.names = append(d.names, n)
		}
	}
	if _, ok := i.Runtimes["nvidia"]; ok {
		d.offered, d.cdi = true, false
	}
	return d
}

// count is how many GPUs jobs may ask for.
func (d devices) count(set int) int {
	if set > 0 {
		return set
	}
	return len(d.names)
}

// request is what an engine is asked for.
func (d devices) request() []container.DeviceRequest {
	if d.cdi {
		return []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{cdiKind + "all"}}}
	}
	return []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
}

// gpus gives the indexes of all devices, for a job that wants some, and the request for its container.
func (t *Target) gpus(ctx context.Context, job compute.Job) ([]string, []container.DeviceRequest, error) {
	if job.GPUs == 0 {
		return nil, nil, nil
	}
	p, err := t.platform(ctx)
	if err != nil {
		return nil, nil, err
	}
	n := p.devices.count(t.settings.GPUs)
	refuse := func(code, cause, mend string) error {
		return &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{
			Class: workspace.Invalid, Code: code, Message: fmt.Sprintf("the job asks for %d GPUs and the compute has %d", job.GPUs, n), Cause: cause, Mend: mend,
		}}
	}
	switch {
	case job.GPUs <= n:
	case n == 0 && !p.devices.offered:
		return nil, nil, refuse("NoGPUs", "the engine tells of no NVIDIA runtime and of no CDI device",
			"install the NVIDIA Container Toolkit on the engine's machine (nvidia-ctk runtime configure) and restart the engine, or submit the job to another compute")
	case n == 0:
		return nil, nil, refuse("GPUsUnknown", "the engine has an NVIDIA runtime and does not tell how many devices there are",
			"tell it: moorage compute update NAME --set gpus=N (setting gpus); nvidia-smi -L lists them")
	default:
		return nil, nil, refuse("NotEnoughGPUs", "", "ask for fewer, or submit to another compute; the setting gpus says how many there are")
	}
	all := make([]string, n)
	for i := range all {
		all[i] = strconv.Itoa(i)
	}
	return all, p.devices.request(), nil
}

// probeGPUs tells of GPUs.
func (t *Target) probeGPUs(i system.Info, f *compute.Facts) {
	d := devicesOf(i)
	if n := d.count(t.settings.GPUs); n > 0 {
		f.Details["gpus"] = strconv.Itoa(n)
	} else if d.offered {
		f.Problems = append(f.Problems, workspace.Problem{
			Code: "GPUsUnknown", Message: "the engine has an NVIDIA runtime and does not tell how many GPUs there are", Warning: true, Target: "gpus",
			Mend: "say it, if jobs are to have some: --set gpus=N (setting gpus); nvidia-smi -L lists them",
		})
	}
}
