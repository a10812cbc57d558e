package tracking

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/moorage-ml/moorage/internal/store"
)

// Tags that mean something to the server.
const (
	tagName         = "mlflow.runName"
	tagParent       = "mlflow.parentRunId"
	tagRoot         = "mlflow.rootRunId"
	tagUser         = "mlflow.user"
	tagSourceType   = "mlflow.source.type"
	tagModelHistory = "mlflow.log-model.history"
)

// NewRun is what a client asks for.
type NewRun struct {
	ExperimentID int64
	UserID       string
	Name         string
	Start        int64 // 0: now
	Tags         []store.Label
}

// CompleteRun is a run with all that hangs on it.
type CompleteRun struct {
	store.Run
	Data store.RunData
	URI  string // of its artifacts
}

// CreateRun makes a run with an id of the server's making.
func (t *Tracking) CreateRun(ctx context.Context, s Scope, n NewRun) (CompleteRun, error) {
	tags, err := checkLabels("tags", n.Tags, maxTag)
	if err != nil {
		return CompleteRun{}, err
	}
	if n.Name, tags, err = t.nameRun(n.Name, tags); err != nil {
		return CompleteRun{}, err
	}
	if n.Start == 0 {
		n.Start = t.clock.Millis()
	}
	id, err := t.newRunID()
	if err != nil {
		return CompleteRun{}, err
	}
	run := store.Run{
		WorkspaceID: s.WorkspaceID, ID: id, ExperimentID: n.ExperimentID, ParentID: parentOf(tags), Name: n.Name,
		UserID: n.UserID, Status: Running, Stage: store.StageActive, Start: n.Start,
	}
	err = t.again(ctx, func(tx *store.Tx) error {
		if _, err := activeExperiment(ctx, tx, s, n.ExperimentID); err != nil {
			return err
		}
		if err := s.allowParent(ctx, tx, run.ParentID); err != nil {
			return err
		}
		number, err := tx.InsertRun(ctx, run)
		if err != nil {
			return err
		}
		return tx.SetRunTags(ctx, number, tags)
	})
	if err != nil {
		return CompleteRun{}, err
	}
	return t.Run(ctx, s, id)
}

// nameRun settles the name of a new run and puts it among the tags.
func (t *Tracking) nameRun(name string, tags []store.Label) (string, []store.Label, error) {
	for i, l := range tags {
		if l.Key != tagName {
			continue
		}
		if name != "" && l.Value != "" && name != l.Value {
			return "", nil, invalid("run_name", "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values (run_name='%s', mlflow.runName='%s').", clip(name), clip(l.Value))
		}
		if name == "" {
			name = l.Value
		}
		tags = append(tags[:i:i], tags[i+1:]...)
		break
	}
	if name == "" {
		var err error
		if name, err = randomName(t.clock.Rand); err != nil {
			return "", nil, err
		}
	}
	name = cut(name, maxTag)
	return name, append(tags, store.Label{Key: tagName, Value: name}), nil
}

