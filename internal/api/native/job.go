package native

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Jobs is what the routes of jobs call; package control has it.
type Jobs interface {
	Job(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (store.Job, error)
	Jobs(ctx context.Context, p workspace.Principal, ws workspace.Workspace, f store.JobFilter, page store.Page) ([]store.Job, error)
	WaitJob(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, timeout time.Duration) (store.Job, error)
	WatchJob(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, fn func(store.Job) error) error
	JobLog(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, stream string, from int64, follow bool, w io.Writer) (int64, error)
	JobFiles(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) ([]store.JobFile, error)
	AbandonJob(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error
	Compute(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (store.Compute, error)
}

func (h handlers) jobRoutes() []api.Route {
	one, read, own := ws("/jobs/{name}"), act("jobs/read"), api.JobVariable("name")
	return []api.Route{
		{Method: "GET", Pattern: ws("/jobs"), Action: read, Handler: h.listJobs},
		{Method: "GET", Pattern: one, Action: read, Job: own, Handler: h.getJob},
		{Method: "GET", Pattern: one + "/wait", Action: read, Stream: true, Handler: h.waitJob},
		{Method: "GET", Pattern: one + "/events", Action: read, Stream: true, Handler: h.events},
		{Method: "GET", Pattern: one + "/log", Action: read, Job: own, Stream: true, Handler: h.log},
		{Method: "GET", Pattern: one + "/files", Action: read, Handler: h.files},
		{Method: "POST", Pattern: one + "/abandon", Action: act("jobs/abandon/action"), Handler: h.abandon},
	}
}

// view is a job as people and programs of ours see it.
type view struct {
	Name        string             `json:"name"`
	ID          string             `json:"id"`
	Compute     string             `json:"compute"`
	State       workspace.State    `json:"state"`
	Reason      *workspace.Problem `json:"reason"`
	Position    int                `json:"position"`
	ExitCode    *int               `json:"exit_code"`
	Error       *workspace.Problem `json:"error"`
	Created     string             `json:"created"`
	Started     string             `json:"started,omitempty"`
	Ended       string             `json:"ended,omitempty"`
	Experiment  string             `json:"experiment"`
	DisplayName string             `json:"display_name"`
	LogSize     int64              `json:"log_size"`
	Attempt     int                `json:"attempt"`
	Tags        json.RawMessage    `json:"tags"`
}

func viewOf(j store.Job) view {
	v := view{
		Name: j.Name, ID: j.ID, Compute: j.ComputeName, State: j.State, Position: j.Position, ExitCode: j.ExitCode, Error: j.Error, Created: moment(j.Created),
		Started: moment(j.Started), Ended: moment(j.Ended), Experiment: j.Experiment, DisplayName: j.DisplayName, LogSize: j.LogSize, Attempt: j.Attempt, Tags: j.Tags,
	}
	if !j.State.Terminal() {
		v.Reason = j.Reason
	}
	if len(v.Tags) == 0 {
		v.Tags = json.RawMessage("{}")
	}
	return v
}

func moment(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

func write(w http.ResponseWriter, j store.Job, err error) error {
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, viewOf(j))
}

func (h handlers) getJob(w http.ResponseWriter, r *http.Request) error {
	j, err := h.Jobs.Job(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"))
	return write(w, j, err)
}

func (h handlers) listJobs(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	f := store.JobFilter{Experiment: q.Get("experiment"), IncludeArchived: q.Get("archived") == "1"}
	for text := range strings.SplitSeq(strings.Join(q["state"], ","), ",") {
		if text == "" {
			continue
		}
		state, err := stateOf(text)
		if err != nil {
			return err
		}
		f.States = append(f.States, state)
	}
	p, place := api.PrincipalOf(r), api.WorkspaceOf(r)
	if name := q.Get("compute"); name != "" {
		c, err := h.Jobs.Compute(r.Context(), p, place, name)
		if err == nil && c.Alias != "" {
			c, err = h.Jobs.Compute(r.Context(), p, place, c.Alias)
		}
		if err != nil {
			return err
		}
		f.ComputeID = c.ID
	}
	limit, err := number(q.Get("limit"), "limit", 100)
	if err != nil {
		return err
	}
	limit = max(1, min(limit, 1000))
	rows, err := h.Jobs.Jobs(r.Context(), p, place, f, store.Page{After: q.Get("after"), Limit: int(limit)})
	if err != nil {
		return err
	}
	views := make([]view, len(rows))
	for i, row := range rows {
		views[i] = viewOf(row)
	}
	next := ""
	if len(rows) == int(limit) {
		next = rows[len(rows)-1].ID
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"jobs": views, "next": next})
}

func stateOf(text string) (workspace.State, error) {
	for _, s := range workspace.States() {
		if strings.EqualFold(string(s), text) {
			return s, nil
		}
	}
	return "", &workspace.Problem{Class: workspace.Invalid, Code: "InvalidState", Target: "state", Message: fmt.Sprintf("%.40q is not a state of a job", text), Mend: "use one of those that moorage job list shows, e.g. Running"}
}

func number(text, what string, usual int64) (int64, error) {
	if text == "" {
		return usual, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidNumber", Target: what, Message: fmt.Sprintf("%s cannot be %.40q", what, text), Mend: "give a whole number, 0 or more"}
	}
	return n, nil
}

// maxWait is the longest that one request waits; clients ask again.
const maxWait = 10 * time.Minute

func (h handlers) waitJob(w http.ResponseWriter, r *http.Request) error {
	wait := time.Minute
	if text := r.URL.Query().Get("timeout"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidTimeout", Target: "timeout", Message: fmt.Sprintf("timeout cannot be %.40q", text), Mend: "write it like 60s"}
		}
		wait = min(d, maxWait)
	}
	j, err := h.Jobs.WaitJob(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"), wait)
	return write(w, j, err)
}

// events are the job's views as server-sent events: one now, one after each change, none after the last.
func (h handlers) events(w http.ResponseWriter, r *http.Request) error {
	begun := false
	return h.Jobs.WatchJob(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"), func(j store.Job) error {
		if !begun {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Cache-Control", "no-store")
			begun = true
		}
		b, err := json.Marshal(viewOf(j))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "event: state\nid: %s\ndata: %s\n\n", j.State, b); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	})
}

// log writes raw bytes from an offset on. What is followed is flushed at once; a client that reads nothing for a minute
// is cut off, and nothing is held for it meanwhile.
func (h handlers) log(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	from, err := number(q.Get("from"), "from", 0)
	if err != nil {
		return err
	}
	stream := q.Get("stream")
	if stream != "" && stream != "prepare" {
		return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidStream", Target: "stream", Message: fmt.Sprintf("a job has no log stream %.40q", stream), Mend: "leave it out, or use prepare"}
	}
	follow := q.Get("follow") == "1" || strings.EqualFold(q.Get("follow"), "true")
	p, place, name := api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name")
	if _, err := h.Jobs.Job(r.Context(), p, place, name); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Moorage-Log-From", strconv.FormatInt(from, 10))
	out := io.Writer(w)
	if follow {
		f := flusher{w, http.NewResponseController(w)}
		if err := f.control.Flush(); err != nil { // the client learns at once that it is connected
			return err
		}
		out = f
	}
	_, err = h.Jobs.JobLog(r.Context(), p, place, name, stream, from, follow, out)
	return err
}

// flusher sends what is written at once.
type flusher struct {
	w       io.Writer
	control *http.ResponseController
}

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, f.control.Flush()
}

