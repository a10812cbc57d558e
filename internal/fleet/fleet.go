// Package fleet is the only owner of open targets. It opens each attached compute once, counts who uses it, opens it
// again when its settings changed, and closes it when nobody needs it. What every target needs alike, and no driver
// should repeat, is done here: time limits and metrics for each verb. It is used by control (pre-flight, logs) and
// reconcile (everything else).
package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Settings are what is needed to open a compute: its kind, the driver's settings with the secrets in clear, and a
// version that changes whenever they do.
type Settings struct {
	Kind    string
	JSON    json.RawMessage
	Version string
}

// Config is what a Fleet is made of.
type Config struct {
	Drivers []compute.Driver
	// Settings reads a compute's settings, unsealed. It is called at each opening, never kept.
	Settings func(ctx context.Context, computeID string) (Settings, error)

	Server  string
	Log     *slog.Logger
	Clock   clock.Source
	Objects compute.Objects
	WayBack func(job compute.Key, conn net.Conn)
	CA      []byte
	Keeper  func(goos, goarch string) (compute.Program, error)
	Metrics prometheus.Registerer // nil: none
	Idle    time.Duration         // close a target unused for so long; 0: 10 minutes
}

// Fleet holds open targets. It is safe for concurrent use.
type Fleet struct {
	cfg     Config
	drivers map[string]compute.Driver
	verbs   *prometheus.HistogramVec
	stop    context.CancelFunc // of ctx
	ctx     context.Context    //nolint:containedctx // the life of the fleet, under which targets are opened
	work    sync.WaitGroup     // openings and closings under way

	mu   sync.Mutex
	open map[string]*entry // by compute; what failed to open is not among them
	left map[*entry]bool   // no longer in open, and still used
	done bool
}

// entry is one opening of a compute, and what came of it.
type entry struct {
	opened   chan struct{} // closed when the three below are set
	target   compute.Target
	settings string // the version it was opened with
	err      error

	outdated chan struct{}      // closed when it is to be left by its users
	cancel   context.CancelFunc // of the context that it was opened under

	// under Fleet.mu
	users int
	timer *time.Timer // closes it when it was idle for long
	stale bool        // no longer in Fleet.open
}

// openLimit bounds an opening: logging in, and placing the keeper the first time, over a slow line.
const openLimit = 5 * time.Minute

// New makes a fleet. Close it to drop all connections.
func New(cfg Config) *Fleet {
	if cfg.Idle == 0 {
		cfg.Idle = 10 * time.Minute
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &Fleet{cfg: cfg, ctx: ctx, stop: stop, drivers: map[string]compute.Driver{}, open: map[string]*entry{}, left: map[*entry]bool{}}
	for _, d := range cfg.Drivers {
		f.drivers[d.Kind()] = d
	}
	f.verbs = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "moorage_target_seconds",
		Help:    "Time of calls to targets, by kind, verb and result.",
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60},
	}, []string{"kind", "verb", "result"})
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(f.verbs)
	}
	return f
}

// Driver gives the driver of a kind, or a Problem that lists the kinds there are.
func (f *Fleet) Driver(kind string) (compute.Driver, error) {
	if d, ok := f.drivers[kind]; ok {
		return d, nil
	}
	return nil, &workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedKind", Target: "kind",
		Message: fmt.Sprintf("computes of kind %q cannot be attached to this server", kind),
		Mend:    "attach one of the kinds that `moorage kind list` names",
	}
}

// Limits tells what a kind cannot do; an unknown kind has none.
func (f *Fleet) Limits(kind string) compute.Limits {
	if d, ok := f.drivers[kind]; ok {
		return d.Limits()
	}
	return compute.Limits{}
}

// Drivers lists the drivers in the order they were given.
func (f *Fleet) Drivers() []compute.Driver { return f.cfg.Drivers }

// Try opens a target that is not kept: the pre-flight of a compute that is not attached yet. The caller closes it.
func (f *Fleet) Try(ctx context.Context, computeID, kind string, settings json.RawMessage) (compute.Target, error) {
	return f.try(ctx, computeID, kind, settings, nil)
}

func (f *Fleet) try(ctx context.Context, computeID, kind string, settings json.RawMessage, outdated <-chan struct{}) (compute.Target, error) {
	d, err := f.Driver(kind)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	t, err := d.Open(ctx, settings, f.env(computeID, kind))
	f.verbs.WithLabelValues(kind, "open", result(err)).Observe(time.Since(begun).Seconds())
	if err != nil {
		return nil, err
	}
	return &observed{Target: t, kind: kind, verbs: f.verbs, outdated: outdated}, nil
}

