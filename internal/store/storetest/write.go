package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	neturl "net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx", to prepare a database behind the store's back
	_ "modernc.org/sqlite"             // the driver "sqlite", likewise

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func (e *exam) writeKeepsAllOrNothing(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	boom := errors.New("boom")
	err := s.Write(ctx, func(tx *store.Tx) error {
		if err := tx.InsertJob(ctx, job(1)); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v, want the function's own error", err)
	}
	if _, err := s.JobByID(ctx, id(1)); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a failed write left a row: %v", err)
	}
	insertJobs(t, s, job(1))
	must[store.Job](t)(s.JobByID(ctx, id(1)))
}

func (e *exam) writeSeesItsOwnRows(t *testing.T) {
	s := e.open(t)
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.InsertJob(ctx, job(1)); err != nil {
			return err
		}
		if _, err := tx.Job(ctx, "w", "job-1"); err != nil {
			return err
		}
		if _, err := s.Job(ctx, "w", "job-1"); !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("others see an unfinished write: %w", err)
		}
		return nil
	})
}

func (e *exam) failedStatementLosesTheWholeWrite(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	err := s.Write(ctx, func(tx *store.Tx) error {
		if err := tx.InsertJob(ctx, job(1)); err != nil {
			return err
		}
		dead, cancel := context.WithCancel(ctx)
		cancel()
		_ = tx.InsertJob(dead, job(2)) // fails, and is ignored
		return nil
	})
	if err == nil {
		t.Fatal("a write whose statement failed was kept")
	}
	if _, err := s.JobByID(ctx, id(1)); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("the rest of the write is there: %v", err)
	}
}

func (e *exam) doubledKeyLeavesTheWriteUsable(t *testing.T) {
	s := e.open(t)
	insertJobs(t, s, job(1))
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		if err := tx.InsertJob(ctx, job(1)); !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("got %w, want ErrExists", err)
		}
		return tx.InsertJob(ctx, job(2))
	})
	must[store.Job](t)(s.JobByID(t.Context(), id(2)))
}

func (e *exam) concurrentReadModifyWrite(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	const writers, each = 8, 20
	write(t, s, func(ctx context.Context, tx *store.Tx) error { return tx.PutSetting(ctx, "n", []byte("0")) })
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := s.Write(ctx, func(tx *store.Tx) error {
					v, err := tx.Setting(ctx, "n")
					if err != nil {
						return err
					}
					var n int
					if _, err := fmt.Sscan(string(v), &n); err != nil {
						return err
					}
					return tx.PutSetting(ctx, "n", fmt.Append(nil, n+1))
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := string(must[[]byte](t)(s.Setting(ctx, "n"))); got != fmt.Sprint(writers*each) {
		t.Fatalf("counted to %s, want %d", got, writers*each)
	}
}

// Half of the requests end somewhere on their way. Those that were told of success are there, the others are not.
func (e *exam) cancelledRequests(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	const writers, each = 16, 25
	var kept sync.Map
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				n := w*each + i
				req, cancel := context.WithCancel(ctx)
				if n%2 == 0 {
					go func() {
						for range n % 50 {
							runtime.Gosched()
						}
						cancel()
					}()
				}
				err := s.Write(req, func(tx *store.Tx) error {
					if n%4 == 0 {
						defer cancel()
					}
					return tx.InsertJob(req, job(n))
				})
				cancel()
				switch {
				case err == nil:
					kept.Store(n, true)
				case n%2 == 1:
					t.Errorf("a request that nobody cancelled failed: %v", err)
				case !errors.Is(err, context.Canceled):
					t.Errorf("a cancelled request says %v", err)
				}
			}
		})
	}
	wg.Wait()
	for n := range writers * each {
		_, err := s.JobByID(ctx, id(n))
		_, want := kept.Load(n)
		if want != (err == nil) {
			t.Errorf("job %d: told of success: %v, in the database: %v", n, want, err)
		}
	}
}