// fileTime is how long the signed URL of a file is good for.
const fileTime = time.Hour

func (h handlers) files(w http.ResponseWriter, r *http.Request) error {
	rows, err := h.Jobs.JobFiles(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	type file struct {
		Output string `json:"output"`
		Path   string `json:"path"`
		Size   int64  `json:"size"`
		Mode   uint32 `json:"mode"`
		URL    string `json:"url"`
	}
	list := make([]file, len(rows))
	expires := h.Clock.Now().Add(fileTime)
	for i, row := range rows {
		list[i] = file{row.Output, row.Path, row.Size, row.Mode, h.fileURL(r, row.Place, expires)}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"files": list})
}

func (h handlers) fileURL(r *http.Request, place string, expires time.Time) string {
	container, blob, _ := strings.Cut(strings.TrimPrefix(place, "c/"), "/")
	query := h.Sign(authn.Signature{Container: container, Blob: blob, Verbs: "r", Expires: expires})
	return api.BaseURL(r) + "/blob/acct/" + container + "/" + escape(blob) + "?" + query
}

func (h handlers) abandon(w http.ResponseWriter, r *http.Request) error {
	p, place, name := api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name")
	if err := h.Jobs.AbandonJob(r.Context(), p, place, name); err != nil {
		return err
	}
	j, err := h.Jobs.Job(r.Context(), p, place, name)
	return write(w, j, err)
}
