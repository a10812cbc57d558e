package control

import (
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// runFrameworks are the parts of a run's definition that say how it is several processes (azureml-v1.md §6.1). The client
// writes all of them always; the communicator tells which one is meant.
type runFrameworks struct {
	Mpi struct {
		ProcessCountPerNode *float64
	}
	Pytorch struct {
		ProcessCount *float64 // of all nodes
	}
	Tensorflow struct {
		WorkerCount, ParameterServerCount *float64
	}
}

// scale reads how large a run is.
func (d *runDefinition) scale() (s scale, err error) {
	s = scale{instance: d.KubernetesCompute.InstanceType, nodesField: "node_count"}
	if s.nodes, err = count(d.NodeCount, "node_count"); err != nil {
		return s, err
	}
	arguments, shm := d.Docker.Arguments, d.Docker.ShmSize
	if len(arguments) == 0 {
		arguments = d.env.Docker.Arguments
	}
	if shm == "" {
		shm = d.env.Docker.ShmSize
	}
	if err := s.docker(arguments); err != nil {
		return s, err
	}
	if shm != "" && s.resources.Shm == 0 {
		if s.resources.Shm, err = dockerSize(shm); err != nil {
			return s, invalid("InvalidShmSize", "docker.shmSize", "the run's shm_size cannot be read", err.Error(), "write it like 2g")
		}
	}
	return s, d.communicate(&s)
}

// communicate reads by which of its frameworks a run is several processes.
func (d *runDefinition) communicate(s *scale) error {
	switch communicator := strings.ToLower(d.Communicator); {
	case strings.HasSuffix(communicator, "mpi"):
		s.framework = compute.MPI
		var err error
		s.perNode, err = count(d.Mpi.ProcessCountPerNode, "process_count_per_node")
		return err
	case communicator == "nccl", communicator == "gloo":
		s.framework = compute.PyTorch
		total, err := count(d.Pytorch.ProcessCount, "process_count")
		if err != nil {
			return err
		}
		return s.spread(total, "process_count")
	case communicator == "parameterserver":
		s.framework = compute.TensorFlow
		servers, err := count(d.Tensorflow.ParameterServerCount, "parameter_server_count")
		if err == nil {
			err = noParameterServers(servers, "parameter_server_count")
		}
		if err != nil {
			return err
		}
		workers, err := count(d.Tensorflow.WorkerCount, "worker_count")
		if err != nil {
			return err
		}
		return s.spread(workers, "worker_count")
	}
	return nil
}

// alone refuses what the client's own computer does not do: several processes.
func (s scale) alone() error {
	if s.nodes <= 1 && s.perNode <= 1 {
		return nil
	}
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "TooManyProcesses", Target: s.nodesField, Message: "a run on the client's own computer is one process",
		Mend: "leave distributed_job_config out, or name a compute",
	}
}

// asked are the resources as v2 clients read them.
func (s scale) asked() map[string]any {
	out := map[string]any{"instanceCount": max(s.nodes, 1)}
	if s.instance != "" {
		out["instanceType"] = s.instance
	}
	return out
}

// distribution is the run's scale as v2 clients read it.
func (s scale) distribution() map[string]any {
	names := map[compute.Framework]string{compute.PyTorch: "PyTorch", compute.MPI: "Mpi", compute.TensorFlow: "TensorFlow"}
	name := names[s.framework]
	switch name {
	case "":
		return nil
	case "TensorFlow":
		return map[string]any{"distributionType": name, "workerCount": max(s.nodes, 1) * max(s.perNode, 1), "parameterServerCount": 0}
	}
	return map[string]any{"distributionType": name, "processCountPerInstance": max(s.perNode, 1)}
}
