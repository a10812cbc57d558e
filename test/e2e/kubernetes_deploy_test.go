package e2e

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/moorage-ml/moorage/internal/store/storetest"
	"github.com/moorage-ml/moorage/test/engine"
)

// deployed is a server that runs in a namespace of a real cluster, as deploy/ installs it, and a client of it on this machine.
type deployed struct {
	t         *testing.T
	cluster   *engine.Kubernetes
	namespace string
	data      string // what `moorage env --archive` gave, unpacked
	url       string // through a port-forward
}

// deploy installs the server: a Secret, a volume that may be mounted as said, the image, and the objects of a text.
func deploy(t *testing.T, k *engine.Kubernetes, access string, database string, objects func(deploy string) string) *deployed {
	t.Helper()
	d := &deployed{t: t, cluster: k, namespace: k.Namespace(t), data: t.TempDir()}
	secret := []string{"create", "secret", "generic", "moorage", "--from-literal=master-key=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "--from-literal=admin-secret=the-administrators-secret"}
	if database != "" {
		secret = append(secret, "--from-literal=database="+database)
	}
	d.kubectl(secret...)
	d.volume(access)
	image := installImage(t, k)
	text := objects(filepath.Join("..", "..", "deploy"))
	if !strings.Contains(text, "image: moorage:latest") {
		t.Fatal("the Deployment names another image")
	}
	k.Apply(t, strings.ReplaceAll(text, "image: moorage:latest", "image: "+image), "-n", d.namespace)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(clip(d.kubectl("describe", "pods")))
			t.Log(clip(d.kubectl("logs", "-l", "app.kubernetes.io/name=moorage", "--tail=50", "--prefix")))
		}
	})
	d.ready()
	unpack := exec.Command("tar", "-x", "-C", d.data)
	unpack.Stdin = strings.NewReader(d.kubectl("exec", "deployment/moorage", "--", "moorage", "env", "--archive"))
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	d.forward()
	return d
}

// volume makes what a cluster's storage class would: a volume for the claim, here a folder of this machine that the
// kubelet gives to the pod's group, as it does with disks.
func (d *deployed) volume(access string) {
	d.t.Helper()
	d.cluster.Apply(d.t, `apiVersion: v1
kind: PersistentVolume
metadata: {name: `+d.namespace+`}
spec:
  capacity: {storage: 50Gi}
  accessModes: [`+access+`]
  claimRef: {namespace: `+d.namespace+`, name: moorage}
  persistentVolumeReclaimPolicy: Retain
  local: {path: `+d.t.TempDir()+`}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/os, operator: Exists}]}]}}
`)
	d.t.Cleanup(func() {
		d.kubectl("delete", "deployment", "moorage", "--ignore-not-found", "--cascade=foreground") // nothing writes to the folder after it
		d.kubectl("delete", "persistentvolume", d.namespace, "--wait=false")
	})
}

// installImage packs the program as make dist does, gives it to the node and names it.
func installImage(t *testing.T, k *engine.Kubernetes) string {
	t.Helper()
	const name = "moorage:test"
	dir := t.TempDir()
	program, archive := filepath.Join(dir, "moorage"), filepath.Join(dir, "image.tar")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "../../cmd/moorage")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	for _, cmd := range []*exec.Cmd{build, exec.Command("go", "run", "../../internal/release", "image", archive, name, runtime.GOARCH, program)} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	k.Ctr(t, "images", "import", archive)
	return "docker.io/library/" + name
}

func (d *deployed) kubectl(args ...string) string {
	d.t.Helper()
	return d.cluster.Kubectl(d.t, append([]string{"-n", d.namespace}, args...)...)
}

// ready waits until every replica is.
func (d *deployed) ready() {
	d.t.Helper()
	d.kubectl("rollout", "status", "deployment/moorage", "--timeout=120s")
}

// forward opens the way from this machine to one replica, as a person does by kubectl port-forward.
func (d *deployed) forward() {
	d.t.Helper()
	cmd := exec.Command(filepath.Join(d.cluster.Programs, "kubectl"), "-n", d.namespace, "port-forward", "service/moorage", ":8443")
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	_, port, found := strings.Cut(line, "127.0.0.1:")
	port, _, _ = strings.Cut(port, " ")
	if err != nil || !found {
		d.t.Fatalf("kubectl port-forward said %q: %v", line, err)
	}
	d.url = "https://localhost:" + port
}

// cli runs the command line of this machine against the server in the cluster.
func (d *deployed) cli(args ...string) string {
	d.t.Helper()
	cmd := exec.Command(moorage, append(args, "--data", d.data, "--url", d.url)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("moorage %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// train attaches the cluster by the server's own account and runs a job on it.
func (d *deployed) train(name string) {
	d.t.Helper()
	job := filepath.Join(d.t.TempDir(), "job.yml")
	text := "command: echo trained; mkdir -p outputs; echo weights > outputs/model\ncompute: azureml:cluster\n"
	if err := os.WriteFile(job, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if out := d.cli("job", "create", "-f", job, "--name", name, "--stream"); !strings.Contains(out, "trained") {
		d.t.Errorf("the job said %q", out)
	}
	home := d.t.TempDir()
	d.cli("job", "download", name, "-p", home)
	if weights, err := os.ReadFile(filepath.Join(home, name, "outputs", "model")); err != nil || string(weights) != "weights\n" {
		d.t.Errorf("the output of %s is %q: %v", name, weights, err)
	}
}

func (d *deployed) attach() {
	d.t.Helper()
	said := d.cli("compute", "attach", "cluster", "--kind", "kubernetes", "--address", "incluster://", "--set", "image="+d.cluster.Image)
	if strings.Contains(said, "may not") {
		d.t.Errorf("the Role lacks what the pre-flight names:\n%s", said)
	}
}

func TestTheServerRunsOnKubernetesAndTrainsThere(t *testing.T) {
	k := engine.StartKubernetes(t)
	d := deploy(t, k, "ReadWriteOnce", "", func(dir string) string {
		b, err := os.ReadFile(filepath.Join(dir, "kubernetes.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	})
	d.attach()
	d.train("first")

	// Another pod finds what this one kept, keys and certificate authority included.
	d.kubectl("delete", "pod", "-l", "app.kubernetes.io/name=moorage")
	d.ready()
	d.forward()
	if out := d.cli("job", "list"); !strings.Contains(out, "first") {
		t.Errorf("after a restart there is no job of before:\n%s", out)
	}
	d.train("second")
}

func TestReplicasOnKubernetesShareOnePostgreSQL(t *testing.T) {
	k := engine.StartKubernetes(t)
	u, err := url.Parse(storetest.StartPostgres(t).Fresh(t))
	if err != nil {
		t.Fatal(err)
	}
	u.Host = engine.StartProxyAt(t, k.Host, u.Host).Addr
	d := deploy(t, k, "ReadWriteMany", u.String(), func(dir string) string { return k.Kubectl(t, "kustomize", dir) })
	if got := d.kubectl("get", "deployment", "moorage", "-o", "jsonpath={.status.readyReplicas}"); got != "2" {
		t.Fatalf("%s replicas are ready", got)
	}
	d.attach()
	d.train("first")

	// Each of them goes; the other one has all, and takes the computes over.
	for i, pod := range strings.Fields(d.kubectl("get", "pods", "-l", "app.kubernetes.io/name=moorage", "-o", "jsonpath={.items[*].metadata.name}")) {
		d.kubectl("delete", "pod", pod)
		d.ready()
		d.forward()
		d.train(fmt.Sprintf("after-%d", i))
	}
}
