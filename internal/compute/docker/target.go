package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Target is an attached engine.
type Target struct {
	way      way
	engine   *client.Client // of the way
	settings Settings
	env      compute.Env
	records  records
	agents   agents
	turns    kept.Turns
	pulls    pulls
	objects  objects

	preparations preparations
	slotName     string // of the volume with the slots; empty: the usual one

	mu    sync.Mutex
	known platform

	ctx  context.Context //nolint:containedctx // the life of the target, under which its watches run
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newTarget(w way, s Settings, env compute.Env) *Target {
	t := &Target{way: w, engine: w.engine, settings: s, env: env}
	t.agents.dial = t.dialAgent
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

// folder is where the keeper works in a container.
const folder = "/moorage"

func (t *Target) layout(key compute.Key) keeper.Layout {
	return keeper.Layout{Folder: folder, Server: t.env.Server, Compute: t.env.Compute, Key: key.String()}
}

// Cancel ends the job's container by way of its supervisor, or leaves a tombstone in its place.
func (t *Target) Cancel(ctx context.Context, job compute.Handle, epoch int64) error {
	if _, err := t.fence(ctx, epoch); err != nil {
		return err
	}
	for again := range tries {
		if err := kept.Pause(ctx, again); err != nil {
			return err
		}
		b, found, err := t.find(ctx, job.Key)
		switch {
		case err != nil:
			return err
		case found && b.verdict() != nil:
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
		if conflict(err) {
			continue
		}
		if err != nil {
			return t.failed(ctx, err)
		}
		t.preparations.end(ctx, job.Key)
		return t.unmark(ctx, job.Key)
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
	if _, err := t.fence(ctx, epoch); err != nil {
		return err
	}
	if p := t.preparations.of(job.Key); p != nil && !p.almost(ctx) {
		return running()
	}
	b, found, err := t.find(ctx, job.Key)
	if err != nil {
		return err
	}
	if err := t.unmark(ctx, job.Key); err != nil || !found {
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
	return running()
}

func running() error {
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

// RemoveAll removes every container and volume of this attachment, running ones too. Images that were pulled stay: they
// may be another's.
func (t *Target) RemoveAll(ctx context.Context) error {
	if err := t.open(); err != nil {
		return err
	}
	all, err := t.engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: t.filter()})
	if err != nil {
		return t.failed(ctx, err)
	}
	for _, c := range all.Items {
		if key, ok := t.key(c.Labels[labelKey]); ok {
			t.preparations.end(ctx, key)
		}
		t.agents.drop(c.ID)
		_, err := t.engine.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{RemoveVolumes: true, Force: true})
		if err != nil && !gone(err) {
			return t.failed(ctx, err)
		}
	}
	// Those of jobs went with their containers, but for what somebody removed without them.
	for _, which := range []client.Filters{t.filter(), client.Filters{}.Add("label", labelFolder+"="+t.attachment())} {
		r, err := t.engine.VolumeList(ctx, client.VolumeListOptions{Filters: which})
		if err != nil {
			return t.failed(ctx, err)
		}
		for _, v := range r.Items {
			if _, err := t.engine.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{}); err != nil && !gone(err) {
				return t.failed(ctx, err)
			}
		}
	}
	// These stay while another attachment has containers.
	if _, err := t.engine.VolumeRemove(ctx, t.slotVolume(), client.VolumeRemoveOptions{}); err != nil && !gone(err) && !conflict(err) {
		return t.failed(ctx, err)
	}
	return t.removeEmpty(ctx)
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
	return t.way.close()
}

var (
	_ compute.Target  = (*Target)(nil)
	_ compute.Watcher = (*Target)(nil)
	_ compute.Dialer  = (*Target)(nil)
	_ compute.Remover = (*Target)(nil)
)
