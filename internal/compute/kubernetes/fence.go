package kubernetes

import (
	"context"
	"fmt"
	"strconv"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// mark is the ConfigMap that holds the highest epoch.
type mark struct {
	Meta meta              `json:"metadata"`
	Data map[string]string `json:"data"`
}

const epochField = "epoch"

func (t *Target) markName() string { return "moorage-" + hash(t.env.Server, t.env.Compute) }

// fence refuses an epoch that is lower than one that was seen, and records a higher one: the first time it creates the
// record, later it changes it under the version that it read.
func (t *Target) fence(ctx context.Context, epoch int64) error {
	for {
		if err := t.open(); err != nil {
			return err
		}
		var m mark
		err := t.cluster.get(ctx, t.cluster.path(configMaps, t.markName()), nil, &m)
		if gone(err) {
			err = t.cluster.create(ctx, t.cluster.path(configMaps), object{
				"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": t.markName(), "labels": t.labels()},
				"data": object{epochField: strconv.FormatInt(epoch, 10)},
			}, nil)
			if conflict(err) {
				continue
			}
			return t.failed(ctx, err)
		}
		if err != nil {
			return t.failed(ctx, err)
		}
		seen, err := strconv.ParseInt(m.Data[epochField], 10, 64)
		if err != nil {
			return t.failed(ctx, fmt.Errorf("ConfigMap %s: %w", t.markName(), err))
		}
		switch {
		case epoch < seen:
			return &compute.Error{Kind: compute.ErrStale, Problem: workspace.Problem{
				Class: workspace.Conflict, Code: "StaleLease", Message: "another server holds the compute now",
				Cause: fmt.Sprintf("epoch %d was seen at the cluster, and this request is of epoch %d", seen, epoch),
				Mend:  "nothing needs doing: the other server goes on with the job",
			}}
		case epoch == seen:
			return nil
		}
		err = t.cluster.patch(ctx, t.cluster.path(configMaps, t.markName()), object{
			"metadata": object{"resourceVersion": m.Meta.ResourceVersion}, "data": object{epochField: strconv.FormatInt(epoch, 10)},
		}, nil)
		if !conflict(err) && !gone(err) {
			return t.failed(ctx, err)
		}
	}
}
