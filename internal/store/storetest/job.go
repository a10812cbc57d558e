package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func (e *exam) jobFields(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	want := store.Job{
		ID: id(1), WorkspaceID: "w", Name: "ünï-1", ComputeID: "c", ComputeName: "gpu", Experiment: "exp", JobType: "Command", Priority: 3, GPUs: 2, Created: 11,
		CreatedBy: "me", ParentID: "p", DisplayName: "Ding 北京", Tags: []byte(`{"a":"b"}`), Properties: []byte(`{"c":"d"}`), Archived: true,
		Wish: store.WishRun, Generation: 4, State: workspace.Preparing, Reason: &workspace.Problem{Code: "Waits", Message: "waits"}, Position: 7,
		Phase: store.Submitted, Attempt: 2, Ref: "ref", ExitCode: new(3), Error: &workspace.Problem{Class: workspace.Denied, Code: "E", Message: "m", Mend: "n"},
		Submitted: 12, Started: 13, Ended: 14, Due: new(int64(15)), Failures: 5, ObservedGeneration: 3, LogSize: 1 << 40,
		Doc: []byte(`{"x":"y\n"}`), Spec: []byte(`{"z":null}`), LogInline: []byte("bytes \x00\xff"),
	}
	insertJobs(t, s, want)
	got := must[store.Job](t)(s.Job(ctx, "w", "ünï-1"))
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	row := must[store.Job](t)(s.JobRow(ctx, id(1)))
	want.Doc, want.Spec, want.LogInline = nil, nil, nil
	if d := cmp.Diff(want, row); d != "" {
		t.Fatal(d)
	}
	// What can be absent comes back absent.
	insertJobs(t, s, store.Job{ID: id(2), WorkspaceID: "w", Name: "b"})
	got = must[store.Job](t)(s.JobByID(ctx, id(2)))
	if d := cmp.Diff(store.Job{
		ID: id(2), WorkspaceID: "w", Name: "b", Wish: store.WishRun, Generation: 1, State: workspace.NotStarted, Phase: store.Accepted, Attempt: 1,
	}, got); d != "" {
		t.Fatal(d)
	}
}

func (e *exam) jobName(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	insertJobs(t, s, job(1), job(2, func(j *store.Job) { j.WorkspaceID = "other"; j.Name = "job-1" }))
	for _, j := range []store.Job{
		job(3, func(j *store.Job) { j.Name = "job-1" }),
		job(1, func(j *store.Job) { j.Name = "new" }),
	} {
		if err := s.Write(ctx, func(tx *store.Tx) error { return tx.InsertJob(ctx, j) }); !errors.Is(err, store.ErrExists) {
			t.Errorf("id %s, name %s: got %v, want ErrExists", j.ID, j.Name, err)
		}
	}
}

func ids(jobs []store.Job) []string {
	list := []string{}
	for _, j := range jobs {
		list = append(list, j.ID)
	}
	return list
}

func (e *exam) jobPages(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	var want []string
	for n := range 25 {
		insertJobs(t, s, job(n))
		want = append([]string{id(n)}, want...)
	}
	for _, f := range []store.JobFilter{{}, {ComputeID: "c"}, {States: []workspace.State{workspace.Queued, workspace.Running}}} {
		got, after := []string{}, ""
		for {
			page := must[[]store.Job](t)(s.Jobs(ctx, "w", f, store.Page{After: after, Limit: 10}))
			if len(page) == 0 {
				break
			}
			got = append(got, ids(page)...)
			after = got[len(got)-1]
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%+v: %s", f, d)
		}
	}
}

func (e *exam) jobFilters(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	insertJobs(
		t, s,
		job(1),
		job(2, func(j *store.Job) { j.State = workspace.Completed }),
		job(3, func(j *store.Job) { j.State = workspace.Failed; j.ComputeID = "d" }),
		job(4, func(j *store.Job) { j.Experiment = "exp"; j.Archived = true }),
		job(5, func(j *store.Job) { j.WorkspaceID = "other" }),
		job(6, func(j *store.Job) { j.ParentID = id(1); j.JobType = "Sweep" }),
	)
	for _, c := range []struct {
		f    store.JobFilter
		want []string
	}{
		{store.JobFilter{}, []string{id(6), id(3), id(2), id(1)}},
		{store.JobFilter{IncludeArchived: true}, []string{id(6), id(4), id(3), id(2), id(1)}},
		{store.JobFilter{OnlyArchived: true}, []string{id(4)}},
		{store.JobFilter{States: []workspace.State{workspace.Completed, workspace.Failed}}, []string{id(3), id(2)}},
		{store.JobFilter{ComputeID: "d"}, []string{id(3)}},
		{store.JobFilter{ComputeID: "d", States: []workspace.State{workspace.Queued}}, []string{}},
		{store.JobFilter{Experiment: "exp", IncludeArchived: true}, []string{id(4)}},
		{store.JobFilter{ParentID: id(1)}, []string{id(6)}},
		{store.JobFilter{JobType: "Sweep"}, []string{id(6)}},
	} {
		for _, body := range []bool{false, true} {
			c.f.WithBody = body
			got := must[[]store.Job](t)(s.Jobs(ctx, "w", c.f, store.Page{}))
			if d := cmp.Diff(c.want, ids(got)); d != "" {
				t.Errorf("%+v: %s", c.f, d)
			}
			for _, j := range got {
				if (j.Doc != nil) != body {
					t.Errorf("%+v: body is there: %v", c.f, j.Doc != nil)
				}
			}
		}
	}
	if n := must[int](t)(s.CountActive(ctx, "c")); n != 4 {
		t.Errorf("%d active, want 4", n)
	}
}

