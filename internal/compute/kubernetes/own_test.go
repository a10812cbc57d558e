package kubernetes

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

// rig is a cluster, a namespace of its own there, and an attachment of it.
type rig struct {
	*testing.T
	k         *engine.Kubernetes
	namespace string
	env       compute.Env
	settings  Settings
}

func newRig(t *testing.T, k *engine.Kubernetes) *rig {
	t.Helper()
	if _, err := keeperProgram(); err != nil {
		t.Fatal(err)
	}
	source := clock.System()
	r := &rig{T: t, k: k, namespace: k.Namespace(t)}
	r.env = compute.Env{
		Server: source.NewID(), Compute: source.NewID(), Clock: source, Objects: &computetest.Objects{}, Keeper: keeperFor,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	r.settings = Settings{Kubeconfig: through(t, k.Kubeconfig, ""), Namespace: r.namespace, Image: k.Image}
	return r
}

func (r *rig) open() *Target {
	r.Helper()
	target, err := Driver{}.Open(r.Context(), settings(r.T, r.settings), r.env)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = target.Close() })
	return target.(*Target)
}

func (r *rig) job(command string) compute.Job {
	return compute.Job{
		Key:   compute.Key{Server: r.env.Server, Compute: r.env.Compute, Job: r.env.Clock.NewID(), Attempt: 1},
		Epoch: 1, Name: "own", Command: command, Grace: time.Second,
	}
}

func (r *rig) submit(t *Target, job compute.Job) compute.Handle {
	r.Helper()
	if _, err := t.Submit(r.Context(), job); err != nil {
		r.Fatalf("submit: %v", err)
	}
	return compute.Handle{Key: job.Key}
}

func (r *rig) status(t *Target, h compute.Handle) compute.Status {
	r.Helper()
	all, err := t.Status(r.Context(), []compute.Handle{h})
	if err != nil {
		r.Fatalf("status: %v", err)
	}
	return all[0]
}

// until waits for a status that fits, and tells the last one when none comes.
func (r *rig) until(t *Target, h compute.Handle, what string, fits func(compute.Status) bool) compute.Status {
	r.Helper()
	var s compute.Status
	defer func() {
		if r.Failed() {
			r.Logf("the job is %s, reason %v, exit %+v\n%s", s.Phase, s.Reason, s.Exit, r.k.Kubectl(r.T, "-n", r.namespace, "get", "events,pods,jobs"))
		}
	}()
	engine.Eventually(r.T, time.Minute, what, func() bool {
		s = r.status(t, h)
		return fits(s)
	})
	return s
}

func (r *rig) end(t *Target, h compute.Handle) compute.Exit {
	r.Helper()
	return *r.until(t, h, "the end", func(s compute.Status) bool { return s.Phase == compute.Ended }).Exit
}

func (r *rig) running(t *Target, h compute.Handle) {
	r.Helper()
	r.until(t, h, "running", func(s compute.Status) bool { return s.Phase == compute.Running })
}

// because waits for a reason with a text in its cause, within seconds of the cluster's own.
func (r *rig) because(t *Target, h compute.Handle, phase compute.Phase, text string) {
	r.Helper()
	s := r.until(t, h, "a reason with "+text, func(s compute.Status) bool { return s.Reason != nil && strings.Contains(s.Reason.Cause, text) })
	if s.Phase != phase || s.Reason.Code == "" || s.Reason.Message == "" || s.Reason.Mend == "" {
		r.Errorf("the job is %s because of %+v", s.Phase, s.Reason)
	}
}

func (r *rig) log(t *Target, h compute.Handle) string {
	r.Helper()
	var b bytes.Buffer
	if _, err := t.Logs(r.Context(), h, compute.LogQuery{}, &b); err != nil {
		r.Fatalf("log: %v", err)
	}
	return b.String()
}

// left lists the objects of the namespace that carry our labels.
func (r *rig) left() string {
	r.Helper()
	return r.k.Kubectl(r.T, "-n", r.namespace, "get", "jobs,pods,services,configmaps,secrets", "-l", labelServer, "-o", "name")
}

// pod is the name of the only pod that there is.
func (r *rig) pod() string {
	r.Helper()
	return r.k.Kubectl(r.T, "-n", r.namespace, "get", "pods", "-l", labelServer, "-o", "name")
}

