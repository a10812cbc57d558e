package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// stored makes a server whose workspace has n finished jobs, written straight into the store. url names a PostgreSQL
// database; empty: SQLite in the data folder.
func (r *rig) stored(ctx context.Context, name, url string, n int) (*serverProcess, error) {
	var more []string
	if url != "" {
		more = []string{"--database", url}
	}
	s, err := r.startServer(ctx, name, more...)
	if err != nil {
		return nil, err
	}
	s.stop()
	if url == "" {
		url = "sqlite:" + filepath.Join(s.data, "moorage.db")
	}
	if err := fill(ctx, url, n); err != nil {
		return nil, err
	}
	return r.startServer(ctx, name, more...)
}

func fill(ctx context.Context, url string, n int) error {
	db, err := store.Open(ctx, store.Config{URL: url, Clock: clock.System()})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // it was only filled
	spaces, err := db.Workspaces(ctx)
	if err != nil {
		return err
	}
	c := clock.System()
	for at := 0; at < n; at += 1000 {
		err := db.Write(ctx, func(tx *store.Tx) error {
			for i := at; i < min(at+1000, n); i++ {
				code := 0
				err := tx.InsertJob(ctx, store.Job{
					ID: c.NewID(), WorkspaceID: spaces[0].ID, Name: fmt.Sprintf("stored-%06d", i), ComputeID: "gone", Experiment: "bench", DisplayName: "stored",
					JobType: "Command", State: workspace.Completed, Wish: store.WishRun, Phase: store.Released, Attempt: 1, ExitCode: &code,
					Created: c.Millis(), Started: c.Millis(), Ended: c.Millis(), Doc: []byte(`{"jobType":"Command","command":"true"}`), Spec: []byte(`{"command":"true"}`),
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return analyze(ctx, url)
}

// analyze does at once what PostgreSQL does by itself within a minute after many rows have come.
func analyze(ctx context.Context, url string) error {
	if !strings.HasPrefix(url, "postgres") {
		return nil
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "ANALYZE")
	return errors.Join(err, db.Close())
}

func startTime(ctx context.Context, r *rig, f *figure) error {
	first, err := r.stored(ctx, "ten", "", 10_000)
	if err != nil {
		return err
	}
	first.stop()
	var times []float64
	for range 5 {
		begun := time.Now()
		s, err := r.startServer(ctx, "ten")
		if err != nil {
			return err
		}
		if _, err := s.call(ctx, http.MethodGet, "/native/v1"+workspacePath+"/jobs/stored-000007", nil); err != nil {
			return err
		}
		times = append(times, time.Since(begun).Seconds())
		s.stop()
	}
	f.Value = median(times)
	return nil
}

// hundred is a server with 100,000 finished jobs on SQLite.
func (r *rig) hundred(ctx context.Context) (*serverProcess, error) {
	if r.large != nil {
		return r.large, nil
	}
	s, err := r.stored(ctx, "hundred", "", 100_000)
	r.large = s
	return s, err
}

// hundredOnPostgres is the same on a PostgreSQL of its own.
func (r *rig) hundredOnPostgres(ctx context.Context) (*serverProcess, error) {
	if r.largeOnPostgres != nil {
		return r.largeOnPostgres, nil
	}
	at := filepath.Join(r.dir, "postgres")
	out, err := exec.CommandContext(ctx, "test/servers/postgres", "start", at).Output()
	if err != nil {
		return nil, fmt.Errorf("postgres: %w: %s", err, stderr(err))
	}
	r.closers = append(r.closers, func() { _ = exec.Command("test/servers/postgres", "stop", at).Run() })
	s, err := r.stored(ctx, "hundred-postgres", strings.TrimSpace(string(out)), 100_000)
	r.largeOnPostgres = s
	return s, err
}

func listed(int) string { return "/jobs" }

func shown(i int) string { return fmt.Sprintf("/jobs/stored-%06d", i*997%100_000) }

// latency measures requests to a server with many jobs.
func latency(server func(*rig, context.Context) (*serverProcess, error), path func(i int) string) func(context.Context, *rig, *figure) error {
	return func(ctx context.Context, r *rig, f *figure) error {
		s, err := server(r, ctx)
		if err != nil {
			return err
		}
		var times []float64
		for i := range 1000 {
			d, err := timed(func() error {
				_, err := s.call(ctx, http.MethodGet, "/native/v1"+workspacePath+path(i), nil)
				return err
			})
			if err != nil {
				return err
			}
			times = append(times, milliseconds(d))
		}
		f.Value, f.Note = percentile(times, 99), fmt.Sprintf("median %.1f ms", median(times))
		return nil
	}
}
