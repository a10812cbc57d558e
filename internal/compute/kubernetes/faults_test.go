package kubernetes

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestAJobEndsWhileTheAPIServerIsGone(t *testing.T) {
	k := engine.StartKubernetes(t)
	r := newRig(t, k)
	target := r.open()
	h := r.submit(target, r.job("echo begun; sleep 3; echo over; echo o >outputs/o; exit 4"))
	r.running(target, h)
	k.Stop(t, "kube-apiserver")
	_, err := target.Status(t.Context(), []compute.Handle{h})
	isKind(t, err, compute.ErrUnreachable, "API server")
	k.Start(t)
	engine.Eventually(t, time.Minute, "an answer", func() bool {
		_, err := target.Status(t.Context(), []compute.Handle{h})
		return err == nil
	})
	if x := r.end(target, h); x.Code != 4 || !x.Files {
		t.Errorf("exit: %+v, %v", x, x.Problem)
	}
	if got := r.log(target, h); got != "begun\nover\n" {
		t.Errorf("log: %q", got)
	}
	home := &computetest.Home{}
	if err := target.Collect(t.Context(), h, home); err != nil {
		t.Fatal(err)
	}
	if got, _ := home.Text(compute.OutputsFolder, "o"); got != "o\n" {
		t.Errorf("came home: %q", home.Names())
	}
}

func TestAJobOfANodeThatLostPowerIsLost(t *testing.T) {
	k := engine.StartKubernetes(t)
	r := newRig(t, k)
	target := r.open()
	h := r.submit(target, r.job("sleep 600"))
	r.running(target, h)
	k.Stop(t)
	k.Start(t)
	engine.Eventually(t, time.Minute, "an answer", func() bool {
		_, err := target.Status(t.Context(), []compute.Handle{h})
		return err == nil
	})
	x := r.end(target, h)
	if x.Outcome != compute.Lost || x.Problem == nil || x.Problem.Cause == "" {
		t.Errorf("exit: %+v, %v", x, x.Problem)
	}
	again := r.submit(target, r.job("exit 0"))
	if x := r.end(target, again); x.Outcome != compute.Succeeded {
		t.Errorf("the next job: %+v, %v", x, x.Problem)
	}
}

