package tracking_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
)

// BenchmarkLogBatch writes 1,000 points a call: of one metric, as a training loop's buffer does, and of many.
func BenchmarkLogBatch(b *testing.B) {
	for _, keys := range []int{1, 10, 1000} {
		b.Run(fmt.Sprintf("metrics=%d", keys), func(b *testing.B) {
			t := open(b, sqliteFile(b))
			run := t.run(b, tracking.NewRun{}, tracking.Batch{})
			batch := tracking.Batch{Metrics: make([]store.Point, 1000)}
			step := int64(0)
			for b.Loop() {
				for i := range batch.Metrics {
					step++
					batch.Metrics[i] = tracking.PointOf(fmt.Sprintf("m%04d", i*keys/1000), float64(step), 1_795_533_712_815+step, step)
				}
				if err := t.Log(b.Context(), t.scope, run, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "points/s")
		})
	}
}

// BenchmarkSearch finds pages of 100 among 100,000 runs of one experiment, each with three metrics, three params and two tags.
func BenchmarkSearch(b *testing.B) {
	t := open(b, sqliteFile(b))
	id := t.experiment(b, "big")
	fill(b, t, id, 100_000)
	for _, q := range []struct {
		name string
		tracking.RunSearch
	}{
		{"newest", tracking.RunSearch{}},
		{"page 500", tracking.RunSearch{Token: "eyJvZmZzZXQiOjUwMDAwfQ=="}},
		{"by name", tracking.RunSearch{Filter: "run_name = 'run 50000'"}},
		{"one percent by param", tracking.RunSearch{Filter: "params.p0 = '7'"}},
		{"half by metric", tracking.RunSearch{Filter: "metrics.m0 > 0.5"}},
		{"few by metric", tracking.RunSearch{Filter: "metrics.m0 > 0.9995"}},
		{"none by tag", tracking.RunSearch{Filter: "tags.t0 = 'none'"}},
		{"best by metric", tracking.RunSearch{OrderBy: []string{"metrics.m0 DESC"}}},
		{"best of few", tracking.RunSearch{Filter: "params.p0 = '7' AND metrics.m1 < 0.1", OrderBy: []string{"metrics.m0 DESC"}}},
	} {
		b.Run(q.name, func(b *testing.B) {
			q.Experiments, q.Limit, q.Stage = []int64{id}, 100, store.StageActive
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				if _, err := t.SearchRuns(b.Context(), t.scope, q.RunSearch, func([]tracking.CompleteRun) error { return nil }); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// BenchmarkListRuns finds pages of 500, as azureml-core asks for them, among 20,000 runs of one experiment.
func BenchmarkListRuns(b *testing.B) {
	t := open(b, sqliteFile(b))
	id := t.experiment(b, "big")
	fill(b, t, id, 20_000)
	for name, text := range map[string]string{
		"top runs": "(ParentRunId eq null)", "by tag": `((Tags/t0 ne null or Tags/t0 eq null) and (ParentRunId eq null))`, "none by status": "(Status eq Failed)", "one": "RunId eq none",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := t.ListRuns(b.Context(), t.scope, tracking.Listing{Experiment: &id, Filter: text, Order: "StartTimeUtc desc", Limit: 500}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func fill(b *testing.B, t *bench, experiment int64, n int) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for at := 0; at < n; at += 1000 {
		write := func(tx *store.Tx) error {
			for i := at; i < at+1000; i++ {
				number, err := tx.InsertRun(b.Context(), store.Run{
					WorkspaceID: "w1", ID: fmt.Sprintf("%032x", i), ExperimentID: experiment, Name: fmt.Sprintf("run %d", i), Status: tracking.Finished,
					Stage: store.StageActive, Start: int64(1_795_533_712_815 + i*1000),
				})
				if err != nil {
					return err
				}
				var points []store.Point
				var params []store.Label
				for k := range 3 {
					points = append(points, store.Point{Key: fmt.Sprintf("m%d", k), Value: rnd.Float64(), Timestamp: int64(i), Step: 1})
					params = append(params, label(fmt.Sprintf("p%d", k), fmt.Sprint(rnd.IntN(100))))
				}
				if err := tx.LogPoints(b.Context(), number, points); err != nil {
					return err
				}
				if err := tx.InsertParams(b.Context(), number, params); err != nil {
					return err
				}
				if err := tx.SetRunTags(b.Context(), number, []store.Label{label("t0", "x"), label("mlflow.runName", fmt.Sprintf("run %d", i))}); err != nil {
					return err
				}
			}
			return nil
		}
		err := t.store.Write(b.Context(), write)
		for range 3 {
			if errors.Is(err, store.ErrExists) { // so many rows a millisecond draw the same number now and then
				err = t.store.Write(b.Context(), write)
			}
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
