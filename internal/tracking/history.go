package tracking

import (
	"context"
	"math"
	"slices"

	"github.com/moorage-ml/moorage/internal/store"
)

// The limits of reading metrics.
const (
	MaxHistory     = 25000 // points in one page
	MaxBulkRuns    = 100
	MaxBulkResults = 2500 // steps of each run in one bulk answer
)

// pointToken is a page token of a history: the last point that was given.
type pointToken struct {
	Timestamp int64   `json:"timestamp"`
	Step      int64   `json:"step"`
	Value     float64 `json:"value"`
	NaN       bool    `json:"nan,omitempty"`
}

func writePoint(p store.Point) string {
	return writeToken(pointToken{p.Timestamp, p.Step, p.Value, p.NaN})
}

// readPoint gives the point of a token, nil if there is none.
func readPoint(token string) (*store.Point, error) {
	if token == "" {
		return nil, nil
	}
	var p pointToken
	if err := readToken(token, &p); err != nil {
		return nil, err
	}
	return &store.Point{Timestamp: p.Timestamp, Step: p.Step, Value: p.Value, NaN: p.NaN}, nil
}

// History gives points of a metric by timestamp, step and value, and the token of the next page, empty at the end. An
// unknown metric has none.
func (t *Tracking) History(ctx context.Context, s Scope, runID, key string, limit int, token string) ([]store.Point, string, error) {
	if key == "" {
		return nil, "", missing("metric_key")
	}
	after, err := readPoint(token)
	if err != nil {
		return nil, "", err
	}
	run, err := s.run(ctx, t.store, runID)
	if err != nil {
		return nil, "", err
	}
	if err := t.sort(ctx, run.Number); err != nil {
		return nil, "", err
	}
	list, err := t.store.History(ctx, run.Number, key, after, limit+1)
	if err != nil || len(list) <= limit {
		return list, "", err
	}
	return list[:limit], writePoint(list[limit-1]), nil
}

// BulkQuery asks for one metric of several runs between two steps, both included; nil is without a bound.
type BulkQuery struct {
	Runs       []string
	Key        string
	Start, End *int64
	Limit      int // steps
}

// BulkPoints is the answer for one run.
type BulkPoints struct {
	RunID  string
	Points []store.Point
}

// HistoryBulk gives a metric of several runs at evenly spread steps, with the first and last step of each run among them.
func (t *Tracking) HistoryBulk(ctx context.Context, s Scope, q BulkQuery) ([]BulkPoints, error) {
	switch {
	case len(q.Runs) == 0:
		return nil, missing("run_ids")
	case len(q.Runs) > MaxBulkRuns:
		return nil, invalid("run_ids", "GetMetricHistoryBulkInterval request must specify at most %d run_ids. Received %d run_ids.", MaxBulkRuns, len(q.Runs))
	case q.Key == "":
		return nil, missing("metric_key")
	case (q.Start == nil) != (q.End == nil):
		return nil, invalid("start_step", "If either start step or end step are specified, both must be specified.")
	}
	start, end := int64(math.MinInt64), int64(math.MaxInt64)
	if q.Start != nil {
		start, end = *q.Start, *q.End
	}
	if start > end {
		return nil, invalid("start_step", "end_step must be greater than start_step. Found start_step=%d and end_step=%d.", start, end)
	}
	numbers := make([]int64, len(q.Runs))
	for i, id := range q.Runs {
		run, err := s.run(ctx, t.store, id)
		if err != nil {
			return nil, err
		}
		numbers[i] = run.Number
		if err := t.sort(ctx, run.Number); err != nil {
			return nil, err
		}
	}
	all, err := t.store.Steps(ctx, numbers, q.Key, start, end)
	if err != nil {
		return nil, err
	}
	spread := sample(all, q.Limit)
	out := make([]BulkPoints, len(q.Runs))
	for i, n := range numbers {
		steps := spread
		if len(all) > len(spread) {
			own, err := t.store.Steps(ctx, []int64{n}, q.Key, start, end)
			if err != nil {
				return nil, err
			}
			if len(own) > 0 {
				steps = append(slices.Clone(spread), own[0], own[len(own)-1])
			}
		}
		points, err := t.store.PointsAt(ctx, n, q.Key, steps, MaxBulkResults)
		if err != nil {
			return nil, err
		}
		out[i] = BulkPoints{RunID: q.Runs[i], Points: points}
	}
	return out, nil
}

// sample takes at most n evenly spread members, the first and the last among them.
func sample(list []int64, n int) []int64 {
	if len(list) <= n {
		return list
	}
	if n == 1 {
		return list[:1]
	}
	out := make([]int64, n)
	for i := range out {
		out[i] = list[i*(len(list)-1)/(n-1)]
	}
	return out
}
