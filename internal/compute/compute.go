// Package compute is the contract between Moorage and the places where jobs run.
//
// A Driver speaks to one kind of target; a Target is one attached compute, opened. No verb creates or deletes a
// compute: "detach never deletes" is a property of these types. Drivers live in one folder a kind beside this one and
// are listed in compute/all; the exam in compute/computetest defines what each must do. Only package fleet opens
// targets; retry, limits, metrics and logging are its decorators and never code of a driver.
//
// The life of a job on a target:
//
//	Submit ──► Waiting ──► Preparing ──► Running ──► Ended ──► Collect ──► Release
//	   ▲           └───────────┴─────────────┴─── Cancel ──► Ended (Canceled)
//	   └── repeated after any doubt: the same Key starts nothing a second time
package compute

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Driver speaks to one kind of target. Only Open does I/O.
type Driver interface {
	// Kind is the word by which people and settings name it, e.g. "ssh".
	Kind() string
	// Schema is the JSON Schema of the attach settings; writeOnly marks a secret. CLI flags, forms and docs are made from it.
	Schema() json.RawMessage
	// Limits says, as data, what this kind cannot do; the exam asserts each limit and the docs print it.
	Limits() Limits
	// Open connects to a target. Settings carry the secrets in clear and are not kept in any readable place.
	Open(ctx context.Context, settings json.RawMessage, env Env) (Target, error)
}

// Target is one attached compute. It is safe for concurrent use and every method may be repeated.
// Errors wrap one of the sentinels in errors.go and carry a workspace.Problem.
type Target interface {
	// Probe is the pre-flight: who the target is, what is there, and what stands in the way of a job.
	Probe(ctx context.Context) (Facts, error)
	// Submit hands a job over, within seconds; slow work goes on at the target as Waiting or Preparing. The same Key
	// again starts nothing and returns the same Ref. A Key that was cancelled starts nothing. A job whose Epoch is lower
	// than one this target has seen starts nothing and is ErrStale.
	Submit(ctx context.Context, job Job) (Ref, error)
	// Status tells how jobs are, in the order asked; a thousand jobs cost O(1) calls. A job that the target does not
	// know has Phase Missing, and that is said only on an authoritative answer.
	Status(ctx context.Context, jobs []Handle) ([]Status, error)
	// Cancel ends the job and its whole tree of processes, or, before it was submitted, fences its Key so that a later
	// Submit starts nothing. It returns when the wish is recorded at the target; Status tells when it is done. Over already: nil.
	Cancel(ctx context.Context, job Handle, epoch int64) error
	// Logs writes the job's log from q.From on to w and returns the offset after the last byte written. With q.Follow it
	// returns when the job has ended and everything was written. A gap moves the offset and is said in the log.
	Logs(ctx context.Context, job Handle, q LogQuery, w io.Writer) (next int64, err error)
	// Collect brings output files home. It is incremental and may be called while the job runs.
	Collect(ctx context.Context, job Handle, out Outputs) error
	// Release removes all that the job left at the target. Unknown job: nil.
	Release(ctx context.Context, job Handle, epoch int64) error
	// Close drops connections. Jobs go on.
	Close() error
}

// Abilities: what some targets can do beyond the contract. Ask by type assertion.
type (
	// Watcher tells of changes sooner than asking would. Watch calls fn for each change, one call at a time, until ctx
	// ends or the connection is lost, and returns why. Changes before Watch are not repeated: ask Status once after it began.
	Watcher interface {
		Watch(ctx context.Context, fn func(Status)) error
	}
	// Dialer connects to a TCP port of a running job (TensorBoard, Jupyter, scoring).
	Dialer interface {
		Dial(ctx context.Context, job Handle, port int) (net.Conn, error)
	}
	// Remover takes away everything that this attachment ever placed on the target, and only that. Used by detach.
	Remover interface {
		RemoveAll(ctx context.Context) error
	}
)

// Env is what a driver gets from the server.
type Env struct {
	Server  string // this server's id; with Compute it scopes everything placed on the target
	Compute string // the compute's id
	Log     *slog.Logger
	Clock   clock.Source
	// Objects gives the content of snapshots.
	Objects Objects
	// WayBack serves one connection that a job made towards the server. It takes the connection over and closes it.
	WayBack func(job Key, conn net.Conn)
	// CA is the server's own certificate authority, PEM, which clients inside jobs must trust.
	CA []byte
	// Keeper gives the keeper program for a platform, e.g. ("linux", "arm64"). ErrInvalid for one that is not built.
	Keeper func(goos, goarch string) (Program, error)
}

// Program is an executable to be placed on a target.
type Program struct {
	Hash snapshot.Hash // of the bytes
	Size int64
	Open func() (io.ReadCloser, error)
}

// Objects reads content-addressed objects: files, and trees in their canonical encoding (package snapshot).
type Objects interface {
	// Open returns the object's bytes and their number. fs.ErrNotExist if it is not there.
	Open(ctx context.Context, hash snapshot.Hash) (io.ReadCloser, int64, error)
}

// Outputs is where Collect delivers.
type Outputs interface {
	// Want tells whether this version of a file is not home yet. output is the name of an output of the job, or
	// OutputsFolder or LogsFolder.
	Want(output string, f File) bool
	// Put stores one file. It reads r to its end, f.Size bytes; fewer is an error and nothing is kept.
	Put(ctx context.Context, output string, f File, r io.Reader) error
}

// The folders of a job's working directory that come home beside its named outputs.
const (
	OutputsFolder = "outputs"
	LogsFolder    = "logs"
)

// File is one file of an output. Path is relative, slash-separated, clean, and never leaves its folder; it is empty
// when the output itself is a file.
type File struct {
	Path     string
	Size     int64
	Mode     uint32 // permission bits
	Modified int64  // nanoseconds since the epoch
}

// Facts is what a Probe found.
type Facts struct {
	// Identity is the kind's canonical key of the target, parts in order of weight (ssh: machine id, host key). Two
	// computes of a workspace with all parts equal are the same target.
	Identity []string
	// Details are for people and for planning: "os", "arch", "cpus", "memory", "python", "conda", "gpus", "slots", "home", …
	Details map[string]string
	// Pins are settings that the target showed when it was first met and that are kept from then on (ssh: host keys).
	Pins map[string]any
	// Problems are findings; one without Warning stands in the way of attaching.
	Problems []workspace.Problem
}
