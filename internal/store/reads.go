package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// reads carries every read, for Store (on a pool) and for Tx (inside its transaction).
type reads struct {
	r runner
	d *dialect
}

// runner runs statements. Errors are already those of this package.
type runner interface {
	exec(ctx context.Context, query string, args ...any) (changed int64, err error)
	query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Tx is one transaction. It lives as long as the function that Write called, on that function's goroutine.
type Tx struct {
	reads
	s     *Store
	hints []Hint
}

// Page asks for a part of a list: the rows after a cursor, which is what the list's doc comment says. Limit 0 means 100;
// more than 1,000 is cut to 1,000.
type Page struct {
	After string
	Limit int
}

func (p Page) limit() int {
	switch {
	case p.Limit <= 0:
		return 100
	case p.Limit > 1000:
		return 1000
	}
	return p.Limit
}

// dialect is all that differs in the SQL text of the two databases.
type dialect struct {
	// now is an expression for the database's own clock in milliseconds since the epoch.
	now string
	// share ends a subquery whose rows must not change before the transaction ends.
	share string
}

var (
	sqliteDialect = &dialect{now: `CAST(round(unixepoch('subsec') * 1000) AS INTEGER)`}
	// clock_timestamp and not now(): the latter stands still inside a transaction.
	postgresDialect = &dialect{now: `CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)`, share: ` FOR SHARE`}
)

// one reads one row into the pointers that fields gives for a T; ErrNotFound if there is none.
func one[T any](ctx context.Context, q reads, fields func(*T) []any, query string, args ...any) (T, error) {
	var v T
	rows, err := q.r.query(ctx, query, args...)
	if err != nil {
		return v, err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return v, translate(err)
		}
		return v, ErrNotFound
	}
	if err := rows.Scan(fields(&v)...); err != nil {
		return v, translate(err)
	}
	return v, translate(rows.Close())
}

// many reads all rows.
func many[T any](ctx context.Context, q reads, fields func(*T) []any, query string, args ...any) ([]T, error) {
	rows, err := q.r.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		var v T
		if err := rows.Scan(fields(&v)...); err != nil {
			return nil, translate(err)
		}
		list = append(list, v)
	}
	return list, translate(rows.Err())
}

// scalar is the one field of a row that is a single value.
func scalar[T any](v *T) []any { return []any{v} }

// insert runs an INSERT … ON CONFLICT DO NOTHING; ErrExists if it did nothing. So a doubled key does not cost
// PostgreSQL the transaction.
func (tx *Tx) insert(ctx context.Context, query string, args ...any) error {
	n, err := tx.r.exec(ctx, query, args...)
	if err == nil && n == 0 {
		return ErrExists
	}
	return err
}

// change runs a statement that must touch a row; ErrNotFound if it did not.
func (tx *Tx) change(ctx context.Context, query string, args ...any) error {
	n, err := tx.r.exec(ctx, query, args...)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// text is JSON as both databases keep it.
func text(raw json.RawMessage) string { return string(raw) }

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// raw scans TEXT into JSON; empty text is nil.
type raw struct{ to *json.RawMessage }

func (r raw) Scan(src any) error {
	*r.to = nil
	switch v := src.(type) {
	case string:
		if v != "" {
			*r.to = json.RawMessage(v)
		}
	case []byte:
		if len(v) != 0 {
			*r.to = append(json.RawMessage(nil), v...)
		}
	}
	return nil
}

// decoded scans TEXT that is JSON of a T, or empty.
type decoded[T any] struct{ to *T }

func (d decoded[T]) Scan(src any) error {
	var r json.RawMessage
	if err := (raw{&r}).Scan(src); err != nil {
		return err
	}
	var v T
	if r != nil {
		if err := json.Unmarshal(r, &v); err != nil {
			return err
		}
	}
	*d.to = v
	return nil
}

// problemText is how a problem is kept: JSON, or empty for nil.
func problemText(p *workspace.Problem) string {
	if p == nil {
		return ""
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic("store: a problem cannot be encoded: " + err.Error()) // text and booleans always can
	}
	return string(b)
}

// listText is how a list of texts is kept: JSON, or empty for none.
func listText(list []string) string {
	if len(list) == 0 {
		return ""
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic("store: a list cannot be encoded: " + err.Error())
	}
	return string(b)
}

// marks is "($from,$from+1,…)" for n arguments.
func marks(from, n int) string {
	var b strings.Builder
	b.WriteByte('(')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(from + i))
	}
	b.WriteByte(')')
	return b.String()
}

// batches cuts n things into runs whose sizes come from a short list, the largest first and 1 at its end, so that
// statements with a list of arguments exist in few versions. do gets the half-open range.
func batches(sizes []int, n int, do func(from, to int) error) error {
	for at := 0; at < n; {
		size := sizes[slices.IndexFunc(sizes, func(s int) bool { return s <= n-at })]
		if err := do(at, at+size); err != nil {
			return err
		}
		at += size
	}
	return nil
}

// nth is the number of the last argument, for building a statement.
func nth(args []any) string { return strconv.Itoa(len(args)) }
