package kubernetes

import (
	"context"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Target is an attached namespace of a cluster.
type Target struct {
	cluster  *cluster
	settings Settings
	env      compute.Env
	jobs     *mirror[work, *work]
	pods     *mirror[pod, *pod]
	turns    kept.Turns
	room     chan struct{} // for keepers that are brought at the same time

	mu      sync.Mutex
	begun   bool
	pending map[string]*handing          // by Job: to be handed over when its pods run
	podOf   map[seat]string              // the newest pod
	seatOf  map[string]seat              // by pod
	nurses  map[string]*nurse            // by pod
	last    map[seat]keeper.Status       // what was last told
	why     map[string]workspace.Problem // why a Job has no pod, by Job
	sick    map[string]time.Time         // since when a pod's image cannot be pulled, by pod
	ears    map[*ear]bool

	explained time.Time // when events were read last; of round alone

	ctx  context.Context //nolint:containedctx // the life of the target, under which its watches run
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// brought is how many keepers are brought to pods at the same time: the rest wait for their turn, not for each other's bytes.
const brought = 8

// seat is one of a job's nodes: the uid of its Job, and the pod's number.
type seat struct {
	uid   string
	index int
}

// handing is a job that is to be handed over, and to which of its pods yet.
type handing struct {
	job  *compute.Job
	left map[int]bool
}

func newTarget(c *cluster, s Settings, env compute.Env) *Target {
	t := &Target{
		cluster: c, settings: s, env: env, room: make(chan struct{}, brought),
		pending: map[string]*handing{}, podOf: map[seat]string{}, seatOf: map[string]seat{}, nurses: map[string]*nurse{}, last: map[seat]keeper.Status{},
		why: map[string]workspace.Problem{}, sick: map[string]time.Time{}, ears: map[*ear]bool{},
	}
	t.jobs = newMirror[work](c, jobs, t.selector(), t.jobChanged, t.lost)
	t.pods = newMirror[pod](c, pods, t.selector(), t.podChanged, t.lost)
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

// open refuses work once the target was closed.
func (t *Target) open() error {
	if t.ctx.Err() == nil {
		return nil
	}
	return &compute.Error{Kind: compute.ErrUnreachable, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: "TargetClosed", Message: "the connection to the cluster was closed", Mend: "try again",
	}}
}

// begin starts to mirror the cluster, once.
func (t *Target) begin() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.open(); err != nil {
		return err
	}
	if !t.begun {
		t.begun = true
		t.wg.Go(func() { t.jobs.run(t.ctx) })
		t.wg.Go(func() { t.pods.run(t.ctx) })
		t.wg.Go(t.round)
	}
	return nil
}

// look makes sure that what is held in memory is what the cluster has.
func (t *Target) look(ctx context.Context) error {
	if err := t.begin(); err != nil {
		return err
	}
	// Jobs first: a Job without its pod yet waits, a pod without its Job would be nobody's.
	if err := t.jobs.look(ctx); err != nil {
		return t.failed(ctx, err)
	}
	return t.failed(ctx, t.pods.look(ctx))
}

// jobChanged takes in a change of a Job.
func (t *Target) jobChanged(name string, w *work) {
	t.mu.Lock()
	if w == nil || w.canceled() || w.Meta.Annotations[noteExit] != "" {
		delete(t.pending, name)
		delete(t.why, name)
	}
	t.mu.Unlock()
	t.hear(name)
}

// podChanged takes in a change of a pod: one that runs gets a nurse, and one that does not needs none.
func (t *Target) podChanged(name string, p *pod) {
	t.mu.Lock()
	if p == nil {
		at := t.seatOf[name]
		delete(t.seatOf, name)
		if t.podOf[at] == name {
			delete(t.podOf, at)
		}
		delete(t.sick, name)
	} else if p.owner() != "" {
		at := seat{p.owner(), p.index()}
		t.seatOf[name] = at
		if have := t.pods.one(t.podOf[at]); have == nil || !have.Meta.Created.After(p.Meta.Created) {
			t.podOf[at] = name
		}
		delete(t.why, p.Meta.Labels[labelOwner])
	}
	n := t.nurses[name]
	needs := p != nil && p.running() && t.ctx.Err() == nil
	switch {
	case n == nil && needs:
		n = newNurse(t, p)
		t.nurses[name] = n
		t.wg.Go(n.run)
		for _, other := range t.nurses { // which may have waited for this one
			if other.at.uid == n.at.uid && other != n {
				other.call()
			}
		}
	case n != nil && !needs:
		n.stop()
		delete(t.nurses, name)
	}
	t.mu.Unlock()
	if p != nil {
		t.examine(p)
		t.hear(p.Meta.Labels[labelOwner])
	} else if n != nil {
		t.hear(n.job)
	}
}

// lost tells those who watch that changes may be missed.
func (t *Target) lost(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := range t.ears {
		e.fail(err)
	}
}

// podAt gives a pod of a Job and who looks after it.
func (t *Target) podAt(w *work, index int) (*pod, *nurse) {
	t.mu.Lock()
	name := t.podOf[seat{w.Meta.UID, index}]
	n := t.nurses[name]
	t.mu.Unlock()
	if name == "" {
		return nil, nil
	}
	return t.pods.one(name), n
}

// all gives those who look after the pods of a Job that run.
func (t *Target) all(w *work) []*nurse {
	var out []*nurse
	for i := range w.nodes() {
		if _, n := t.podAt(w, i); n != nil {
			out = append(out, n)
		}
	}
	return out
}

// keep remembers a job that is to be handed over to its pods.
func (t *Target) keep(name string, job *compute.Job) {
	left := map[int]bool{}
	for i := range max(job.Ranks.Nodes, 1) {
		left[i] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending[name] = &handing{job, left}
}

// take gives the job that is to be handed over to a pod of a Job.
func (t *Target) take(name string, index int) *compute.Job {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.pending[name]; h != nil && h.left[index] {
		return h.job
	}
	return nil
}

// handed tells that one of a job's pods has it.
func (t *Target) handed(name string, index int) {
	t.mu.Lock()
	if h := t.pending[name]; h != nil {
		if delete(h.left, index); len(h.left) == 0 {
			delete(t.pending, name)
		}
	}
	t.mu.Unlock()
	t.hear(name)
}

// drop forgets a job that is not to be handed over any more.
func (t *Target) drop(name string) {
	t.mu.Lock()
	delete(t.pending, name)
	t.mu.Unlock()
	t.hear(name)
}

// Close drops connections. Jobs go on.
func (t *Target) Close() error {
	t.mu.Lock()
	t.stop()
	t.mu.Unlock()
	t.lost(context.Canceled)
	t.wg.Wait()
	t.cluster.close()
	return nil
}

var (
	_ compute.Target  = (*Target)(nil)
	_ compute.Watcher = (*Target)(nil)
	_ compute.Dialer  = (*Target)(nil)
	_ compute.Remover = (*Target)(nil)
)
