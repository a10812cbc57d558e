package docker

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const (
	// tries is how often a change is begun anew because another one came in between, with a look of waiting before each. The
	// engine reserves a name a moment before it shows the container.
	tries = 100
	// patience is how long a container that was made and not started is taken for another's submit under way. After it,
	// that submit was broken off.
	patience = 10 * time.Second
	// look is how often a container made by another is looked at meanwhile.
	look = 50 * time.Millisecond
	// handOver bounds the writing of what a supervisor is given.
	handOver = 10 * time.Second
)

// Submit makes the job's container, copies in what it needs, and starts it. The container's name is the lock, and it is
// started by its id: whoever takes a half-made container away has taken away the start.
func (t *Target) Submit(ctx context.Context, job compute.Job) (compute.Ref, error) {
	if job.GPUs > 0 {
		return "", &compute.Error{Kind: compute.ErrNotSupported, Problem: workspace.Problem{
			Class: workspace.Unsupported, Code: "NoGPUs", Message: fmt.Sprintf("the job asks for %d GPUs, and docker computes allot none yet", job.GPUs),
			Mend: "submit it to a compute of kind ssh or local, or ask for none",
		}}
	}
	l := t.layout(job.Key)
	l.Job, l.CA = kept.Job(job), t.env.CA
	if _, err := l.Spec(); err != nil {
		return "", kept.Failed(ctx, err)
	}
	done, err := t.turns.take(ctx, t.name(job.Key))
	if err != nil {
		return "", err
	}
	defer done()
	for again := range tries {
		if err := pause(ctx, again); err != nil {
			return "", err
		}
		if err := t.fence(ctx, job.Epoch); err != nil {
			return "", err
		}
		known, err := t.settled(ctx, job)
		if err != nil || known {
			return "", err
		}
		id, err := t.create(ctx, job)
		if conflict(err) {
			continue
		}
		if err != nil {
			return "", t.refused(ctx, err)
		}
		started, err := t.bring(ctx, id, l, job)
		if err != nil {
			t.drop(id)
			return "", err
		}
		if started {
			if wayBack(job) {
				t.link(id)
			}
			return "", nil
		}
	}
	return "", t.busy(job.Key)
}

// pause waits before a change is begun again.
func pause(ctx context.Context, again int) error {
	if again == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(look):
		return nil
	}
}

// settled tells whether the engine knows the key, so that nothing is to be started. What a broken submit left is removed.
func (t *Target) settled(ctx context.Context, job compute.Job) (bool, error) {
	for end := t.env.Clock.Now().Add(patience); ; {
		b, found, err := t.find(ctx, job.Key)
		switch {
		case err != nil:
			return false, err
		case !found:
			return false, nil
		case b.canceled() || b.alive():
			return true, nil
		case !b.made():
			over, err := t.ended(ctx, b, job.Key)
			if err != nil || over {
				return over, err
			}
		case b.epoch() == job.Epoch && t.env.Clock.Now().Before(end):
			if err := pause(ctx, 1); err != nil {
				return false, err
			}
			continue
		}
		if _, err := t.discard(ctx, b.id); err != nil {
			return false, err
		}
	}
}

func (t *Target) create(ctx context.Context, job compute.Job) (string, error) {
	l := t.layout(job.Key)
	labels := t.labels()
	labels[labelKey], labels[labelName], labels[labelEpoch] = job.Key.String(), job.Name, strconv.FormatInt(job.Epoch, 10)
	if wayBack(job) {
		labels[labelWayBack] = "1"
	}
	r, err := t.engine.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: t.name(job.Key),
		Config: &container.Config{
			Image: t.settings.Image, Labels: labels, User: "0:0", WorkingDir: "/",
			Entrypoint: []string{program, "supervise", "--tell", l.Dir()}, Cmd: []string{},
			AttachStdin: true, OpenStdin: true, StdinOnce: true,
			Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
		},
		HostConfig: &container.HostConfig{
			NetworkMode: container.NetworkMode(t.settings.Network),
			// Only what the supervisor says of itself; the job's output is in its own file.
			LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "1"}},
			Mounts: []mount.Mount{
				{Type: mount.TypeVolume, Source: t.slotVolume(), Target: l.SlotFolder()},
				{Type: mount.TypeVolume, Source: t.volume("env"), Target: l.EnvFolder(), VolumeOptions: &mount.VolumeOptions{Labels: t.labels()}},
			},
		},
	})
	return r.ID, err
}

