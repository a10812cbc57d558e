package tracking

import (
	"context"
	"errors"
	"strconv"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking/filter"
)

// NewExperiment is what a client asks for.
type NewExperiment struct {
	Name             string
	ArtifactLocation string
	Tags             []store.Label
}

// CreateExperiment makes an experiment and gives its id. A name that an active or a deleted one has is a Conflict.
func (t *Tracking) CreateExperiment(ctx context.Context, s Scope, n NewExperiment) (int64, error) {
	if err := checkExperimentName("name", n.Name); err != nil {
		return 0, err
	}
	if err := checkArtifactLocation(n.ArtifactLocation); err != nil {
		return 0, err
	}
	tags, err := checkLabels("tags", n.Tags, maxExperimentTag)
	if err != nil {
		return 0, err
	}
	now := t.clock.Millis()
	e := store.Experiment{
		WorkspaceID: s.WorkspaceID, Name: n.Name, ArtifactLocation: n.ArtifactLocation,
		Stage: store.StageActive, Created: now, Updated: now, Tags: tags,
	}
	err = t.store.Write(ctx, func(tx *store.Tx) (err error) {
		if s.Run != "" {
			if err := s.allowName(ctx, tx, n.Name); err != nil {
				return err
			}
		}
		e.ID, err = tx.InsertExperiment(ctx, e)
		return err
	})
	if errors.Is(err, store.ErrExists) {
		return 0, exists("name", "Experiment(name=%s) already exists. An experiment keeps its name while it is deleted, too", clip(n.Name))
	}
	return e.ID, err
}

// experimentReads is what Store and Tx have in common.
type experimentReads interface {
	Experiment(ctx context.Context, workspaceID string, id int64) (store.Experiment, error)
}

// allow refuses experiments other than the job's own to a job's credential.
func (s Scope) allow(id int64) error {
	if s.Run != "" && id != s.Experiment {
		return denied("a job may use only the experiment that it was submitted to", "leave set_experiment out of the script, and name the experiment in the job")
	}
	return nil
}

func (s Scope) allowName(ctx context.Context, r experimentReads, name string) error {
	own, err := r.Experiment(ctx, s.WorkspaceID, s.Experiment)
	if err != nil {
		return err
	}
	if own.Name != name {
		return s.allow(-1)
	}
	return nil
}

// Experiment gives an experiment, deleted or not.
func (t *Tracking) Experiment(ctx context.Context, s Scope, id int64) (store.Experiment, error) {
	if err := s.allow(id); err != nil {
		return store.Experiment{}, err
	}
	return experiment(ctx, t.store, s, id)
}

func experiment(ctx context.Context, r experimentReads, s Scope, id int64) (store.Experiment, error) {
	e, err := r.Experiment(ctx, s.WorkspaceID, id)
	if errors.Is(err, store.ErrNotFound) {
		return e, notFound("experiment_id", "No Experiment with id=%d exists", id)
	}
	return e, err
}

// activeExperiment is an experiment that may be written to.
func activeExperiment(ctx context.Context, r experimentReads, s Scope, id int64) (store.Experiment, error) {
	if err := s.allow(id); err != nil {
		return store.Experiment{}, err
	}
	e, err := experiment(ctx, r, s, id)
	if err == nil && e.Stage != store.StageActive {
		err = invalid("experiment_id", "The experiment %d must be in the 'active' state. Current state is %s.", id, e.Stage)
	}
	return e, err
}

// ExperimentByName gives an experiment, deleted or not.
func (t *Tracking) ExperimentByName(ctx context.Context, s Scope, name string) (store.Experiment, error) {
	if s.Run != "" {
		if err := s.allowName(ctx, t.store, name); err != nil {
			return store.Experiment{}, err
		}
	}
	e, err := t.store.ExperimentByName(ctx, s.WorkspaceID, name)
	if errors.Is(err, store.ErrNotFound) {
		return e, notFound("experiment_name", "Could not find experiment with name '%s'", clip(name))
	}
	return e, err
}

// ExperimentSearch is one page of a search as clients ask for it.
type ExperimentSearch struct {
	Filter  string
	OrderBy []string
	Stage   string // empty: both
	Limit   int
	Token   string
}

// SearchExperiments gives a page of experiments and the token of the next one, empty at the end.
func (t *Tracking) SearchExperiments(ctx context.Context, s Scope, q ExperimentSearch) ([]store.Experiment, string, error) {
	conditions, err := filter.Parse(filter.Experiments(), q.Filter)
	if err != nil {
		return nil, "", err
	}
	orders, err := filter.ParseOrder(filter.Experiments(), q.OrderBy)
	if err != nil {
		return nil, "", err
	}
	return t.pageExperiments(ctx, s, q, conditions, orders)
}

