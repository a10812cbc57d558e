package control

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// jobResources are the resources of a v2 job (azureml-v2.md §9).
type jobResources struct {
	InstanceCount  *float64       `json:"instanceCount"`
	InstanceType   string         `json:"instanceType"`
	ShmSize        string         `json:"shmSize"`
	DockerArgs     string         `json:"dockerArgs"`
	DockerArgsList []string       `json:"dockerArgsList"`
	Properties     map[string]any `json:"properties"`
}

// jobDistribution is how a v2 job is several processes.
type jobDistribution struct {
	Type             string   `json:"distributionType"`
	PerInstance      *float64 `json:"processCountPerInstance"`
	Workers          *float64 `json:"workerCount"`
	ParameterServers *float64 `json:"parameterServerCount"`
}

// scale reads how large the job is.
func (j *commandJob) scale() (s scale, err error) {
	s = scale{instance: j.Resources.InstanceType, nodesField: "instance_count"}
	if s.nodes, err = count(j.Resources.InstanceCount, "instance_count"); err != nil {
		return s, err
	}
	if s.gpus, err = j.gpus(); err != nil {
		return s, err
	}
	args := j.Resources.DockerArgsList
	if len(args) == 0 {
		args = strings.Fields(j.Resources.DockerArgs)
	}
	if err := s.docker(args); err != nil {
		return s, err
	}
	if j.Resources.ShmSize != "" {
		if s.resources.Shm, err = dockerSize(j.Resources.ShmSize); err != nil {
			return s, invalid("InvalidShmSize", "resources.shmSize", "the job's shm_size cannot be read", err.Error(), "write it like 2g")
		}
	}
	if err := s.wishes(j.Resources.Properties); err != nil {
		return s, err
	}
	return s, s.distribute(j.Distribution)
}

// distribute reads a v2 job's distribution.
func (s *scale) distribute(d *jobDistribution) (err error) {
	if d == nil || d.Type == "" {
		return nil
	}
	per, err := count(d.PerInstance, "process_count_per_instance")
	if err != nil {
		return err
	}
	switch strings.ToLower(d.Type) {
	case "pytorch":
		s.framework, s.perNode = compute.PyTorch, per
	case "mpi":
		s.framework, s.perNode = compute.MPI, per
	case "tensorflow":
		s.framework = compute.TensorFlow
		workers, err := count(d.Workers, "worker_count")
		if err != nil {
			return err
		}
		servers, err := count(d.ParameterServers, "parameter_server_count")
		if err == nil {
			err = noParameterServers(servers, "parameter_server_count")
		}
		if err != nil {
			return err
		}
		return s.spread(workers, "worker_count")
	default:
		return &workspace.Problem{
			Class: workspace.Unsupported, Code: "UnsupportedDistribution", Target: "distribution.type", Message: fmt.Sprintf("this server starts no cluster of type %s", quote(d.Type)),
			Mend: "use pytorch, tensorflow or mpi, or start it in the command",
		}
	}
	return nil
}

// wishes reads what a job asks for in resources.properties beside gpus. Others of Azure's own stay without meaning.
func (s *scale) wishes(properties map[string]any) error {
	b, err := json.Marshal(properties)
	if err != nil {
		return fmt.Errorf("control: resources: %w", err)
	}
	var w struct {
		CPUs        quantity          `json:"cpus"`
		CPULimit    quantity          `json:"cpu_limit"`
		Memory      quantity          `json:"memory"`
		MemoryLimit quantity          `json:"memory_limit"`
		Selector    map[string]string `json:"node_selector"`
		Queue       string            `json:"queue"`
		Priority    string            `json:"priority_class"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return invalid("InvalidResources", "resources.properties", "what the job asks for in resources.properties cannot be read", strings.TrimPrefix(err.Error(), "json: "),
			"give cpus, cpu_limit, memory and memory_limit as quantities like 500m or 8Gi, queue and priority_class as names, node_selector as a map of texts")
	}
	r := &s.resources
	r.CPUs, r.Memory, r.Selector, r.Queue, r.Priority = float64(w.CPUs), w.Memory.bytes(), w.Selector, w.Queue, w.Priority
	r.CPULimit, r.MemoryLimit = orElse(float64(w.CPULimit), r.CPULimit), orElse(w.MemoryLimit.bytes(), r.MemoryLimit)
	return nil
}
