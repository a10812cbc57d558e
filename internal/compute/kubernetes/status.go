package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// firstWord is how long Status waits for the agents of pods that it has not heard of yet, after a restart of the server.
const firstWord = 3 * time.Second

// Status answers from memory, after one call by which the cluster shows that it is there and still takes the credentials: a
// watch goes on when they end. A job that is not in memory is Missing only when the cluster, asked now, has none: one more
// call for all of them.
func (t *Target) Status(ctx context.Context, handles []compute.Handle) ([]compute.Status, error) {
	if err := t.open(); err != nil {
		return nil, err
	}
	err := t.cluster.get(ctx, t.cluster.path(configMaps, t.markName()), nil, nil)
	if err != nil && !gone(err) {
		return nil, t.failed(ctx, err)
	}
	return t.answer(ctx, handles)
}

func (t *Target) answer(ctx context.Context, handles []compute.Handle) ([]compute.Status, error) {
	if err := t.look(ctx); err != nil {
		return nil, err
	}
	for _, h := range handles {
		if t.jobs.one(t.name(h.Key)) == nil {
			if _, err := t.jobs.list(ctx); err != nil {
				return nil, t.failed(ctx, err)
			}
			break
		}
	}
	t.freshen(ctx, handles)
	out := make([]compute.Status, len(handles))
	for i, h := range handles {
		out[i] = compute.Status{Key: h.Key, Phase: compute.Missing}
		if w := t.jobs.one(t.name(h.Key)); w != nil {
			out[i] = t.state(w, h.Key)
		}
	}
	return out, nil
}

// atOnce is how many agents are asked at the same time.
const atOnce = 16

// freshen asks the agents of jobs that are on their way to running, which is told a moment late, and waits for those of pods
// that were not reached yet and may have anything to tell. It costs no call of the API server.
func (t *Target) freshen(ctx context.Context, handles []compute.Handle) {
	ctx, cancel := context.WithTimeout(ctx, firstWord)
	defer cancel()
	var wg sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for _, h := range handles {
		w := t.jobs.one(t.name(h.Key))
		if w == nil {
			continue
		}
		for _, n := range t.all(w) {
			if t.take(w.Meta.Name, n.at.index) != nil {
				continue
			}
			room <- struct{}{}
			wg.Go(func() {
				defer func() { <-room }()
				n.freshen(ctx)
			})
		}
	}
	wg.Wait()
}

func (n *nurse) freshen(ctx context.Context) {
	select {
	case <-n.tried:
	case <-ctx.Done():
	case <-n.ctx.Done():
	}
	n.mu.Lock()
	c, phase := n.client, n.status.Phase
	n.mu.Unlock()
	if c == nil || phase == keeper.Running || phase == keeper.Ended {
		return
	}
	if s, err := c.Status(ctx, []string{n.key.String()}); err == nil {
		n.told(s[0])
	}
}

// state is how the job of a Job is, by what is held in memory.
func (t *Target) state(w *work, key compute.Key) compute.Status {
	s := compute.Status{Key: key, Phase: compute.Waiting}
	if text := w.Meta.Annotations[noteExit]; text != "" {
		x := &compute.Exit{}
		if err := json.Unmarshal([]byte(text), x); err == nil {
			s.Phase, s.Exit = compute.Ended, x
			return s
		}
	}
	if w.nodes() == 1 {
		return t.node(w, 0, key)
	}
	parts := make([]compute.Status, w.nodes())
	for i := range parts {
		parts[i] = t.node(w, i, key)
		if _, n := t.podAt(w, i); n != nil && parts[i].Phase == compute.Missing {
			return parts[i] // it waits for the job, whatever the others do
		}
	}
	return joined(parts)
}

// node is how the job is on one of its nodes.
func (t *Target) node(w *work, index int, key compute.Key) compute.Status {
	s := compute.Status{Key: key, Phase: compute.Waiting}
	p, n := t.podAt(w, index)
	if s, ok := t.told(w, index, p, n, key); ok {
		return s
	}
	mine := t.take(w.Meta.Name, index) != nil
	switch {
	case w.canceled() && (p == nil || p.over() || t.givenUp(p, n)):
		s.Phase, s.Exit = compute.Ended, &compute.Exit{Outcome: compute.Canceled, Code: -1, Ended: canceledAt(w)}
		return s
	case p == nil:
		return t.podless(w, index, s)
	case p.over() || t.givenUp(p, n):
		return t.without(w, index, p, s)
	case !p.running():
		return t.pendingPod(p, s)
	}
	n.orNone().read(func(err error, known bool) {
		s.Phase = compute.Preparing
		switch {
		case mine || w.canceled():
			if err != nil {
				s.Reason = &workspace.Problem{
					Class: workspace.Unavailable, Code: "PodUnreachable", Message: "the job cannot be brought into its pod yet", Cause: err.Error(), Mend: "it is tried again; look whether kubectl exec works there",
				}
			}
		case known: // nobody here has the job, and the pod has not got it
			s.Phase, s.Reason = compute.Missing, notStarted("the pod "+p.Meta.Name+" waits for the job, and the server that had it is gone")
		case err != nil:
			s.Reason = &workspace.Problem{
				Class: workspace.Unavailable, Code: "PodUnreachable", Message: "the job's pod runs and cannot be asked how the job is", Cause: err.Error(), Mend: "it is tried again; look whether kubectl exec works there",
			}
		}
	})
	return s
}

