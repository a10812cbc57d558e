package reconcile

import (
	"encoding/json"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The phases of an environment on a compute.
const (
	environmentPreparing = "preparing"
	environmentReady     = "ready"
	environmentFailed    = "failed"
)

// prepared is what a job's status tells of its environment, if that is news: it is being made, a command runs in it, or
// the making failed. It holds one environment or none.
func (s step) prepared(row *store.Job, status compute.Status) []store.PreparedEnvironment {
	e := store.PreparedEnvironment{ComputeID: s.compute.ID, Hash: s.environment, LastUsed: s.hold.cfg.Clock.Millis()}
	if status.Env != "" {
		e.Hash = status.Env
	}
	if e.Hash == "" {
		return nil
	}
	switch {
	case status.Phase == compute.Preparing && status.Env != "" && row.State != workspace.Preparing:
		e.Phase = environmentPreparing
	case status.Phase == compute.Running && row.State != workspace.Running, status.Phase == compute.Ended && !status.Started.IsZero() && row.State != workspace.Running:
		e.Phase = environmentReady
	case status.Phase == compute.Ended && status.Exit != nil && failedInEnvironment(status.Exit):
		e.Phase, e.Problem = environmentFailed, status.Exit.Problem
	default:
		return nil
	}
	var spec workspace.JobSpec
	if json.Unmarshal(row.Spec, &spec) == nil { // our own writing
		e.Spec = spec.Environment
	}
	return []store.PreparedEnvironment{e}
}

// failedInEnvironment tells the end of a job whose environment could not be made from one whose inputs were not to be had.
func failedInEnvironment(x *compute.Exit) bool {
	return x.Outcome == compute.Failed && x.Problem != nil && x.Problem.Code == "EnvironmentFailed"
}
