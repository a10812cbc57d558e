package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// pullPatience is how long an image that cannot be pulled is tried when the registry gave no verdict: the kubelet tries again
// after ten seconds.
const pullPatience = 20 * time.Second

func (t *Target) pullPatience() time.Duration {
	if s := t.settings.PullTimeout; s > 0 {
		return time.Duration(s) * time.Second
	}
	return pullPatience
}

// pendingPod says why a pod does not run yet.
func (t *Target) pendingPod(p *pod, s compute.Status) compute.Status {
	for _, c := range p.Status.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" {
			s.Reason = &workspace.Problem{
				Class: workspace.Unavailable, Code: cmp.Or(c.Reason, "Unschedulable"), Message: "no node of the cluster can take the job now", Cause: c.Message,
				Mend: "wait for room, ask for less, or correct node selector and tolerations",
			}
			return s
		}
	}
	if p.Spec.Node == "" {
		return s
	}
	s.Phase = compute.Preparing
	if w := p.container().State.Waiting; w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
		problem, _ := stuck(w.Reason, w.Message)
		s.Reason = &problem
	}
	return s
}

// stuck is what a container's waiting means, and whether waiting longer may help.
func stuck(reason, message string) (p workspace.Problem, hopeless bool) {
	p = workspace.Problem{Class: workspace.Unavailable, Code: reason, Message: "the job's container cannot start yet", Cause: message, Mend: "look at the pod: kubectl describe pod"}
	switch reason {
	case "InvalidImageName":
		p.Class, p.Message, p.Mend = workspace.Invalid, "the name of the job's image is not valid", "correct the image of the job's environment"
		return p, true
	case "ErrImageNeverPull":
		p.Message, p.Mend = "the job's image is not on the node and may not be pulled", "correct the image"
		return p, true
	case "ErrImagePull", "ImagePullBackOff":
		p.Message, p.Mend = "the job's image cannot be pulled", "correct the image's name, or give the environment a login for its registry"
		return p, verdict(message)
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		p.Message = "the job's container cannot be made"
	}
	return p, false
}

// verdict tells whether a registry answered that it will not give the image.
func verdict(message string) bool {
	text := strings.ToLower(message)
	for _, word := range []string{"not found", "manifest unknown", "unauthorized", "denied", "forbidden", "no match for platform", "name unknown", "does not exist"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// examine ends a job whose container will never start. The kubelet says so in turns, once with the registry's words and
// once with a remark that it waits.
func (t *Target) examine(p *pod) {
	w := p.container().State.Waiting
	if w == nil || p.Meta.Deleted != nil {
		t.mu.Lock()
		delete(t.sick, p.Meta.Name)
		t.mu.Unlock()
		return
	}
	problem, hopeless := stuck(w.Reason, w.Message)
	job := p.Meta.Labels[labelOwner]
	if hopeless {
		t.wg.Go(func() { t.condemn(t.ctx, job, problem) })
		return
	}
	if w.Reason == "ErrImagePull" || w.Reason == "ImagePullBackOff" {
		t.mu.Lock()
		if t.sick[p.Meta.Name].IsZero() {
			t.sick[p.Meta.Name] = t.env.Clock.Now()
		}
		t.mu.Unlock()
	}
}

// condemn records that a job failed before its command, and lets the cluster take its pod away.
func (t *Target) condemn(ctx context.Context, name string, problem workspace.Problem) {
	w := t.jobs.one(name)
	if w == nil || w.Meta.Annotations[noteExit] != "" || w.canceled() {
		return
	}
	x := compute.Exit{Outcome: compute.Failed, Code: -1, Problem: &problem, Ended: t.env.Clock.Now().UTC()}
	text, err := json.Marshal(x)
	if err != nil {
		return
	}
	var after work
	err = t.cluster.patch(ctx, t.cluster.path(jobs, name), object{
		"metadata": object{"resourceVersion": w.Meta.ResourceVersion, "annotations": object{noteExit: string(text)}}, "spec": object{"suspend": true},
	}, &after)
	if err != nil { // the next look at the pod tries again
		t.env.Log.Debug("the end of a job could not be recorded", "job", name, "error", err)
		return
	}
	t.jobs.put(&after)
}

// round looks now and then at what nobody tells of.
func (t *Target) round() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-tick.C:
		}
		t.explain()
		t.giveUp()
		t.pods.each(func(p *pod) {
			if p.Meta.Deleted != nil { // its time may have come
				t.hear(p.Meta.Labels[labelOwner])
			}
		})
		t.forgetGone()
	}
}

// giveUp ends jobs whose image could not be pulled for long.
func (t *Target) giveUp() {
	now := t.env.Clock.Now()
	var late []string
	t.mu.Lock()
	for name, since := range t.sick {
		if now.Sub(since) > t.pullPatience() {
			late = append(late, name)
			delete(t.sick, name)
		}
	}
	t.mu.Unlock()
	for _, name := range late {
		p := t.pods.one(name)
		if p == nil || p.container().State.Waiting == nil {
			continue
		}
		problem, _ := stuck("ErrImagePull", p.container().State.Waiting.Message)
		problem.Cause += fmt.Sprintf(" (tried for %s)", t.pullPatience())
		t.condemn(t.ctx, p.Meta.Labels[labelOwner], problem)
	}
}

