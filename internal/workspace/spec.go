package workspace

import "encoding/json"

// JobSpec is a job as control understood it: validated, references resolved, literal inputs in place. It is what
// reconcile hands to a target. It holds no secret. Hashes are those of package snapshot.
type JobSpec struct {
	Command     string            `json:"command"`
	Variables   map[string]string `json:"variables,omitempty"` // environment variables that the user asked for
	Code        string            `json:"code,omitempty"`      // root hash of the snapshot
	Inputs      []InputSpec       `json:"inputs,omitempty"`
	Outputs     []OutputSpec      `json:"outputs,omitempty"`
	Environment json.RawMessage   `json:"environment,omitempty"` // environment.Spec; absent: the target's own
	GPUs        int               `json:"gpus,omitempty"`        // of each node
	Resources   *ResourceSpec     `json:"resources,omitempty"`
	Ranks       *RankSpec         `json:"ranks,omitempty"`   // absent: one process
	Timeout     int64             `json:"timeout,omitempty"` // seconds; 0: none
	Datasets    []DatasetSpec     `json:"datasets,omitempty"`
	BlobHost    bool              `json:"blob_host,omitempty"` // its client uploads to a host of the form X.blob.Y alone (azureml-v1.md §1.4)
}

// ResourceSpec is what a job asks for beside GPUs, of each node, after its instance type was looked up. Zero values ask for
// nothing.
type ResourceSpec struct {
	CPUs        float64           `json:"cpus,omitempty"`
	CPULimit    float64           `json:"cpu_limit,omitempty"`
	Memory      int64             `json:"memory,omitempty"` // bytes
	MemoryLimit int64             `json:"memory_limit,omitempty"`
	Shm         int64             `json:"shm,omitempty"` // bytes of /dev/shm
	Selector    map[string]string `json:"selector,omitempty"`
	Queue       string            `json:"queue,omitempty"`
	Priority    string            `json:"priority,omitempty"`
}

// RankSpec says that a job is several processes.
type RankSpec struct {
	Nodes     int    `json:"nodes,omitempty"`
	PerNode   int    `json:"per_node,omitempty"`
	Framework string `json:"framework,omitempty"` // pytorch, tensorflow, mpi
}

// DatasetSpec is a dataset of which the job makes a version by ending well: what it wrote to an output.
type DatasetSpec struct {
	Name        string            `json:"name"`
	Definition  string            `json:"definition"` // its id
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
}

// InputSpec is where an input comes from. Exactly one of Tree, URL, Path and Prefix is set.
type InputSpec struct {
	Name   string `json:"name"`
	Folder bool   `json:"folder,omitempty"`
	Link   bool   `json:"link,omitempty"`   // mode ro_mount: read-only is enough
	Tree   string `json:"tree,omitempty"`   // root hash of a snapshot; for a file, of a tree that holds only that file
	URL    string `json:"url,omitempty"`    // https
	Path   string `json:"path,omitempty"`   // on the target
	Prefix string `json:"prefix,omitempty"` // in the blob store: a blob, or all below it; becomes a tree when the job is handed over
}

// OutputSpec is an output and where its files go in the blob store.
type OutputSpec struct {
	Name   string `json:"name"`
	Folder bool   `json:"folder,omitempty"`
	Prefix string `json:"prefix"`
}