// pageExperiments gives the page that q asks for. Its filter and its order were read to conditions and orders.
func (t *Tracking) pageExperiments(ctx context.Context, s Scope, q ExperimentSearch, conditions []store.Condition, orders []store.Order) ([]store.Experiment, string, error) {
	offset, err := readOffset(q.Token)
	if err != nil {
		return nil, "", err
	}
	query := store.ExperimentQuery{
		WorkspaceID: s.WorkspaceID, Conditions: conditions, Orders: orders, Stage: q.Stage, Offset: offset, Limit: q.Limit + 1,
	}
	if s.Run != "" {
		query.Only = &s.Experiment
	}
	list, err := t.store.SearchExperiments(ctx, query)
	if err != nil || len(list) <= q.Limit {
		return list, "", err
	}
	return list[:q.Limit], writeOffset(offset + q.Limit), nil
}

// RenameExperiment gives an active experiment another name.
func (t *Tracking) RenameExperiment(ctx context.Context, s Scope, id int64, name string) error {
	if err := s.workspaceOnly(); err != nil {
		return err
	}
	if err := checkExperimentName("new_name", name); err != nil {
		return err
	}
	return t.changeExperiment(ctx, s, id, func(_ *store.Tx, e *store.Experiment) error {
		e.Name = name
		return nil
	})
}

// workspaceOnly refuses a job's credential.
func (s Scope) workspaceOnly() error {
	if s.Run != "" {
		return denied("a job may not change experiments", "")
	}
	return nil
}

func (t *Tracking) changeExperiment(ctx context.Context, s Scope, id int64, change func(tx *store.Tx, e *store.Experiment) error) error {
	var name string
	err := t.store.Write(ctx, func(tx *store.Tx) error {
		e, err := activeExperiment(ctx, tx, s, id)
		if err != nil {
			return err
		}
		e.Updated = t.clock.Millis()
		if err := change(tx, &e); err != nil {
			return err
		}
		name = e.Name
		return tx.UpdateExperiment(ctx, e)
	})
	if errors.Is(err, store.ErrExists) {
		return exists("new_name", "Experiment(name=%s) already exists", clip(name))
	}
	return err
}

// DeleteExperiment marks an active experiment and all its runs deleted.
func (t *Tracking) DeleteExperiment(ctx context.Context, s Scope, id int64) error {
	return t.stageExperiment(ctx, s, id, store.StageActive, store.StageDeleted)
}

// RestoreExperiment makes a deleted experiment and all its runs active again.
func (t *Tracking) RestoreExperiment(ctx context.Context, s Scope, id int64) error {
	return t.stageExperiment(ctx, s, id, store.StageDeleted, store.StageActive)
}

func (t *Tracking) stageExperiment(ctx context.Context, s Scope, id int64, from, to string) error {
	if err := s.workspaceOnly(); err != nil {
		return err
	}
	return t.store.Write(ctx, func(tx *store.Tx) error {
		e, err := experiment(ctx, tx, s, id)
		if err != nil {
			return err
		}
		if e.Stage != from {
			return notFound("experiment_id", "No Experiment with id=%d exists that is %s", id, from)
		}
		e.Stage, e.Updated = to, t.clock.Millis()
		if err := tx.UpdateExperiment(ctx, e); err != nil {
			return err
		}
		return tx.SetRunsStage(ctx, s.WorkspaceID, id, to)
	})
}

// SetExperimentTag adds or replaces a tag of an active experiment.
func (t *Tracking) SetExperimentTag(ctx context.Context, s Scope, id int64, tag store.Label) error {
	if err := s.workspaceOnly(); err != nil {
		return err
	}
	if err := checkKey("key", tag.Key); err != nil {
		return err
	}
	tag.Value = cut(tag.Value, maxExperimentTag)
	return t.changeExperiment(ctx, s, id, func(tx *store.Tx, _ *store.Experiment) error {
		return tx.SetExperimentTags(ctx, s.WorkspaceID, id, []store.Label{tag})
	})
}

// DeleteExperimentTag removes a tag of an active experiment.
func (t *Tracking) DeleteExperimentTag(ctx context.Context, s Scope, id int64, key string) error {
	if err := s.workspaceOnly(); err != nil {
		return err
	}
	return t.changeExperiment(ctx, s, id, func(tx *store.Tx, _ *store.Experiment) error {
		found, err := tx.DeleteExperimentTag(ctx, s.WorkspaceID, id, key)
		if err == nil && !found {
			err = notFound("key", "No tag with name: %s in experiment with id %d", clip(key), id)
		}
		return err
	})
}

// ArtifactLocation is where an experiment's artifacts are, as a URI for clients.
func (s Scope) ArtifactLocation(e store.Experiment) string {
	if e.ArtifactLocation != "" {
		return e.ArtifactLocation
	}
	return s.ArtifactBase + strconv.FormatInt(e.ID, 10)
}
