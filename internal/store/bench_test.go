package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/store/storetest"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// onBoth runs a benchmark on SQLite and on a PostgreSQL that flushes.
func onBoth(b *testing.B, bench func(b *testing.B, url string)) {
	b.Run("sqlite", func(b *testing.B) { bench(b, sqliteFile(b)) })
	b.Run("postgres", func(b *testing.B) { bench(b, storetest.StartPostgres(b, "-c fsync=on").Fresh(b)) })
}

// accepted writes what accepting a job writes: the job with its body, and its run.
func accepted(ctx context.Context, tx *store.Tx, n int64) error {
	id := fmt.Sprintf("01J%023d", n)
	due := int64(1)
	if err := tx.InsertJob(ctx, store.Job{
		ID: id, WorkspaceID: "w", Name: "job-" + id, ComputeID: "c", Experiment: "Default", JobType: "Command", Due: &due,
		Doc: []byte(strings.Repeat(" ", 1500) + "{}"), Spec: []byte(strings.Repeat(" ", 1500) + "{}"),
	}); err != nil {
		return err
	}
	if _, err := tx.InsertRun(ctx, store.Run{WorkspaceID: "w", ID: id, Name: id, Stage: store.StageActive}); err != nil {
		return err
	}
	tx.Hint("c", id)
	return nil
}

// BenchmarkAccept is one job accepted after the other, each on disk before the next. Promise: less than 1 ms.
func BenchmarkAccept(b *testing.B) {
	onBoth(b, func(b *testing.B, url string) {
		s, n, took := storetest.Open(b, url), int64(0), []time.Duration{}
		for b.Loop() {
			n++
			began := time.Now()
			if err := s.Write(b.Context(), func(tx *store.Tx) error { return accepted(b.Context(), tx, n) }); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		percentiles(b, took)
	})
}

// BenchmarkWriters is 64 clients that write small things at once. Promise: more than 5,000 writes a second.
func BenchmarkWriters(b *testing.B) {
	onBoth(b, func(b *testing.B, url string) {
		s := storetest.Open(b, url)
		b.SetParallelism(32) // on two processors 64 goroutines
		next := make(chan int, 1)
		next <- 0
		b.ResetTimer()
		b.RunParallel(func(p *testing.PB) {
			me := <-next
			next <- me + 1
			for i := 0; p.Next(); i++ {
				if err := s.Write(b.Context(), func(tx *store.Tx) error {
					return tx.PutSetting(b.Context(), fmt.Sprint("key-", me, "-", i%100), fmt.Append(nil, i))
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		b.ReportMetric(float64(s.Stats().Writes)/float64(max(s.Stats().Commits, 1)), "writes/commit")
	})
}

func percentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[len(took)*p/100].Microseconds()), fmt.Sprintf("p%d-µs", p))
	}
}

// filled has n jobs on 20 computes in 50 experiments, all of them ended but the last 100.
func filled(b *testing.B, url string, n int) *store.Store {
	b.Helper()
	s, ctx := storetest.Open(b, url), b.Context()
	for at := 0; at < n; at += 1000 {
		if err := s.Write(ctx, func(tx *store.Tx) error {
			for i := at; i < min(at+1000, n); i++ {
				j := store.Job{
					ID: fmt.Sprintf("01J%023d", i), WorkspaceID: "w", Name: fmt.Sprint("job-", i), ComputeID: fmt.Sprint("c", i%20), Experiment: fmt.Sprint("e", i%50),
					JobType: "Command", State: workspace.Completed, Phase: store.Released, Doc: []byte(strings.Repeat(" ", 1500) + "{}"), Spec: []byte(strings.Repeat(" ", 1500) + "{}"),
					Tags: []byte(`{"team":"vision"}`), Properties: []byte(`{"_azureml.ComputeTargetType":"vm"}`),
				}
				if i >= n-100 {
					due := int64(1)
					j.State, j.Phase, j.Due = workspace.Running, store.Submitted, &due
				}
				if err := tx.InsertJob(ctx, j); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// BenchmarkJobs asks of 100,000 jobs what clients and loops ask. Promise: p99 less than 10 ms.
func BenchmarkJobs(b *testing.B) {
	const n = 100_000
	onBoth(b, func(b *testing.B, url string) {
		s, ctx := filled(b, url, n), b.Context()
		middle := fmt.Sprintf("01J%023d", n/2)
		list := func(f store.JobFilter, p store.Page) func(int) error {
			return func(int) error {
				l, err := s.Jobs(ctx, "w", f, p)
				if err == nil && len(l) == 0 {
					return fmt.Errorf("%+v: empty", f)
				}
				return err
			}
		}
		for _, c := range []struct {
			name string
			ask  func(i int) error
		}{
			{"show", func(i int) error { _, err := s.Job(ctx, "w", fmt.Sprint("job-", i*7919%n)); return err }},
			{"row", func(i int) error { _, err := s.JobRow(ctx, fmt.Sprintf("01J%023d", i*7919%n)); return err }},
			{"list", list(store.JobFilter{}, store.Page{})},
			{"listMiddle", list(store.JobFilter{}, store.Page{After: middle})},
			{"listBodies", list(store.JobFilter{WithBody: true}, store.Page{})},
			{"listRunning", list(store.JobFilter{States: []workspace.State{workspace.Running}}, store.Page{})},
			{"listSeveralStates", list(store.JobFilter{States: []workspace.State{workspace.Completed, workspace.Failed, workspace.Running}}, store.Page{})},
			{"listCompute", list(store.JobFilter{ComputeID: "c7"}, store.Page{After: middle})},
			{"listComputeRunning", list(store.JobFilter{ComputeID: "c7", States: []workspace.State{workspace.Running}}, store.Page{})},
			{"listExperiment", list(store.JobFilter{Experiment: "e7"}, store.Page{After: middle})},
			{"next", func(int) error { _, err := s.NextJobs(ctx, "c7", 100); return err }},
			{"active", func(int) error { _, err := s.CountActive(ctx, "c7"); return err }},
			{"free", func(int) error { _, err := s.Free(ctx); return err }},
		} {
			b.Run(c.name, func(b *testing.B) {
				var took []time.Duration
				for i := 0; b.Loop(); i++ {
					began := time.Now()
					if err := c.ask(i); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(began))
				}
				percentiles(b, took)
			})
		}
	})
}

// BenchmarkOpen opens a database with 10,000 jobs. Promise: less than 100 ms.
func BenchmarkOpen(b *testing.B) {
	onBoth(b, func(b *testing.B, url string) {
		if err := filled(b, url, 10_000).Close(); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			s, err := store.Open(b.Context(), store.Config{URL: url})
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
