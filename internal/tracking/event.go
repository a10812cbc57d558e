package tracking

import (
	"context"
	"encoding/json"

	"github.com/moorage-ml/moorage/internal/store"
)

// RunEvent is something that a client of Azure's run history tells of a run (azureml-v1.md §6.4).
type RunEvent struct {
	Run     string
	Name    string // the last part of the client's, e.g. "Start"
	Time    int64  // when it happened, in milliseconds since the epoch; 0: now
	Error   json.RawMessage
	Warning store.RunWarning
}

// eventStates are the statuses that events move a run to. Others move none.
var eventStates = map[string]string{
	"Start": "Running", "Completed": "Completed", "Failed": "Failed", "Canceled": "Canceled", "CancelRequested": "CancelRequested", "Queued": "Queued",
}

// maxWarnings bounds what one run keeps; a script that warns in a loop must not fill its row.
const maxWarnings = 100

// Events takes events of active runs, in their order, all or none. None of them moves the run of a job, and one that has
// ended does not move again.
func (t *Tracking) Events(ctx context.Context, s Scope, events []RunEvent) error {
	if len(events) > maxPatches {
		return invalid("events", "one request may carry at most %d events, and this one has %d", maxPatches, len(events))
	}
	return t.store.Write(ctx, func(tx *store.Tx) error {
		for _, e := range events {
			if _, err := s.activeRun(ctx, tx, e.Run); err != nil {
				return err
			}
			was, err := tx.HistoryRun(ctx, s.WorkspaceID, e.Run)
			if err != nil {
				return err
			}
			h := historyRun{was}
			h.take(e, t.clock.Millis())
			if err := h.save(ctx, tx, was, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// take changes a run as an event says.
func (h *historyRun) take(e RunEvent, now int64) {
	if e.Time == 0 {
		e.Time = now
	}
	if state, moves := eventStates[e.Name]; moves {
		h.move(state, e.Time, e.Time)
	}
	if len(e.Error) > 0 {
		h.Record.Error = e.Error
	}
	if e.Warning.Message != "" && len(h.Record.Warnings) < maxWarnings {
		h.Record.Warnings = append(h.Record.Warnings[:len(h.Record.Warnings):len(h.Record.Warnings)], e.Warning)
	}
}