func (e *exam) queue(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	insertJobs(
		t, s,
		job(1),
		job(2, func(j *store.Job) { j.Priority = 5 }),
		job(3, func(j *store.Job) { j.Due = nil; j.Priority = 9 }),
		job(4, func(j *store.Job) { j.Priority = -1; j.Due = new(int64(1) << 60) }),
		job(5, func(j *store.Job) { j.ComputeID = "d" }),
		job(6, func(j *store.Job) { j.Priority = 5 }),
	)
	list := must[[]store.Job](t)(s.NextJobs(ctx, "c", 10))
	if d := cmp.Diff([]string{id(2), id(6), id(1), id(4)}, ids(list)); d != "" {
		t.Fatal(d)
	}
	if list := must[[]store.Job](t)(s.NextJobs(ctx, "c", 2)); len(list) != 2 {
		t.Errorf("%d jobs, want 2", len(list))
	}
	for limit, want := range map[int][]string{2: {id(2), id(6)}, 10: {id(2), id(6), id(1), id(4)}} {
		if d := cmp.Diff(want, must[[]string](t)(s.QueueHead(ctx, "c", limit))); d != "" {
			t.Errorf("the first %d of the queue: %s", limit, d)
		}
	}
	for i, j := range list {
		if at := must[int](t)(s.QueuePosition(ctx, j)); at != i+1 {
			t.Errorf("job %s is at %d, want %d", j.Name, at, i+1)
		}
	}
}

func (e *exam) jobsOfBefore(t *testing.T) {
	url := e.fresh(t)
	s := Open(t, url)
	insertJobs(t, s, job(1), job(2, func(j *store.Job) { j.ComputeID = "gone" }))
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		return tx.InsertCompute(ctx, store.Compute{ID: "c", WorkspaceID: "w", Name: "gpu"})
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("migrations", "00003_job_compute.sql")) // tests run in the folder of the store
	if err != nil {
		t.Fatal(err)
	}
	behind(t, url, `ALTER TABLE jobs DROP COLUMN compute_name`)
	behind(t, url, string(text))
	s = Open(t, url)
	for n, want := range map[int]string{1: "gpu", 2: ""} {
		if got := must[store.Job](t)(s.JobRow(t.Context(), id(n))).ComputeName; got != want {
			t.Errorf("job %d is of compute %q, want %q", n, got, want)
		}
	}
}

func update(t testing.TB, s *store.Store, j store.Job, g store.Guard) (changed bool) {
	t.Helper()
	write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
		changed, err = tx.UpdateJob(ctx, j, g)
		return err
	})
	return changed
}

func (e *exam) staleEpoch(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	insertJobs(t, s, job(1))
	epoch, _ := acquire(t, s, "c", "a", time.Minute)
	good := store.Guard{ComputeID: "c", Holder: "a", Epoch: epoch}
	j := must[store.Job](t)(s.JobByID(ctx, id(1)))
	j.State, j.Ref, j.Due, j.LogInline = workspace.Running, "r", nil, []byte("log")
	for _, g := range []store.Guard{
		{ComputeID: "c", Holder: "a", Epoch: epoch - 1},
		{ComputeID: "c", Holder: "a", Epoch: epoch + 1},
		{ComputeID: "c", Holder: "b", Epoch: epoch},
		{ComputeID: "d", Holder: "a", Epoch: epoch},
		{},
	} {
		if update(t, s, j, g) {
			t.Errorf("a write under %+v says that it changed the job", g)
		}
	}
	if now := must[store.Job](t)(s.JobByID(ctx, id(1))); now.State != workspace.Queued || now.LogInline != nil {
		t.Fatalf("a stale write changed the job: %+v", now)
	}
	if !update(t, s, j, good) {
		t.Fatal("the holder's own write was refused")
	}
	got := must[store.Job](t)(s.JobByID(ctx, id(1)))
	if d := cmp.Diff(j, got); d != "" {
		t.Fatal(d)
	}
	j.LogInline = nil
	update(t, s, j, good)
	if got := must[store.Job](t)(s.JobByID(ctx, id(1))); string(got.LogInline) != "log" {
		t.Error("a write without a log removed the log")
	}
}