func TestNothingIsLeftInTheCluster(t *testing.T) {
	r := newRig(t, engine.StartKubernetes(t))
	target := r.open()
	over := r.submit(target, r.job("exit 0"))
	r.end(target, over)
	if err := target.Release(t.Context(), over, 1); err != nil {
		t.Fatal(err)
	}
	engine.Eventually(t, 30*time.Second, "only the epoch is left", func() bool { return strings.HasPrefix(r.left(), "configmap/") && !strings.Contains(r.left(), "\n") })
	together := r.job("sleep 60")
	together.Ranks = compute.Ranks{Nodes: 2, PerNode: 1, Framework: compute.PyTorch}
	r.running(target, r.submit(target, together))
	if err := target.Cancel(t.Context(), compute.Handle{Key: r.job("").Key}, 1); err != nil {
		t.Fatal(err)
	}
	other := newRig(t, r.k)
	other.namespace, other.settings.Namespace = r.namespace, r.namespace
	second := other.open()
	theirs := other.submit(second, other.job("sleep 60"))
	other.running(second, theirs)
	for range 2 {
		if err := target.RemoveAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := r.k.Kubectl(t, "-n", r.namespace, "get", "jobs,pods,services,configmaps,secrets", "-l", target.selector(), "-o", "name"); left != "" {
			t.Errorf("left are %s", left)
		}
	}
	if s := other.status(second, theirs); s.Phase != compute.Running {
		t.Errorf("another server's job is %s", s.Phase)
	}
	if err := second.RemoveAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := r.left(); left != "" {
		t.Errorf("left are %s", left)
	}
}

func TestSecretsAreInNoObjectOfTheCluster(t *testing.T) {
	r := newRig(t, engine.StartKubernetes(t))
	target := r.open()
	secret := "geheim" + r.env.Clock.NewID()
	job := r.job(`echo "${#TOKEN}"; sleep 60`)
	job.Secrets = map[string]workspace.Secret{"TOKEN": workspace.NewSecret(secret)}
	h := r.submit(target, job)
	r.running(target, h)
	engine.Eventually(t, 10*time.Second, "the command has it", func() bool { return r.log(target, h) == fmt.Sprintln(len(secret)) })
	if all := r.k.Kubectl(t, "-n", r.namespace, "get", "jobs,pods,services,configmaps,secrets,events", "-o", "yaml"); strings.Contains(all, secret) {
		t.Error("the secret is in an object of the cluster")
	}
	if log := r.k.Kubectl(t, "-n", r.namespace, "logs", r.pod()); strings.Contains(log, secret) {
		t.Errorf("the secret is in the container's log: %s", log)
	}
}

func TestAPodThatWaitsForItsJobGetsItAfterARestartOfTheServer(t *testing.T) {
	r := newRig(t, engine.StartKubernetes(t))
	first := r.open()
	job := r.job("echo ran")
	h := r.submit(first, job)
	_ = first.Close() // before the pod runs
	engine.Eventually(t, time.Minute, "the pod runs", func() bool { return strings.Contains(r.k.Kubectl(t, "-n", r.namespace, "get", "pods"), "Running") })
	second := r.open()
	s := r.until(second, h, "not started", func(s compute.Status) bool { return s.Phase == compute.Missing })
	if s.Reason == nil || s.Reason.Code != compute.NotStarted {
		t.Fatalf("reason: %+v", s.Reason)
	}
	r.submit(second, job)
	if x := r.end(second, h); x.Outcome != compute.Succeeded {
		t.Fatalf("exit: %+v", x)
	}
	if got := r.log(second, h); got != "ran\n" {
		t.Errorf("log: %q", got)
	}
}

