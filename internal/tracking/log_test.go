package tracking_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func metricsKeepHistoryAndLatest(t *testing.T, b *bench) {
	ctx := t.Context()
	points := []store.Point{
		tracking.PointOf("m", 1, 10, 1), tracking.PointOf("m", 5, 30, 2), tracking.PointOf("m", 9, 40, 1), tracking.PointOf("m", 4, 30, 2),
		tracking.PointOf("m", 1, 10, 1), // the same again
		tracking.PointOf("n", math.NaN(), 1, 1), tracking.PointOf("i", math.Inf(1), 1, 1), tracking.PointOf("j", math.Inf(-1), 1, -7),
	}
	run := b.run(t, tracking.NewRun{}, tracking.Batch{Metrics: points})
	if err := b.Log(ctx, b.scope, run, tracking.Batch{Metrics: points[:2]}); err != nil {
		t.Fatal(err)
	}
	got, err := b.Run(ctx, b.scope, run)
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Point{
		{Key: "i", Value: math.MaxFloat64, Timestamp: 1, Step: 1},
		{Key: "j", Value: -math.MaxFloat64, Timestamp: 1, Step: -7},
		{Key: "m", Value: 5, Timestamp: 30, Step: 2},
		{Key: "n", NaN: true, Timestamp: 1, Step: 1},
	}
	if diff := cmp.Diff(want, got.Data.Metrics); diff != "" {
		t.Errorf("latest (-want +got):\n%s", diff)
	}
	var pages []float64
	for token := ""; ; {
		list, next, err := b.History(ctx, b.scope, run, "m", 2, token)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			pages = append(pages, p.Value)
		}
		if token = next; token == "" {
			break
		}
	}
	if diff := cmp.Diff([]float64{1, 4, 5, 9}, pages); diff != "" {
		t.Errorf("history by timestamp, step, value (-want +got):\n%s", diff)
	}
	if list, next, err := b.History(ctx, b.scope, run, "unknown", 5, ""); len(list) != 0 || next != "" || err != nil {
		t.Errorf("unknown metric: %v %q %v", list, next, err)
	}
	_, _, err = b.History(ctx, b.scope, run, "m", 5, "§")
	refused(t, err, workspace.Invalid, "Invalid page token")
}

