package mlflow

import (
	"context"
	"strconv"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
)

type createExperiment struct {
	Name             string        `json:"name"`
	ArtifactLocation string        `json:"artifact_location"`
	Tags             []store.Label `json:"tags"`
}

func (h *handlers) createExperiment(ctx context.Context, s tracking.Scope, q *createExperiment) (any, error) {
	if q.Name == "" {
		return nil, missing("name")
	}
	id, err := h.Tracking.CreateExperiment(ctx, s, tracking.NewExperiment{Name: q.Name, ArtifactLocation: q.ArtifactLocation, Tags: q.Tags})
	return map[string]string{"experiment_id": strconv.FormatInt(id, 10)}, err
}

type anExperiment struct {
	ExperimentID   string `json:"experiment_id"`
	ExperimentName string `json:"experiment_name"`
	NewName        string `json:"new_name"`
	Key            string `json:"key"`
	Value          string `json:"value"`
}

func (q *anExperiment) id() (int64, error) {
	if q.ExperimentID == "" {
		return 0, missing("experiment_id")
	}
	return tracking.ExperimentID(q.ExperimentID)
}

func (h *handlers) getExperiment(ctx context.Context, s tracking.Scope, q *anExperiment) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	e, err := h.Tracking.Experiment(ctx, s, id)
	return map[string]experimentJSON{"experiment": experimentOf(s, e)}, err
}

func (h *handlers) getExperimentByName(ctx context.Context, s tracking.Scope, q *anExperiment) (any, error) {
	if q.ExperimentName == "" {
		return nil, missing("experiment_name")
	}
	e, err := h.Tracking.ExperimentByName(ctx, s, q.ExperimentName)
	return map[string]experimentJSON{"experiment": experimentOf(s, e)}, err
}

type searchExperiments struct {
	MaxResults *integer `json:"max_results"`
	PageToken  string   `json:"page_token"`
	Filter     string   `json:"filter"`
	OrderBy    []string `json:"order_by"`
	ViewType   word     `json:"view_type"`
}

type experimentsJSON struct {
	Experiments   []experimentJSON `json:"experiments,omitempty"`
	NextPageToken string           `json:"next_page_token,omitempty"`
}

func (h *handlers) searchExperiments(ctx context.Context, s tracking.Scope, q *searchExperiments) (any, error) {
	limit, err := pageSize(q.MaxResults, 0)
	if err != nil {
		return nil, err
	}
	stage, err := stageOf("view_type", q.ViewType)
	if err != nil {
		return nil, err
	}
	list, next, err := h.Tracking.SearchExperiments(ctx, s, tracking.ExperimentSearch{
		Filter: q.Filter, OrderBy: q.OrderBy, Stage: stage, Limit: limit, Token: q.PageToken,
	})
	if err != nil {
		return nil, err
	}
	out := experimentsJSON{NextPageToken: next}
	for _, e := range list {
		out.Experiments = append(out.Experiments, experimentOf(s, e))
	}
	return out, nil
}

// pageSize reads max_results. Without one the fallback counts; a fallback of 0 makes it required.
func pageSize(n *integer, fallback int) (int, error) {
	switch {
	case n == nil && fallback == 0:
		return 0, missing("max_results")
	case n == nil:
		return fallback, nil
	case *n < 1 || *n > tracking.MaxResults:
		return 0, invalid("Invalid value %d for parameter 'max_results' supplied: it must be a positive integer, at most %d", *n, tracking.MaxResults)
	}
	return int(*n), nil
}

// stageOf reads a view type; empty is both stages.
func stageOf(field string, view word) (string, error) {
	name, err := view.oneOf(field, "ACTIVE_ONLY", "ACTIVE_ONLY", "DELETED_ONLY", "ALL")
	switch name {
	case "ACTIVE_ONLY":
		return store.StageActive, err
	case "DELETED_ONLY":
		return store.StageDeleted, err
	}
	return "", err
}

func (h *handlers) updateExperiment(ctx context.Context, s tracking.Scope, q *anExperiment) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	if q.NewName == "" {
		return nil, missing("new_name")
	}
	return nil, h.Tracking.RenameExperiment(ctx, s, id, q.NewName)
}

func (h *handlers) deleteExperiment(ctx context.Context, s tracking.Scope, q *anExperiment) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	return nil, h.Tracking.DeleteExperiment(ctx, s, id)
}

func (h *handlers) restoreExperiment(ctx context.Context, s tracking.Scope, q *anExperiment) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	return nil, h.Tracking.RestoreExperiment(ctx, s, id)
}

func (h *handlers) setExperimentTag(ctx context.Context, s tracking.Scope, q *anExperiment) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	if q.Key == "" {
		return nil, missing("key")
	}
	return nil, h.Tracking.SetExperimentTag(ctx, s, id, store.Label{Key: q.Key, Value: q.Value})
}

func (h *handlers) deleteExperimentTag(ctx context.Context, s tracking.Scope, q *anExperiment) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	if q.Key == "" {
		return nil, missing("key")
	}
	return nil, h.Tracking.DeleteExperimentTag(ctx, s, id, q.Key)
}

type someExperiments struct {
	ExperimentIDs []string `json:"experiment_ids"`
}

func experimentIDs(texts []string) ([]int64, error) {
	ids := make([]int64, len(texts))
	for i, text := range texts {
		var err error
		if ids[i], err = tracking.ExperimentID(text); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

type summaryJSON struct {
	ExperimentID string `json:"experiment_id"`
	Name         string `json:"name"`
	Digest       string `json:"digest"`
	Context      string `json:"context,omitempty"`
}

func (h *handlers) searchDatasets(ctx context.Context, s tracking.Scope, q *someExperiments) (any, error) {
	if len(q.ExperimentIDs) == 0 {
		return nil, missing("experiment_ids")
	}
	ids, err := experimentIDs(q.ExperimentIDs)
	if err != nil {
		return nil, err
	}
	list, err := h.Tracking.Datasets(ctx, s, ids)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	out := make([]summaryJSON, len(list))
	for i, d := range list {
		out[i] = summaryJSON{strconv.FormatInt(d.ExperimentID, 10), d.Name, d.Digest, d.Context}
	}
	return map[string][]summaryJSON{"dataset_summaries": out}, nil
}
