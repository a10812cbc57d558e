package store

import (
	"context"
	"database/sql"
	"sync"
)

// statements keeps SQLite's compiled statements by their text, so that each text is compiled once a connection.
// PostgreSQL needs none: pgx keeps its own.
type statements struct {
	prepare func(ctx context.Context, query string) (*sql.Stmt, error)

	mu   sync.RWMutex
	kept map[string]*sql.Stmt
}

// statements kept; a text beyond that is compiled each time. Lists with filters make some hundred texts at most.
const maxStatements = 512

// get returns the statement and, when it is not kept, what to call after its use.
func (s *statements) get(ctx context.Context, query string) (stmt *sql.Stmt, done func(), err error) {
	s.mu.RLock()
	stmt = s.kept[query]
	s.mu.RUnlock()
	if stmt != nil {
		return stmt, nop, nil
	}
	// Compiling outlives the request that was first to need it.
	stmt, err = s.prepare(context.WithoutCancel(ctx), query)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if had := s.kept[query]; had != nil {
		return had, nop, stmt.Close()
	}
	if len(s.kept) >= maxStatements {
		return stmt, func() { stmt.Close() }, nil
	}
	if s.kept == nil {
		s.kept = map[string]*sql.Stmt{}
	}
	s.kept[query] = stmt
	return stmt, nop, nil
}

func nop() {}

func (s *statements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stmt := range s.kept {
		stmt.Close()
	}
	s.kept = nil
}

// prepared runs statements from the cache. It serves SQLite's readers.
type prepared struct{ stmts *statements }

func (p prepared) exec(ctx context.Context, query string, args ...any) (int64, error) {
	stmt, done, err := p.stmts.get(ctx, query)
	if err != nil {
		return 0, translate(err)
	}
	defer done()
	res, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, translate(err)
	}
	n, err := res.RowsAffected()
	return n, translate(err)
}

func (p prepared) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, done, err := p.stmts.get(ctx, query)
	if err != nil {
		return nil, translate(err)
	}
	defer done() // rows in use keep a closed statement alive until they are closed
	rows, err := stmt.QueryContext(ctx, args...)
	return rows, translate(err)
}

// direct runs statements as they are. It serves PostgreSQL, on its pool or in a transaction.
type direct struct {
	on interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
}

func (r direct) exec(ctx context.Context, query string, args ...any) (int64, error) {
	res, err := r.on.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, translate(err)
	}
	n, err := res.RowsAffected()
	return n, translate(err)
}

func (r direct) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := r.on.QueryContext(ctx, query, args...)
	return rows, translate(err)
}

// careful is the runner of a transaction: after one statement failed all others fail with the same error, on both
// databases, and Write reports it.
type careful struct {
	runner
	failed error
}

func (c *careful) exec(ctx context.Context, query string, args ...any) (int64, error) {
	if c.failed != nil {
		return 0, c.failed
	}
	n, err := c.runner.exec(ctx, query, args...)
	if err != nil {
		c.failed = err
	}
	return n, err
}

func (c *careful) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if c.failed != nil {
		return nil, c.failed
	}
	rows, err := c.runner.query(ctx, query, args...)
	if err != nil {
		c.failed = err
	}
	return rows, err
}
