package tracking

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Azure's types of metrics that mean something to the server (azureml-v1.md §7). All others are kept as they come.
const (
	ScalarSeries = "azureml.v1.scalar"
	artifactType = "artifact"
)

// SeriesValue is one value of a metric as Azure's clients log it: its columns, of which a scalar has one.
type SeriesValue struct {
	ID   string
	Time int64  // microseconds since the epoch
	Step *int64 // nil: its place among the values, by their times
	Data map[string]json.RawMessage
}

// SeriesBatch is some values of one metric.
type SeriesBatch struct {
	Name    string
	Kind    string          // e.g. ScalarSeries
	Columns json.RawMessage // an object, column → type, in the client's order
	Values  []SeriesValue
}

// SeriesError says why one entry of a request was not logged.
type SeriesError struct {
	Entry   int
	Problem *workspace.Problem
}

// The limits of one request; the client sends at most 50 entries, of which a list or a table is one.
const (
	maxSeriesEntries = 1000
	maxSeriesValues  = 100_000
	maxSeriesColumns = 1000
)

// LogSeries adds values to metrics of an active run. Numbers that are scalars become points, which MLflow's clients read as
// their own; the rest become rows. An entry that does not fit the metric as it is already is left out and told of; the
// others are logged together. A request that comes again adds nothing.
func (t *Tracking) LogSeries(ctx context.Context, s Scope, runID string, entries []SeriesBatch) ([]SeriesError, error) {
	if len(entries) > maxSeriesEntries {
		return nil, invalid("values", "one request may carry at most %d metrics, and this one has %d", maxSeriesEntries, len(entries))
	}
	var shapes []shape
	var refused []SeriesError
	values := 0
	for i := range entries {
		sh, p := shapeOf(&entries[i])
		if p != nil {
			refused = append(refused, SeriesError{i, p})
			continue
		}
		sh.entry = i
		shapes = append(shapes, sh)
		values += len(entries[i].Values)
	}
	if values > maxSeriesValues {
		return nil, invalid("values", "one request may carry at most %d values, and this one has %d", maxSeriesValues, values)
	}
	id := t.batchID(entries)
	var late []SeriesError
	err := t.again(ctx, func(tx *store.Tx) error {
		late = nil
		run, err := s.activeRun(ctx, tx, runID)
		if err != nil {
			return err
		}
		if fresh, err := tx.TakeBatch(ctx, run.Number, id); err != nil || !fresh {
			return err
		}
		late, err = logShapes(ctx, tx, run.Number, shapes)
		return err
	})
	return append(refused, late...), err
}