// Use gives the open target of a compute, opening it if need be. Those who ask meanwhile wait for the same opening and
// share its error; the next to ask after a failure tries anew. The caller calls release once, when done.
func (f *Fleet) Use(ctx context.Context, computeID string) (t compute.Target, release func(), err error) {
	e, err := f.join(computeID)
	if err != nil {
		return nil, nil, err
	}
	release = sync.OnceFunc(func() { f.release(computeID, e) })
	select {
	case <-e.opened:
	case <-ctx.Done(): // the opening goes on: others may wait for it
		release()
		return nil, nil, context.Cause(ctx)
	}
	if e.err != nil {
		release()
		return nil, nil, e.err
	}
	return e.target, release, nil
}

// join makes the caller a user of the compute's entry, and begins an opening if there is none.
func (f *Fleet) join(computeID string) (*entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return nil, errClosed
	}
	e := f.open[computeID]
	if e == nil {
		e = &entry{opened: make(chan struct{}), outdated: make(chan struct{})}
		f.open[computeID] = e
		f.work.Go(func() { f.begin(computeID, e) })
	}
	e.users++
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	return e, nil
}

var errClosed = &compute.Error{Kind: compute.ErrUnreachable, Problem: workspace.Problem{
	Class: workspace.Unavailable, Code: "ServerStopping", Message: "the server is stopping", Mend: "ask again when it is back; jobs go on",
}}

// begin opens an entry. It is no caller's own work, so that none who gives up takes the others' target away.
func (f *Fleet) begin(computeID string, e *entry) {
	ctx, cancel := context.WithCancel(f.ctx)
	e.cancel = cancel
	limit := time.AfterFunc(openLimit, cancel)
	defer limit.Stop()
	s, err := f.cfg.Settings(ctx, computeID)
	if err == nil {
		e.settings = s.Version
		e.target, err = f.try(ctx, computeID, s.Kind, s.JSON, e.outdated)
	}
	e.err = err
	close(e.opened)
	if err != nil {
		cancel()
		f.drop(computeID, e)
	}
}

func (f *Fleet) release(computeID string, e *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.users--
	if e.users > 0 || f.done {
		return
	}
	if e.stale {
		delete(f.left, e)
		f.work.Go(e.close)
		return
	}
	e.timer = time.AfterFunc(f.cfg.Idle, func() { f.idle(computeID, e) })
}

// idle drops an entry unless somebody came at the last moment.
func (f *Fleet) idle(computeID string, e *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.users == 0 && e.timer != nil {
		f.forget(computeID, e)
	}
}

// Forget closes a compute's target as soon as its last user is done; the next Use opens it anew. It is called when
// settings or secrets changed, and after detach. Who uses a target for long heeds Outdated.
func (f *Fleet) Forget(computeID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.open[computeID]; e != nil {
		f.forget(computeID, e)
	}
}

// Refresh forgets a target that was opened with another version of its settings: another server changed them. One that
// is being opened may have read the older ones.
func (f *Fleet) Refresh(computeID, version string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.open[computeID]
	if e == nil {
		return
	}
	select {
	case <-e.opened:
		if e.settings == version {
			return
		}
	default:
	}
	f.forget(computeID, e)
}

func (f *Fleet) drop(computeID string, e *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(computeID, e)
}

// forget is called with f.mu held, and may be repeated.
func (f *Fleet) forget(computeID string, e *entry) {
	if f.open[computeID] == e {
		delete(f.open, computeID)
	}
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	if e.stale || f.done {
		return
	}
	e.stale = true
	close(e.outdated)
	if e.users == 0 {
		f.work.Go(e.close)
		return
	}
	f.left[e] = true
}

// close is called once, by whoever was the last to know the entry.
func (e *entry) close() {
	<-e.opened
	if e.target != nil {
		_ = e.target.Close() // dropping a connection has nobody to report to
	}
	e.cancel()
}

// Close drops every connection, those in use too, and waits for it. Jobs go on.
func (f *Fleet) Close() {
	f.mu.Lock()
	if f.done {
		f.mu.Unlock()
		return
	}
	f.done = true
	for _, e := range f.open {
		if e.timer != nil {
			e.timer.Stop()
			e.timer = nil
		}
		f.work.Go(e.close)
	}
	for e := range f.left {
		f.work.Go(e.close)
	}
	f.open, f.left = map[string]*entry{}, map[*entry]bool{}
	f.mu.Unlock()
	f.stop()
	f.work.Wait()
}

func (f *Fleet) env(computeID, kind string) compute.Env {
	return compute.Env{
		Server:  f.cfg.Server,
		Compute: computeID,
		Log:     f.cfg.Log.With("compute", computeID, "kind", kind),
		Clock:   f.cfg.Clock,
		Objects: f.cfg.Objects,
		WayBack: f.cfg.WayBack,
		CA:      f.cfg.CA,
		Keeper:  f.cfg.Keeper,
	}
}

// Server is this server's id, part of every job's key.
func (f *Fleet) Server() string { return f.cfg.Server }
