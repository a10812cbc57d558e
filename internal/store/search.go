package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Field says which part of a run or an experiment a condition or an order looks at.
type Field int

// The fields. Attribute is a column of the row itself; Series is the latest value of a metric.
const (
	Attribute Field = iota
	Series
	Param
	Tag
	Dataset
)

// Operator is one comparison of the search grammar (mlflow.md §9).
type Operator string

// The operators. Missing and Present are IS NULL and IS NOT NULL.
const (
	Equal        Operator = "="
	NotEqual     Operator = "!="
	Less         Operator = "<"
	LessEqual    Operator = "<="
	Greater      Operator = ">"
	GreaterEqual Operator = ">="
	Like         Operator = "LIKE"
	ILike        Operator = "ILIKE"
	In           Operator = "IN"
	NotIn        Operator = "NOT IN"
	Missing      Operator = "IS NULL"
	Present      Operator = "IS NOT NULL"
)

// Condition is one comparison. The value is in Number for Series and numeric attributes, in List for In and NotIn,
// else in Text. Only a vocabulary of the filter package makes conditions, so Key of an attribute is one that the store knows.
type Condition struct {
	Field    Field
	Key      string
	Operator Operator
	Numeric  bool
	Number   float64
	Text     string
	List     []string
}

// Order is one entry of an order_by list.
type Order struct {
	Field      Field
	Key        string
	Numeric    bool
	Descending bool
}

// sqlText collects a statement and its arguments, numbered as they are added.
type sqlText struct {
	strings.Builder
	dialect *dialect
	args    []any
}

// arg adds an argument and gives its placeholder.
func (q *sqlText) arg(v any) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args))
}

// sorted makes text sort by its bytes, whatever the database's locale is.
func (d *dialect) sorted(expr string) string {
	if d == postgresDialect {
		return expr + ` COLLATE "C"`
	}
	return expr
}

// match is a LIKE or ILIKE with '%' and '_' and no escape character. SQLite's own LIKE ignores the case of ASCII
// letters, so it serves for ILIKE, and GLOB for LIKE.
func (q *sqlText) match(expr string, op Operator, pattern string) string {
	if q.dialect == postgresDialect {
		return fmt.Sprintf("%s %s %s ESCAPE ''", expr, op, q.arg(pattern))
	}
	if op == ILike {
		return fmt.Sprintf("%s LIKE %s", expr, q.arg(pattern))
	}
	return fmt.Sprintf("%s GLOB %s", expr, q.arg(glob.Replace(pattern)))
}

var glob = strings.NewReplacer("%", "*", "_", "?", "*", "[*]", "?", "[?]", "[", "[[]")

// compareText is a condition on an expression of type text.
func (q *sqlText) compareText(expr string, c Condition) string {
	switch c.Operator {
	case Like, ILike:
		return q.match(expr, c.Operator, c.Text)
	case In, NotIn:
		return fmt.Sprintf("%s %s %s", expr, c.Operator, q.dialect.texts(q.arg(jsonList(c.List))))
	case NotEqual:
		return expr + " <> " + q.arg(c.Text)
	default:
		return expr + " = " + q.arg(c.Text)
	}
}

// compareNumber is a condition on an expression of a numeric type. The cast lets a whole column meet a fraction.
func (q *sqlText) compareNumber(expr string, c Condition) string {
	op := string(c.Operator)
	if c.Operator == NotEqual {
		op = "<>"
	}
	return fmt.Sprintf("%s %s CAST(%s AS DOUBLE PRECISION)", expr, op, q.arg(c.Number))
}

// direction is the SQL word for an order.
func (o Order) direction() string {
	if o.Descending {
		return "DESC"
	}
	return "ASC"
}

// numbers is a subquery that gives the row numbers of a JSON list. One argument holds any number of them, and the text of
// the statement stays the same.
func (d *dialect) numbers(arg string) string {
	if d == postgresDialect {
		return "(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(" + arg + " AS json)))"
	}
	return "(SELECT value FROM json_each(" + arg + "))"
}

// texts is numbers for texts.
func (d *dialect) texts(arg string) string {
	if d == postgresDialect {
		return "(SELECT value FROM json_array_elements_text(CAST(" + arg + " AS json)))"
	}
	return "(SELECT value FROM json_each(" + arg + "))"
}

// jsonList is the argument of numbers and texts.
func jsonList[T int64 | string](list []T) string {
	b, err := json.Marshal(list)
	if err != nil {
		panic("store: a list cannot be encoded: " + err.Error()) // numbers and texts always can
	}
	return string(b)
}

// once is a runner for texts that will hardly come again: filters. They must not fill the cache of compiled statements.
type once struct{ runner }

func (o once) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	p, cached := o.runner.(prepared)
	if !cached {
		return o.runner.query(ctx, query, args...)
	}
	stmt, err := p.stmts.prepare(ctx, query)
	if err != nil {
		return nil, translate(err)
	}
	defer stmt.Close() // rows in use keep a closed statement alive until they are closed
	rows, err := stmt.QueryContext(ctx, args...)
	return rows, translate(err)
}

// rowBatches is batches for the rows of an INSERT. Measured: SQLite binds named arguments in a time that grows with the
// square of their number (1,000 rows of 5 take 7 ms more in runs of 256 than in runs of 32); PostgreSQL gains from every
// round trip that is saved.
func (d *dialect) rowBatches(n int, do func(from, to int) error) error {
	sizes := []int{32, 8, 1}
	if d == postgresDialect {
		sizes = []int{500, 100, 20, 4, 1}
	}
	return batches(sizes, n, do)
}

// each runs fn on every row.
func each(ctx context.Context, q reads, fn func(*sql.Rows) error, query string, args ...any) error {
	rows, err := q.r.query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return translate(err)
		}
	}
	return translate(rows.Err())
}

// drawNumber makes a row number: milliseconds since the epoch, then 21 random bits. So rows of one time lie together, and
// several servers need no common counter. Two writes may draw the same; then a unique index refuses the second, and its
// caller draws again.
func (tx *Tx) drawNumber() (int64, error) {
	var b [4]byte
	if _, err := io.ReadFull(tx.s.clock.Rand, b[:]); err != nil {
		return 0, fmt.Errorf("store: random number: %w", err)
	}
	return tx.s.clock.Millis()<<21 | int64(binary.BigEndian.Uint32(b[:])>>11), nil
}

// draws is how often a write draws a number before it gives up.
const draws = 3
