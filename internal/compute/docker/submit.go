package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const (
	// tries is how often a change is begun anew because another one came in between, with a pause before each. The
	// engine reserves a name a moment before it shows the container.
	tries = 100
	// patience is how long a container that was made and not started is taken for another's submit under way. After it,
	// that submit was broken off.
	patience = 10 * time.Second
	// handOver bounds the writing of what a supervisor is given.
	handOver = 10 * time.Second
	// passOn is how long the engine may take to pass it on.
	passOn = 250 * time.Millisecond
)

// order is a job on its way into a container.
type order struct {
	job      compute.Job
	image    string
	layout   keeper.Layout
	prepared []byte // what the log of preparing begins with
	devices  []container.DeviceRequest
}

// Submit makes the job's container, gives it what the job needs, and starts it. The container's name is the lock, and it
// is started by its id: whoever takes a half-made container away has taken away the start. An image that is not at the
// engine is pulled first, after Submit has returned.
func (t *Target) Submit(ctx context.Context, job compute.Job) (compute.Ref, error) {
	o, err := t.order(ctx, job)
	if err != nil {
		return "", err
	}
	done, err := t.turns.Take(ctx, t.name(job.Key))
	if err != nil {
		return "", err
	}
	defer done()
	for again := range tries {
		if err := kept.Pause(ctx, again); err != nil {
			return "", err
		}
		there, err := t.fence(ctx, job.Epoch)
		if err != nil {
			return "", err
		}
		known, err := t.settled(ctx, job)
		if err != nil || known {
			return "", err
		}
		started, err := t.try(ctx, o, there)
		if errors.Is(err, errNoImage) {
			return "", t.prepare(ctx, o)
		}
		if err != nil || started {
			return "", err
		}
	}
	return "", t.busy(job.Key)
}

// order checks what can be known of a job without the engine.
func (t *Target) order(ctx context.Context, job compute.Job) (order, error) {
	o := order{job: job, layout: t.layout(job.Key)}
	if job.Ranks.Nodes > 1 {
		return o, &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{
			Class: workspace.Unsupported, Code: "NoNodes", Message: fmt.Sprintf("the job asks for %d nodes, and a docker compute is one", job.Ranks.Nodes),
			Mend: "submit it to a compute of kind kubernetes, or ask for one node (resources.instance_count: 1) and several processes on it",
		}}
	}
	var err error
	if o.image, err = t.image(job); err != nil {
		return o, err
	}
	o.layout.Job, o.layout.CA = kept.Job(job), t.env.CA
	if _, err := o.layout.Spec(); err != nil {
		return o, kept.Failed(ctx, err)
	}
	o.layout.GPUs, o.devices, err = t.gpus(ctx, job)
	return o, err
}

// errNoImage is that the engine has not the image that it was asked to make a container of.
var errNoImage = errors.New("docker: the image is not at the engine")

// try makes the job's container and starts it. It is false if another had or took the name meanwhile.
func (t *Target) try(ctx context.Context, o order, there volumes) (bool, error) {
	store, send, err := t.supply(ctx, there, o.job)
	if err != nil {
		return false, err
	}
	var sending sync.WaitGroup
	var sent error
	sending.Go(func() { sent = send() }) // beside the making of the container
	id, err := t.create(ctx, o, store)
	sending.Wait()
	switch {
	case conflict(err):
		return false, nil
	case gone(err) && ctx.Err() == nil:
		return false, errNoImage
	case errdefs.IsInvalidArgument(err) && strings.Contains(err.Error(), "reference format"):
		return false, badImage(o.image, err)
	case err != nil:
		return false, t.failed(ctx, err)
	case sent != nil:
		t.drop(id)
		return false, sent
	}
	started, err := t.bring(ctx, id, o, store)
	if err != nil || !started {
		t.drop(id)
	}
	if started && wayBack(o.job) {
		t.link(id)
	}
	return started, err
}

// settled tells whether the key is known, so that nothing is to be started. What a broken submit left is removed.
func (t *Target) settled(ctx context.Context, job compute.Job) (bool, error) {
	if t.preparations.of(job.Key) != nil {
		return true, nil
	}
	for end := t.env.Clock.Now().Add(patience); ; {
		b, found, err := t.find(ctx, job.Key)
		switch {
		case err != nil:
			return false, err
		case !found:
			return false, nil
		case b.verdict() != nil || b.alive():
			return true, nil
		case !b.made():
			over, err := t.ended(ctx, b, job.Key)
			if err != nil || over {
				return over, err
			}
		case b.epoch() == job.Epoch && t.env.Clock.Now().Before(end):
			if err := kept.Pause(ctx, 1); err != nil {
				return false, err
			}
			continue
		}
		if _, err := t.discard(ctx, b.id); err != nil {
			return false, err
		}
	}
}

