package docker

import (
	"context"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
)

// Labels by which containers and volumes are found again.
const (
	labelServer   = "moorage.server"
	labelCompute  = "moorage.compute"
	labelKey      = "moorage.key" // job.attempt
	labelName     = "moorage.name"
	labelEpoch    = "moorage.epoch"
	labelWayBack  = "moorage.wayback"  // the job talks to the server
	labelCanceled = "moorage.canceled" // a tombstone
	labelPulling  = "moorage.pulling"  // a mark, and the image
	labelExit     = "moorage.exit"     // how the job failed before its container could be made
	labelFolder   = "moorage.folder"   // on a job's own volume: the attachment. Such volumes are many, and not listed with the others
	labelMemory   = "moorage.memory"   // the job's limit, bytes
	labelStore    = "moorage.store"    // on a volume that holds objects, and on a job's container which of them it has
)

// name is the container's: the job's lock. Ids are plain words, so it is a legal one.
func (t *Target) name(key compute.Key) string {
	return "moorage." + t.env.Server + "." + t.env.Compute + "." + key.String()
}

func (t *Target) markName(key compute.Key) string { return t.name(key) + ".mark" }

func (t *Target) attachment() string { return t.env.Server + "." + t.env.Compute }

func (t *Target) labels() map[string]string {
	return map[string]string{labelServer: t.env.Server, labelCompute: t.env.Compute}
}

func (t *Target) filter() client.Filters {
	return client.Filters{}.Add("label", labelServer+"="+t.env.Server, labelCompute+"="+t.env.Compute)
}

// box is a job's container as the engine shows it.
type box struct {
	id      string
	state   container.ContainerState
	labels  map[string]string
	created int64 // seconds since the epoch
}

func (b box) canceled() bool { return b.labels[labelCanceled] != "" }

// isMark tells that it stands beside the job's name, see note.go.
func (b box) isMark() bool { return b.labels[labelPulling] != "" }

// made tells that it was created and never started: a note, or a submit under way or broken off.
func (b box) made() bool { return b.state == container.StateCreated }

func (b box) alive() bool {
	switch b.state {
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		return true
	case container.StateCreated, container.StateExited, container.StateDead, container.StateRemoving:
	}
	return false
}

func (b box) epoch() int64 {
	n, _ := strconv.ParseInt(b.labels[labelEpoch], 10, 64) // absent: made by nobody who matters
	return n
}

// list gives all containers of this attachment, by key, and marks apart. It is one call.
func (t *Target) list(ctx context.Context) (jobs, marks map[string]box, err error) {
	if err := t.open(); err != nil {
		return nil, nil, err
	}
	r, err := t.engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: t.filter()})
	if err != nil {
		return nil, nil, t.failed(ctx, err)
	}
	jobs, marks = make(map[string]box, len(r.Items)), map[string]box{}
	for _, c := range r.Items {
		b := box{id: c.ID, state: c.State, labels: c.Labels, created: c.Created}
		switch key := c.Labels[labelKey]; {
		case b.isMark():
			marks[key] = b
		case key != "":
			jobs[key] = b
		}
	}
	return jobs, marks, nil
}

// find gives a job's container, and whether there is one.
func (t *Target) find(ctx context.Context, key compute.Key) (box, bool, error) {
	if err := t.open(); err != nil {
		return box{}, false, err
	}
	r, err := t.engine.ContainerInspect(ctx, t.name(key), client.ContainerInspectOptions{})
	if gone(err) {
		return box{}, false, nil
	}
	if err != nil {
		return box{}, false, t.failed(ctx, err)
	}
	c := r.Container
	b := box{id: c.ID, state: container.StateExited}
	if c.State != nil {
		b.state = c.State.Status
	}
	if c.Config != nil {
		b.labels = c.Config.Labels
	}
	if at, err := time.Parse(time.RFC3339Nano, c.Created); err == nil {
		b.created = at.Unix()
	}
	return b, true, nil
}

// discard removes a container that does not run. A running one is a conflict, reported as false.
func (t *Target) discard(ctx context.Context, id string) (bool, error) {
	_, err := t.engine.ContainerRemove(ctx, id, client.ContainerRemoveOptions{RemoveVolumes: true})
	if err == nil || gone(err) {
		return true, nil
	}
	if conflict(err) {
		return false, nil
	}
	return false, t.failed(ctx, err)
}
