package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// tries is how often a change is begun anew because another one came in between, with a pause before each.
const tries = 100

// Submit makes the job's Job. Its name is the lock. The job itself is handed over when its pod runs, by whoever was given it
// last; two who hand it over start it once.
func (t *Target) Submit(ctx context.Context, job compute.Job) (compute.Ref, error) {
	if err := t.check(ctx, job); err != nil {
		return "", err
	}
	name := t.name(job.Key)
	done, err := t.turns.Take(ctx, name)
	if err != nil {
		return "", err
	}
	defer done()
	if err := t.look(ctx); err != nil {
		return "", err
	}
	for again := range tries {
		if err := kept.Pause(ctx, again); err != nil {
			return "", err
		}
		if err := t.fence(ctx, job.Epoch); err != nil {
			return "", err
		}
		settled, err := t.make(ctx, name, job)
		if err != nil || settled {
			return "", err
		}
	}
	return "", t.busy(job.Key)
}

// make creates the Job, or takes on one that is there. It is false when one was in the way and is removed.
func (t *Target) make(ctx context.Context, name string, job compute.Job) (bool, error) {
	t.keep(name, &job)
	settled, err := t.makeOrFind(ctx, name, job)
	if err != nil {
		t.drop(name)
	}
	return settled, err
}

func (t *Target) makeOrFind(ctx context.Context, name string, job compute.Job) (bool, error) {
	if login(job) != nil {
		if err := t.putLogin(ctx, job); err != nil {
			return false, err
		}
	}
	w := &work{}
	err := t.cluster.create(ctx, t.cluster.path(jobs), t.manifest(job), w)
	if err == nil {
		t.jobs.put(w)
		return true, t.complete(ctx, w)
	}
	if !conflict(err) {
		return false, t.failed(ctx, err)
	}
	w = &work{}
	err = t.cluster.get(ctx, t.cluster.path(jobs, name), nil, w)
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, t.failed(ctx, err)
	}
	t.jobs.put(w)
	if w.canceled() || w.Meta.Annotations[noteExit] != "" {
		t.drop(name)
		return true, nil
	}
	s := t.state(w, job.Key)
	switch {
	case s.Phase == compute.Ended || s.Phase == compute.Running:
		t.drop(name)
		return true, nil
	case s.Phase == compute.Missing && len(t.all(w)) == 0: // it is over and the command never ran
		return false, t.discard(ctx, w)
	}
	for _, n := range t.all(w) { // which may wait for the job
		n.call()
	}
	return true, t.complete(ctx, w)
}

// complete makes what goes with a Job: the Service of one on several nodes, and the bond between it and the Secret by which its
// image is pulled, so that the cluster takes that away with it.
func (t *Target) complete(ctx context.Context, w *work) error {
	if w.Meta.Annotations[noteLogin] != "" {
		err := t.cluster.patch(ctx, t.cluster.path(secrets, w.Meta.Name), object{"metadata": object{"ownerReferences": owned(w)}}, nil)
		if err != nil {
			return t.failed(ctx, err)
		}
	}
	if w.nodes() == 1 {
		return nil
	}
	err := t.cluster.create(ctx, t.cluster.path(services), t.service(w), nil)
	if conflict(err) {
		return nil
	}
	return t.failed(ctx, err)
}

// call tells a nurse that there is a job to hand over.
func (n *nurse) call() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// discard deletes a Job, and in the background its pods.
func (t *Target) discard(ctx context.Context, w *work) error {
	err := t.cluster.remove(ctx, t.cluster.path(jobs, w.Meta.Name), w.Meta.UID)
	if err != nil && !gone(err) && !conflict(err) { // another has made it anew
		return t.failed(ctx, err)
	}
	t.jobs.forget(w.Meta.Name, w.Meta.UID)
	return nil
}

// putLogin makes the Secret by which the job's image is pulled, ahead of the Job: a kubelet that does not find it pulls without.
func (t *Target) putLogin(ctx context.Context, job compute.Job) error {
	in, err := t.pullSecret(job)
	if err != nil {
		return err
	}
	err = t.cluster.create(ctx, t.cluster.path(secrets), in, nil)
	if conflict(err) {
		err = t.cluster.patch(ctx, t.cluster.path(secrets, t.name(job.Key)), in, nil)
	}
	return t.failed(ctx, err)
}

// check refuses what can never run.
func (t *Target) check(ctx context.Context, job compute.Job) error {
	if t.image(job) == "" {
		return &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{
			Class: workspace.Invalid, Code: "NoImage", Message: "the job names no image, and neither does its compute",
			Cause: "a pod runs in an image", Mend: "give the job an environment with an image, or the compute a default one, e.g. --set image=python:3.12",
		}}
	}
	l := layout(job.Key)
	l.Job = kept.Job(job)
	if _, err := l.Spec(); err != nil {
		return kept.Failed(ctx, err)
	}
	roots := []snapshot.Hash{job.Code}
	for _, in := range job.Inputs {
		roots = append(roots, in.Tree)
	}
	seen := map[snapshot.Hash]bool{"": true}
	for _, root := range roots {
		if err := t.whole(ctx, root, seen, 0); err != nil {
			return err
		}
	}
	return nil
}

// mostDepth is how deep folders may be nested, as for the keeper.
const mostDepth = 200

// whole looks whether the folders of a snapshot can be read: the pod asks for them only minutes later.
func (t *Target) whole(ctx context.Context, h snapshot.Hash, seen map[snapshot.Hash]bool, depth int) error {
	if seen[h] {
		return nil
	}
	seen[h] = true
	if !h.Valid() || depth > mostDepth {
		return incomplete(h, errors.New("it is not a hash, or folders are nested too deep"))
	}
	r, _, err := t.env.Objects.Open(ctx, h)
	if err != nil {
		return incomplete(h, err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		return incomplete(h, err)
	}
	tree, err := snapshot.Decode(b)
	if err != nil {
		return incomplete(h, err)
	}
	for _, e := range tree {
		if e.Kind == snapshot.Folder {
			if err := t.whole(ctx, e.Hash, seen, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func incomplete(h snapshot.Hash, err error) error {
	kind := compute.ErrUnreachable
	if errors.Is(err, fs.ErrNotExist) {
		kind = compute.ErrInvalid
	}
	return &compute.Error{Kind: kind, Err: err, Problem: workspace.Problem{
		Class: workspace.Invalid, Code: "SnapshotIncomplete", Message: "the job's files cannot be read at the server",
		Cause: fmt.Sprintf("object %.12s: %v", h, err), Mend: "submit the job again, so that its folder is sent anew",
	}}
}

func (t *Target) busy(key compute.Key) error {
	return &compute.Error{Kind: compute.ErrUnreachable, Problem: workspace.Problem{
		Class: workspace.Conflict, Code: "JobContended", Message: "others change the job at the cluster at the same time", Target: key.String(), Mend: "try again",
	}}
}
