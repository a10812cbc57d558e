package tracking

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
)

// Batch is what one call logs to a run.
type Batch struct {
	Metrics []store.Point
	Params  []store.Label
	Tags    []store.Label
}

// PointOf makes a point of a value as clients send it: NaN is marked, and infinities become the largest finite numbers,
// as MLflow's server stores them.
func PointOf(key string, value float64, timestamp, step int64) store.Point {
	p := store.Point{Key: key, Value: value, Timestamp: timestamp, Step: step}
	switch {
	case math.IsNaN(value):
		p.Value, p.NaN = 0, true
	case math.IsInf(value, 1):
		p.Value = math.MaxFloat64
	case math.IsInf(value, -1):
		p.Value = -math.MaxFloat64
	}
	return p
}

// check refuses what is over MLflow's limits or wrongly named, and settles the rest: long values are cut off, and of
// a tag that comes twice the last counts. It needs no database.
func (b *Batch) check() (err error) {
	switch {
	case len(b.Metrics) > maxBatchMetrics:
		return invalid("metrics", "A batch logging request can contain at most %d metrics. Got %d metrics. Please split up metrics across multiple requests and try again.", maxBatchMetrics, len(b.Metrics))
	case len(b.Params) > maxBatchParams:
		return invalid("params", "A batch logging request can contain at most %d params. Got %d params. Please split up params across multiple requests and try again.", maxBatchParams, len(b.Params))
	case len(b.Tags) > maxBatchTags:
		return invalid("tags", "A batch logging request can contain at most %d tags. Got %d tags. Please split up tags across multiple requests and try again.", maxBatchTags, len(b.Tags))
	case len(b.Metrics)+len(b.Params)+len(b.Tags) > maxBatchTogether:
		return invalid("metrics", "A batch logging request can contain at most %d metrics, params, and tags in total. Got %d. Please split up the request and try again.", maxBatchTogether, len(b.Metrics)+len(b.Params)+len(b.Tags))
	}
	for i, p := range b.Metrics {
		if i > 0 && p.Key == b.Metrics[i-1].Key {
			continue
		}
		if err := checkKey("metrics["+strconv.Itoa(i)+"].name", p.Key); err != nil {
			return err
		}
	}
	seen := make(map[string]bool, len(b.Params))
	for i := range b.Params {
		p := &b.Params[i]
		if err := checkKey("params["+strconv.Itoa(i)+"].key", p.Key); err != nil {
			return err
		}
		if seen[p.Key] {
			return invalid("params", "Duplicate parameter keys have been submitted: [%s]. Please ensure the request contains only one param value per param key.", clip(p.Key))
		}
		seen[p.Key] = true
		p.Value = cut(p.Value, maxParam)
	}
	b.Tags, err = checkLabels("tags", b.Tags, maxTag)
	return err
}

// attempts is how often a write is tried that lost a race for a unique row.
const attempts = 3

