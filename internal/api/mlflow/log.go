package mlflow

import (
	"context"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
)

// metric is a point as clients send it. model_id and the dataset's fields belong to logged models and are not kept.
type metric struct {
	Key       string   `json:"key"`
	Value     *double  `json:"value"`
	Timestamp *integer `json:"timestamp"`
	Step      integer  `json:"step"`
}

func (m metric) point(prefix string) (store.Point, error) {
	switch {
	case m.Key == "":
		return store.Point{}, missing(prefix + "key")
	case m.Value == nil:
		return store.Point{}, missing(prefix + "value")
	case m.Timestamp == nil:
		return store.Point{}, missing(prefix + "timestamp")
	}
	return tracking.PointOf(m.Key, float64(*m.Value), int64(*m.Timestamp), int64(m.Step)), nil
}

type logMetric struct {
	runID
	metric
}

func (h *handlers) logMetric(ctx context.Context, s tracking.Scope, q *logMetric) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	p, err := q.point("")
	if err != nil {
		return nil, err
	}
	return nil, h.Tracking.Log(ctx, s, id, tracking.Batch{Metrics: []store.Point{p}})
}

type aLabel struct {
	runID
	Key   string `json:"key"`
	Value string `json:"value"`
}

func (q *aLabel) label() (id string, l store.Label, err error) {
	if id, err = q.id(); err == nil && q.Key == "" {
		err = missing("key")
	}
	return id, store.Label{Key: q.Key, Value: q.Value}, err
}

func (h *handlers) logParam(ctx context.Context, s tracking.Scope, q *aLabel) (any, error) {
	id, l, err := q.label()
	if err != nil {
		return nil, err
	}
	return nil, h.Tracking.Log(ctx, s, id, tracking.Batch{Params: []store.Label{l}})
}

func (h *handlers) setTag(ctx context.Context, s tracking.Scope, q *aLabel) (any, error) {
	id, l, err := q.label()
	if err != nil {
		return nil, err
	}
	return nil, h.Tracking.Log(ctx, s, id, tracking.Batch{Tags: []store.Label{l}})
}

func (h *handlers) deleteTag(ctx context.Context, s tracking.Scope, q *aLabel) (any, error) {
	id, l, err := q.label()
	if err != nil {
		return nil, err
	}
	return nil, h.Tracking.DeleteTag(ctx, s, id, l.Key)
}

type logBatch struct {
	runID
	Metrics []metric      `json:"metrics"`
	Params  []store.Label `json:"params"`
	Tags    []store.Label `json:"tags"`
}

func (h *handlers) logBatch(ctx context.Context, s tracking.Scope, q *logBatch) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	b := tracking.Batch{Metrics: make([]store.Point, len(q.Metrics)), Params: q.Params, Tags: q.Tags}
	for i, m := range q.Metrics {
		if b.Metrics[i], err = m.point("metrics."); err != nil {
			return nil, err
		}
	}
	return nil, h.Tracking.Log(ctx, s, id, b)
}

type logInputs struct {
	runID
	Datasets []datasetInputJSON `json:"datasets"`
	Models   []modelInputJSON   `json:"models"`
}

func (h *handlers) logInputs(ctx context.Context, s tracking.Scope, q *logInputs) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	datasets := make([]store.DatasetInput, len(q.Datasets))
	for i, d := range q.Datasets {
		datasets[i] = store.DatasetInput{Dataset: store.DatasetRow(d.Dataset), Tags: d.Tags}
	}
	models := make([]store.RunModel, len(q.Models))
	for i, m := range q.Models {
		if models[i].ModelID = m.ModelID; m.ModelID == "" {
			return nil, missing("models.model_id")
		}
	}
	return nil, h.Tracking.LogInputs(ctx, s, id, datasets, models)
}

type logOutputs struct {
	runID
	Models []modelOutputJSON `json:"models"`
}

func (h *handlers) logOutputs(ctx context.Context, s tracking.Scope, q *logOutputs) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	models := make([]store.RunModel, len(q.Models))
	for i, m := range q.Models {
		if m.ModelID == "" {
			return nil, missing("models.model_id")
		}
		models[i] = store.RunModel{ModelID: m.ModelID, Step: int64(m.Step)}
	}
	return nil, h.Tracking.LogOutputs(ctx, s, id, models)
}

type logModel struct {
	runID
	ModelJSON string `json:"model_json"`
}

func (h *handlers) logModel(ctx context.Context, s tracking.Scope, q *logModel) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	if q.ModelJSON == "" {
		return nil, missing("model_json")
	}
	return nil, h.Tracking.LogModel(ctx, s, id, q.ModelJSON)
}