// told is what the keeper in the pod said last: to an agent, or in the container's termination message.
func (t *Target) told(w *work, index int, p *pod, n *nurse, key compute.Key) (compute.Status, bool) {
	t.mu.Lock()
	k, ok := t.last[seat{w.Meta.UID, index}]
	t.mu.Unlock()
	if p != nil && (!ok || k.Phase != keeper.Ended) {
		if end := p.container().State.Terminated; end != nil {
			if m, said := keeper.PodStatus(end.Message); said {
				k, ok = m, m.Phase != keeper.Missing
			}
		}
	}
	if !ok || k.Phase != keeper.Ended && (p == nil || !p.running() || t.givenUp(p, n)) {
		return compute.Status{}, false
	}
	s := kept.Status(key, k)
	if x := s.Exit; x != nil {
		t.amend(w, p, x)
	} else if n != nil && s.Phase == compute.Waiting {
		s.Phase = compute.Preparing // its slot is the pod
		s.Reason = nil
	}
	return s, true
}

// leave is how long after the time that the cluster gave it a pod may take to end.
const leave = 10 * time.Second

// givenUp tells that the cluster has given a pod up: its node should have ended it and does not answer.
func (t *Target) givenUp(p *pod, n *nurse) bool {
	if p.Meta.Deleted == nil || t.env.Clock.Now().Before(p.Meta.Deleted.Add(leave)) {
		return false
	}
	if n == nil {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.client == nil
}

// amend says what the keeper could not know: that the cluster ended the pod, and why.
func (t *Target) amend(w *work, p *pod, x *compute.Exit) {
	if x.Ended.IsZero() {
		x.Ended = canceledAt(w)
	}
	if w.canceled() {
		x.Outcome = compute.Canceled
		return
	}
	if x.Outcome != compute.Failed || x.Problem == nil || x.Problem.Code != "SupervisorEnded" {
		return
	}
	problem := *x.Problem
	problem.Code, problem.Message = "PodEnded", "the cluster ended the job's pod while the command ran"
	problem.Cause, problem.Mend = endedBecause(p), "submit the job again, and let it save its work as it goes"
	x.Outcome, x.Problem = compute.Lost, &problem
}

func canceledAt(w *work) time.Time {
	if c, ok := find(w.Status.Conditions, "Suspended"); ok {
		return c.Changed.UTC()
	}
	return w.Meta.Created.UTC()
}

func notStarted(cause string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Unavailable, Code: compute.NotStarted, Message: "the job was accepted and its command never started", Cause: cause, Mend: "it is submitted again",
	}
}

// without is the end of a pod that left no record. The first thing that the keeper does is to speak in the termination message,
// and without that it does nothing: a container that ended in silence never had the job.
func (t *Target) without(w *work, index int, p *pod, s compute.Status) compute.Status {
	t.mu.Lock()
	said, spoke := t.last[seat{w.Meta.UID, index}]
	t.mu.Unlock()
	state := p.container().State
	end := &ended{Code: -1, Finished: p.Meta.Created}
	switch c, disrupted := find(p.Status.Conditions, "DisruptionTarget"); {
	case state.Terminated != nil:
		end = state.Terminated
		if m, ok := keeper.PodStatus(end.Message); ok && !spoke {
			said, spoke = m, true
		}
	case disrupted:
		end.Finished = c.Changed
	case p.Meta.Deleted != nil:
		end.Finished = *p.Meta.Deleted
	}
	x := &compute.Exit{Outcome: compute.Lost, Code: -1, Ended: end.Finished.UTC()}
	switch {
	case end.Reason == "OOMKilled":
		x.Outcome, x.Code, x.Signal, x.Problem = compute.Failed, 137, "KILL", outOfMemory()
	case neverBegan(said, spoke, state.Running != nil, end.Code):
		s.Phase, s.Reason = compute.Missing, notStarted(endedBecause(p))
		return s
	case !spoke && state.Terminated != nil:
		x.Outcome, x.Problem = compute.Failed, &workspace.Problem{
			Class: workspace.Invalid, Code: "ContainerFailed", Message: "the job's container ended before the job was in it", Cause: endedBecause(p),
			Mend: "look whether the image has /bin/sh and the usual programs, and whether it is for the node's architecture",
		}
	default:
		x.Problem = &workspace.Problem{
			Class: workspace.Unavailable, Code: "PodEnded", Message: "the job's pod ended and left no record, so how the command ended is not known", Cause: endedBecause(p),
			Mend: "submit the job again, and let it save its work as it goes",
		}
	}
	s.Phase, s.Exit, s.Started = compute.Ended, x, said.Started
	return s
}

