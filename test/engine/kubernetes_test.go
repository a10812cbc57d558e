package engine

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// pod is one that runs a shell command and is not restarted.
func pod(name, image, command string) string {
	return `apiVersion: v1
kind: Pod
metadata: {name: ` + name + `}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: ` + image + `
    command: ["sh", "-c", "` + command + `"]
`
}

// phase waits until a pod has come so far.
func phase(t *testing.T, k *Kubernetes, namespace, name, want string) {
	t.Helper()
	var last string
	defer func() {
		if t.Failed() {
			t.Logf("%s was %s last\n%s", name, last, k.Kubectl(t, "-n", namespace, "describe", "pod", name))
		}
	}()
	Eventually(t, time.Minute, name+" "+want, func() bool {
		last = k.Kubectl(t, "-n", namespace, "get", "pod", name, "-o", "jsonpath={.status.phase}")
		return last == want
	})
}

func TestAPodRunsAndItsLogIsKept(t *testing.T) {
	k := StartKubernetes(t)
	ns := k.Namespace(t)
	k.Apply(t, pod("one", k.Image, "echo hello; hostname"), "-n", ns)
	phase(t, k, ns, "one", "Succeeded")
	if got := k.Kubectl(t, "-n", ns, "logs", "one"); got != "hello\none" {
		t.Errorf("its log is %q", got)
	}
}

func TestTheImageWithPythonRuns(t *testing.T) {
	k := StartKubernetes(t)
	ns := k.Namespace(t)
	k.Apply(t, pod("one", k.Python(t), "python3 -c 'import venv, pip; print(6 * 7)'"), "-n", ns)
	phase(t, k, ns, "one", "Succeeded")
	if got := k.Kubectl(t, "-n", ns, "logs", "one"); got != "42" {
		t.Errorf("its log is %q", got)
	}
}

func TestAPodPullsFromATestsRegistryAndReachesNothingElse(t *testing.T) {
	k := StartKubernetes(t)
	ns := k.Namespace(t)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", k.Registry)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })

	archive := t.TempDir() + "/base.tar"
	k.Ctr(t, "images", "export", archive, "docker.io/"+k.Image)
	image, err := crane.Load(archive)
	if err != nil {
		t.Fatal(err)
	}
	// Another image than the node's own: the kubelet would ask every user of that for the pull's credentials from then on.
	image, err = mutate.Config(image, v1.Config{Labels: map[string]string{"pulled": "yes"}, Env: []string{"PATH=/bin:/usr/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(image, k.Registry+"/pulled:1", crane.Insecure); err != nil {
		t.Fatal(err)
	}
	k.Apply(t, pod("one", "registry.local:5000/pulled:1", "wget -q -O- http://"+k.Registry+"/v2/_catalog; wget -q -T 1 -O- http://192.0.2.1/ || echo alone"), "-n", ns)
	phase(t, k, ns, "one", "Succeeded")
	if got := k.Kubectl(t, "-n", ns, "logs", "one"); !strings.Contains(got, `"pulled"`) || !strings.Contains(got, "alone") {
		t.Errorf("its log is %q", got)
	}
}

func TestAnAPIServerThatIsGoneComesBackAndPodsGoOn(t *testing.T) {
	k := StartKubernetes(t)
	ns := k.Namespace(t)
	k.Apply(t, pod("one", k.Image, "while :; do date +%s%N; sleep 0.1; done"), "-n", ns)
	phase(t, k, ns, "one", "Running")
	k.Stop(t, "kube-apiserver")
	if out, err := exec.Command(k.Programs+"/kubectl", "get", "--raw", "/readyz").CombinedOutput(); err == nil {
		t.Fatalf("the API server that was killed answers: %s", out)
	}
	k.Start(t)
	if got := k.Kubectl(t, "-n", ns, "get", "pod", "one", "-o", "jsonpath={.status.phase}{.status.containerStatuses[0].restartCount}"); got != "Running0" {
		t.Errorf("the pod is %s", got)
	}
}

func TestAClusterThatLostPowerComesBackWithItsObjects(t *testing.T) {
	k := StartKubernetes(t)
	ns := k.Namespace(t)
	k.Apply(t, pod("one", k.Image, "sleep 1000"), "-n", ns)
	phase(t, k, ns, "one", "Running")
	uid := k.Kubectl(t, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
	k.Stop(t)
	k.Start(t)
	if got := k.Kubectl(t, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"); got != uid {
		t.Errorf("the cluster is another one: %s, not %s", got, uid)
	}
	phase(t, k, ns, "one", "Failed") // its container ended with the power, and it is not restarted
}

func TestAControlPlaneHoldsFakeNodesAndLeavesNothing(t *testing.T) {
	var number, dir string
	t.Run("cluster", func(t *testing.T) {
		k := StartOwnKubernetes(t, KubernetesOptions{ControlPlane: true})
		dir, number = k.dir, strings.Split(k.Host, ".")[2]
		k.Fakes(t, 3)
		ns := k.Namespace(t)
		k.Apply(t, strings.Replace(pod("one", "any:1", "true"), "command:", "resources: {limits: {nvidia.com/gpu: 8}}\n    command:", 1), "-n", ns)
		phase(t, k, ns, "one", "Running")
	})
	if t.Failed() {
		return
	}
	for _, path := range []string{dir, "/run/netns/moorage-test-" + number, "/sys/class/net/mt-kube" + number, "/sys/fs/cgroup/cpu/moorage-test-" + dir[strings.LastIndex(dir, "/")+1:]} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	Eventually(t, 10*time.Second, "no process is left", func() bool { return exec.Command("pgrep", "-f", dir).Run() != nil })
}

func TestAClusterEndsWithTheProcessThatOwnsIt(t *testing.T) {
	owner := exec.Command("sleep", "1000")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	k := newKubernetes(t, KubernetesOptions{ControlPlane: true})
	t.Cleanup(func() { run(t, "kubernetes", nil, "remove", k.dir) })
	run(t, "kubernetes", []string{"KUBERNETES_OWNER=" + strconv.Itoa(owner.Process.Pid)}, "start", k.dir, "--control-plane")
	_ = owner.Process.Kill()
	_ = owner.Wait()
	Eventually(t, 30*time.Second, "the cluster's folder is gone", func() bool {
		_, err := os.Stat(k.dir)
		return err != nil
	})
}
