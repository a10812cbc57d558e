package all

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/store"
)

// auditor writes the audit log beside the requests, so that none waits for it: what the last moments before a crash
// held may be missing. When the store cannot keep up, requests wait after all, for nothing is left out.
type auditor struct {
	log     auditLog
	logger  *slog.Logger
	entries chan store.AuditEntry
	done    chan struct{}

	mu     sync.RWMutex // held while an entry is handed over
	closed bool
}

// auditLog keeps entries; package control has it.
type auditLog interface {
	Audit(ctx context.Context, entries []store.AuditEntry) error
}

const auditBuffer = 1024

func newAuditor(log auditLog, logger *slog.Logger) *auditor {
	a := &auditor{log: log, logger: logger, entries: make(chan store.AuditEntry, auditBuffer), done: make(chan struct{})}
	go a.run() // ends with close
	return a
}

// note takes an entry. One that comes after close, from a request that was cut off, goes to the ordinary log.
func (a *auditor) note(_ context.Context, e api.Entry) {
	outcome := "ok"
	if e.Status >= 400 {
		outcome = strconv.Itoa(e.Status)
	}
	who := e.Principal.Name
	if who == "" {
		who = "nobody"
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.closed {
		a.logger.Warn("a request ended after the audit log was closed", "principal", who, "action", e.Action, "path", e.Path, "status", e.Status)
		return
	}
	a.entries <- store.AuditEntry{
		Principal: who, WorkspaceID: e.Workspace, Action: e.Action, Target: e.Path, Outcome: outcome, Detail: "request " + e.RequestID + " from " + e.Remote,
	}
}

func (a *auditor) close() {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		close(a.entries)
	}
	a.mu.Unlock()
	<-a.done
}

// run writes whatever has come in since the last write, in one transaction.
func (a *auditor) run() {
	defer close(a.done)
	for e := range a.entries {
		batch := []store.AuditEntry{e}
		for len(batch) < auditBuffer && len(a.entries) > 0 {
			if e, open := <-a.entries; open {
				batch = append(batch, e)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		if err := a.log.Audit(ctx, batch); err != nil {
			a.logger.Error("the audit log could not be written", "entries", len(batch), "error", err)
		}
		cancel()
	}
}