// again is Store.Write, repeated when another server was a moment faster with the same row.
func (t *Tracking) again(ctx context.Context, fn func(tx *store.Tx) error) (err error) {
	for range attempts {
		if err = t.store.Write(ctx, fn); !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	return err
}

// Log writes a batch to an active run, all or nothing. A param that has another value already is refused.
func (t *Tracking) Log(ctx context.Context, s Scope, runID string, b Batch) error {
	if err := b.check(); err != nil {
		return err
	}
	return t.again(ctx, func(tx *store.Tx) error {
		run, err := s.activeRun(ctx, tx, runID)
		if err != nil {
			return err
		}
		if err := logParams(ctx, tx, run, b.Params); err != nil {
			return err
		}
		if err := tx.LogPoints(ctx, run.Number, b.Metrics); err != nil {
			return err
		}
		return setTags(ctx, tx, run, b.Tags)
	})
}

func logParams(ctx context.Context, tx *store.Tx, run store.Run, params []store.Label) error {
	if len(params) == 0 {
		return nil
	}
	keys := make([]string, len(params))
	for i, p := range params {
		keys[i] = p.Key
	}
	had, err := tx.Params(ctx, run.Number, keys)
	if err != nil {
		return err
	}
	fresh := make([]store.Label, 0, len(params))
	for _, p := range params {
		value, known := had[p.Key]
		if !known {
			fresh = append(fresh, p)
			continue
		}
		if value != p.Value {
			return invalid("params", "Changing param values is not allowed. Param with key='%s' was already logged with value='%s' for run ID='%s'. Attempted logging new value '%s'.", p.Key, clip(value), run.ID, clip(p.Value))
		}
	}
	return tx.InsertParams(ctx, run.Number, fresh)
}

// setTags sets tags and lets the run follow those that mean something.
func setTags(ctx context.Context, tx *store.Tx, run store.Run, tags []store.Label) error {
	if len(tags) == 0 {
		return nil
	}
	if err := tx.SetRunTags(ctx, run.Number, tags); err != nil {
		return err
	}
	if err := labelJob(ctx, tx, run, tags, nil); err != nil {
		return err
	}
	before, above := run, false
	for _, l := range tags {
		switch l.Key {
		case tagName:
			run.Name = l.Value
		case tagParent, tagRoot:
			above = true
		}
	}
	if above {
		if err := followParent(ctx, tx, &run); err != nil {
			return err
		}
	}
	if run == before {
		return nil
	}
	return tx.UpdateRun(ctx, run)
}

func followParent(ctx context.Context, tx *store.Tx, run *store.Run) error {
	var labels []store.Label
	for _, key := range []string{tagParent, tagRoot} {
		value, err := tx.RunTag(ctx, run.Number, key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		labels = append(labels, store.Label{Key: key, Value: value})
	}
	run.ParentID = parentOf(labels)
	return nil
}

// DeleteTag removes a tag of an active run.
func (t *Tracking) DeleteTag(ctx context.Context, s Scope, runID, key string) error {
	return t.store.Write(ctx, func(tx *store.Tx) error {
		run, err := s.activeRun(ctx, tx, runID)
		if err != nil {
			return err
		}
		found, err := tx.DeleteRunTag(ctx, run.Number, key)
		if err != nil {
			return err
		}
		if !found {
			return notFound("key", "No tag with name: %s in run with id %s", clip(key), run.ID)
		}
		if key != tagParent && key != tagRoot {
			return labelJob(ctx, tx, run, nil, []string{key})
		}
		if err := followParent(ctx, tx, &run); err != nil {
			return err
		}
		return tx.UpdateRun(ctx, run)
	})
}

// LogModel appends the description of a model, a JSON text, to the run's history of models.
func (t *Tracking) LogModel(ctx context.Context, s Scope, runID, model string) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(model), &fields); err != nil || fields == nil {
		return invalid("model_json", "Malformed model info. \n %s \n is not a valid JSON", clip(model))
	}
	var lacking []string
	for _, f := range []string{"artifact_path", "flavors", "run_id", "utc_time_created"} {
		if _, has := fields[f]; !has {
			lacking = append(lacking, "'"+f+"'")
		}
	}
	if len(lacking) > 0 {
		return invalid("model_json", "Model json is missing mandatory fields: {%s}", strings.Join(lacking, ", "))
	}
	return t.store.Write(ctx, func(tx *store.Tx) error {
		run, err := s.activeRun(ctx, tx, runID)
		if err != nil {
			return err
		}
		history, err := tx.RunTag(ctx, run.Number, tagModelHistory)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		var models []json.RawMessage
		if err == nil && json.Unmarshal([]byte(history), &models) != nil {
			models = nil // a client wrote the tag itself; a broken one is replaced
		}
		text, err := json.Marshal(append(models, json.RawMessage(model)))
		if err != nil {
			return err
		}
		if len(text) > maxModelHistoryBytes {
			return invalid("model_json", "the history of models of run %s would exceed %d bytes", run.ID, maxModelHistoryBytes)
		}
		return tx.SetRunTags(ctx, run.Number, []store.Label{{Key: tagModelHistory, Value: string(text)}})
	})
}
