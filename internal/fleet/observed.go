package fleet

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/moorage-ml/moorage/internal/compute"
)

// The time limits of verbs that only hand over or ask. Logs, Collect and Watch last as long as they last.
const (
	probeLimit = 60 * time.Second
	verbLimit  = 30 * time.Second
)

// observed is a target with what every target needs alike: a time limit and a measure for each verb.
type observed struct {
	compute.Target
	kind  string
	verbs *prometheus.HistogramVec

	outdated <-chan struct{}
}

// Outdated is closed when a target that Use gave is to be left: its settings changed, or its compute was detached. Only
// who uses one for long need heed it. For others it is nil.
func Outdated(t compute.Target) <-chan struct{} {
	if o, ok := t.(*observed); ok {
		return o.outdated
	}
	return nil
}

// Ability gives what a target can do beyond the contract, looking through the fleet's own wrapping.
func Ability[A any](t compute.Target) (A, bool) {
	if o, ok := t.(*observed); ok {
		t = o.Target
	}
	a, ok := t.(A)
	return a, ok
}

func (o *observed) measure(verb string, begun time.Time, err error) {
	o.verbs.WithLabelValues(o.kind, verb, result(err)).Observe(time.Since(begun).Seconds())
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, compute.ErrUnreachable):
		return "unreachable"
	case errors.Is(err, compute.ErrDenied):
		return "denied"
	case errors.Is(err, compute.ErrThrottled):
		return "throttled"
	case errors.Is(err, compute.ErrStale):
		return "stale"
	default:
		return "error"
	}
}

func (o *observed) Probe(ctx context.Context) (f compute.Facts, err error) {
	defer func(t time.Time) { o.measure("probe", t, err) }(time.Now())
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	return o.Target.Probe(ctx)
}

func (o *observed) Submit(ctx context.Context, job compute.Job) (r compute.Ref, err error) {
	defer func(t time.Time) { o.measure("submit", t, err) }(time.Now())
	return o.Target.Submit(ctx, job) // sends the snapshot: as long as that takes
}

func (o *observed) Status(ctx context.Context, jobs []compute.Handle) (s []compute.Status, err error) {
	defer func(t time.Time) { o.measure("status", t, err) }(time.Now())
	ctx, cancel := context.WithTimeout(ctx, verbLimit)
	defer cancel()
	return o.Target.Status(ctx, jobs)
}

func (o *observed) Cancel(ctx context.Context, job compute.Handle, epoch int64) (err error) {
	defer func(t time.Time) { o.measure("cancel", t, err) }(time.Now())
	ctx, cancel := context.WithTimeout(ctx, verbLimit)
	defer cancel()
	return o.Target.Cancel(ctx, job, epoch)
}

func (o *observed) Logs(ctx context.Context, job compute.Handle, q compute.LogQuery, w io.Writer) (n int64, err error) {
	defer func(t time.Time) { o.measure("logs", t, err) }(time.Now())
	return o.Target.Logs(ctx, job, q, w)
}

func (o *observed) Collect(ctx context.Context, job compute.Handle, out compute.Outputs) (err error) {
	defer func(t time.Time) { o.measure("collect", t, err) }(time.Now())
	return o.Target.Collect(ctx, job, out)
}

func (o *observed) Release(ctx context.Context, job compute.Handle, epoch int64) (err error) {
	defer func(t time.Time) { o.measure("release", t, err) }(time.Now())
	ctx, cancel := context.WithTimeout(ctx, verbLimit)
	defer cancel()
	return o.Target.Release(ctx, job, epoch)
}