func TestAPodThatWaitedInVainMakesRoomForAnother(t *testing.T) {
	r := newRig(t, engine.StartKubernetes(t))
	first := r.open()
	job := r.job("echo ran")
	h := r.submit(first, job)
	_ = first.Close()
	engine.Eventually(t, time.Minute, "the pod is there", func() bool { return r.pod() != "" })
	r.k.Kubectl(t, "-n", r.namespace, "delete", r.pod(), "--grace-period=1")
	second := r.open()
	engine.Eventually(t, time.Minute, "the Job has failed", func() bool { return strings.Contains(r.k.Kubectl(t, "-n", r.namespace, "get", "jobs"), "Failed") })
	// Whether it ran is not known to a server that has just started.
	if s := r.status(second, h); s.Phase != compute.Ended || s.Exit.Outcome != compute.Lost {
		t.Errorf("the job is %s, %+v", s.Phase, s.Exit)
	}
	again := r.job("echo ran")
	g := r.submit(second, again)
	r.until(second, g, "not waiting", func(s compute.Status) bool {
		return s.Phase == compute.Preparing || s.Phase == compute.Running || s.Phase == compute.Ended
	})
	if x := r.end(second, g); x.Outcome != compute.Succeeded {
		t.Errorf("exit: %+v", x)
	}
}

func TestAPodDeletedBehindOurBackIsALostJob(t *testing.T) {
	r := newRig(t, engine.StartKubernetes(t))
	target := r.open()
	h := r.submit(target, r.job("echo begun; sleep 600"))
	r.running(target, h)
	r.k.Kubectl(t, "-n", r.namespace, "delete", r.pod(), "--wait=false")
	x := r.end(target, h)
	if x.Outcome != compute.Lost || x.Problem == nil || !strings.Contains(x.Problem.Cause, "deleted") {
		t.Errorf("exit: %+v, %v", x, x.Problem)
	}
	_, err := target.Submit(t.Context(), r.job("exit 0"))
	if err != nil {
		t.Error(err)
	}
	if err := target.Release(t.Context(), h, 1); err != nil {
		t.Error(err)
	}
}

func TestWhatTheSchedulerSaysIsTheReason(t *testing.T) {
	r := newRig(t, engine.StartKubernetes(t))
	target := r.open()
	job := r.job("exit 0")
	job.Resources.Selector = map[string]string{"no-such-label": "yes"}
	h := r.submit(target, job)
	r.because(target, h, compute.Waiting, "node(s) didn't match Pod's node affinity/selector")
	big := r.job("exit 0")
	big.GPUs = 3
	g := r.submit(target, big)
	r.because(target, g, compute.Waiting, "Insufficient nvidia.com/gpu")
	for _, h := range []compute.Handle{h, g} {
		if err := target.Cancel(t.Context(), h, 1); err != nil {
			t.Fatal(err)
		}
		if x := r.end(target, h); x.Outcome != compute.Canceled {
			t.Errorf("exit: %+v", x)
		}
	}
	engine.Eventually(t, 30*time.Second, "no pod is left", func() bool { return r.pod() == "" })
}

// counting counts the calls of an API.
type counting struct {
	next  http.RoundTripper
	calls atomic.Int64
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.calls.Add(1)
	return c.next.RoundTrip(r)
}

func (c *counting) WrappedRoundTripper() http.RoundTripper { return c.next }

func TestAJobTakesFewCallsOfTheAPIServer(t *testing.T) {
	r := newRig(t, engine.StartKubernetes(t))
	target := r.open()
	c := &counting{next: target.cluster.http.Transport}
	target.cluster.http = &http.Client{Transport: c}
	target.jobs.cluster, target.pods.cluster = target.cluster, target.cluster
	r.end(target, r.submit(target, r.job("exit 0"))) // lists and watches have begun
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan compute.Key, 100)
	go func() { // ends with ctx
		_ = target.Watch(ctx, func(s compute.Status) {
			if s.Phase == compute.Ended {
				ended <- s.Key
			}
		})
	}()
	const many = 8
	c.calls.Store(0)
	var handles []compute.Handle
	for range many {
		handles = append(handles, r.submit(target, r.job("echo done")))
	}
	for range many {
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatal("not all have ended")
		}
	}
	for _, h := range handles {
		if got := r.log(target, h); got != "done\n" {
			t.Errorf("log: %q", got)
		}
		if err := target.Collect(t.Context(), h, &computetest.Home{}); err != nil {
			t.Error(err)
		}
		if err := target.Release(t.Context(), h, 1); err != nil {
			t.Error(err)
		}
	}
	const execs = 1 // one brings the keeper and becomes the agent
	each := float64(c.calls.Load())/many + execs
	t.Logf("%.1f calls a job", each)
	if each > 6 {
		t.Errorf("a job takes %.1f calls", each)
	}
}
