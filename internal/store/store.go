// Package store keeps the rows: workspaces, computes, jobs, leases and the documents of clients, in one SQLite file or
// in PostgreSQL, with one SQL text for both. Bytes of any size belong in package blob. Control and reconcile are its
// main callers; it decides nothing, and it opens no secret.
//
// Reads are methods that Store and Tx share. Writes are methods of Tx alone, so every write stands inside Write:
//
//	err := st.Write(ctx, func(tx *store.Tx) error {
//		if err := tx.InsertJob(ctx, job); err != nil {
//			return err
//		}
//		tx.Hint(job.ComputeID, job.ID)
//		return nil
//	})
//
// Times are milliseconds since the epoch. Ids are text.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/oklog/ulid/v2"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// What callers decide by.
var (
	ErrNotFound = errors.New("store: not found")
	ErrExists   = errors.New("store: exists already")
	// ErrSameTarget is an ErrExists: another compute of the workspace has the same identity.
	ErrSameTarget error = sameTarget{}
	// ErrClosed is what a Store says after Close.
	ErrClosed = errors.New("store: closed")
)

type sameTarget struct{}

func (sameTarget) Error() string        { return "store: another compute refers to the same target" }
func (sameTarget) Is(target error) bool { return target == ErrExists }

// Config is what Open needs.
type Config struct {
	// URL is "sqlite:PATH" or "postgres://user:password@host/database".
	URL string
	// Log may be nil.
	Log *slog.Logger
	// Clock gives the times and ids that the store makes itself. The zero value is the machine's.
	Clock clock.Source
}

// Store is an open database, safe for concurrent use.
type Store struct {
	reads
	db      database
	hub     hub
	log     *slog.Logger
	clock   clock.Source
	ids     idSource
	counted counters
}

// database is what SQLite and PostgreSQL do differently.
type database interface {
	// write runs fn in a transaction and returns after it is durable, or after nothing of it is left.
	write(ctx context.Context, fn func(*Tx) error) error
	close() error
}

// Open opens the database, makes it if it is a SQLite file that does not exist, and brings its schema up to date; an
// existing SQLite file is copied to a backup beside it first. A schema newer than this program is refused. What a
// person can mend is a *workspace.Problem.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock.Now == nil {
		c.Clock.Now = clock.System().Now
	}
	if c.Clock.Rand == nil {
		c.Clock.Rand = rand.Reader
	}
	s := &Store{log: c.Log, clock: c.Clock}
	s.ids.entropy = ulid.Monotonic(c.Clock.Rand, 0)
	var err error
	switch {
	case strings.HasPrefix(c.URL, "sqlite:"):
		err = s.openSQLite(ctx, strings.TrimPrefix(c.URL, "sqlite:"))
	case strings.HasPrefix(c.URL, "postgres://"), strings.HasPrefix(c.URL, "postgresql://"):
		err = s.openPostgres(ctx, c.URL)
	default:
		err = &workspace.Problem{ //nolint:gosec // the password stands for one
			Class: workspace.Invalid, Code: "InvalidDatabaseURL", Target: "database",
			Message: "the database's URL is of no known kind",
			Mend:    "give sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE",
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Write runs fn in one transaction and returns nil only after everything that fn wrote is on disk. When fn returns an
// error, or the context ends before fn is through, nothing of it is left, and that error is returned. Once fn is
// through, the outcome is waited for and told whatever becomes of the context.
//
// fn may run more than once, so it must not change anything but the database; it may not block, nor use the Store
// inside. It sees the database as if it ran alone: two that touched the same rows run one after the other. After a
// statement failed, other than by ErrNotFound and ErrExists, the transaction is lost, even if fn returns nil.
//
// SQLite runs those that come at the same time in one commit. A small write is durable in well under a millisecond,
// and many writers share the cost of the disk.
func (s *Store) Write(ctx context.Context, fn func(tx *Tx) error) error {
	if err := s.db.write(ctx, fn); err != nil {
		s.counted.failed.Add(1)
		return err
	}
	s.counted.writes.Add(1)
	return nil
}

// Close waits for writes under way and closes the database. Channels given by Hints are closed.
func (s *Store) Close() error {
	s.hub.close()
	return s.db.close()
}

// Stats are counts since Open, for metrics.
type Stats struct {
	Writes  int64 // transactions committed
	Failed  int64 // transactions that left nothing
	Commits int64 // commits of the database; fewer than Writes where writers shared one
	Retries int64 // transactions run again because another touched the same rows
}

type counters struct{ writes, failed, commits, retries atomic.Int64 }

// Stats tells the counts.
func (s *Store) Stats() Stats {
	return Stats{s.counted.writes.Load(), s.counted.failed.Load(), s.counted.commits.Load(), s.counted.retries.Load()}
}

// idSource makes ULIDs that rise within one Store even inside one millisecond.
type idSource struct {
	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
}

// newID is safe inside a transaction. When the monotonic space of one millisecond is used up it starts afresh.
func (s *Store) newID() string {
	s.ids.mu.Lock()
	defer s.ids.mu.Unlock()
	now := ulid.Timestamp(s.clock.Now())
	for {
		id, err := ulid.New(now, s.ids.entropy)
		if err == nil {
			return id.String()
		}
		if !errors.Is(err, ulid.ErrMonotonicOverflow) {
			panic("store: no randomness for an id: " + err.Error()) // the machine's source never fails
		}
		now++
	}
}
