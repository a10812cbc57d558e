package control

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const someTypes = `{"default_instance_type":"small","instance_types":{
	"small":{"cpus":"500m","memory":"1Gi"},
	"big":{"gpus":2,"cpus":4,"cpu_limit":8,"memory":"16G","memory_limit":"32Gi","shm":"2Gi","node_selector":{"disk":"ssd","zone":"a"}},
	"azures":{"nodeSelector":{"kubernetes.io/arch":"arm64"},"resources":{"requests":{"cpu":"1","memory":"2Gi","nvidia.com/gpu":null},"limits":{"cpu":"1500m","memory":"4Gi","nvidia.com/gpu":"1"}}}}}`

func TestInstanceTypeAndTheJobsOwnWishesBecomeResources(t *testing.T) {
	r := newRig(t, newClusters(t))
	r.attached("k8s", "", cluster("kubeconfig://a", someTypes))
	for name, tc := range map[string]struct {
		properties string
		gpus       int
		want       *workspace.ResourceSpec
	}{
		"the default":        {`"resources":{}`, 0, &workspace.ResourceSpec{CPUs: 0.5, Memory: 1 << 30}},
		"by Azure's name":    {`"resources":{"instanceType":"DefaultInstanceType"}`, 0, &workspace.ResourceSpec{CPUs: 0.5, Memory: 1 << 30}},
		"by name":            {`"resources":{"instanceType":"big"}`, 2, &workspace.ResourceSpec{CPUs: 4, CPULimit: 8, Memory: 16e9, MemoryLimit: 32 << 30, Shm: 2 << 30, Selector: map[string]string{"disk": "ssd", "zone": "a"}}},
		"in Azure's words":   {`"resources":{"instanceType":"azures"}`, 1, &workspace.ResourceSpec{CPUs: 1, CPULimit: 1.5, Memory: 2 << 30, MemoryLimit: 4 << 30, Selector: map[string]string{"kubernetes.io/arch": "arm64"}}},
		"the job goes first": {`"resources":{"instanceType":"big","shmSize":"64m","properties":{"gpus":1,"cpus":"2","memory":"1Gi","queue":"q","priority_class":"high","node_selector":{"zone":"b"}}}`, 1, &workspace.ResourceSpec{CPUs: 2, CPULimit: 8, Memory: 1 << 30, MemoryLimit: 32 << 30, Shm: 64 << 20, Selector: map[string]string{"disk": "ssd", "zone": "b"}, Queue: "q", Priority: "high"}},
		"words for Docker":   {`"resources":{"dockerArgs":"--shm-size 1g --memory=2g --cpus=1.5"}`, 0, &workspace.ResourceSpec{CPUs: 0.5, CPULimit: 1.5, Memory: 1 << 30, MemoryLimit: 2 << 30, Shm: 1 << 30}},
		"nulls of a client":  {`"resources":{"instanceCount":null,"instanceType":null,"shmSize":null,"dockerArgs":null,"properties":null},"distribution":null`, 0, &workspace.ResourceSpec{CPUs: 0.5, Memory: 1 << 30}},
	} {
		spec, err := r.onCluster(strings.NewReplacer(" ", "-", "'", "").Replace(name), tc.properties)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, spec.Resources); diff != "" || spec.GPUs != tc.gpus || spec.Ranks != nil {
			t.Errorf("%s: %d GPUs, ranks %v\n%s", name, spec.GPUs, spec.Ranks, diff)
		}
	}
}