func bulkHistoryKeepsTheEndsOfEachRun(t *testing.T, b *bench) {
	long, short := tracking.Batch{}, tracking.Batch{}
	for i := range int64(500) {
		long.Metrics = append(long.Metrics, tracking.PointOf("m", float64(i), i, i))
	}
	short.Metrics = []store.Point{tracking.PointOf("m", 1, 1, 3), tracking.PointOf("m", 1, 2, 7)}
	runs := []string{b.run(t, tracking.NewRun{}, long), b.run(t, tracking.NewRun{}, short)}
	list, err := b.HistoryBulk(t.Context(), b.scope, tracking.BulkQuery{Runs: runs, Key: "m", Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	steps := func(p tracking.BulkPoints) (s []int64) {
		for _, q := range p.Points {
			s = append(s, q.Step)
		}
		return s
	}
	if got := steps(list[0]); len(got) != 10 || got[0] != 0 || got[9] != 499 {
		t.Errorf("long: %v", got)
	}
	if diff := cmp.Diff([]int64{3, 7}, steps(list[1])); diff != "" {
		t.Errorf("short (-want +got):\n%s", diff)
	}
	from, to := int64(100), int64(102)
	list, err = b.HistoryBulk(t.Context(), b.scope, tracking.BulkQuery{Runs: runs[:1], Key: "m", Limit: 10, Start: &from, End: &to})
	if diff := cmp.Diff([]int64{100, 101, 102}, steps(list[0])); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func paramsAreWrittenOnce(t *testing.T, b *bench) {
	ctx := t.Context()
	run := b.run(t, tracking.NewRun{}, tracking.Batch{Params: []store.Label{label("q", "2"), label("empty", "")}})
	log := func(bt tracking.Batch) error { return b.Log(ctx, b.scope, run, bt) }
	if err := log(tracking.Batch{Params: []store.Label{label("q", "2"), label("r", "1")}}); err != nil {
		t.Error(err)
	}
	refused(t, log(tracking.Batch{Params: []store.Label{label("q", "3"), label("new", "1")}, Tags: []store.Label{label("t", "1")}}), workspace.Invalid,
		"Changing param values is not allowed. Param with key='q' was already logged with value='2' for run ID='"+run+"'. Attempted logging new value '3'")
	refused(t, log(tracking.Batch{Params: []store.Label{label("z", "1"), label("z", "1")}}), workspace.Invalid, "Duplicate parameter keys")
	if err := log(tracking.Batch{Params: []store.Label{label("long", strings.Repeat("ü", 7000))}}); err != nil {
		t.Error(err)
	}
	got, err := b.Run(ctx, b.scope, run)
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Label{label("empty", ""), label("long", strings.Repeat("ü", 6000)), label("q", "2"), label("r", "1")}
	if diff := cmp.Diff(want, got.Data.Params); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, l := range got.Data.Tags {
		if l.Key == "t" {
			t.Error("a refused batch left a tag")
		}
	}
}

func TestNamesOverTheLimitsAreRefused(t *testing.T) {
	b := open(t, sqliteFile(t))
	run := b.run(t, tracking.NewRun{}, tracking.Batch{})
	for _, key := range []string{"", "a//b", "/a", "..", "../a", "a/../b", "a/", ".", "a\nb", "a#b", strings.Repeat("x", 251)} {
		for name, batch := range map[string]tracking.Batch{
			"metric": {Metrics: []store.Point{{Key: key}}}, "param": {Params: []store.Label{label(key, "")}}, "tag": {Tags: []store.Label{label(key, "")}},
		} {
			if err := b.Log(t.Context(), b.scope, run, batch); err == nil {
				t.Errorf("%s %q is taken", name, key)
			}
		}
	}
	for _, key := range []string{"a/b", "a.b-c:d e_f", "größe", strings.Repeat("ü", 250)} {
		if err := b.Log(t.Context(), b.scope, run, tracking.Batch{Tags: []store.Label{label(key, "")}}); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for name, batch := range map[string]tracking.Batch{
		"metrics": {Metrics: make([]store.Point, 1001)}, "params": {Params: make([]store.Label, 101)}, "tags": {Tags: make([]store.Label, 101)},
		"together": {Metrics: make([]store.Point, 1000), Tags: make([]store.Label, 1)},
	} {
		refused(t, b.Log(t.Context(), b.scope, run, batch), workspace.Invalid, "can contain at most")
		_ = name
	}
}

func concurrentBatchesLoseNothing(t *testing.T, b *bench) {
	ctx := t.Context()
	run := b.run(t, tracking.NewRun{}, tracking.Batch{})
	const writers, each = 8, 20
	errs := make(chan error, writers)
	for w := range writers {
		go func() {
			var err error
			for i := range each {
				batch := tracking.Batch{Metrics: []store.Point{tracking.PointOf("shared", float64(w), int64(i), int64(i*writers+w)), tracking.PointOf(fmt.Sprintf("own%d", w), 1, 1, int64(i))}}
				err = errors.Join(err, b.Log(context.WithoutCancel(ctx), b.scope, run, batch))
			}
			errs <- err
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	list, _, err := b.History(ctx, b.scope, run, "shared", 1000, "")
	if err != nil || len(list) != writers*each {
		t.Errorf("%d points, %v", len(list), err)
	}
	r, err := b.Run(ctx, b.scope, run)
	if err != nil || len(r.Data.Metrics) != writers+1 || r.Data.Metrics[writers].Step != writers*each-1 {
		t.Errorf("%+v, %v", r.Data.Metrics, err)
	}
}
