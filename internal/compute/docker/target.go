package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Target is an attached engine.
type Target struct {
	engine   *client.Client
	socket   string
	settings Settings
	env      compute.Env
	records  records
	agents   agents
	turns    turns
	slotName string // of the volume with the slots; empty: the usual one

	mu    sync.Mutex
	known platform

	ctx  context.Context //nolint:containedctx // the life of the target, under which its watches run
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newTarget(c *client.Client, socket string, s Settings, env compute.Env) *Target {
	t := &Target{engine: c, socket: socket, settings: s, env: env}
	t.agents.dial = t.dialAgent
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

// folder is where the keeper works in a container, and program what it is.
const (
	folder  = "/moorage"
	program = folder + "/bin/keeper"
)

func (t *Target) layout(key compute.Key) keeper.Layout {
	return keeper.Layout{Folder: folder, Server: t.env.Server, Compute: t.env.Compute, Key: key.String()}
}

// Probe asks the engine who it is, and whether the image and the keeper fit it.
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
		"engine": i.ServerVersion, "image": t.settings.Image, "slots": strconv.Itoa(slots), "storage": i.Driver, "host": i.Name,
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
	img, err := t.engine.ImageInspect(ctx, t.settings.Image)
	switch {
	case gone(err):
		f.Problems = append(f.Problems, noImage(t.settings.Image))
	case err != nil:
		return f, t.failed(ctx, err)
	case img.Architecture != "" && img.Architecture != goarch(i.Architecture):
		f.Problems = append(f.Problems, workspace.Problem{
			Class: workspace.Invalid, Code: "ImageForeign", Message: fmt.Sprintf("image %s is for %s and the engine for %s", t.settings.Image, img.Architecture, goarch(i.Architecture)),
			Mend: "choose an image that is built for the engine", Warning: true,
		})
	}
	return f, nil
}

func noImage(name string) workspace.Problem {
	return workspace.Problem{
		Class: workspace.Invalid, Code: "ImageMissing", Message: "image " + name + " is not at the engine", Mend: "docker pull " + name + ", or correct the compute's image",
	}
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

// Cancel ends the job's container by way of its supervisor, or leaves a tombstone in its place.
func (t *Target) Cancel(ctx context.Context, job compute.Handle, epoch int64) error {
	if err := t.fence(ctx, epoch); err != nil {
		return err
	}
	for again := range tries {
		if err := pause(ctx, again); err != nil {
			return err
		}
		b, found, err := t.find(ctx, job.Key)
		switch {
		case err != nil:
			return err
		case found && b.canceled():
			return nil
		case found && b.alive():
			if err := t.wish(ctx, b, job.Key); !gone(err) {
				return t.failed(ctx, err)
			}
			continue
		case found && !b.made():
			over, err := t.ended(ctx, b, job.Key)
			if err != nil || over {
				return err
			}
		}
		if found { // a submit that was broken off, or is under way and must not succeed
			if ok, err := t.discard(ctx, b.id); err != nil {
				return err
			} else if !ok {
				continue
			}
		}
		err = t.tombstone(ctx, job.Key, epoch)
		if !conflict(err) {
			return t.failed(ctx, err)
		}
	}
	return t.busy(job.Key)
}

// wish puts the tombstone beside the job's records and tells the supervisor, which ends the tree with the job's grace.
func (t *Target) wish(ctx context.Context, b box, key compute.Key) error {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: keeper.CanceledFile, Mode: 0o600})
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	_, err = t.engine.CopyToContainer(ctx, b.id, client.CopyToContainerOptions{DestinationPath: t.layout(key).Dir(), Content: &text})
	if err != nil {
		return err
	}
	_, err = t.engine.ContainerKill(ctx, b.id, client.ContainerKillOptions{Signal: "SIGTERM"})
	if conflict(err) { // it stopped meanwhile
		return nil
	}
	return err
}

// ended tells whether a container that does not run ever did run the job.
func (t *Target) ended(ctx context.Context, b box, key compute.Key) (bool, error) {
	s, err := t.status(ctx, b, key)
	return s.Phase == compute.Ended, err
}

// Release removes the job's container.
func (t *Target) Release(ctx context.Context, job compute.Handle, epoch int64) error {
	if err := t.fence(ctx, epoch); err != nil {
		return err
	}
	b, found, err := t.find(ctx, job.Key)
	if err != nil || !found {
		return err
	}
	if b.alive() { // its end is recorded a moment before the container stops
		if over, err := t.ended(ctx, b, job.Key); err != nil {
			return err
		} else if over {
			t.stopped(ctx, b.id)
			b.state = container.StateExited
		}
	}
	if !b.alive() {
		ok, err := t.discard(ctx, b.id)
		if err != nil || ok {
			t.records.forget(b.id)
			t.agents.drop(b.id)
			return err
		}
	}
	return &compute.Error{Kind: compute.ErrUnreachable, Problem: workspace.Problem{
		Class: workspace.Conflict, Code: "JobRunning", Message: "the job still runs, so its container stays", Mend: "cancel it and wait for its end",
	}}
}

// stopped waits for a container to stop, for as long as that may take.
func (t *Target) stopped(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	w := t.engine.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select {
	case <-w.Result:
	case <-w.Error:
	}
}

// RemoveAll removes every container and volume of this attachment, running ones too. The image stays: it is not ours.
func (t *Target) RemoveAll(ctx context.Context) error {
	boxes, err := t.list(ctx)
	if err != nil {
		return err
	}
	for _, b := range boxes {
		t.agents.drop(b.id)
		_, err := t.engine.ContainerRemove(ctx, b.id, client.ContainerRemoveOptions{RemoveVolumes: true, Force: true})
		if err != nil && !gone(err) {
			return t.failed(ctx, err)
		}
	}
	r, err := t.engine.VolumeList(ctx, client.VolumeListOptions{Filters: t.filter()})
	if err != nil {
		return t.failed(ctx, err)
	}
	for _, v := range r.Items {
		if _, err := t.engine.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{}); err != nil && !gone(err) {
			return t.failed(ctx, err)
		}
	}
	// Stays while another attachment has containers.
	if _, err := t.engine.VolumeRemove(ctx, t.slotVolume(), client.VolumeRemoveOptions{}); err != nil && !gone(err) && !conflict(err) {
		return t.failed(ctx, err)
	}
	return nil
}

// open refuses work once the target was closed. What every verb begins with asks it.
func (t *Target) open() error {
	if t.ctx.Err() == nil {
		return nil
	}
	return &compute.Error{Kind: compute.ErrUnreachable, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: "TargetClosed", Message: "the connection to the Docker engine was closed", Mend: "try again",
	}}
}

// Close drops connections. Containers go on.
func (t *Target) Close() error {
	t.stop()
	t.agents.close()
	t.wg.Wait()
	return t.engine.Close()
}

var (
	_ compute.Target  = (*Target)(nil)
	_ compute.Watcher = (*Target)(nil)
	_ compute.Dialer  = (*Target)(nil)
	_ compute.Remover = (*Target)(nil)
)
