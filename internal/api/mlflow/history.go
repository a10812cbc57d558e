package mlflow

import (
	"context"

	"github.com/moorage-ml/moorage/internal/tracking"
)

type getHistory struct {
	runID
	MetricKey  string   `json:"metric_key"`
	PageToken  string   `json:"page_token"`
	MaxResults *integer `json:"max_results"`
}

type historyJSON struct {
	Metrics       []metricJSON `json:"metrics,omitempty"`
	NextPageToken string       `json:"next_page_token,omitempty"`
}

func (h *handlers) getHistory(ctx context.Context, s tracking.Scope, q *getHistory) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(q.MaxResults, tracking.MaxHistory)
	if err != nil {
		return nil, err
	}
	points, next, err := h.Tracking.History(ctx, s, id, q.MetricKey, min(limit, tracking.MaxHistory), q.PageToken)
	return historyJSON{metricsOf(points), next}, err
}

type getHistoryBulk struct {
	RunIDs     []string `json:"run_ids"`
	MetricKey  string   `json:"metric_key"`
	StartStep  *integer `json:"start_step"`
	EndStep    *integer `json:"end_step"`
	MaxResults *integer `json:"max_results"`
}

func (h *handlers) getHistoryBulk(ctx context.Context, s tracking.Scope, q *getHistoryBulk) (any, error) {
	limit, err := pageSize(q.MaxResults, tracking.MaxBulkResults)
	if err != nil {
		return nil, err
	}
	if limit > tracking.MaxBulkResults {
		return nil, invalid("Invalid value %d for parameter 'max_results' supplied: it must be at most %d", limit, tracking.MaxBulkResults)
	}
	list, err := h.Tracking.HistoryBulk(ctx, s, tracking.BulkQuery{
		Runs: q.RunIDs, Key: q.MetricKey, Start: (*int64)(q.StartStep), End: (*int64)(q.EndStep), Limit: limit,
	})
	if err != nil {
		return nil, err
	}
	var out historyJSON
	for _, run := range list {
		for _, p := range run.Points {
			m := metricOf(p)
			m.RunID = run.RunID
			out.Metrics = append(out.Metrics, m)
		}
	}
	return out, nil
}
