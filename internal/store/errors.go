package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// translate turns a database's error into one of this package: a sentinel, a Problem where a person can mend it, else
// the error with our name before it.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) || errors.Is(err, ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if _, ok := errors.AsType[*workspace.Problem](err); ok {
		return err
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		if known := translateSQLite(e); known != nil {
			return known
		}
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		if known := translatePostgres(e); known != nil {
			return known
		}
	} else if unreachable(err) {
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: "DatabaseUnreachable", Target: "database",
			Message: "the database cannot be reached", Cause: err.Error(),
			Mend: "check that PostgreSQL runs and that its address, user and password are right",
		}
	}
	if errors.Is(err, sql.ErrConnDone) || strings.Contains(err.Error(), "sql: database is closed") {
		return ErrClosed
	}
	return fmt.Errorf("store: %w", err)
}

func unreachable(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok
}

func diskFull(cause string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Unavailable, Code: "DiskFull", Target: "database",
		Message: "the disk that holds the database is full", Cause: cause,
		Mend: "free some space there; nothing was half written, and work goes on by itself",
	}
}

func translateSQLite(e *sqlite.Error) error {
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		if strings.Contains(e.Error(), "computes_identity") {
			return ErrSameTarget
		}
		return ErrExists
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return diskFull(e.Error())
	case sqlite3.SQLITE_BUSY:
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: "DatabaseBusy", Target: "database",
			Message: "another program holds the database", Cause: e.Error(),
			Mend: "end the other program that has the file open, or use PostgreSQL for several servers",
		}
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return &workspace.Problem{
			Code: "DatabaseDamaged", Target: "database",
			Message: "the database file is damaged or is no database", Cause: e.Error(),
			Mend: "stop the server and put back a backup; backups lie beside the file",
		}
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return &workspace.Problem{
			Code: "DatabaseNotWritable", Target: "database",
			Message: "the database file cannot be opened for writing", Cause: e.Error(),
			Mend: "let the server's user own the file and its folder",
		}
	}
	return nil
}

func translatePostgres(e *pgconn.PgError) error {
	switch e.Code {
	case "23505": // unique_violation
		if e.ConstraintName == "computes_identity" {
			return ErrSameTarget
		}
		return ErrExists
	case "22021": // character_not_in_repertoire: NUL
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidText",
			Message: "a text holds a character that the database cannot keep", Cause: e.Message,
			Mend: "leave NUL characters out of names and texts",
		}
	case "53100": // disk_full
		return diskFull(e.Message)
	case "53300", "57P01", "57P02", "57P03": // too many connections, going down, crashed, starting up
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: "DatabaseUnreachable", Target: "database",
			Message: "the database does not take work now", Cause: e.Message,
			Mend: "wait until PostgreSQL is up again, or raise max_connections",
		}
	case "28P01", "28000", "3D000", "42501": // password, authorisation, no such database, no right
		return &workspace.Problem{
			Code: "DatabaseDenied", Target: "database",
			Message: "the database refuses us", Cause: e.Message,
			Mend: "check the user, the password and the database in the URL, and that the user may create tables",
		}
	}
	return nil
}

// conflict tells whether the transaction lost against another that touched the same rows and may be run again.
func conflict(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40001" || e.Code == "40P01")
}