// batchID tells one request from others by the ids of its values, which clients draw at random. One without ids is told
// by nothing, and each of it counts.
func (t *Tracking) batchID(entries []SeriesBatch) string {
	h := sha256.New()
	known := false
	for _, e := range entries {
		h.Write([]byte(e.Name + "\x00"))
		for _, v := range e.Values {
			known = known || v.ID != ""
			h.Write([]byte(v.ID + "\x00"))
		}
	}
	if !known {
		return t.clock.NewID()
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// shape is an entry that was found well formed.
type shape struct {
	entry int
	SeriesBatch
	types  []column
	points []store.Point // its values, if they are numbers of a scalar
}

// column is a name and a type.
type column struct{ name, kind string }

// shapeOf checks an entry by itself.
func shapeOf(b *SeriesBatch) (shape, *workspace.Problem) {
	sh := shape{SeriesBatch: *b}
	bad := func(format string, args ...any) (shape, *workspace.Problem) {
		p := invalid("values", format, args...)
		p.Target = b.Name
		return sh, p
	}
	switch {
	case b.Name == "" || strings.ContainsRune(b.Name, 0) || !utf8.ValidString(b.Name):
		return bad("a metric has no name")
	case utf8.RuneCountInString(b.Name) > maxKey:
		return bad("the name of metric %s is longer than %d characters", clip(b.Name), maxKey)
	case b.Kind == "":
		sh.Kind = ScalarSeries
	}
	var err error
	if sh.types, err = columnsOf(b.Columns); err != nil || len(sh.types) == 0 || len(sh.types) > maxSeriesColumns {
		return bad("the columns of metric %s are not an object of 1 to %d types", clip(b.Name), maxSeriesColumns)
	}
	for _, v := range b.Values {
		if len(v.Data) != len(sh.types) {
			return bad("a value of metric %s has other columns than the metric", clip(b.Name))
		}
		for _, c := range sh.types {
			if _, has := v.Data[c.name]; !has {
				return bad("a value of metric %s lacks column %s", clip(b.Name), clip(c.name))
			}
		}
	}
	if sh.numeric() {
		sh.points = make([]store.Point, len(b.Values))
		for i, v := range b.Values {
			number, ok := numberOf(v.Data[sh.types[0].name])
			if !ok {
				return bad("a value of metric %s is no number", clip(b.Name))
			}
			sh.points[i] = PointOf(b.Name, number, v.Time/1000, 0)
			if v.Step != nil {
				sh.points[i].Step = *v.Step
			}
		}
	}
	return sh, nil
}

func (sh shape) numeric() bool { return numeric(sh.Kind, sh.types) }

// numeric tells whether the values of a series are points.
func numeric(kind string, columns []column) bool {
	return kind == ScalarSeries && len(columns) == 1 && (columns[0].kind == typeDouble || columns[0].kind == typeInteger)
}

// filed tells whether a series needs no artifact: points are metrics to everybody, and the client made the artifact itself
// when the values only name it.
func (sh shape) filed() bool {
	return sh.numeric() || slices.ContainsFunc(sh.types, func(c column) bool { return strings.EqualFold(c.kind, artifactType) })
}

// logShapes writes well-formed entries. Entries of one metric are one group, in the order in which they came.
func logShapes(ctx context.Context, tx *store.Tx, run int64, shapes []shape) (refused []SeriesError, err error) {
	if len(shapes) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(shapes, func(a, b shape) int { return strings.Compare(a.Name, b.Name) })
	var names []string
	for i, sh := range shapes {
		if i == 0 || sh.Name != shapes[i-1].Name {
			names = append(names, sh.Name)
		}
	}
	had, err := tx.SeriesOf(ctx, run, names)
	if err != nil {
		return nil, err
	}
	var points []store.Point
	for len(shapes) > 0 {
		n := 1
		for n < len(shapes) && shapes[n].Name == shapes[0].Name {
			n++
		}
		g, errs := groupOf(had, shapes[:n])
		refused = append(refused, errs...)
		shapes = shapes[n:]
		if len(g.shapes) == 0 {
			continue
		}
		more, err := g.write(ctx, tx, run)
		if err != nil {
			return nil, err
		}
		points = append(points, more...)
	}
	slices.SortFunc(refused, func(a, b SeriesError) int { return a.Entry - b.Entry })
	return refused, tx.LogPoints(ctx, run, points)
}

// group is what one request adds to one metric.
type group struct {
	had     *store.MetricSeries // nil: the metric is new
	columns json.RawMessage     // of the metric afterwards
	shapes  []shape
}

// groupOf keeps of the entries of one metric those that fit it and each other.
func groupOf(had map[string]store.MetricSeries, shapes []shape) (g group, refused []SeriesError) {
	kind, columns := shapes[0].Kind, shapes[0].Columns
	if m, known := had[shapes[0].Name]; known {
		g.had, kind, columns = &m, m.Kind, m.Columns
	}
	for _, sh := range shapes {
		merged, p := merge(sh, kind, columns)
		if p != nil {
			refused = append(refused, SeriesError{sh.entry, p})
			continue
		}
		columns = merged
		g.shapes = append(g.shapes, sh)
	}
	g.columns = columns
	return g, refused
}

// write adds the values of a group and gives those that are points.
func (g group) write(ctx context.Context, tx *store.Tx, run int64) ([]store.Point, error) {
	first := g.shapes[0]
	grow := store.MetricSeries{Key: first.Name, Kind: first.Kind, Columns: g.columns}
	for _, sh := range g.shapes {
		grow.Size += int64(len(sh.Values))
		for _, v := range sh.Values {
			grow.Stepped = grow.Stepped || v.Step != nil
		}
	}
	if first.filed() {
		grow.Filed = grow.Size
	}
	now, err := tx.GrowSeries(ctx, run, grow)
	if err != nil {
		return nil, err
	}
	was := store.MetricSeries{Columns: now.Columns}
	if g.had != nil {
		was = *g.had
	}
	if now.Size != was.Size+grow.Size || string(now.Columns) != string(was.Columns) {
		return nil, store.ErrExists // another server was faster: look again at what the metric is
	}
	if string(now.Columns) != string(g.columns) {
		if err := tx.ChangeColumns(ctx, run, first.Name, g.columns); err != nil {
			return nil, err
		}
	}
	if first.points == nil {
		return nil, g.addRows(ctx, tx, now.Number, was.Size)
	}
	return g.placed(ctx, tx, run, was.Size, now)
}

// addRows adds values that are not points.
func (g group) addRows(ctx context.Context, tx *store.Tx, series, at int64) error {
	var rows []store.SeriesRow
	for _, sh := range g.shapes {
		for _, v := range sh.Values {
			data, err := json.Marshal(v.Data)
			if err != nil {
				return err
			}
			rows = append(rows, store.SeriesRow{Moment: v.Time, At: at, Data: data})
			at++
		}
	}
	return tx.AddRows(ctx, series, rows)
}

// placed gives the points of a group with their steps, which count the values unless a client gave any.
func (g group) placed(ctx context.Context, tx *store.Tx, run, at int64, m store.MetricSeries) ([]store.Point, error) {
	var points []store.Point
	first := int64(math.MaxInt64)
	for _, sh := range g.shapes {
		for i, v := range sh.Values {
			if v.Step == nil {
				sh.points[i].Step = at + int64(len(points)+i)
			}
			first = min(first, v.Time)
		}
		points = append(points, sh.points...)
	}
	if m.Stepped || len(points) == 0 {
		return points, nil
	}
	return points, tx.AddChunk(ctx, m, run, store.Chunk{Moment: first, At: at, Size: int64(len(points))})
}
