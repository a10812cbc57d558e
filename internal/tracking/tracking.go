// Package tracking keeps experiments and runs: their metrics, params, tags, datasets and artifacts. It is what the MLflow
// API, Azure's run history and the job list all see. It validates by MLflow's rules (mlflow.md §5, §10) and writes through
// the store; it never speaks HTTP. The packages below api call it; control and reconcile call CreateJobRun, SetJobRunState
// and DescribeJobRun inside their own transactions.
package tracking

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is what a Tracking is made of.
type Config struct {
	Store *store.Store
	Blob  blob.Store
	Clock clock.Source
}

// Tracking holds the use cases. It is safe for concurrent use.
type Tracking struct {
	store *store.Store
	blob  blob.Store
	clock clock.Source
	ready sync.Map // workspace id → struct{}: has its Default experiment
	ids   sync.Map // workspace id/Azure's id → int64: experiments that were asked for by it
}

// New makes a Tracking.
func New(cfg Config) *Tracking {
	return &Tracking{store: cfg.Store, blob: cfg.Blob, clock: cfg.Clock}
}

// Scope is what a caller may see: a workspace, or with Run set, which is for a job's own credential, the run of that job,
// the runs below it, and its experiment.
type Scope struct {
	WorkspaceID string
	Run         string
	Experiment  int64
	// ArtifactBase is what URLs of artifacts in the server's own store begin with, as the caller reaches the server;
	// it ends with a slash.
	ArtifactBase string
}

// Scope gives the scope of a principal in a workspace. A job's principal is named after the job, and so is its run; that of
// a run without a job is named after the run.
func (t *Tracking) Scope(ctx context.Context, p workspace.Principal, workspaceID, artifactBase string) (Scope, error) {
	s := Scope{WorkspaceID: workspaceID, ArtifactBase: artifactBase}
	if p.Job == "" {
		if p.Workspace != "" && p.Workspace != workspaceID {
			return s, denied("this credential is for another workspace", "")
		}
		return s, t.ensureDefault(ctx, workspaceID)
	}
	if p.Workspace != workspaceID {
		return s, denied("this credential is for another workspace", "")
	}
	run, err := t.store.Run(ctx, workspaceID, p.Name)
	if errors.Is(err, store.ErrNotFound) || (err == nil && run.Job == (p.Kind == loneRun)) {
		return s, denied("job "+p.Name+" has no run", "")
	}
	if err != nil {
		return s, err
	}
	s.Run, s.Experiment = run.ID, run.ExperimentID
	return s, nil
}

// loneRun is the kind of a principal that is a run without a job: a script on its user's own computer.
const loneRun = "run"

// ensureDefault makes the experiment Default of a workspace that has none: MLflow's client falls back to id 0.
func (t *Tracking) ensureDefault(ctx context.Context, workspaceID string) error {
	if _, done := t.ready.Load(workspaceID); done {
		return nil
	}
	_, err := t.store.Experiment(ctx, workspaceID, 0)
	if errors.Is(err, store.ErrNotFound) {
		err = t.store.Write(ctx, func(tx *store.Tx) error {
			return tx.InsertDefaultExperiment(ctx, workspaceID, t.clock.Millis())
		})
	}
	if err != nil {
		return err
	}
	t.ready.Store(workspaceID, struct{}{})
	return nil
}

func invalid(target, format string, args ...any) *workspace.Problem {
	return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidParameter", Target: target, Message: fmt.Sprintf(format, args...)}
}

func notFound(target, format string, args ...any) *workspace.Problem {
	return &workspace.Problem{Class: workspace.NotFound, Code: "ResourceNotFound", Target: target, Message: fmt.Sprintf(format, args...)}
}

func exists(target, format string, args ...any) *workspace.Problem {
	return &workspace.Problem{Class: workspace.Conflict, Code: "ResourceAlreadyExists", Target: target, Message: fmt.Sprintf(format, args...)}
}

func denied(message, mend string) *workspace.Problem {
	return &workspace.Problem{Class: workspace.Denied, Code: "Denied", Message: message, Mend: mend}
}
