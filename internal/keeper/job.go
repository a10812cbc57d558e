package keeper

import (
	"time"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Job is what a supervisor runs. Its meaning is that of compute.Job; secrets travel beside it and never in it.
type Job struct {
	Name        string            `json:"name,omitempty"`
	Command     string            `json:"command"`
	Env         map[string]string `json:"env,omitempty"`
	Code        snapshot.Hash     `json:"code,omitempty"`
	Inputs      []Input           `json:"inputs,omitempty"`
	Outputs     []Output          `json:"outputs,omitempty"`
	Environment *Environment      `json:"environment,omitempty"`
	GPUs        int               `json:"gpus,omitempty"`
	Timeout     time.Duration     `json:"timeout,omitempty"`
	Grace       time.Duration     `json:"grace,omitempty"`     // 0: DefaultGrace
	LogLimit    int64             `json:"log_limit,omitempty"` // 0: DefaultLogLimit
	Image       *Image            `json:"image,omitempty"`     // nil: the command runs where the supervisor does
	Bounds      *Bounds           `json:"bounds,omitempty"`    // of the container; nil: none
	Ranks       *Ranks            `json:"ranks,omitempty"`     // nil: one process
}

// Image is the image of a container in which the supervisor runs the command and the steps of the environment, by the
// machine's own engine. It has a POSIX shell at /bin/sh.
type Image struct {
	Name     string           `json:"name"`
	Registry string           `json:"registry,omitempty"` // host of the registry to which Username and Password are given
	Username string           `json:"username,omitempty"`
	Password workspace.Secret `json:"-"` // travels beside the job
}

// Bounds are what a job's container may use. Zero values bound nothing.
type Bounds struct {
	CPUs   float64 `json:"cpus,omitempty"`
	Memory int64   `json:"memory,omitempty"` // bytes
	Shm    int64   `json:"shm,omitempty"`    // bytes of /dev/shm; 0: DefaultShm
}

// DefaultShm is the size of a container's /dev/shm, as Azure has it (azureml-v1.md §6.1): engines give 64 MB, with which
// the loaders of PyTorch fail. It is taken only as it is used.
const DefaultShm = 2 << 30

// Ranks says that the command is started several times as one job. The first process that fails ends all. Each finds the
// others by the variables of the framework, see ranks.go.
type Ranks struct {
	Framework string `json:"framework,omitempty"` // pytorch, tensorflow, mpi; empty: no variables but AZUREML_PROCESS_NAME
	PerNode   int    `json:"per_node,omitempty"`  // processes here; 0 is 1
	Nodes     int    `json:"nodes,omitempty"`     // 0 is 1
	// Node is this node's number, from 0. NodeVariable, if not empty, names the variable of the supervisor's own environment
	// that holds it instead: supervisors of several nodes can then have one job.
	Node         int    `json:"node,omitempty"`
	NodeVariable string `json:"node_variable,omitempty"`
	// Host is the name by which nodes reach each other; {{node}} in it stands for a node's number. Empty: 127.0.0.1.
	Host string `json:"host,omitempty"`
	// Port is the first of the ports that the processes may use: the master's. 0: with one node any free one, else DefaultPort.
	Port int `json:"port,omitempty"`
}

// DefaultPort is the master's port on several nodes, the one that PyTorch has.
const DefaultPort = 29500

// What applies when a job does not say.
const (
	DefaultGrace    = 10 * time.Second
	DefaultLogLimit = 4 << 30
)

// Placeholders in the values of Job.Env, filled in by the supervisor.
const (
	WayBackAddress = "{{wayback}}"  // host:port of the way back
	CAFile         = "{{cafile}}"   // path of a bundle of the target's roots and the server's CA
	BlobHost       = "{{blobhost}}" // the same as WayBackAddress, by a name of the form to which azureml-core uploads; see names.go
)

// Input is a file or folder placed before the command starts. Exactly one of Tree, URL and Path is set.
type Input struct {
	Name   string        `json:"name"`
	Folder bool          `json:"folder,omitempty"`
	Tree   snapshot.Hash `json:"tree,omitempty"`
	URL    string        `json:"url,omitempty"`
	Path   string        `json:"path,omitempty"`
	Link   bool          `json:"link,omitempty"`
}

// Output is a path that the command writes and that Collect brings home.
type Output struct {
	Name   string `json:"name"`
	Folder bool   `json:"folder,omitempty"`
}

// Environment is a folder made once per target and hash. {{env}} stands for it, {{tool.NAME}} for a tool's path.
type Environment struct {
	Hash  string        `json:"hash"`
	Steps []Step        `json:"steps,omitempty"`
	Tools []Tool        `json:"tools,omitempty"`
	Path  []string      `json:"path,omitempty"`
	Env   []string      `json:"env,omitempty"`
	Say   string        `json:"say,omitempty"`
	Keep  time.Duration `json:"keep,omitempty"` // 0: DefaultKeep
}

// DefaultKeep is how long an unused environment stays.
const DefaultKeep = 30 * 24 * time.Hour

// Step is one command of an environment's making.
type Step struct {
	Args  []string          `json:"args"`
	Files map[string]string `json:"files,omitempty"`
}

// Tool is a program placed by content.
type Tool struct {
	Name   string        `json:"name"`
	Object snapshot.Hash `json:"object"`
}

// Phase is where a job is.
type Phase string

// The phases.
const (
	Missing   Phase = "missing"   // unknown here; or, with a Reason NotStarted, known, never started and without a supervisor: Submit starts it
	Waiting   Phase = "waiting"   // for a slot or a GPU
	Preparing Phase = "preparing" // environment, code and inputs
	Running   Phase = "running"
	Ended     Phase = "ended" // Exit is set
)

// Status is how one job is.
type Status struct {
	Key     string             `json:"key"`
	Phase   Phase              `json:"phase"`
	Reason  *workspace.Problem `json:"reason,omitempty"`
	Env     string             `json:"env,omitempty"`
	Started time.Time          `json:"started,omitzero"`
	LogSize int64              `json:"log_size,omitempty"`
	Exit    *Exit              `json:"exit,omitempty"`
}

// Outcome is how a job ended.
type Outcome string

// The outcomes.
const (
	Succeeded Outcome = "succeeded"
	Failed    Outcome = "failed"
	Canceled  Outcome = "canceled"
	TimedOut  Outcome = "timed_out"
	Lost      Outcome = "lost"
)

// Exit is the record of a job's end.
type Exit struct {
	Outcome    Outcome            `json:"outcome"`
	Code       int                `json:"code"` // -1: none
	Signal     string             `json:"signal,omitempty"`
	Problem    *workspace.Problem `json:"problem,omitempty"`
	Ended      time.Time          `json:"ended"`
	PeakMemory int64              `json:"peak_memory,omitempty"` // bytes, of the largest process; not less than the supervisor's own few MB
	LogSize    int64              `json:"log_size,omitempty"`
	LogDropped int64              `json:"log_dropped,omitempty"`
	Log        []byte             `json:"log,omitempty"` // the whole log when it is at most InlineLog
	Files      bool               `json:"files,omitempty"`
}

// InlineLog is the size up to which a log comes along with the exit.
const InlineLog = 8 << 10

// File is one file of an output, as compute.File.
type File struct {
	Output   string `json:"o"`
	Path     string `json:"p,omitempty"`
	Size     int64  `json:"s"`
	Mode     uint32 `json:"m"`
	Modified int64  `json:"t"`
}

// Facts is what a probe found.
type Facts struct {
	Machine  string              `json:"machine"` // the machine's id
	Details  map[string]string   `json:"details"`
	Problems []workspace.Problem `json:"problems,omitempty"`
	Now      time.Time           `json:"now"` // the target's clock
}

// NotStarted is the code of the reason why a job that is known is Missing all the same: its command never ran, so it may
// be submitted again.
const NotStarted = "NotStarted"