func TestDistributionBecomesRanks(t *testing.T) {
	r := newRig(t, newClusters(t))
	r.attached("k8s", "", cluster("kubeconfig://a", `{}`))
	r.attached("gpu", "fake://m1")
	for name, tc := range map[string]struct {
		properties string
		want       *workspace.RankSpec
	}{
		"one process":       {`"resources":{"instanceCount":1}`, nil},
		"nodes alone":       {`"resources":{"instanceCount":3}`, &workspace.RankSpec{Nodes: 3, PerNode: 1}},
		"pytorch":           {`"resources":{"instanceCount":2},"distribution":{"distributionType":"PyTorch","processCountPerInstance":4}`, &workspace.RankSpec{Nodes: 2, PerNode: 4, Framework: "pytorch"}},
		"pytorch of one":    {`"distribution":{"distributionType":"PyTorch"}`, &workspace.RankSpec{Nodes: 1, PerNode: 1, Framework: "pytorch"}},
		"mpi":               {`"distribution":{"distributionType":"Mpi","processCountPerInstance":2}`, &workspace.RankSpec{Nodes: 1, PerNode: 2, Framework: "mpi"}},
		"tensorflow":        {`"resources":{"instanceCount":2},"distribution":{"distributionType":"TensorFlow","parameterServerCount":0}`, &workspace.RankSpec{Nodes: 2, PerNode: 1, Framework: "tensorflow"}},
		"tensorflow's four": {`"resources":{"instanceCount":2},"distribution":{"distributionType":"TensorFlow","workerCount":4}`, &workspace.RankSpec{Nodes: 2, PerNode: 2, Framework: "tensorflow"}},
	} {
		spec, err := r.onCluster(strings.NewReplacer(" ", "-", "'", "").Replace(name), tc.properties)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, spec.Ranks); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	for _, tc := range []struct{ properties, code, says string }{
		{`"computeId":"gpu","resources":{"instanceCount":2}`, "TooManyNodes", "k8s"},
		{`"distribution":{"distributionType":"Ray"}`, "UnsupportedDistribution", "Ray"},
		{`"distribution":{"distributionType":"TensorFlow","parameterServerCount":1}`, "UnsupportedDistribution", "parameter_server_count"},
		{`"resources":{"instanceCount":2},"distribution":{"distributionType":"TensorFlow","workerCount":3}`, "UnevenProcesses", "3"},
		{`"resources":{"instanceCount":1.5}`, "InvalidCount", "1.5"},
		{`"resources":{"instanceCount":-1}`, "InvalidCount", "-1"},
		{`"resources":{"instanceCount":9999},"distribution":{"distributionType":"Mpi","processCountPerInstance":9999}`, "TooManyProcesses", "at most"},
		{`"resources":{"shmSize":"much"}`, "InvalidShmSize", "much"},
		{`"resources":{"dockerArgs":"--cpus=all"}`, "InvalidDockerArgs", "--cpus"},
		{`"resources":{"properties":{"memory":"-1"}}`, "InvalidResources", "-1"},
		{`"resources":{"properties":{"queue":["q"]}}`, "InvalidResources", "queue"},
	} {
		properties := tc.properties
		if !strings.Contains(properties, "computeId") {
			properties = `"computeId":"k8s",` + properties
		}
		_, err := r.submit("refused", properties)
		if p := r.refused(err, tc.code); !strings.Contains(p.Error(), tc.says) {
			t.Errorf("%s: %v does not say %q", tc.properties, p, tc.says)
		}
	}
}

func TestArgumentsForDockerThatAreNotHeededAreSaid(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	job := r.submitted("job", `"resources":{"dockerArgsList":["--network=host","--shm-size","1g","--privileged"]}`, `"properties":{"mine":"1"}`)
	var properties map[string]string
	if err := json.Unmarshal(job.Properties, &properties); err != nil {
		t.Fatal(err)
	}
	if note := properties[noteProperty]; !strings.Contains(note, "--network=host --privileged") || strings.Contains(note, "shm") || properties["mine"] != "1" {
		t.Errorf("%v", properties)
	}
}

