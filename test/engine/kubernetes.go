package engine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Kubernetes is a running cluster with namespaces of its own on this machine, and one node unless it was asked for without.
type Kubernetes struct {
	Kubeconfig string // path; its context is "test", its user may do everything
	Image      string // a small image that the node has: a shell and the usual programs
	Host       string // an address of this machine that pods reach, and they reach no other network
	Registry   string // address on which a test may listen as the registry that the node knows as registry.local:5000; plain HTTP
	Registries string // folder in which the node's containerd looks for more: HOST:PORT/hosts.toml, read at each pull
	Programs   string // folder with kubectl and ctr that speak to this cluster

	dir     string
	options KubernetesOptions
}

// KubernetesOptions says how a cluster is set up. The zero value is one with a node, set up as most are.
type KubernetesOptions struct {
	ControlPlane bool          // no node: an API server, its controllers and the scheduler, ready in half the time
	NodeGrace    time.Duration // until a silent node is not ready; 5 s later its pods are evicted, if another node stands (Fakes); default 20 s
	LogSize      string        // of a container's log before the kubelet rotates it; default "10Mi"
	APIServer    string        // more flags for the API server
}

// shared is the cluster of this test process.
var shared struct {
	mu      sync.Mutex
	cluster *Kubernetes
}

// StartKubernetes gives the one cluster of this test process, started at the first use and removed when the process has
// ended. A test makes namespaces in it, by Namespace, and leaves it as it found it. It needs root.
func StartKubernetes(t testing.TB) *Kubernetes {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster == nil {
		k := newKubernetes(t, KubernetesOptions{})
		defer func() {
			if shared.cluster == nil { // the test ends here
				_ = exec.Command(script("kubernetes"), "remove", k.dir).Run()
			}
		}()
		k.start(t)
		shared.cluster = k
	}
	return shared.cluster
}

// StartOwnKubernetes starts a cluster that ends with the test: for one that needs a second cluster, or options.
func StartOwnKubernetes(t testing.TB, o KubernetesOptions) *Kubernetes {
	t.Helper()
	k := newKubernetes(t, o)
	t.Cleanup(func() { run(t, "kubernetes", nil, "remove", k.dir) })
	k.start(t)
	return k
}

func newKubernetes(t testing.TB, o KubernetesOptions) *Kubernetes {
	t.Helper()
	dir, err := os.MkdirTemp("", "k8s-") //nolint:usetesting // short: the path of a socket has at most 107 bytes; it outlives the test
	if err != nil {
		t.Fatal(err)
	}
	return &Kubernetes{dir: dir, options: o}
}

func (k *Kubernetes) start(t testing.TB) {
	t.Helper()
	env := []string{fmt.Sprintf("KUBERNETES_OWNER=%d", os.Getpid()), "KUBERNETES_LOG_SIZE=" + k.options.LogSize, "KUBERNETES_APISERVER=" + k.options.APIServer}
	if g := k.options.NodeGrace; g > 0 {
		env = append(env, fmt.Sprintf("KUBERNETES_NODE_GRACE=%.0f", g.Seconds()))
	}
	args := []string{"start", k.dir}
	if k.options.ControlPlane {
		args = append(args, "--control-plane")
	}
	v := run(t, "kubernetes", env, args...)
	k.Kubeconfig, k.Image, k.Host, k.Registry, k.Registries, k.Programs = v["KUBECONFIG"], v["IMAGE"], v["HOST"], v["REGISTRY"], v["REGISTRIES"], v["PROGRAMS"]
}

// Stop ends the cluster and what runs on it, as a loss of power does. Named components are ended alone and the rest goes on:
// kube-apiserver is an API server that is gone, kubelet a node that is. The test's end brings all back.
func (k *Kubernetes) Stop(t testing.TB, components ...string) {
	t.Helper()
	t.Cleanup(func() { k.Start(t) })
	if len(components) == 0 {
		run(t, "kubernetes", nil, "stop", k.dir)
	}
	for _, c := range components {
		run(t, "kubernetes", nil, "stop", k.dir, c)
	}
}

// Start brings back what was stopped, with its state, and waits until it can be used.
func (k *Kubernetes) Start(t testing.TB) {
	t.Helper()
	k.start(t)
}

// Fakes adds nodes of 32 CPUs, 256 GiB and 8 GPUs (nvidia.com/gpu) whose pods run nothing: those of a Job succeed at once,
// others stay Running.
func (k *Kubernetes) Fakes(t testing.TB, nodes int) {
	t.Helper()
	run(t, "kubernetes", nil, "kwok", k.dir, fmt.Sprint(nodes))
}

// Python gives an image with Python and pip that the node has. Making it takes half a minute where the cache lacks it.
func (k *Kubernetes) Python(t testing.TB) string {
	t.Helper()
	return run(t, "kubernetes", nil, "python", k.dir)["PYTHON_IMAGE"]
}

// Kubectl runs kubectl as the cluster's administrator and gives what it prints, without the last line's end. It fails the
// test when kubectl fails.
func (k *Kubernetes) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return k.program(t, "", "kubectl", args...)
}

// Apply creates or changes the objects of a YAML text.
func (k *Kubernetes) Apply(t testing.TB, yaml string, args ...string) {
	t.Helper()
	k.program(t, yaml, "kubectl", append([]string{"apply", "-f", "-"}, args...)...)
}

// Ctr runs containerd's own client against the node, e.g. to remove an image.
func (k *Kubernetes) Ctr(t testing.TB, args ...string) string {
	t.Helper()
	return k.program(t, "", "ctr", args...)
}

func (k *Kubernetes) program(t testing.TB, input, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(k.Programs, name), args...)
	cmd.Stdin = strings.NewReader(input)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, said.String())
	}
	return strings.TrimSuffix(string(out), "\n")
}

var namespaces atomic.Int64

// Namespace makes a namespace that ends with the test, with all that is in it; nobody waits for that.
func (k *Kubernetes) Namespace(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test-%d-%d", os.Getpid(), namespaces.Add(1))
	k.Kubectl(t, "create", "namespace", name)
	t.Cleanup(func() { k.Kubectl(t, "delete", "namespace", name, "--wait=false") })
	Eventually(t, 30*time.Second, "the namespace's account", func() bool {
		cmd := exec.Command(filepath.Join(k.Programs, "kubectl"), "-n", name, "get", "serviceaccount/default", "configmap/kube-root-ca.crt")
		return cmd.Run() == nil
	})
	return name
}
