package store

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"modernc.org/sqlite"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// sqliteDB is one file in WAL mode: a connection that writes, under a lock, and a few that read. Readers never wait for
// the writer.
//
// Measured on a machine whose fdatasync takes 0.2 ms: see BenchmarkAccept and BenchmarkWriters.
type sqliteDB struct {
	s      *Store
	reader *sql.DB
	readQ  *statements
	writer *sql.DB
	conn   *sql.Conn // the writer's only connection
	writeQ *statements

	// waiting counts those who want mu; the last to leave commits for all (group commit).
	waiting atomic.Int64
	mu      sync.Mutex
	group   *group // the open transaction, nil if there is none
	closed  bool
}

// group is one transaction of the database, shared by the writes that came while it was open.
type group struct {
	writes int
	began  time.Time
	hints  []Hint
	done   chan struct{} // closed when the outcome is known
	err    error
}

// A group is closed after so many writes or so long, even if more are waiting, so that the first is not kept for long.
const (
	groupWrites = 256
	groupAge    = 5 * time.Millisecond
)

// Memory of the page caches in KiB: one writer, and readers. Together under 8 MB.
const (
	sqliteReaders   = 4
	sqliteReadKiB   = 1200
	sqliteWriteKiB  = 2400
	sqliteJournalKB = 16 << 10 // the WAL file is cut back to this after a burst
)

func (s *Store) openSQLite(ctx context.Context, path string) (err error) {
	if path == "" || path == ":memory:" {
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidDatabaseURL", Target: "database",
			Message: "the database's URL names no file", Mend: "give sqlite:PATH",
		}
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return translate(err)
	}
	existed, err := touch(path)
	if err != nil {
		return &workspace.Problem{
			Code: "DatabaseNotWritable", Target: "database",
			Message: "the database file cannot be opened for writing", Cause: err.Error(),
			Mend: "make its folder, and let the server's user own it",
		}
	}
	// Both are switches of the whole process in the library, and right for every database: fdatasync is what C builds of
	// SQLite use, and a lock that belongs to the open file is not lost when other code opens and closes the same file.
	// Where a platform lacks them, the library goes on as before.
	_, _ = sqlite.Fdatasync(true)
	_, _ = sqlite.OFDLocking(true)

	d := &sqliteDB{s: s}
	defer func() {
		if err != nil {
			_ = d.close()
		}
	}()
	d.writer, err = sql.Open("sqlite", sqliteDSN(path, false))
	if err != nil {
		return translate(err)
	}
	d.writer.SetMaxOpenConns(1)
	if err := s.migrateFile(ctx, d.writer, path, existed); err != nil {
		return err
	}
	if d.conn, err = d.writer.Conn(ctx); err != nil {
		return translate(err)
	}
	d.writeQ = &statements{prepare: d.conn.PrepareContext}
	if d.reader, err = sql.Open("sqlite", sqliteDSN(path, true)); err != nil {
		return translate(err)
	}
	d.reader.SetMaxOpenConns(sqliteReaders)
	d.reader.SetMaxIdleConns(sqliteReaders)
	d.readQ = &statements{prepare: d.reader.PrepareContext}
	s.reads = reads{prepared{d.readQ}, sqliteDialect}
	s.db = d
	return nil
}

// migrateFile migrates while it holds the file's folder, so that two processes that open a new file make its tables once.
func (s *Store) migrateFile(ctx context.Context, db *sql.DB, path string, existed bool) error {
	if folder, err := os.Open(filepath.Dir(path)); err == nil {
		defer folder.Close()
		_ = syscall.Flock(int(folder.Fd()), syscall.LOCK_EX) // a file system without such locks has one process at a time
	}
	return s.migrate(ctx, migration{db: db, d: sqliteDialect, file: path, existed: existed})
}

// touch makes the file readable by its owner alone, which SQLite then also applies to the WAL beside it.
func touch(path string) (existed bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	return info.Size() > 0, nil
}

func sqliteDSN(path string, readOnly bool) string {
	q := url.Values{"_busy_timeout": {"10000"}}
	kib := sqliteWriteKiB
	if readOnly {
		kib = sqliteReadKiB
		q.Set("_query_only", "1")
	} else {
		q.Set("_journal_mode", "WAL")
		q.Set("_synchronous", "FULL") // in WAL mode: flushed at every commit
		q.Add("_pragma", "journal_size_limit("+strconv.Itoa(sqliteJournalKB<<10)+")")
	}
	q.Add("_pragma", "cache_size(-"+strconv.Itoa(kib)+")")
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}).String()
}

