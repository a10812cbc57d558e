package tracking

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"

	"github.com/moorage-ml/moorage/internal/store"
)

// Series is a metric as Azure's clients read it.
type Series struct {
	Name    string
	Kind    string
	Columns json.RawMessage // an object, column → type
}

// SeriesPoint is one value of a Series.
type SeriesPoint struct {
	Time int64  // microseconds since the epoch
	Step *int64 // nil for what has none
	Data json.RawMessage
}

// MaxSeries is how many metrics, and maxSeriesPage how many values of one, a page holds.
const (
	MaxSeries     = 1000
	maxSeriesPage = 10_000
)

// ListSeries gives a page of the metrics of a run, by name, those that MLflow's clients logged among them, and the token
// of the next page, empty at the end.
func (t *Tracking) ListSeries(ctx context.Context, s Scope, runID, token string) ([]Series, string, error) {
	var after string
	if err := readToken(token, &after); err != nil {
		return nil, "", err
	}
	run, err := s.run(ctx, t.store, runID)
	if err != nil {
		return nil, "", err
	}
	all, err := t.seriesOf(ctx, run.Number)
	if err != nil {
		return nil, "", err
	}
	from, _ := slices.BinarySearchFunc(all, after, func(s Series, name string) int {
		if s.Name <= name {
			return -1
		}
		return 1
	})
	if token == "" {
		from = 0
	}
	if all = all[from:]; len(all) <= MaxSeries {
		return all, "", nil
	}
	return all[:MaxSeries], writeToken(all[MaxSeries-1].Name), nil
}

// seriesOf gives all metrics of a run by name.
func (t *Tracking) seriesOf(ctx context.Context, run int64) ([]Series, error) {
	logged, err := t.store.AllSeries(ctx, run)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(logged))
	all := make([]Series, 0, len(logged))
	for _, m := range logged {
		known[m.Key] = true
		all = append(all, Series{m.Key, m.Kind, m.Columns})
	}
	points, err := t.store.Latest(ctx, run)
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		if !known[p.Key] {
			all = append(all, scalarSeries(p.Key))
		}
	}
	slices.SortFunc(all, func(a, b Series) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// scalarSeries is what a metric is that only MLflow's clients logged.
func scalarSeries(name string) Series {
	return Series{name, ScalarSeries, columnsText([]column{{name, typeDouble}})}
}

// SeriesQuery asks for the values of one metric between two times in microseconds, both included; 0 is without a bound.
type SeriesQuery struct {
	Name       string
	Start, End int64
	Token      string
}

// FullSeries gives a page of the values of a metric in the order in which they were logged, and the token of the next one. A metric that
// the run does not have is NotFound, which clients expect (azureml-v1.md §7).
func (t *Tracking) FullSeries(ctx context.Context, s Scope, runID string, q SeriesQuery) (Series, []SeriesPoint, string, error) {
	fail := func(err error) (Series, []SeriesPoint, string, error) { return Series{}, nil, "", err }
	if q.Name == "" {
		return fail(missing("metricName"))
	}
	run, err := s.run(ctx, t.store, runID)
	if err != nil {
		return fail(err)
	}
	if err := t.sort(ctx, run.Number); err != nil {
		return fail(err)
	}
	known, err := t.store.SeriesOf(ctx, run.Number, []string{q.Name})
	if err != nil {
		return fail(err)
	}
	m, logged := known[q.Name]
	series := Series{m.Key, m.Kind, m.Columns}
	if !logged {
		series = scalarSeries(q.Name)
	}
	columns, err := columnsOf(series.Columns)
	if err != nil {
		return fail(err)
	}
	if !numeric(series.Kind, columns) {
		values, next, err := t.rows(ctx, m.Number, q)
		return series, values, next, err
	}
	values, next, err := t.points(ctx, run.Number, columns[0], q)
	if err == nil && len(values) == 0 && !logged {
		if latest, e := t.store.Latest(ctx, run.Number); e != nil || !slices.ContainsFunc(latest, func(p store.Point) bool { return p.Key == q.Name }) {
			return fail(cmp.Or(e, error(notFound("metricName", "Run %s has no metric %s", clip(runID), clip(q.Name)))))
		}
	}
	return series, values, next, err
}

// rows gives a page of values that are not points.
func (t *Tracking) rows(ctx context.Context, number int64, q SeriesQuery) ([]SeriesPoint, string, error) {
	after := store.SeriesRow{Moment: q.Start, At: -1}
	if err := readToken(q.Token, &after); err != nil {
		return nil, "", err
	}
	rows, err := t.store.Rows(ctx, number, after, maxSeriesPage+1)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > maxSeriesPage {
		rows = rows[:maxSeriesPage]
		last := rows[maxSeriesPage-1]
		next = writeToken(store.SeriesRow{Moment: last.Moment, At: last.At})
	}
	values := make([]SeriesPoint, 0, len(rows))
	for _, r := range rows {
		if !q.has(r.Moment) {
			return values, "", nil // they are in the order of their times
		}
		values = append(values, SeriesPoint{Time: r.Moment, Data: r.Data})
	}
	return values, next, nil
}

func (q SeriesQuery) has(moment int64) bool { return q.End == 0 || moment <= q.End }

// points gives a page of values that are points, the oldest first.
func (t *Tracking) points(ctx context.Context, run int64, c column, q SeriesQuery) ([]SeriesPoint, string, error) {
	after, err := readPoint(q.Token)
	if err != nil {
		return nil, "", err
	}
	if after == nil && q.Start > 0 {
		after = &store.Point{Timestamp: (q.Start + 999) / 1000, Step: math.MinInt64, Value: -math.MaxFloat64}
	}
	list, err := t.store.History(ctx, run, q.Name, after, maxSeriesPage+1)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(list) > maxSeriesPage {
		list = list[:maxSeriesPage]
		next = writePoint(list[maxSeriesPage-1])
	}
	values := make([]SeriesPoint, 0, len(list))
	name := jsonText(c.name)
	for i := range list {
		p := &list[i]
		if !q.has(1000 * p.Timestamp) {
			return values, "", nil // they are in the order of their times
		}
		data := make([]byte, 0, len(name)+24)
		data = append(append(append(data, '{'), name...), ':')
		if p.NaN {
			data = append(data, `"NaN"`...) // a client's float() reads it, and JSON has no number for it
		} else {
			data = appendNumber(data, p.Value)
		}
		values = append(values, SeriesPoint{Time: 1000 * p.Timestamp, Step: &p.Step, Data: append(data, '}')})
	}
	return values, next, nil
}

// appendNumber writes whole numbers as such, because clients of whole metrics take the value as it is written.
func appendNumber(b []byte, v float64) []byte {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.AppendInt(b, int64(v), 10)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}