func TestScaleOfARunOfAzuremlCore(t *testing.T) {
	k := newClusters(t)
	r := newRunRig(t, k)
	r.attached("k8s", "", cluster("kubeconfig://a", someTypes))
	const always = `"target":"k8s","tensorflow":{"workerCount":1,"parameterServerCount":1},"mpi":{"processCountPerNode":1,"nodeCount":1},"pytorch":{"communicationBackend":"nccl","processCount":null,"nodeCount":1},`
	for name, tc := range map[string]struct {
		fields string
		ranks  *workspace.RankSpec
		doc    string // of the v2 document
	}{
		"plain":      {`"communicator":"None","nodeCount":1`, nil, `"resources":{"instanceCount":1}`},
		"pytorch":    {`"communicator":"Nccl","framework":"PyTorch","nodeCount":2,"pytorch":{"processCount":4,"nodeCount":2}`, &workspace.RankSpec{Nodes: 2, PerNode: 2, Framework: "pytorch"}, `"distribution":{"distributionType":"PyTorch","processCountPerInstance":2}`},
		"by node":    {`"communicator":"Gloo","framework":"PyTorch","nodeCount":2`, &workspace.RankSpec{Nodes: 2, PerNode: 1, Framework: "pytorch"}, `"instanceCount":2`},
		"mpi":        {`"communicator":"IntelMpi","nodeCount":2,"mpi":{"processCountPerNode":3,"nodeCount":2}`, &workspace.RankSpec{Nodes: 2, PerNode: 3, Framework: "mpi"}, `"distributionType":"Mpi"`},
		"tensorflow": {`"communicator":"ParameterServer","framework":"TensorFlow","nodeCount":2,"tensorflow":{"workerCount":2,"parameterServerCount":0}`, &workspace.RankSpec{Nodes: 2, PerNode: 1, Framework: "tensorflow"}, `"workerCount":2`},
	} {
		job, err := r.run("run-"+strings.ReplaceAll(name, " ", ""), always+tc.fields)
		spec := r.spec(job, err)
		if diff := cmp.Diff(tc.ranks, spec.Ranks); diff != "" || !strings.Contains(string(job.Doc), tc.doc) {
			t.Errorf("%s: %s\n%s", name, job.Doc, diff)
		}
	}
	job, err := r.run("typed", always+`"docker":{"useDocker":true,"shmSize":"2g","arguments":["--ipc=host"]},"kubernetescompute":{"instanceType":"big"}`)
	spec := r.spec(job, err)
	if spec.GPUs != 2 || spec.Resources.Shm != 2<<30 || spec.Resources.CPULimit != 8 || !strings.Contains(string(job.Properties), "--ipc=host") {
		t.Errorf("%+v, %s", spec, job.Properties)
	}
	_, err = r.run("ps", always+`"communicator":"ParameterServer","framework":"TensorFlow","nodeCount":2`)
	r.refused(err, "UnsupportedDistribution")
	_, err = r.run("uneven", always+`"communicator":"Nccl","nodeCount":2,"pytorch":{"processCount":3}`)
	r.refused(err, "UnevenProcesses")
	_, err = r.run("none", always+`"kubernetescompute":{"instanceType":"huge"}`)
	r.refused(err, "UnknownInstanceType")
}

func TestInstanceTypesAreKeptInOneForm(t *testing.T) {
	r := newRig(t, newClusters(t))
	c := r.attached("k8s", "", cluster("kubeconfig://a", someTypes))
	again, usual, err := InstanceTypes(c)
	if err != nil || usual != "small" || again["azures"].GPUs != 1 || strings.Contains(string(c.Settings), "nodeSelector") {
		t.Errorf("%v, %s, %v: %s", again, usual, err, c.Settings)
	}
	if _, err := r.UpdateCompute(t.Context(), r.admin, r.ws, "k8s", UpdateRequest{Settings: json.RawMessage(`{"default_instance_type":"big"}`)}); err != nil {
		t.Errorf("what is kept cannot be read again: %v", err)
	}
	_, err = r.UpdateCompute(t.Context(), r.admin, r.ws, "k8s", UpdateRequest{Settings: json.RawMessage(`{"default_instance_type":"huge"}`)})
	r.refused(err, "InvalidInstanceTypes")
	if c, err := r.attach("none", "", cluster("kubeconfig://b", `{"default_instance_type":"`+azuresDefault+`"}`)); err != nil || c.State != store.ComputeSucceeded {
		t.Errorf("a default without instance types: %v, %v", c.State, err)
	}
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]float64{"1": 1, "0.5": 0.5, ".5": 0.5, "500m": 0.5, "8Gi": 8 << 30, "1k": 1000, "1e3": 1000, "1E": 1e18, "1E2": 100, "1Ei": 1 << 60, "2g": 2 << 30, "5.": 5, "+1": 1} {
		if got, err := parseQuantity(text); err != nil || got != want {
			t.Errorf("%s is %g, %v", text, got, err)
		}
	}
	for text, want := range map[string]int64{"2g": 2 << 30, "64m": 64 << 20, "1024": 1024, "1.5G": 3 << 29, "10kb": 10 << 10, "1 GiB": 1 << 30, "7b": 7} {
		if got, err := dockerSize(text); err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "x", "-1", "1Xi", "1e999", "99999999999E", "NaN", "1 2", "Gi"} {
		if n, err := parseQuantity(bad); err == nil {
			t.Errorf("%q is the quantity %g", bad, n)
		}
		if n, err := dockerSize(bad); err == nil {
			t.Errorf("%q is the size %d", bad, n)
		}
	}
}

func FuzzQuantity(f *testing.F) {
	f.Add("8Gi")
	f.Add("1e3")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseQuantity(text); err == nil && (n < 0 || n > 1<<62) {
			t.Errorf("%q is %g", text, n)
		}
		if n, err := dockerSize(text); err == nil && n < 0 {
			t.Errorf("%q is %d bytes", text, n)
		}
	})
}
