package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/moorage-ml/moorage/internal/workspace"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is a database that is to be brought up to date.
type migration struct {
	db      *sql.DB
	d       *dialect
	file    string // SQLite's; empty for PostgreSQL
	existed bool   // the file was there before
}

// migrate applies what the database lacks. Migrations expand first and contract a release later, so a server of the
// release before may still run on PostgreSQL meanwhile. Several servers that start at once wait for each other.
func (s *Store) migrate(ctx context.Context, m migration) error {
	sqls, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return translate(err)
	}
	options := []goose.ProviderOption{
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()), goose.WithTableName("moorage_schema"),
	}
	kind := goose.DialectSQLite3
	if m.file == "" {
		kind = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return translate(err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(kind, m.db, sqls, options...)
	if err != nil {
		return translate(err)
	}
	last := p.ListSources()[len(p.ListSources())-1].Version
	current, err := m.version(ctx)
	if err != nil {
		return translate(err)
	}
	switch {
	case current == last:
		return nil
	case current > last:
		return &workspace.Problem{
			Class: workspace.Conflict, Code: "SchemaTooNew", Target: "database",
			Message: fmt.Sprintf("the database has schema %d, and this program knows schemas up to %d", current, last),
			Mend:    "start the newer Moorage that wrote it, or put back a backup made before",
		}
	}
	if m.existed && current > 0 {
		if err := s.backup(ctx, m, current); err != nil {
			return err
		}
	}
	if _, err := p.Up(ctx); err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			if problem, ok := errors.AsType[*workspace.Problem](translate(inner)); ok {
				return problem
			}
		}
		return fmt.Errorf("store: migrate to schema %d: %w", last, err)
	}
	return nil
}

// version is the schema that the database has; 0 if it has none.
func (m migration) version(ctx context.Context) (int64, error) {
	query := `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'moorage_schema'`
	if m.file == "" {
		query = `SELECT count(*) FROM pg_class WHERE oid = to_regclass('moorage_schema')`
	}
	var n int64
	if err := m.db.QueryRowContext(ctx, query).Scan(&n); err != nil || n == 0 {
		return 0, err
	}
	err := m.db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM moorage_schema`).Scan(&n)
	return n, err
}

// backup copies a SQLite file to FILE.schema-N-TIME beside it.
func (s *Store) backup(ctx context.Context, m migration, current int64) error {
	to := fmt.Sprintf("%s.schema-%d-%s", m.file, current, s.clock.Now().UTC().Format("20060102T150405.000Z"))
	if _, err := m.db.ExecContext(ctx, `VACUUM INTO $1`, to); err != nil {
		_ = os.Remove(to)
		return &workspace.Problem{
			Code: "BackupFailed", Target: "database",
			Message: "the database was not upgraded, because no backup could be made first", Cause: err.Error(),
			Mend: "make room for a copy of the database beside it, in " + to,
		}
	}
	if err := os.Chmod(to, 0o600); err != nil {
		return translate(err)
	}
	s.log.Info("made a backup of the database before its upgrade", "file", to)
	return nil
}