func TestAJobOfANodeThatIsGoneIsLostWithTheClustersReason(t *testing.T) {
	k := engine.StartOwnKubernetes(t, engine.KubernetesOptions{NodeGrace: 8 * time.Second})
	node := k.Kubectl(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	k.Fakes(t, 2) // of a cluster all of whose nodes are silent nothing is evicted
	r := newRig(t, k)
	r.settings.NodeSelector = map[string]string{"kubernetes.io/hostname": node}
	target := r.open()
	h := r.submit(target, r.job("sleep 600"))
	r.running(target, h)
	k.Stop(t, "kubelet")
	x := r.end(target, h)
	if x.Outcome != compute.Lost || x.Problem == nil || !strings.Contains(x.Problem.Cause, "node") {
		t.Errorf("exit: %+v, %v", x, x.Problem)
	}
	if err := target.Cancel(t.Context(), h, 1); err != nil {
		t.Errorf("cancel: %v", err)
	}
	k.Start(t)
	engine.Eventually(t, time.Minute, "the pod ends", func() bool { return r.pod() == "" })
	if x := r.end(target, h); x.Outcome != compute.Lost {
		t.Errorf("after the node came back: %+v, %v", x, x.Problem)
	}
}

func TestAPreemptedPodThatHadNoJobIsSubmittedAgain(t *testing.T) {
	k := engine.StartKubernetes(t)
	r := newRig(t, k)
	const resource = "preempt.test/seat"
	node := k.Kubectl(t, "get", "nodes", "-o", "name")
	k.Kubectl(t, "patch", node, "--subresource=status", "--type=merge", "-p", `{"status":{"capacity":{"`+resource+`":"1"}}}`)
	k.Apply(t, "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: urgent}\nvalue: 1000\n")
	t.Cleanup(func() { k.Kubectl(t, "delete", "priorityclass", "urgent") })
	r.settings.GPUResource = resource
	target := r.open()
	low := r.job("echo begun; sleep 600")
	low.GPUs = 1
	h := r.submit(target, low)
	r.running(target, h)
	high := r.job("echo urgent")
	high.GPUs, high.Resources.Priority = 1, "urgent"
	g := r.submit(target, high)
	x := r.end(target, h)
	if x.Outcome != compute.Lost || x.Problem == nil || !strings.Contains(x.Problem.Cause, "reempt") {
		t.Errorf("the one that was preempted: %+v, %v", x, x.Problem)
	}
	if x := r.end(target, g); x.Outcome != compute.Succeeded {
		t.Errorf("the urgent one: %+v, %v", x, x.Problem)
	}
}

func TestMemoryOfTheWholePodIsSaidToo(t *testing.T) {
	r := newRig(t, engine.StartKubernetes(t))
	target := r.open()
	job := r.job(`exec sh -c 'x=a; while :; do x=$x$x; done'`)
	job.Resources = compute.Resources{Memory: 48 << 20, MemoryLimit: 48 << 20}
	x := r.end(target, r.submit(target, job))
	if x.Outcome != compute.Failed || x.Code != 137 || x.Problem == nil || x.Problem.Code != "OutOfMemory" {
		t.Errorf("exit: %+v, %v", x, x.Problem)
	}
}

func TestResourcesReachThePod(t *testing.T) {
	r := newRig(t, engine.StartKubernetes(t))
	r.settings.NodeSelector = map[string]string{"kubernetes.io/os": "linux"}
	target := r.open()
	job := r.job("df -k /dev/shm | tail -1 | awk '{print $2}'; sleep 60")
	job.Resources = compute.Resources{CPUs: 0.25, CPULimit: 1.5, Memory: 64 << 20, MemoryLimit: 512 << 20, Shm: 32 << 20, Selector: map[string]string{"kubernetes.io/arch": "amd64"}}
	h := r.submit(target, job)
	r.running(target, h)
	got := r.k.Kubectl(t, "-n", r.namespace, "get", r.pod(), "-o", "jsonpath={.spec.containers[0].resources}{.spec.nodeSelector}{.spec.volumes[1].emptyDir}")
	for _, want := range []string{`"cpu":"250m"`, `"cpu":"1500m"`, `"memory":"67108864"`, `"memory":"536870912"`, `"kubernetes.io/os":"linux"`, `"kubernetes.io/arch":"amd64"`, `"medium":"Memory"`} {
		if !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(got, "512Mi", "536870912"), "64Mi", "67108864"), want) {
			t.Errorf("the pod has %s, which lacks %s", got, want)
		}
	}
	engine.Eventually(t, 10*time.Second, "the size of /dev/shm", func() bool { return strings.TrimSpace(r.log(target, h)) == "32768" })
}

func TestTwoWhoHandOverOneJobStartItOnce(t *testing.T) {
	r := newRig(t, engine.StartKubernetes(t))
	a, b := r.open(), r.open()
	job := r.job("echo ran; sleep 1")
	var wg sync.WaitGroup
	for _, target := range []*Target{a, b, a, b} {
		wg.Go(func() {
			if _, err := target.Submit(t.Context(), job); err != nil {
				t.Errorf("submit: %v", err)
			}
		})
	}
	wg.Wait()
	h := compute.Handle{Key: job.Key}
	if x := r.end(b, h); x.Outcome != compute.Succeeded {
		t.Errorf("exit: %+v", x)
	}
	if got := r.log(a, h); got != "ran\n" {
		t.Errorf("log: %q", got)
	}
	stale := r.job("exit 0")
	stale.Epoch = 0
	if _, err := a.Submit(t.Context(), stale); !errors.Is(err, compute.ErrStale) {
		t.Errorf("a stale submit: %v", err)
	}
}
