package tracking

import (
	"context"
	"errors"

	"github.com/moorage-ml/moorage/internal/store"
)

// SortSeries puts the points of a run's metrics in the order in which they were logged. Azure's client sends its batches
// side by side and they overtake each other, so the steps that count the values are right only after this. It is called
// when a client waits for its metrics, and before they are read.
func (t *Tracking) SortSeries(ctx context.Context, s Scope, runID string) error {
	run, err := s.run(ctx, t.store, runID)
	if err != nil {
		return err
	}
	return t.sort(ctx, run.Number)
}

func (t *Tracking) sort(ctx context.Context, run int64) error {
	list, err := t.store.UnsortedSeries(ctx, run)
	if err != nil {
		return err
	}
	for _, m := range list {
		err := t.store.Write(ctx, func(tx *store.Tx) error {
			if err := tx.MarkSorted(ctx, run, m); err != nil {
				return err
			}
			return sortPoints(ctx, tx, run, m)
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) { // it grew meanwhile, and is sorted when that is waited for
			return err
		}
	}
	return nil
}

// sortPoints gives the last points of a series their steps anew, chunk by chunk in the order of their times. Points that do
// not count, because MLflow's of the same name are among them, keep the steps that they have.
func sortPoints(ctx context.Context, tx *store.Tx, run int64, m store.MetricSeries) error {
	from := m.Unsorted - 1
	points, err := tx.TakePoints(ctx, run, m.Key, from, int(m.Size-from))
	if err != nil || points == nil {
		return err
	}
	chunks, err := tx.Chunks(ctx, m.Number, from)
	if err != nil {
		return err
	}
	sorted := make([]store.Point, 0, len(points))
	for i := range chunks {
		c := &chunks[i]
		sorted = append(sorted, points[c.At-from:c.At-from+c.Size]...)
		c.At = from + int64(len(sorted)) - c.Size
	}
	for i := range sorted {
		sorted[i].Step = from + int64(i)
	}
	if err := tx.PutChunks(ctx, m.Number, from, chunks); err != nil {
		return err
	}
	if err := tx.LogPoints(ctx, run, sorted); err != nil {
		return err
	}
	return tx.SetLatest(ctx, run, sorted[len(sorted)-1])
}
