package mlflow

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
)

// runID is how a request names a run: by either of two names.
type runID struct {
	RunID   string `json:"run_id"`
	RunUUID string `json:"run_uuid"`
}

func (q runID) id() (string, error) {
	switch {
	case q.RunID != "":
		return q.RunID, nil
	case q.RunUUID != "":
		return q.RunUUID, nil
	}
	return "", missing("run_id")
}

type createRun struct {
	ExperimentID string        `json:"experiment_id"`
	UserID       string        `json:"user_id"`
	RunName      string        `json:"run_name"`
	StartTime    integer       `json:"start_time"`
	Tags         []store.Label `json:"tags"`
}

func (h *handlers) createRun(ctx context.Context, s tracking.Scope, q *createRun) (any, error) {
	n := tracking.NewRun{UserID: q.UserID, Name: q.RunName, Start: int64(q.StartTime), Tags: q.Tags}
	if q.ExperimentID == "" {
		q.ExperimentID = "0"
		if s.Run != "" {
			n.ExperimentID = s.Experiment
		}
	}
	if n.ExperimentID == 0 {
		var err error
		if n.ExperimentID, err = tracking.ExperimentID(q.ExperimentID); err != nil {
			return nil, err
		}
	}
	run, err := h.Tracking.CreateRun(ctx, s, n)
	return map[string]runJSON{"run": runOf(run)}, err
}

func (h *handlers) getRun(ctx context.Context, s tracking.Scope, q *runID) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	run, err := h.Tracking.Run(ctx, s, id)
	return map[string]runJSON{"run": runOf(run)}, err
}

type updateRun struct {
	runID
	Status  word    `json:"status"`
	EndTime integer `json:"end_time"`
	RunName string  `json:"run_name"`
}

func (h *handlers) updateRun(ctx context.Context, s tracking.Scope, q *updateRun) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	status, err := q.Status.oneOf("status", "", tracking.Running, tracking.Scheduled, tracking.Finished, tracking.Failed, tracking.Killed)
	if err != nil {
		return nil, err
	}
	run, err := h.Tracking.UpdateRun(ctx, s, id, tracking.RunUpdate{Status: status, End: int64(q.EndTime), Name: q.RunName})
	return map[string]infoJSON{"run_info": infoOf(run)}, err
}

func (h *handlers) deleteRun(ctx context.Context, s tracking.Scope, q *runID) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	return nil, h.Tracking.DeleteRun(ctx, s, id)
}

func (h *handlers) restoreRun(ctx context.Context, s tracking.Scope, q *runID) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	return nil, h.Tracking.RestoreRun(ctx, s, id)
}

type searchRuns struct {
	ExperimentIDs []string `json:"experiment_ids"`
	Filter        string   `json:"filter"`
	RunViewType   word     `json:"run_view_type"`
	MaxResults    *integer `json:"max_results"`
	OrderBy       []string `json:"order_by"`
	PageToken     string   `json:"page_token"`
}

// defaultRuns is the size of a page of runs that nobody asked for.
const defaultRuns = 1000

// searchRuns writes the answer as it is read, because a page may hold 50,000 runs.
func (h *handlers) searchRuns(w http.ResponseWriter, r *http.Request) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	var q searchRuns
	if err := decode(w, r, smallBody, &q); err != nil {
		return err
	}
	search := tracking.RunSearch{Filter: q.Filter, OrderBy: q.OrderBy, Token: q.PageToken}
	if search.Limit, err = pageSize(q.MaxResults, defaultRuns); err != nil {
		return err
	}
	if search.Stage, err = stageOf("run_view_type", q.RunViewType); err != nil {
		return err
	}
	if search.Experiments, err = experimentIDs(q.ExperimentIDs); err != nil {
		return err
	}
	out := &runWriter{w: w}
	next, err := h.Tracking.SearchRuns(r.Context(), s, search, out.write)
	if err != nil {
		return err
	}
	return out.end(next)
}

// runWriter writes {"runs":[…],"next_page_token":…} bit by bit; without runs it is {}.
type runWriter struct {
	w     http.ResponseWriter
	begun bool
}

func (o *runWriter) write(runs []tracking.CompleteRun) error {
	var b bytes.Buffer
	for _, run := range runs {
		if o.begun {
			b.WriteByte(',')
		} else {
			o.w.Header().Set("Content-Type", "application/json; charset=utf-8")
			b.WriteString(`{"runs":[`)
			o.begun = true
		}
		text, err := json.Marshal(runOf(run))
		if err != nil {
			return err
		}
		b.Write(text)
	}
	_, err := o.w.Write(b.Bytes())
	return err
}

func (o *runWriter) end(next string) error {
	text := "{}"
	switch {
	case o.begun && next != "":
		text = `],"next_page_token":"` + next + `"}` // base64 needs no escapes
	case o.begun:
		text = "]}"
	default:
		o.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	_, err := o.w.Write([]byte(text))
	return err
}