// create makes the job's container, which is the job's lock.
func (t *Target) create(ctx context.Context, o order, store string) (string, error) {
	l := o.layout
	p, err := t.platform(ctx)
	if err != nil {
		return "", err
	}
	labels := t.labels()
	labels[labelKey], labels[labelName], labels[labelEpoch] = o.job.Key.String(), o.job.Name, strconv.FormatInt(o.job.Epoch, 10)
	labels[labelStore] = store
	if wayBack(o.job) {
		labels[labelWayBack] = "1"
	}
	if limit := o.job.Resources.MemoryLimit; limit > 0 {
		labels[labelMemory] = strconv.FormatInt(limit, 10)
	}
	own := &mount.VolumeOptions{Labels: t.labels()}
	r, err := t.engine.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: t.name(o.job.Key),
		Config: &container.Config{
			Image: o.image, Labels: labels, User: "0:0", WorkingDir: "/",
			Entrypoint: []string{path.Join(l.ObjectFolder(), keeperName(p.keeper)), "supervise", "--tell", l.Dir()}, Cmd: []string{},
			AttachStdin: true, OpenStdin: true, StdinOnce: true,
			Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
		},
		HostConfig: &container.HostConfig{
			NetworkMode: container.NetworkMode(t.settings.Network),
			Resources:   o.resources(), ShmSize: o.job.Resources.Shm,
			// Only what the supervisor says of itself; the job's output is in its own file.
			LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "1"}},
			Mounts: []mount.Mount{
				{Type: mount.TypeVolume, Source: t.slotVolume(), Target: l.SlotFolder()},
				{Type: mount.TypeVolume, Source: t.volume("env"), Target: l.EnvFolder(), VolumeOptions: own},
				{Type: mount.TypeVolume, Source: store, Target: l.ObjectFolder(), ReadOnly: true, VolumeOptions: own},
				// Of this container alone, and gone with it: files are placed in a volume several times as fast as in an image's layers.
				{Type: mount.TypeVolume, Target: path.Dir(l.Dir()), VolumeOptions: &mount.VolumeOptions{Labels: map[string]string{labelFolder: t.attachment()}}},
			},
		},
	})
	return r.ID, err
}

// resources are the limits and devices of a job. What it asks for beside them is for those who schedule.
func (o order) resources() container.Resources {
	r := o.job.Resources
	return container.Resources{
		NanoCPUs: int64(r.CPULimit * 1e9),
		Memory:   r.MemoryLimit, MemorySwap: r.MemoryLimit, // both equal: none is swapped
		DeviceRequests: o.devices,
	}
}

// bring gives a container its job and starts it. It is false if this container was not started: another took it away,
// because of a cancel or a newer lease, or the store that it was made with is gone.
func (t *Target) bring(ctx context.Context, id string, o order, store string) (bool, error) {
	job, l := o.job, o.layout
	var err error
	if l.Slots, err = t.slots(ctx); err != nil {
		return false, err
	}
	if len(o.prepared) > 0 {
		if err := t.write(ctx, id, l, map[string][]byte{prepareFile: o.prepared}); gone(err) {
			return false, nil
		} else if err != nil {
			return false, t.failed(ctx, err)
		}
	}
	there, err := t.fence(ctx, job.Epoch)
	if err != nil || !there.holds(store) {
		return false, err
	}
	secrets := make(map[string]string, len(job.Secrets))
	for name, s := range job.Secrets {
		secrets[name] = s.Reveal()
	}
	given, err := l.Given(secrets)
	if err != nil {
		return false, err
	}
	in, err := t.engine.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true})
	if err == nil {
		defer in.Close()
		_, err = t.engine.ContainerStart(ctx, id, client.ContainerStartOptions{})
	}
	if gone(err) || err != nil && strings.Contains(err.Error(), "received 404") { // the API's client has no type for a refused attach
		return false, nil
	}
	if err != nil {
		return false, t.failed(ctx, err)
	}
	// Cut short here, the supervisor ends without having started the job, and a later submit starts it.
	late := time.AfterFunc(handOver, in.Close)
	defer late.Stop()
	if _, err := in.Conn.Write(given); err != nil {
		return false, t.failed(ctx, err)
	}
	if err := in.CloseWrite(); err != nil {
		return false, t.failed(ctx, err)
	}
	// Until the engine has passed it on. One that came to the attaching only after the start then waits for the container's
	// end; what it was sent it passes on all the same.
	late.Reset(passOn)
	_, _ = io.Copy(io.Discard, in.Reader)
	return true, nil
}

// drop removes a container that this submit made and could not start. One that runs after all stays: its supervisor
// ends by itself when it is given nothing.
func (t *Target) drop(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = t.engine.ContainerRemove(ctx, id, client.ContainerRemoveOptions{RemoveVolumes: true})
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