// forgetGone drops what is remembered of Jobs that are no more.
func (t *Target) forgetGone() {
	there := map[string]bool{}
	t.jobs.each(func(w *work) { there[w.Meta.UID] = true })
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := range t.last {
		if !there[at.uid] {
			delete(t.last, at)
		}
	}
}

// youth is how long after it was made a Job without a pod is looked after every second.
const youth = 15 * time.Second

// explain finds out why Jobs have no pods, from the events of the Job controller: one call for all.
func (t *Target) explain() {
	now := t.env.Clock.Now()
	lacking, young := map[string]*work{}, false
	t.jobs.each(func(w *work) {
		if _, over := w.over(); over || w.Spec.Suspend || w.Status.Active > 0 || now.Sub(w.Meta.Created) < time.Second {
			return
		}
		if p, _ := t.podAt(w, 0); p == nil {
			lacking[w.Meta.Name] = w
			young = young || now.Sub(w.Meta.Created) < youth
		}
	})
	if len(lacking) == 0 || !young && now.Sub(t.explained) < slowLook {
		return
	}
	t.explained = now
	var all struct {
		Items []struct {
			Object struct {
				Name string `json:"name"`
				UID  string `json:"uid"`
			} `json:"involvedObject"`
			Message string    `json:"message"`
			Last    time.Time `json:"lastTimestamp"`
		} `json:"items"`
	}
	err := t.cluster.get(t.ctx, t.cluster.path(events), url.Values{"fieldSelector": {"involvedObject.kind=Job,reason=FailedCreate"}}, &all)
	if err != nil {
		t.env.Log.Debug("events could not be read", "error", err)
		return
	}
	newest := map[string]time.Time{}
	for _, e := range all.Items {
		w := lacking[e.Object.Name]
		if w == nil || w.Meta.UID != e.Object.UID || e.Last.Before(newest[w.Meta.Name]) {
			continue
		}
		newest[w.Meta.Name] = e.Last
		problem, hopeless := t.notMade(e.Message)
		if hopeless {
			t.condemn(t.ctx, w.Meta.Name, problem)
			continue
		}
		t.mu.Lock()
		was := t.why[w.Meta.Name]
		t.why[w.Meta.Name] = problem
		t.mu.Unlock()
		if was != problem {
			t.hear(w.Meta.Name)
		}
	}
}

// notMade is why the cluster makes no pod, and whether waiting longer may help.
func (t *Target) notMade(message string) (p workspace.Problem, hopeless bool) {
	p = workspace.Problem{
		Class: workspace.Unavailable, Code: "PodNotCreated", Message: "the cluster does not make the job's pod", Cause: message,
		Mend: "kubectl describe job -n " + t.cluster.namespace + " tells more",
	}
	switch {
	case strings.Contains(message, "exceeded quota"):
		p.Code, p.Message = "QuotaExceeded", "the namespace's quota is used up"
		p.Mend = "wait for other jobs there to end, ask for less, or have the quota raised: kubectl describe quota -n " + t.cluster.namespace
	case strings.Contains(message, "failed quota"): // resources that a quota demands to be named
		p.Class, p.Code, p.Message = workspace.Invalid, "QuotaDemandsResources", "the namespace's quota demands that jobs name their resources"
		p.Mend = "choose an instance type with requests and limits, or let the namespace have a LimitRange with defaults"
		return p, true
	case strings.Contains(message, "violates PodSecurity"):
		p.Class, p.Code, p.Message = workspace.Denied, "PodSecurity", "the namespace's Pod Security level forbids the job's pod"
		p.Mend = "use another namespace, or have its level lowered: kubectl get namespace " + t.cluster.namespace + " --show-labels"
		return p, true
	case strings.Contains(message, "admission webhook"), strings.Contains(message, "ValidatingAdmissionPolicy"):
		p.Class, p.Code, p.Message, p.Mend = workspace.Denied, "AdmissionDenied", "a policy of the cluster forbids the job's pod", "ask whoever keeps the policy, or change what the job asks for"
		return p, true
	case strings.Contains(message, "usage per Container is"), strings.Contains(message, "usage per Pod is"):
		p.Class, p.Code, p.Message, p.Mend = workspace.Invalid, "LimitRange", "the namespace's limits forbid what the job asks for", "ask for less: kubectl describe limitrange -n "+t.cluster.namespace
		return p, true
	case strings.Contains(message, "no PriorityClass"):
		p.Class, p.Code, p.Message, p.Mend = workspace.Invalid, "NoPriorityClass", "the cluster has no such priority class", "correct the priority class: kubectl get priorityclasses"
		return p, true
	}
	return p, false
}
