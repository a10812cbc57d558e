package tracking

import (
	"context"
	"errors"
	"maps"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking/filter"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// FindExperiment gives an experiment by its name or by the id that Azure's clients know it by, which id makes of a name.
func (t *Tracking) FindExperiment(ctx context.Context, s Scope, key string, id func(name string) string) (store.Experiment, error) {
	e, err := t.store.ExperimentByName(ctx, s.WorkspaceID, key)
	if errors.Is(err, store.ErrNotFound) {
		e, err = t.experimentByID(ctx, s.WorkspaceID, key, id)
	}
	if errors.Is(err, store.ErrNotFound) {
		return e, notFound("experimentName", "Experiment %s was not found", clip(key))
	}
	if err != nil {
		return e, err
	}
	return e, s.allow(e.ID)
}

// experimentByID looks through the experiments once for each id, for the id cannot be turned back into the name.
func (t *Tracking) experimentByID(ctx context.Context, workspaceID, key string, id func(name string) string) (store.Experiment, error) {
	at := workspaceID + "/" + key
	var renamed store.Experiment // the one that had the id before, which goes on to answer to it until another has it
	number, known := t.ids.Load(at)
	if known {
		e, err := t.store.Experiment(ctx, workspaceID, number.(int64)) //nolint:forcetypeassert // nothing else is put there
		if err != nil || id(e.Name) == key {
			return e, err
		}
		renamed = e
	}
	for offset := 0; ; offset += MaxListing {
		list, err := t.store.SearchExperiments(ctx, store.ExperimentQuery{WorkspaceID: workspaceID, Offset: offset, Limit: MaxListing})
		if err != nil {
			return store.Experiment{}, err
		}
		for _, e := range list {
			if id(e.Name) == key {
				t.ids.Store(at, e.ID)
				return e, nil
			}
		}
		if len(list) == MaxListing {
			continue
		}
		if known {
			return renamed, nil
		}
		return store.Experiment{}, store.ErrNotFound
	}
}

// ListExperiments gives a page of experiments by a filter of the run history, and the token of the next one.
func (t *Tracking) ListExperiments(ctx context.Context, s Scope, q ExperimentSearch) ([]store.Experiment, string, error) {
	conditions, err := filter.ParseHistoryExperiments(q.Filter)
	if err != nil {
		return nil, "", err
	}
	return t.pageExperiments(ctx, s, q, conditions, nil)
}

// ExperimentPatch is what a client wants changed of an experiment; nil leaves things as they are.
type ExperimentPatch struct {
	Name        *string
	Description *string
	Archived    *bool
	Tags        map[string]string
	Remove      []string // keys of tags
}

// PatchExperiment changes an experiment. An archived one is one that is deleted to MLflow, and takes no other change.
func (t *Tracking) PatchExperiment(ctx context.Context, s Scope, e store.Experiment, p ExperimentPatch) (store.Experiment, error) {
	if p.Archived != nil && *p.Archived != (e.Stage == store.StageDeleted) {
		move := t.RestoreExperiment
		if *p.Archived {
			move = t.DeleteExperiment
		}
		if err := move(ctx, s, e.ID); err != nil {
			return e, err
		}
	}
	if p.Name != nil && *p.Name != e.Name {
		if err := t.RenameExperiment(ctx, s, e.ID, *p.Name); err != nil {
			return e, err
		}
	}
	tags := maps.Clone(p.Tags)
	if p.Description != nil {
		if tags == nil {
			tags = map[string]string{}
		}
		tags[tagNote] = *p.Description
	}
	if len(tags)+len(p.Remove) > 0 {
		if err := t.tagExperiment(ctx, s, e.ID, tags, p.Remove); err != nil {
			return e, err
		}
	}
	return t.store.Experiment(ctx, s.WorkspaceID, e.ID)
}

func (t *Tracking) tagExperiment(ctx context.Context, s Scope, id int64, tags map[string]string, remove []string) error {
	if err := s.workspaceOnly(); err != nil {
		return err
	}
	labels := labelsOf(tags, maxExperimentTag)
	for _, l := range labels {
		if l.Key == "" {
			return missing("tags")
		}
		if err := checkLength("tags", l.Key, maxKey); err != nil {
			return err
		}
	}
	return t.changeExperiment(ctx, s, id, func(tx *store.Tx, _ *store.Experiment) error {
		for _, key := range remove {
			if _, err := tx.DeleteExperimentTag(ctx, s.WorkspaceID, id, key); err != nil {
				return err
			}
		}
		return tx.SetExperimentTags(ctx, s.WorkspaceID, id, labels)
	})
}

// PeoplesExperimentTags are the tags of an experiment that are people's, and its description.
func PeoplesExperimentTags(e store.Experiment) (tags map[string]string, description string) {
	tags = map[string]string{}
	for _, l := range e.Tags {
		switch {
		case l.Key == tagNote:
			description = l.Value
		case !isSystem(l.Key):
			tags[l.Key] = l.Value
		}
	}
	return tags, description
}

// EnsureExperiment gives the experiment of a name, archived or not, and makes it if there is none.
func (t *Tracking) EnsureExperiment(ctx context.Context, s Scope, name string) (store.Experiment, error) {
	e, err := t.ExperimentByName(ctx, s, name)
	if !errors.Is(err, &workspace.Problem{Code: "ResourceNotFound"}) {
		return e, err
	}
	id, err := t.CreateExperiment(ctx, s, NewExperiment{Name: name})
	if errors.Is(err, &workspace.Problem{Code: "ResourceAlreadyExists"}) { // made meanwhile
		return t.ExperimentByName(ctx, s, name)
	}
	if err != nil {
		return e, err
	}
	return t.store.Experiment(ctx, s.WorkspaceID, id)
}