func (e *exam) endedJob(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	insertJobs(t, s, job(1))
	epoch, _ := acquire(t, s, "c", "a", time.Minute)
	g := store.Guard{ComputeID: "c", Holder: "a", Epoch: epoch}
	j := job(1, func(j *store.Job) { j.State = workspace.Failed; j.Phase = store.Ended; j.Generation = 1 })
	if !update(t, s, j, g) {
		t.Fatal("the end was refused")
	}
	j.State = workspace.Running
	if update(t, s, j, g) {
		t.Error("an ended job ran again")
	}
	j.State, j.Phase = workspace.Failed, store.Released
	if !update(t, s, j, g) {
		t.Error("an ended job cannot be released")
	}
	if got := must[store.Job](t)(s.JobByID(ctx, id(1))); got.State != workspace.Failed || got.Phase != store.Released {
		t.Errorf("%s, %s", got.State, got.Phase)
	}
}

func (e *exam) cancelRace(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	insertJobs(t, s, job(1))
	epoch, _ := acquire(t, s, "c", "a", time.Minute)
	g := store.Guard{ComputeID: "c", Holder: "a", Epoch: epoch}
	older := must[store.Job](t)(s.JobByID(ctx, id(1)))
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		if changed, err := tx.WishCancel(ctx, id(1)); err != nil || !changed {
			return fmt.Errorf("changed %v: %w", changed, err)
		}
		return nil
	})
	older.State, older.Ref, older.Due = workspace.Running, "ref", nil
	if !update(t, s, older, g) {
		t.Fatal("refused")
	}
	got := must[store.Job](t)(s.JobByID(ctx, id(1)))
	if got.Wish != store.Cancel || got.State != workspace.CancelRequested || got.Due == nil || got.Ref != "ref" || got.Generation != older.Generation+1 {
		t.Fatalf("the older view undid the cancel, or its ref was lost: %+v", got)
	}
	// An end that was seen meanwhile is an end all the same.
	older.State = workspace.Completed
	update(t, s, older, g)
	if got := must[store.Job](t)(s.JobByID(ctx, id(1))); got.State != workspace.Completed {
		t.Fatalf("state %s", got.State)
	}
}

func (e *exam) cancelOnce(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	insertJobs(t, s, job(1), job(2, func(j *store.Job) { j.State = workspace.Completed; j.Due = nil }))
	for _, c := range []struct {
		id      string
		changed bool
		err     error
	}{{id(1), true, nil}, {id(1), false, nil}, {id(2), false, nil}, {"none", false, store.ErrNotFound}} {
		err := s.Write(ctx, func(tx *store.Tx) error {
			changed, err := tx.WishCancel(ctx, c.id)
			if changed != c.changed {
				t.Errorf("%s: changed %v", c.id, changed)
			}
			return err
		})
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.id, err)
		}
	}
	if got := must[store.Job](t)(s.JobByID(ctx, id(2))); got.Due != nil || got.State != workspace.Completed {
		t.Errorf("an ended job was touched: %+v", got)
	}
}

func (e *exam) forced(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	insertJobs(t, s, job(1))
	epoch, _ := acquire(t, s, "c", "a", time.Minute)
	older := must[store.Job](t)(s.JobByID(ctx, id(1)))
	end := older
	end.State, end.Phase, end.Due = workspace.Canceled, store.Released, nil
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.ForceJob(ctx, end) })
	older.State = workspace.Running
	if update(t, s, older, store.Guard{ComputeID: "c", Holder: "a", Epoch: epoch}) {
		t.Error("a holder moved a job that was given up")
	}
	got := must[store.Job](t)(s.JobByID(ctx, id(1)))
	if got.State != workspace.Canceled || got.Due != nil {
		t.Errorf("%+v", got)
	}
	if err := s.Write(ctx, func(tx *store.Tx) error { return tx.ForceJob(ctx, job(9)) }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown job: %v", err)
	}
}

func (e *exam) deleteJob(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	insertJobs(t, s, job(1), job(2, func(j *store.Job) { j.State = workspace.Completed }))
	err := s.Write(ctx, func(tx *store.Tx) error { return tx.DeleteJob(ctx, id(1)) })
	if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != "JobActive" {
		t.Errorf("an active job: %v", err)
	}
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.PutJobFile(ctx, store.JobFile{JobID: id(2), Output: "o"}); err != nil {
			return err
		}
		return tx.DeleteJob(ctx, id(2))
	})
	if _, err := s.JobRow(ctx, id(2)); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	if l := must[[]store.JobFile](t)(s.JobFiles(ctx, id(2))); len(l) != 0 {
		t.Error(l)
	}
}
