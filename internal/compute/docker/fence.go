package docker

import (
	"context"
	"fmt"
	"strconv"

	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// fence refuses an epoch that is lower than one that was seen, and records a higher one. The record is a volume, because
// a volume can be made without an image and its labels never change.
func (t *Target) fence(ctx context.Context, epoch int64) error {
	seen, marks, err := t.seen(ctx)
	if err != nil {
		return err
	}
	switch {
	case epoch < seen:
		return &compute.Error{Kind: compute.ErrStale, Problem: workspace.Problem{
			Class: workspace.Conflict, Code: "StaleLease", Message: "another server holds the compute now",
			Cause: fmt.Sprintf("epoch %d was seen at the engine, and this request is of epoch %d", seen, epoch),
			Mend:  "nothing needs doing: the other server goes on with the job",
		}}
	case epoch == seen:
		return nil
	}
	labels := t.labels()
	labels[labelEpoch] = strconv.FormatInt(epoch, 10)
	_, err = t.engine.VolumeCreate(ctx, client.VolumeCreateOptions{Name: t.mark(epoch), Labels: labels})
	if err != nil {
		return t.failed(ctx, err)
	}
	for _, name := range marks { // only lower ones, and only when the higher is there
		_, _ = t.engine.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	}
	// Two servers may have raised it at the same time.
	if seen, _, err = t.seen(ctx); err == nil && seen > epoch {
		return t.fence(ctx, epoch)
	}
	return err
}

func (t *Target) mark(epoch int64) string {
	return "moorage." + t.env.Server + "." + t.env.Compute + ".epoch." + strconv.FormatInt(epoch, 10)
}

// seen is the highest epoch recorded, and the volumes that record epochs.
func (t *Target) seen(ctx context.Context) (highest int64, names []string, err error) {
	if err := t.open(); err != nil {
		return 0, nil, err
	}
	r, err := t.engine.VolumeList(ctx, client.VolumeListOptions{Filters: t.filter()})
	if err != nil {
		return 0, nil, t.failed(ctx, err)
	}
	for _, v := range r.Items {
		if n, err := strconv.ParseInt(v.Labels[labelEpoch], 10, 64); err == nil {
			highest = max(highest, n)
			names = append(names, v.Name)
		}
	}
	return highest, names, nil
}
