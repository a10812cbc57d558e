package history

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
)

// event is something that a client tells of a run (azureml-v1.md §6.4).
type event struct {
	Name string      `json:"name"`
	Time *clientTime `json:"timestamp"`
	Data eventData   `json:"data"`
}

type eventData struct {
	RunID   string          `json:"RunId"`
	Start   *clientTime     `json:"StartTime"`
	End     *clientTime     `json:"EndTime"`
	Error   json.RawMessage `json:"ErrorResponse"`
	Source  string          `json:"Source"`
	Message string          `json:"Message"`
}

const eventPrefix = "Microsoft.MachineLearning.Run."

func (e event) tracked() tracking.RunEvent {
	at := e.Time.millis()
	for _, t := range []*clientTime{e.Data.Start, e.Data.End} {
		if t != nil {
			at = t.millis()
		}
	}
	return tracking.RunEvent{
		Run: e.Data.RunID, Name: strings.TrimPrefix(e.Name, eventPrefix), Time: at, Error: given(e.Data.Error),
		Warning: store.RunWarning{Source: e.Data.Source, Message: e.Data.Message},
	}
}

func (h handlers) event(w http.ResponseWriter, r *http.Request) error {
	var e event
	if err := api.DecodeJSON(r, &e); err != nil {
		return err
	}
	e.Data.RunID = r.PathValue("run")
	if err := h.take(r, []event{e}); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, nil)
}

func (h handlers) eventBatch(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Events []event `json:"events"`
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	if err := h.take(r, req.Events); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"errors": []any{}})
}

func (h handlers) take(r *http.Request, events []event) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	list := make([]tracking.RunEvent, len(events))
	for i, e := range events {
		list[i] = e.tracked()
	}
	return h.Tracking.Events(r.Context(), s, list)
}

// clientTime is a time as clients write it: with a zone or, meaning UTC, without.
type clientTime struct{ time.Time }

func (t *clientTime) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	at, err := api.ReadTime(text)
	t.Time = at
	return err
}

// millis is the time since the epoch, or 0 for a time that was not given.
func (t *clientTime) millis() int64 {
	if t == nil || t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