func (e *exam) panicInsideWrite(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			defer func() { _ = recover() }()
			_ = s.Write(ctx, func(tx *store.Tx) error {
				if err := tx.InsertJob(ctx, job(n)); err != nil {
					return err
				}
				switch n % 4 {
				case 1:
					panic("inside")
				case 3:
					runtime.Goexit()
				}
				return nil
			})
		})
	}
	wg.Wait()
	list := must[[]store.Job](t)(s.Jobs(ctx, "w", store.JobFilter{}, store.Page{}))
	if len(list) != 10 {
		t.Fatalf("%d jobs, want the 10 whose writes ended well", len(list))
	}
}

func (e *exam) closed(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	hints := s.Hints(ctx)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(ctx, func(*store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if _, err := s.Workspaces(ctx); !errors.Is(err, store.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	for range hints { // ends, for it is closed
	}
}

func (e *exam) reopened(t *testing.T) {
	url := e.fresh(t)
	s := Open(t, url)
	for n := range 50 {
		insertJobs(t, s, job(n))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = Open(t, url)
	if list := must[[]store.Job](t)(s.Jobs(t.Context(), "w", store.JobFilter{}, store.Page{})); len(list) != 50 {
		t.Fatalf("%d of 50 jobs", len(list))
	}
}

func (e *exam) openAtOnce(t *testing.T) {
	url := e.fresh(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			s, err := store.Open(t.Context(), store.Config{URL: url})
			if err != nil {
				t.Error(err)
				return
			}
			_, err = s.Workspaces(t.Context())
			if err = errors.Join(err, s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func (e *exam) newerSchema(t *testing.T) {
	url := e.fresh(t)
	if err := Open(t, url).Close(); err != nil {
		t.Fatal(err)
	}
	Remember(t, url, 99999)
	_, err := store.Open(t.Context(), store.Config{URL: url})
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || p.Code != "SchemaTooNew" || p.Mend == "" {
		t.Fatalf("got %v, want the problem SchemaTooNew with a mend", err)
	}
}

func (e *exam) hintsAfterCommit(t *testing.T) {
	s, ctx := e.open(t), t.Context()
	hints := s.Hints(ctx)
	_ = s.Write(ctx, func(tx *store.Tx) error {
		tx.Hint("c", "lost")
		return errors.New("no")
	})
	write(t, s, func(_ context.Context, tx *store.Tx) error {
		tx.Hint("c", "j")
		tx.Hint("c", "j")
		return nil
	})
	for h := range hints {
		if h == (store.Hint{}) {
			continue // PostgreSQL's listener came up
		}
		if h != (store.Hint{ComputeID: "c", JobID: "j"}) {
			t.Fatalf("got %+v", h)
		}
		break
	}
}

func (e *exam) hintsOverflow(t *testing.T) {
	s := e.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	hints := s.Hints(ctx)
	var sent atomic.Int64
	for n := range 1000 {
		write(t, s, func(_ context.Context, tx *store.Tx) error {
			tx.Hint("c", id(n))
			sent.Add(1)
			return nil
		})
	}
	cancel()
	folded := false
	for h := range hints {
		folded = h == store.Hint{}
	}
	if !folded {
		t.Fatal("the last thing that a slow reader gets is not the hint that it missed some")
	}
}

// Forget makes a database forget that its newest migration was applied, and gives the version of it.
func Forget(t testing.TB, url string) (version int) {
	t.Helper()
	db := open(t, url)
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), `DELETE FROM moorage_schema WHERE version_id = (SELECT max(version_id) FROM moorage_schema) RETURNING version_id`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	return version
}

// Remember makes a database believe that a migration was applied.
func Remember(t testing.TB, url string, version int) {
	t.Helper()
	behind(t, url, fmt.Sprintf(`INSERT INTO moorage_schema (version_id, is_applied) VALUES (%d, TRUE)`, version))
}

// behind runs statements behind the store's back.
func behind(t testing.TB, url, statements string) {
	t.Helper()
	db := open(t, url)
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
}

// open opens a database without a store.
func open(t testing.TB, url string) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", url
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, dsn = "sqlite", (&neturl.URL{Scheme: "file", Path: path}).String()
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	return db
}