// tombstone makes the container that keeps a key from ever being started.
func (t *Target) tombstone(ctx context.Context, key compute.Key, epoch int64) error {
	labels := t.labels()
	labels[labelKey], labels[labelEpoch], labels[labelCanceled] = key.String(), strconv.FormatInt(epoch, 10), "1"
	_, err := t.engine.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name:   t.name(key),
		Config: &container.Config{Image: t.settings.Image, Labels: labels, Entrypoint: []string{"/nothing"}, Cmd: []string{}},
	})
	return err
}

// bring copies in what the job needs and starts it. It tells whether this container was started; another may have taken
// it away, because of a cancel or a newer lease.
func (t *Target) bring(ctx context.Context, id string, l keeper.Layout, job compute.Job) (bool, error) {
	var err error
	if l.Slots, err = t.slots(ctx); err != nil {
		return false, err
	}
	if err := t.stage(ctx, id, l, job); gone(err) {
		return false, nil
	} else if err != nil {
		return false, t.failed(ctx, err)
	}
	if err := t.fence(ctx, job.Epoch); err != nil {
		return false, err
	}
	secrets := make(map[string]string, len(job.Secrets))
	for name, s := range job.Secrets {
		secrets[name] = s.Reveal()
	}
	given, err := keeper.Given(secrets)
	if err != nil {
		return false, err
	}
	in, err := t.engine.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true})
	if err == nil {
		defer in.Close()
		_, err = t.engine.ContainerStart(ctx, id, client.ContainerStartOptions{})
	}
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, t.refused(ctx, err)
	}
	// Cut short here, the supervisor ends without having started the job, and a later submit starts it.
	_ = in.Conn.SetDeadline(time.Now().Add(handOver))
	if _, err := in.Conn.Write(given); err != nil {
		return false, t.failed(ctx, err)
	}
	if err := in.CloseWrite(); err != nil {
		return false, t.failed(ctx, err)
	}
	_, _ = io.Copy(io.Discard, in.Reader) // until the engine has passed it on
	return true, nil
}

// drop removes a container that this submit made and could not start. One that runs after all stays: its supervisor
// ends by itself when it is given nothing.
func (t *Target) drop(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = t.engine.ContainerRemove(ctx, id, client.ContainerRemoveOptions{RemoveVolumes: true})
}

// refused says why a container could not be made or started.
func (t *Target) refused(ctx context.Context, err error) error {
	if ctx.Err() == nil && gone(err) {
		return &compute.Error{Kind: compute.ErrInvalid, Problem: noImage(t.settings.Image), Err: err}
	}
	return t.failed(ctx, err)
}

func (t *Target) busy(key compute.Key) error {
	return &compute.Error{Kind: compute.ErrUnreachable, Problem: workspace.Problem{
		Class: workspace.Conflict, Code: "JobContended", Message: "others change the job's container at the same time", Target: key.String(), Mend: "try again",
	}}
}

// slots is how many jobs run at once at the engine.
func (t *Target) slots(ctx context.Context) (int, error) {
	if t.settings.Slots > 0 {
		return t.settings.Slots, nil
	}
	p, err := t.platform(ctx)
	return p.cpus, err
}

func (t *Target) volume(what string) string {
	return "moorage." + t.env.Server + "." + t.env.Compute + "." + what
}

func (t *Target) slotVolume() string {
	if t.slotName != "" {
		return t.slotName
	}
	return "moorage.slots"
}

func wayBack(job compute.Job) bool {
	for _, v := range job.Env {
		if strings.Contains(v, compute.WayBackAddress) {
			return true
		}
	}
	return false
}

// turns lets one submit of a name go at a time.
type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed when free again
}

func (t *turns) take(ctx context.Context, name string) (func(), error) {
	for {
		t.mu.Lock()
		free, ok := t.busy[name]
		if !ok {
			mine := make(chan struct{})
			if t.busy == nil {
				t.busy = map[string]chan struct{}{}
			}
			t.busy[name] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.busy, name)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
