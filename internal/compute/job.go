package compute

import (
	"strconv"
	"time"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Key is all that a driver ever sees as a job's identity, so that two workspaces or servers never meet on one target.
type Key struct {
	Server  string `json:"server"`
	Compute string `json:"compute"`
	Job     string `json:"job"` // the job's id, a ULID
	Attempt int    `json:"attempt"`
}

// String renders the key for folders, names and messages: "job.attempt" is unique below one server and compute.
func (k Key) String() string { return k.Job + "." + strconv.Itoa(k.Attempt) }

// Ref is a driver's own opaque note on a submitted job. It may be empty.
type Ref string

// Handle names a job to a target: its key, and the ref if one is known.
type Handle struct {
	Key Key
	Ref Ref
}

// Job is what a target runs.
type Job struct {
	Key   Key
	Epoch int64 // of the lease under which it is submitted; see Target.Submit

	// Name is the name that people gave it. It may appear in process lists.
	Name string
	// Command is text for a POSIX shell, run in the folder where Code was placed. ${{inputs.NAME}} and
	// ${{outputs.NAME}} stand for the paths of Inputs and Outputs and are filled in by the target; literal inputs are
	// already in place.
	Command string
	// Env is added to the login's own environment. In values, WayBackAddress stands for host:port of the way back and
	// CAFile for the path of a bundle that holds the target's own roots and Env.CA. BlobHost stands for the way back by
	// another name, see there.
	Env map[string]string
	// Secrets are environment variables of the command that must never reach a file, a log or a process list.
	Secrets map[string]workspace.Secret

	Code        snapshot.Hash // root tree; empty: an empty folder
	Inputs      []Input
	Outputs     []Output
	Environment *Environment // nil: the target's own

	Image     *Image    // nil: the target's own, or none where it runs no containers
	Resources Resources // what the target's scheduler or engine is asked for, beside GPUs
	Ranks     Ranks     // several processes as one job

	GPUs     int           // devices wanted, of each node
	Timeout  time.Duration // 0: none. Counts from the start of the command
	Grace    time.Duration // between asking the tree to end and ending it
	LogLimit int64         // bytes kept; what is over is dropped and counted. 0: the target's default
}

// Placeholders in the values of Job.Env.
const (
	WayBackAddress = "{{wayback}}"
	CAFile         = "{{cafile}}"
	// BlobHost is moorage.blob.localhost:port, a name of the form to which azureml-core uploads (azureml-v1.md §1.4). Where
	// there is a keeper, a job that has it reaches the way back by that name, whether the target knows it or not.
	BlobHost = "{{blobhost}}"
)

// Image is a container image that a job runs in. It has a POSIX shell at /bin/sh.
type Image struct {
	Name  string // as an engine takes it: "python:3.12", "registry.example/team/train@sha256:…"
	Login *Login // nil: it is pulled without
}

// Login is how a private registry is used.
type Login struct {
	Server   string // host, with the port if it has one
	Username string
	Password workspace.Secret
}

// Resources is what a job asks for, of each node. Zero values ask for nothing; kinds without a scheduler or containers
// heed none.
type Resources struct {
	CPUs        float64 // requested
	CPULimit    float64
	Memory      int64 // requested, bytes
	MemoryLimit int64
	Shm         int64             // bytes of /dev/shm
	Selector    map[string]string // labels of the nodes that will do
	Queue       string            // of the target's own queueing system
	Priority    string            // class of priority, by the target's own name
}

// Ranks says that a job is several processes, started together and ended together: the first that fails ends all.
type Ranks struct {
	Nodes     int // 0 is 1
	PerNode   int // processes on each node; 0 is 1
	Framework Framework
}

// Framework is by which variables processes find each other.
type Framework string

// The frameworks, by azureml-v2.md §9's distributionType.
const (
	Single     Framework = ""
	PyTorch    Framework = "pytorch"
	TensorFlow Framework = "tensorflow"
	MPI        Framework = "mpi"
)

// Input is a file or folder placed before the command starts. Exactly one of Tree, URL and Path is set.
type Input struct {
	Name   string
	Folder bool
	Tree   snapshot.Hash // a snapshot tree; for a file, a tree with that one file
	URL    string        // https, fetched by the target itself
	Path   string        // a path on the target, used in place
	Link   bool          // read-only is enough: a link will do (mode ro_mount)
}

// Output is a path that the command writes and that Collect brings home.
type Output struct {
	Name   string
	Folder bool
}

// Environment is a plan made by package environment: steps that make a folder once per target and hash.
type Environment struct {
	Hash  string        // of the normalised spec and the way taken
	Steps []Step        // run in order; the first failure ends the job in Preparing
	Tools []Tool        // programs that the steps use
	Path  []string      // put before PATH, relative to the environment's folder
	Env   []string      // NAME=value; {{env}} stands for the environment's folder
	Say   string        // one line for the log: which way was taken and why
	Keep  time.Duration // may be evicted when unused for so long; 0: the target's default
}

// Step is one command of an environment's making. In arguments {{env}} stands for the environment's folder and
// {{tool.NAME}} for a tool's path.
type Step struct {
	Args  []string
	Files map[string]string // written before it runs, relative to the environment's folder
}

// Tool is a program placed by content.
type Tool struct {
	Name   string
	Object snapshot.Hash
}

// Phase is where a job is at its target.
type Phase string

// The phases.
const (
	Missing   Phase = "missing"   // the target does not know it; with a Reason NotStarted it does, and the command never ran: Submit starts it
	Waiting   Phase = "waiting"   // for a slot, a GPU, or the target's own queue
	Preparing Phase = "preparing" // environment, code and inputs
	Running   Phase = "running"
	Ended     Phase = "ended" // Exit is set
)

// NotStarted is the code of the Reason of a Missing job that may be submitted again although it was handed over.
const NotStarted = "NotStarted"

// Status is how one job is.
type Status struct {
	Key     Key
	Ref     Ref
	Phase   Phase
	Reason  *workspace.Problem // why it waits
	Env     string             // hash of the environment being made, while Preparing it
	Started time.Time          // of the command; zero before
	LogSize int64
	Exit    *Exit
}

// Outcome is how a job ended.
type Outcome string

// The outcomes.
const (
	Succeeded Outcome = "succeeded" // exit code 0
	Failed    Outcome = "failed"    // another exit code, a signal, or a failure before the command; Problem says which
	Canceled  Outcome = "canceled"
	TimedOut  Outcome = "timed_out"
	Lost      Outcome = "lost" // the target cannot say how it ended: its supervisor was killed, or the machine restarted
)

// Exit is the record of a job's end. It is durable at the target before Status tells of it.
type Exit struct {
	Outcome    Outcome
	Code       int    // exit code of the command; -1 if it has none
	Signal     string // "KILL"; empty if none
	Problem    *workspace.Problem
	Ended      time.Time
	PeakMemory int64 // bytes, of the largest process
	LogSize    int64
	LogDropped int64  // bytes over the limit
	Log        []byte // the whole log, when it is short enough to come along
	Files      bool   // there is something to Collect
}

// LogQuery asks for a part of a log.
type LogQuery struct {
	Stream string // "" is stdout and stderr merged; "prepare" is the making of environment and inputs
	From   int64
	Follow bool
}

// Limits is what a kind cannot do, as data.
type Limits struct {
	// SubmitGap is how long after Submit the target may not yet show the job.
	SubmitGap time.Duration
	// Retention is how long the target remembers an ended job that was not released; 0: for ever.
	Retention time.Duration
	NoEpoch   bool // the target has no place to keep an epoch: a stale submit after Release starts the job
	NoFence   bool // a Cancel before Submit leaves no mark: the server looks a second time
	// NoWayBack: jobs cannot reach the server through the target.
	NoWayBack bool
	// NoCollectWhileRunning: outputs can only be read after the end.
	NoCollectWhileRunning bool
	// NoLogOffsets: a log is only read from its beginning.
	NoLogOffsets bool
	// NoPeakMemory: the exit record lacks it.
	NoPeakMemory bool
	// NoGPUs: devices are not allotted.
	NoGPUs bool
	// NoNodes: a job is on one node.
	NoNodes bool
	// Experimental kinds have passed only a part of the exam.
	Experimental bool
}
