// Package fake is a kind of compute that runs nothing: machines in memory that fail on demand. It is a fake and calls
// itself one; it serves the tests of those who use targets (reconcile, control, fleet), and it is in no list of kinds.
//
// A World holds machines; they and their jobs outlive the targets by which they are used, as real ones do, so a test can
// "restart the server" by opening another target. A job's command is text in a tiny language, see language.go.
package fake

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// World is a set of machines. Use New.
type World struct {
	limits compute.Limits

	mu       sync.Mutex
	machines map[string]*Machine
	opened   int
}

// New makes a world whose kind has the given limits: NoFence, NoEpoch, SubmitGap, NoCollectWhileRunning and NoLogOffsets
// are acted out, the others only told.
func New(limits compute.Limits) *World {
	return &World{limits: limits, machines: map[string]*Machine{}}
}

// Close ends every job and waits for it. A test calls it last.
func (w *World) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.machines {
		m.close()
	}
}

// Machine gives the machine of a name; it is there as soon as it is asked for.
func (w *World) Machine(name string) *Machine {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machines[name]
	if m == nil {
		m = newMachine(name, w.limits)
		w.machines[name] = m
	}
	return m
}

// Opened tells how many targets were opened so far.
func (w *World) Opened() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opened
}

// Driver is the kind "fake".
func (w *World) Driver() compute.Driver { return driver{w} }

// Settings are the attach settings.
type Settings struct {
	Machine  string `json:"machine"`
	Slots    int    `json:"slots,omitempty"`    // 0: 2
	GPUs     int    `json:"gpus,omitempty"`     // 0: none
	Password string `json:"password,omitempty"` // "wrong" is refused
}

type driver struct{ w *World }

func (driver) Kind() string { return "fake" }

func (driver) Schema() json.RawMessage {
	return json.RawMessage(`{
  "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fake", "description": "A machine in memory, for tests", "type": "object",
  "properties": {
    "machine": {"type": "string", "description": "its name in the test's world"},
    "slots": {"type": "integer", "minimum": 0}, "gpus": {"type": "integer", "minimum": 0},
    "password": {"type": "string", "writeOnly": true, "description": "\"wrong\" is refused"}
  }
}`)
}

func (d driver) Limits() compute.Limits { return d.w.limits }

func (d driver) Open(ctx context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	var s Settings
	if err := json.Unmarshal(settings, &s); err != nil {
		return nil, failure(compute.ErrInvalid, "InvalidSettings", "the settings of a fake compute are not valid")
	}
	m := d.w.Machine(s.Machine)
	if err := m.enter(ctx, Open, compute.Key{}); err != nil {
		return nil, err
	}
	if s.Password == "wrong" {
		return nil, Denied()
	}
	m.resize(s.Slots, s.GPUs)
	d.w.mu.Lock()
	d.w.opened++
	d.w.mu.Unlock()
	return &Target{m: m, scope: scope{env.Server, env.Compute}, closed: make(chan struct{})}, nil
}

func failure(kind error, code, message string) error {
	return &compute.Error{Kind: kind, Problem: workspace.Problem{
		Code: code, Message: message, Cause: "the test told the fake so", Mend: "nothing needs doing: it is a fake",
	}}
}

// Unreachable is the error of a machine that cannot be reached.
func Unreachable() error {
	return failure(compute.ErrUnreachable, "ComputeUnreachable", "the fake machine cannot be reached")
}

// Denied is the error of a machine that refuses the credentials.
func Denied() error {
	return failure(compute.ErrDenied, "LoginRefused", "the fake machine refuses the credentials")
}

// Full is the error of a machine without room.
func Full() error {
	return failure(compute.ErrFull, "DiskFull", "the fake machine has no room")
}

func notFound(key compute.Key) error {
	return failure(compute.ErrNotFound, "JobNotFound", fmt.Sprintf("the fake machine knows no job %s", key))
}

var errStale = failure(compute.ErrStale, "StaleLease", "another server holds the compute")

var _ compute.Driver = driver{}