func (t *Tracking) newRunID() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(t.clock.Rand, b[:]); err != nil {
		return "", fmt.Errorf("tracking: run id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// parentOf is the run above, by the tags of a run.
func parentOf(tags []store.Label) string {
	parent, root := "", ""
	for _, l := range tags {
		switch l.Key {
		case tagParent:
			parent = l.Value
		case tagRoot:
			root = l.Value
		}
	}
	if parent != "" {
		return parent
	}
	return root
}

// allowParent lets a job's credential make runs below its own only.
func (s Scope) allowParent(ctx context.Context, tx *store.Tx, parent string) error {
	if s.Run == "" {
		return nil
	}
	mine := false
	if parent != "" {
		var err error
		if mine, err = tx.RunUnder(ctx, s.WorkspaceID, parent, s.Run); err != nil {
			return err
		}
	}
	if !mine {
		return denied("a job may make only runs below its own run "+s.Run, "use mlflow.start_run(nested=True) inside the job's run")
	}
	return nil
}

// runReads is what Store and Tx have in common.
type runReads interface {
	experimentReads
	Run(ctx context.Context, workspaceID, id string) (store.Run, error)
	RunUnder(ctx context.Context, workspaceID, id, top string) (bool, error)
	RunData(ctx context.Context, runs []int64) (map[int64]*store.RunData, error)
}

// run finds a run in the scope, deleted or not.
func (s Scope) run(ctx context.Context, r runReads, id string) (store.Run, error) {
	if id == "" {
		return store.Run{}, missing("run_id")
	}
	if !runPattern().MatchString(id) {
		return store.Run{}, invalid("run_id", "Invalid run ID: '%s'", clip(id))
	}
	run, err := r.Run(ctx, s.WorkspaceID, id)
	if errors.Is(err, store.ErrNotFound) {
		return run, notFound("run_id", "Run with id=%s not found", id)
	}
	if err != nil || s.Run == "" {
		return run, err
	}
	mine, err := r.RunUnder(ctx, s.WorkspaceID, id, s.Run)
	if err == nil && !mine {
		err = denied("this credential belongs to job "+s.Run+" and reaches no other run", "use the administrator's token for other runs")
	}
	return run, err
}

// activeRun finds a run that may be written to.
func (s Scope) activeRun(ctx context.Context, r runReads, id string) (store.Run, error) {
	run, err := s.run(ctx, r, id)
	if err == nil && run.Stage != store.StageActive {
		err = invalid("run_id", "The run %s must be in the 'active' state. Current state is %s.", id, run.Stage)
	}
	return run, err
}

// Run gives a run with everything, deleted or not.
func (t *Tracking) Run(ctx context.Context, s Scope, id string) (CompleteRun, error) {
	run, err := s.run(ctx, t.store, id)
	if err != nil {
		return CompleteRun{}, err
	}
	list, err := t.complete(ctx, s, []store.Run{run})
	if err != nil {
		return CompleteRun{}, err
	}
	return list[0], nil
}

// complete adds their details to some hundred runs.
func (t *Tracking) complete(ctx context.Context, s Scope, runs []store.Run) ([]CompleteRun, error) {
	numbers := make([]int64, len(runs))
	for i, r := range runs {
		numbers[i] = r.Number
	}
	data, err := t.store.RunData(ctx, numbers)
	if err != nil {
		return nil, err
	}
	out := make([]CompleteRun, len(runs))
	locations := make(map[int64]string)
	for i, r := range runs {
		location, known := locations[r.ExperimentID]
		if !known {
			e, err := t.store.Experiment(ctx, r.WorkspaceID, r.ExperimentID)
			if err != nil {
				return nil, err
			}
			location = s.ArtifactLocation(e)
			locations[r.ExperimentID] = location
		}
		out[i] = CompleteRun{Run: r, Data: *data[r.Number], URI: location + "/" + r.ID + "/artifacts"}
	}
	return out, nil
}

// RunUpdate is what a client wants changed; empty and 0 leave things as they are.
type RunUpdate struct {
	Status string
	End    int64
	Name   string
}

// UpdateRun changes a run. The status and the end of a job's run are the job's, and stay.
func (t *Tracking) UpdateRun(ctx context.Context, s Scope, id string, u RunUpdate) (CompleteRun, error) {
	err := t.store.Write(ctx, func(tx *store.Tx) error {
		run, err := s.activeRun(ctx, tx, id)
		if err != nil {
			return err
		}
		if !run.Job {
			if u.Status != "" {
				run.Status = u.Status
			}
			if u.End != 0 {
				run.End = u.End
			}
		}
		if u.Name != "" {
			run.Name = cut(u.Name, maxTag)
			name := []store.Label{{Key: tagName, Value: run.Name}}
			if err := tx.SetRunTags(ctx, run.Number, name); err != nil {
				return err
			}
			if err := labelJob(ctx, tx, run, name, nil); err != nil {
				return err
			}
		}
		return tx.UpdateRun(ctx, run)
	})
	if err != nil {
		return CompleteRun{}, err
	}
	return t.Run(ctx, s, id)
}

// DeleteRun marks a run deleted. Its artifacts stay.
func (t *Tracking) DeleteRun(ctx context.Context, s Scope, id string) error {
	return t.stageRun(ctx, s, id, store.StageDeleted)
}

// RestoreRun makes a deleted run active again.
func (t *Tracking) RestoreRun(ctx context.Context, s Scope, id string) error {
	return t.stageRun(ctx, s, id, store.StageActive)
}

func (t *Tracking) stageRun(ctx context.Context, s Scope, id, stage string) error {
	return t.store.Write(ctx, func(tx *store.Tx) error {
		run, err := s.run(ctx, tx, id)
		if err != nil || run.Stage == stage {
			return err
		}
		run.Stage = stage
		return tx.UpdateRun(ctx, run)
	})
}

func experimentText(id int64) string { return strconv.FormatInt(id, 10) }
