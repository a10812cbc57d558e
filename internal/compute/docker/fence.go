package docker

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// fence refuses an epoch that is lower than one that was seen, and records a higher one. The record is a volume, because
// a volume can be made without an image and its labels never change. It gives the attachment's volumes, which it has
// listed anyway.
func (t *Target) fence(ctx context.Context, epoch int64) (volumes, error) {
	seen, err := t.volumes(ctx)
	if err != nil {
		return seen, err
	}
	switch {
	case epoch < seen.epoch:
		return seen, &compute.Error{Kind: compute.ErrStale, Problem: workspace.Problem{
			Class: workspace.Conflict, Code: "StaleLease", Message: "another server holds the compute now",
			Cause: fmt.Sprintf("epoch %d was seen at the engine, and this request is of epoch %d", seen.epoch, epoch),
			Mend:  "nothing needs doing: the other server goes on with the job",
		}}
	case epoch == seen.epoch:
		return seen, nil
	}
	labels := t.labels()
	labels[labelEpoch] = strconv.FormatInt(epoch, 10)
	_, err = t.engine.VolumeCreate(ctx, client.VolumeCreateOptions{Name: t.volume("epoch." + strconv.FormatInt(epoch, 10)), Labels: labels})
	if err != nil {
		return seen, t.failed(ctx, err)
	}
	for _, name := range seen.epochs { // only lower ones, and only when the higher is there
		_, _ = t.engine.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	}
	// Two servers may have raised it at the same time.
	if seen, err = t.volumes(ctx); err == nil && seen.epoch > epoch {
		return t.fence(ctx, epoch)
	}
	return seen, err
}

// volumes are the attachment's at the engine.
type volumes struct {
	epoch  int64    // the highest recorded
	epochs []string // the volumes that record epochs
	stores []string // those that hold objects, the newest last; see objects.go
}

func (t *Target) volumes(ctx context.Context) (volumes, error) {
	var v volumes
	if err := t.open(); err != nil {
		return v, err
	}
	r, err := t.engine.VolumeList(ctx, client.VolumeListOptions{Filters: t.filter()})
	if err != nil {
		return v, t.failed(ctx, err)
	}
	for _, one := range r.Items {
		if n, err := strconv.ParseInt(one.Labels[labelEpoch], 10, 64); err == nil {
			v.epoch = max(v.epoch, n)
			v.epochs = append(v.epochs, one.Name)
		}
		if one.Labels[labelStore] != "" {
			v.stores = append(v.stores, one.Name)
		}
	}
	slices.Sort(v.stores) // their names end with an id that begins with the time
	return v, nil
}

func (t *Target) volume(what string) string {
	return "moorage." + t.env.Server + "." + t.env.Compute + "." + what
}
