// Package control holds the use cases: one file a noun. A method authorises what only it can know, validates, writes
// what is wanted in one transaction, and leaves a hint; package reconcile does the rest. It is the only writer of
// wishes. The packages below api call it and nothing deeper.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/catalog"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/internal/fleet"
	"github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/secret"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is what a Control is made of.
type Config struct {
	Store   *store.Store
	Blob    blob.Store
	CAS     *blob.CAS
	Images  *registry.Registry // nil: the server keeps no images
	Builds  Builds             // nil: the server makes no images
	Fleet   *fleet.Fleet
	Box     *secret.Box
	Catalog *catalog.Catalog
	Curated environment.Curated
	Clock   clock.Source
	Log     *slog.Logger
	Fault   *fault.Points
	// Room refuses new work while the disk is nearly full; nil: there is always room.
	Room func() error
	// Retention is how long an ended job is kept; 0: for ever.
	Retention time.Duration
	// AuditRetention is how long an entry of the audit log is kept; 0: for ever.
	AuditRetention time.Duration
	// DefaultCompute is where jobs go that name none, and those with compute="local".
	DefaultCompute string
	// AzureStrict demands of targets what Azure's documentation does.
	AzureStrict bool
}

// Control holds the use cases. It is safe for concurrent use.
type Control struct {
	Config

	attaching sync.WaitGroup
	ctx       context.Context //nolint:containedctx // of the server's life: attaching goes on when a request ends
	stop      context.CancelFunc
	watchers  watchers
}

// New makes a Control. Run must be running for WaitJob and WatchJob to be told of changes; Close ends what it started.
func New(cfg Config) *Control {
	ctx, cancel := context.WithCancel(context.Background())
	return &Control{Config: cfg, ctx: ctx, stop: cancel, watchers: watchers{jobs: map[string]map[chan struct{}]struct{}{}}}
}

// Run passes news of jobs to those who wait for them, until ctx ends.
func (c *Control) Run(ctx context.Context) {
	hints := c.Store.Hints(ctx)
	defer c.watchers.tell("")
	for now := time.After(0); ; {
		select {
		case h, open := <-hints:
			if !open {
				return
			}
			c.watchers.tell(h.JobID)
		case <-now:
			now = time.After(time.Minute)
			if err := c.failInterrupted(ctx); err != nil && ctx.Err() == nil {
				c.Log.Warn("interrupted attachments cannot be shown as such", "error", err)
			}
		}
	}
}

// room refuses new work while the disk is nearly full.
func (c *Control) room() error {
	if c.Room == nil {
		return nil
	}
	return c.Room()
}

// Close gives up attachments in progress and waits for them to end.
func (c *Control) Close() {
	c.stop()
	c.attaching.Wait()
}

// notFound gives a Problem for a store's ErrNotFound, and any other error as it is.
func notFound(err error, what, name string) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return &workspace.Problem{
		Class: workspace.NotFound, Code: "ResourceNotFound", Target: name,
		Message: what + " " + quote(name) + " was not found",
		Mend:    "list those there are: moorage " + what + " list",
	}
}

func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return "\"" + s + "\""
}

// some counts things and names one of them: `1 open job: "a"`, `3 open jobs, "a" among them`. name may be empty.
func some(n int, thing, name string) string {
	text := fmt.Sprintf("%d %s", n, thing)
	if n != 1 {
		text += "s"
	}
	switch {
	case name == "":
		return text
	case n == 1:
		return text + ": " + quote(name)
	}
	return text + ", " + quote(name) + " among them"
}

// watchers wakes those who wait for a job. A wake says "look again"; it carries nothing, so none can be outdated.
type watchers struct {
	mu   sync.Mutex
	jobs map[string]map[chan struct{}]struct{} // "" are those who watch every job
}

func (w *watchers) add(jobID string) (wake chan struct{}, remove func()) {
	wake = make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.jobs[jobID] == nil {
		w.jobs[jobID] = map[chan struct{}]struct{}{}
	}
	w.jobs[jobID][wake] = struct{}{}
	return wake, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.jobs[jobID], wake)
		if len(w.jobs[jobID]) == 0 {
			delete(w.jobs, jobID)
		}
	}
}

// tell wakes those who wait for a job; with "" everybody, because news may have been missed.
func (w *watchers) tell(jobID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if jobID != "" {
		wakeAll(w.jobs[jobID])
		return
	}
	for _, set := range w.jobs {
		wakeAll(set)
	}
}

func wakeAll(set map[chan struct{}]struct{}) {
	for wake := range set {
		select {
		case wake <- struct{}{}:
		default: // it has not yet looked after the last wake
		}
	}
}