// asked is the exit code of a container that was told to end and had no job: of the script, and of the keeper.
const asked = 143

// neverBegan tells that the command of a pod that is over has certainly not run: the container never ran, or was ended from
// outside before it was given the job.
func neverBegan(said keeper.Status, spoke, seenRunning bool, code int) bool {
	switch {
	case said.Phase == keeper.Running || said.Phase == keeper.Ended:
		return false
	case code < 0: // it has not ended, as far as its node has told
		return !spoke && !seenRunning
	case spoke:
		return code == asked
	}
	return code == notGiven || code >= 128
}

func outOfMemory() *workspace.Problem {
	return &workspace.Problem{
		Code: "OutOfMemory", Message: "the job ran out of memory", Cause: "the kernel ended it at the container's limit (exit code 137)",
		Mend: "raise the job's memory limit, or let it use less",
	}
}

// endedBecause is what the cluster says of a pod's end.
func endedBecause(p *pod) string {
	if p == nil {
		return "the pod was deleted"
	}
	var parts []string
	add := func(what, text string) {
		if text = strings.TrimSpace(text); text != "" {
			parts = append(parts, what+text)
		}
	}
	if c, ok := find(p.Status.Conditions, "DisruptionTarget"); ok {
		add("", c.Reason+": "+c.Message)
	}
	add("", strings.Trim(p.Status.Reason+": "+p.Status.Message, ": "))
	if e := p.container().State.Terminated; e != nil {
		word := fmt.Sprintf("the container ended with exit code %d", e.Code)
		if e.Reason != "" && e.Reason != "Error" && e.Reason != "Completed" {
			word += " (" + e.Reason + ")"
		}
		add("", word)
		if _, ours := keeper.PodStatus(e.Message); !ours {
			add("", e.Message)
		}
	}
	if p.Meta.Deleted != nil && len(parts) == 0 {
		add("", "the pod was deleted")
	}
	if p.Meta.Deleted != nil && p.running() {
		add("", "its node "+p.Spec.Node+" does not answer")
	}
	return cmp.Or(strings.Join(parts, "; "), "the cluster does not say why")
}

// podless is a Job without a pod: it waits for one, or has had one.
func (t *Target) podless(w *work, index int, s compute.Status) compute.Status {
	t.mu.Lock()
	why, waits := t.why[w.Meta.Name]
	last, had := t.last[seat{w.Meta.UID, index}]
	pending := t.pending[w.Meta.Name] != nil
	t.mu.Unlock()
	over, done := w.over()
	switch {
	case done && had && last.Phase == keeper.Running, done && !pending:
		s.Phase, s.Started = compute.Ended, last.Started
		s.Exit = &compute.Exit{Outcome: compute.Lost, Code: -1, Ended: over.Changed.UTC(), Problem: &workspace.Problem{
			Class: workspace.Unavailable, Code: "PodGone", Message: "the job's pod is gone, so how the command ended is not known",
			Cause: strings.Trim("somebody or something deleted it; the Job says "+over.Reason+": "+over.Message, ": "), Mend: "look for who deletes pods there (a drain of the node, a quota, a person), then submit the job again",
		}}
	case done:
		s.Phase, s.Reason = compute.Missing, notStarted("its pod was deleted before it ran")
	case waits:
		s.Reason = &why
	case w.Spec.Suspend:
		s.Reason = &workspace.Problem{
			Class: workspace.Unavailable, Code: "Suspended", Message: "the cluster's queueing system holds the job back", Cause: "the Job is suspended" + queued(w),
			Mend: "wait for its turn: kubectl get workloads",
		}
	}
	return s
}

func queued(w *work) string {
	if q := w.Meta.Labels[labelQueue]; q != "" {
		return " in queue " + q
	}
	return ""
}

// read looks at what is known of the pod; of none, nothing is.
func (n *nurse) read(fn func(err error, known bool)) {
	n.mu.Lock()
	err, known := n.err, n.known
	n.mu.Unlock()
	fn(err, known)
}

func (n *nurse) orNone() *nurse {
	if n == nil {
		return &nurse{}
	}
	return n
}