func (d *sqliteDB) write(ctx context.Context, fn func(*Tx) error) error {
	g, err := d.turn(ctx, fn)
	if err != nil {
		return err
	}
	<-g.done
	return g.err
}

// turn runs fn inside the open group, or a new one, and commits the group if nobody else is waiting to join it. fn runs
// on the caller's goroutine, so a panic is the caller's, and everything is undone on the way out.
func (d *sqliteDB) turn(ctx context.Context, fn func(*Tx) error) (_ *group, err error) {
	d.waiting.Add(1)
	d.mu.Lock()
	d.waiting.Add(-1)
	defer d.mu.Unlock()
	// Whoever saw us waiting left the commit to us, so it is made even if this request is over.
	defer d.leave()

	if d.closed {
		return nil, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	first := d.group == nil
	if first {
		if err := d.do("BEGIN IMMEDIATE"); err != nil {
			return nil, err
		}
		d.group = &group{began: time.Now(), done: make(chan struct{})}
	} else if err := d.do("SAVEPOINT w"); err != nil {
		d.lose(err)
		return nil, err
	}
	kept := false
	run := &careful{runner: uncancelled{prepared{d.writeQ}}}
	defer func() {
		if !kept {
			d.undo(first, run.failed)
		}
	}()

	tx := &Tx{reads: reads{run, sqliteDialect}, s: d.s}
	if err := fn(tx); err != nil {
		return nil, err
	}
	if run.failed != nil {
		return nil, run.failed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !first {
		if err := d.do("RELEASE w"); err != nil {
			return nil, err
		}
	}
	kept = true
	d.group.writes++
	d.group.hints = append(d.group.hints, tx.hints...)
	return d.group, nil
}

// leave commits unless somebody is waiting who can still join.
func (d *sqliteDB) leave() {
	if d.group == nil {
		return
	}
	if d.waiting.Load() == 0 && d.group.writes > 1 {
		runtime.Gosched() // those whom the last commit woke are on their way
	}
	if d.waiting.Load() > 0 && d.group.writes < groupWrites && time.Since(d.group.began) < groupAge {
		return
	}
	d.commit()
}

// commit ends the open group and tells its writers.
func (d *sqliteDB) commit() {
	g := d.group
	d.group = nil
	g.err = d.do("COMMIT")
	if g.err != nil {
		_ = d.do("ROLLBACK") // fails when SQLite has rolled back by itself
	} else {
		d.s.counted.commits.Add(1)
		d.s.hub.send(g.hints)
	}
	close(g.done)
}

// undo takes back one write and leaves the others of the group alone. cause is the statement that failed, if one did.
func (d *sqliteDB) undo(first bool, cause error) {
	if first {
		_ = d.do("ROLLBACK")
		d.group = nil // nobody else is in it: the lock was held all the time
		return
	}
	err := d.do("ROLLBACK TO w")
	if err == nil {
		err = d.do("RELEASE w")
	}
	if err != nil {
		if cause == nil {
			cause = err
		}
		d.lose(cause)
	}
}

// lose gives the whole group up: SQLite rolls back everything by itself when the disk is full or fails.
func (d *sqliteDB) lose(cause error) {
	_ = d.do("ROLLBACK")
	g := d.group
	d.group = nil
	g.err = cause
	close(g.done)
}

func (d *sqliteDB) do(statement string) error {
	_, err := prepared{d.writeQ}.exec(context.Background(), statement)
	return err
}

// uncancelled runs statements to their end once begun: SQLite rolls back a whole transaction when a statement in it is
// interrupted, and the transaction is shared.
type uncancelled struct{ runner }

func (u uncancelled) exec(ctx context.Context, query string, args ...any) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return u.runner.exec(context.WithoutCancel(ctx), query, args...)
}

func (u uncancelled) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return u.runner.query(context.WithoutCancel(ctx), query, args...)
}

func (d *sqliteDB) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.group != nil {
		d.commit()
	}
	if d.readQ != nil {
		d.readQ.close()
	}
	if d.reader != nil {
		d.reader.Close()
	}
	if d.conn != nil {
		d.writeQ.close()
		d.conn.Close()
	}
	if d.writer == nil {
		return nil
	}
	return translate(d.writer.Close()) // the last connection folds the WAL into the file
}
