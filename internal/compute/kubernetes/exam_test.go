package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/test/engine"
)

// keeperProgram builds the keeper once, as it is placed on targets.
var keeperProgram = sync.OnceValues(func() (compute.Program, error) {
	dir, err := os.MkdirTemp("", "keeper-")
	if err != nil {
		return compute.Program{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "keeper")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "github.com/moorage-ml/moorage/cmd/keeper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return compute.Program{}, fmt.Errorf("building the keeper: %w\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return compute.Program{}, err
	}
	return compute.Program{Hash: snapshot.Sum(b), Size: int64(len(b)), Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(b))), nil }}, nil
})

func keeperFor(string, string) (compute.Program, error) { return keeperProgram() }

// through is a kubeconfig's text that reaches the API server by another address.
func through(t *testing.T, file, addr string) string {
	t.Helper()
	c, err := clientcmd.LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, cluster := range c.Clusters {
		if addr != "" {
			cluster.Server, cluster.TLSServerName = "https://"+addr, "kubernetes"
		}
	}
	b, err := clientcmd.Write(*c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// server is the host:port of a kubeconfig's API server.
func server(t *testing.T, file string) string {
	t.Helper()
	c, err := clientcmd.LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, cluster := range c.Clusters {
		u, err := url.Parse(cluster.Server)
		if err != nil {
			t.Fatal(err)
		}
		return u.Host
	}
	t.Fatal("no cluster in the kubeconfig")
	return ""
}

func settings(t *testing.T, s Settings) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// otherImage gives the node an image like its own in which EXAM_IMAGE is "other".
func otherImage(t *testing.T, k *engine.Kubernetes) string {
	t.Helper()
	const name = "docker.io/local/other:1"
	archive := filepath.Join(t.TempDir(), "image.tar")
	k.Ctr(t, "images", "export", archive, "docker.io/"+k.Image)
	image, err := crane.Load(archive)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.Config.Env = append(config.Config.Env, "EXAM_IMAGE=other")
	image, err = mutate.Config(image, config.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := crane.Save(image, name, archive+".other"); err != nil {
		t.Fatal(err)
	}
	k.Ctr(t, "images", "import", "--all-platforms=false", archive+".other")
	return name
}

// narrow is a target whose jobs each ask for the one piece that there is of a resource: one slot.
type narrow struct{ *Target }

func (n narrow) Submit(ctx context.Context, job compute.Job) (compute.Ref, error) {
	job.GPUs = 1
	return n.Target.Submit(ctx, job)
}

func TestKubernetesPassesTheExam(t *testing.T) {
	k := engine.StartKubernetes(t)
	if _, err := keeperProgram(); err != nil {
		t.Fatal(err)
	}
	namespace, image := k.Namespace(t), k.Python(t)
	var mu sync.Mutex
	doors := map[string]*engine.Proxy{}
	at := func(place string) *engine.Proxy {
		mu.Lock()
		defer mu.Unlock()
		if doors[place] == nil {
			doors[place] = engine.StartProxy(t, server(t, k.Kubeconfig))
		}
		return doors[place]
	}
	open := func(ctx context.Context, env compute.Env, w computetest.Want) (compute.Target, error) {
		env.Keeper = keeperFor
		s := Settings{Kubeconfig: through(t, k.Kubeconfig, at(w.Place).Addr), Namespace: namespace, Image: image}
		if w.Refused {
			s.Kubeconfig, s.Address, s.Token = "", "https://"+server(t, k.Kubeconfig), "wrong"
			s.CA = k.Kubectl(t, "-n", namespace, "get", "configmap", "kube-root-ca.crt", "-o", `jsonpath={.data.ca\.crt}`)
		}
		if w.Slots == 1 {
			s.GPUResource = "exam.test/" + w.Place
			k.Kubectl(t, "patch", k.Kubectl(t, "get", "nodes", "-o", "name"), "--subresource=status", "--type=merge", "-p", `{"status":{"capacity":{"`+s.GPUResource+`":"1"}}}`)
		}
		target, err := Driver{}.Open(ctx, settings(t, s), env)
		if w.Slots == 1 && err == nil {
			return narrow{target.(*Target)}, nil
		}
		return target, err
	}
	computetest.Run(t, open, computetest.Options{
		Limits: Driver{}.Limits(),
		Many:   20, // each is a pod
		Nodes:  true,
		Image:  k.Image, OtherImage: otherImage(t, k),
		Processes: true,
		Outage:    func(_ *testing.T, place string, down bool) { at(place).Refuse(down) },
		Skip: map[string]string{
			"gpus":                       "the cluster under test has no device plugin that shows devices to pods",
			"QueueKeepsItsOrder":         "which waiting pod is next is the cluster's scheduler's to say",
			"InputIsFetchedByTheTarget":  "the address is of the test's own loopback, which pods do not reach",
			"SameSnapshotServesManyJobs": "every pod gets its own copy of the snapshot",
			"EnvironmentIsMadeOnce":      "every pod makes its own; several share one as an image",
		},
	})
}
