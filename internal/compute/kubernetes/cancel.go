package kubernetes

import (
	"context"
	"errors"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// agentPatience is how long a cancel waits for an agent in the job's pod before it has the cluster end the pod.
const agentPatience = 10 * time.Second

// Cancel ends a job that runs by its agent, with the job's grace, and any other by suspending its Job: the cluster takes the
// pod away and makes no other. Where there is no Job it leaves a suspended one, the tombstone.
func (t *Target) Cancel(ctx context.Context, job compute.Handle, epoch int64) error {
	if err := t.fence(ctx, epoch); err != nil {
		return err
	}
	if err := t.look(ctx); err != nil {
		return err
	}
	name := t.name(job.Key)
	for again := range tries {
		if err := kept.Pause(ctx, again); err != nil {
			return err
		}
		w := &work{}
		err := t.cluster.get(ctx, t.cluster.path(jobs, name), nil, w)
		if gone(err) {
			err = t.cluster.create(ctx, t.cluster.path(jobs), t.tombstone(job.Key, epoch), w)
			if conflict(err) {
				continue
			}
			if err == nil {
				t.jobs.put(w)
				// A submit that was broken off may have left it. Most have none, and not all may delete it.
				_ = t.cluster.remove(ctx, t.cluster.path(secrets, name), "")
			}
			return t.failed(ctx, err)
		}
		if err != nil {
			return t.failed(ctx, err)
		}
		t.jobs.put(w)
		if w.canceled() || t.state(w, job.Key).Phase == compute.Ended {
			return nil
		}
		if asked, err := t.ask(ctx, w, job.Key, epoch); asked || err != nil {
			return err
		}
		err = t.cluster.patch(ctx, t.cluster.path(jobs, name), object{
			"metadata": object{"resourceVersion": w.Meta.ResourceVersion, "labels": object{labelCanceled: "1"}}, "spec": object{"suspend": true},
		}, w)
		if conflict(err) || gone(err) {
			continue
		}
		if err == nil {
			t.jobs.put(w)
		}
		return t.failed(ctx, err)
	}
	return t.busy(job.Key)
}

// ask has the agents in the job's pods end the job. It is false when a pod has none: then the cluster ends all pods.
func (t *Target) ask(ctx context.Context, w *work, key compute.Key, epoch int64) (bool, error) {
	all := t.all(w)
	if len(all) < w.nodes() {
		return false, nil
	}
	limit, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	for _, n := range all {
		if n.isEmpty() {
			return false, nil
		}
		c, err := n.have(limit)
		if err != nil {
			return false, nil // its pod is ended instead
		}
		err = c.Cancel(ctx, key.String(), epoch)
		if f, ok := errors.AsType[*keeper.Fault](err); ok && f.Cause == keeper.Gone {
			return false, nil
		}
		if err != nil {
			return false, kept.Failed(ctx, err)
		}
	}
	t.drop(w.Meta.Name)
	for _, n := range all {
		n.call() // asks how the job is
	}
	return true, nil
}

// isEmpty tells that the pod was brought no keeper.
func (n *nurse) isEmpty() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.empty
}

// Release removes the job's Job. Its pods follow within moments.
func (t *Target) Release(ctx context.Context, job compute.Handle, epoch int64) error {
	if err := t.fence(ctx, epoch); err != nil {
		return err
	}
	if err := t.look(ctx); err != nil {
		return err
	}
	name := t.name(job.Key)
	w := t.jobs.one(name)
	if w == nil {
		w = &work{}
		if err := t.cluster.get(ctx, t.cluster.path(jobs, name), nil, w); gone(err) {
			return nil
		} else if err != nil {
			return t.failed(ctx, err)
		}
		t.jobs.put(w)
	}
	switch s := t.state(w, job.Key); s.Phase {
	case compute.Ended, compute.Missing:
	default:
		return &compute.Error{Kind: compute.ErrUnreachable, Problem: workspace.Problem{
			Class: workspace.Conflict, Code: "JobRunning", Message: "the job still runs, so its Job stays", Mend: "cancel it and wait for its end",
		}}
	}
	t.drop(name)
	return t.discard(ctx, w)
}

const (
	// removal bounds how long RemoveAll waits for pods to end.
	removal = 2 * time.Minute
	// removalLook is how often it looks.
	removalLook = 200 * time.Millisecond
)

// RemoveAll deletes everything that carries this attachment's labels, running jobs too, and waits until the pods have ended.
// Pods, Services and Secrets go with their Jobs.
func (t *Target) RemoveAll(ctx context.Context) error {
	if err := t.open(); err != nil {
		return err
	}
	t.mu.Lock()
	clear(t.pending)
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, removal)
	defer cancel()
	for {
		left := 0
		for _, r := range []resource{jobs, pods, configMaps} {
			all, err := t.labelledOf(ctx, r)
			if err != nil {
				return t.failed(ctx, err)
			}
			left += len(all)
			if r == pods {
				continue
			}
			if err := t.removeThese(ctx, r, all); err != nil {
				return t.failed(ctx, err)
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return &compute.Error{Kind: compute.ErrUnreachable, Problem: workspace.Problem{
				Class: workspace.Unavailable, Code: "PodsRemain", Message: "the cluster has not ended all pods of the compute yet", Cause: "deleting their Jobs was asked for",
				Mend: "look at them: kubectl get pods -n " + t.cluster.namespace + " -l " + t.selector(),
			}}
		case <-time.After(removalLook):
		}
	}
}

func (t *Target) labelledOf(ctx context.Context, r resource) ([]meta, error) {
	var all struct {
		Items []struct {
			Meta meta `json:"metadata"`
		} `json:"items"`
	}
	err := t.cluster.get(ctx, t.cluster.path(r), url.Values{"labelSelector": {t.selector()}}, &all)
	out := make([]meta, len(all.Items))
	for i, o := range all.Items {
		out[i] = o.Meta
	}
	return out, err
}

func (t *Target) removeThese(ctx context.Context, r resource, all []meta) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, m := range all {
		if m.Deleted != nil {
			continue
		}
		g.Go(func() error {
			if err := t.cluster.remove(gctx, t.cluster.path(r, m.Name), m.UID); err != nil && !gone(err) && !conflict(err) {
				return err
			}
			if r == jobs {
				t.jobs.forget(m.Name, m.UID)
			}
			return nil
		})
	}
	return g.Wait()
}
