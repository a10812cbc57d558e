package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/test/engine"
)

// The ids by which Azure's clients name the test's cluster.
const (
	aksClusterID = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/moorage/providers/Microsoft.ContainerService/managedClusters/test"
	arcClusterID = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/moorage/providers/Microsoft.Kubernetes/connectedClusters/test"
)

// TestMicrosoftsClientsTrainOnKubernetes runs test/clients/azureml/cluster.py, test/clients/v1/cluster.py and managed.py: both SDKs
// attach a real cluster, submit jobs with instance types and several processes to it, and detach it, which ARM's old client
// does too.
func TestMicrosoftsClientsTrainOnKubernetes(t *testing.T) {
	v2, v1 := engine.Python(t), engine.PythonWith(t, "MOORAGE_PYTHON_V1", "requirements-v1.txt")
	k := engine.StartKubernetes(t)
	text, err := os.ReadFile(k.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	image := k.Python(t)
	namespace := k.Namespace(t)
	server := started(t, filepath.Join(t.TempDir(), "data"), "KUBECONFIG="+k.Kubeconfig)
	know := func(id string) {
		t.Helper()
		settings := map[string]any{
			"kubeconfig": string(text), "namespace": namespace, "image": image, "default_instance_type": "small",
			"instance_types": map[string]any{"small": map[string]any{"cpus": "100m", "cpu_limit": 1, "memory": "64Mi", "memory_limit": "512Mi"}},
		}
		if _, err := server.call(t.Context(), "PUT", "/native/v1/resources", map[string]any{"id": id, "address": "kubeconfig://test", "settings": settings}, nil); err != nil {
			t.Fatal(err)
		}
	}
	know(aksClusterID)
	t.Run("azure-ai-ml", func(t *testing.T) {
		newPerson(t, server, v2).promises(t, "../azureml/cluster.py", nil, "test", namespace, k.Image, k.Kubeconfig, aksClusterID, arcClusterID)
	})
	know(arcClusterID)
	t.Run("azureml-core", func(t *testing.T) {
		newPerson(t, server, v1).promises(t, "cluster.py", nil, namespace, aksClusterID, arcClusterID, seed(t))
	})
	t.Run("azure-mgmt-machinelearningservices", func(t *testing.T) {
		newPerson(t, server, v1).promises(t, "managed.py", nil, aksClusterID)
	})
}

// TestCommandLineTrainsOnKubernetes attaches by a kubeconfig of the person's own, which the server lacks, and runs a job of two
// nodes.
func TestCommandLineTrainsOnKubernetes(t *testing.T) {
	k := engine.StartKubernetes(t)
	namespace := k.Namespace(t)
	server := started(t, filepath.Join(t.TempDir(), "data"), "KUBECONFIG="+os.DevNull)
	say := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), moorage, append(args, "--data", server.data)...).CombinedOutput()
		if err != nil {
			t.Fatalf("moorage %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	attached := say("compute", "attach", "k8s", "--kind", "kubernetes", "--address", "kubeconfig://test", "--namespace", namespace, "--kubeconfig-file", k.Kubeconfig)
	if !strings.Contains(attached, "kubeconfig://test") || strings.Contains(attached, "client-key") {
		t.Errorf("attach says %s", attached)
	}
	job := filepath.Join(t.TempDir(), "job.yml")
	text := "command: echo rank $RANK of $WORLD_SIZE on $(hostname)\nenvironment: {image: '" + k.Image + "'}\ncompute: azureml:k8s\n" +
		"resources: {instance_count: 2, shm_size: 64m, properties: {cpus: 100m, memory: 64Mi}}\ndistribution: {type: pytorch, process_count_per_instance: 1}\n"
	if err := os.WriteFile(job, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := say("job", "create", "-f", job, "--name", "two", "--stream"); !strings.Contains(said, "rank 0 of 2") {
		t.Errorf("the job says %s", said)
	}
	say("compute", "detach", "k8s")
	if left := k.Kubectl(t, "-n", namespace, "get", "jobs,pods,services,configmaps,secrets", "-o", "name", "-l", "moorage-ml.github.io/server"); left != "" {
		t.Errorf("the cluster keeps %s", left)
	}
}
