package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Job is the native view of a job.
type Job struct {
	Name        string             `json:"name"`
	Compute     string             `json:"compute"`
	State       workspace.State    `json:"state"`
	Reason      *workspace.Problem `json:"reason"`
	Position    int                `json:"position"`
	ExitCode    *int               `json:"exit_code"`
	Error       *workspace.Problem `json:"error"`
	Created     string             `json:"created"`
	Started     string             `json:"started"`
	Ended       string             `json:"ended"`
	Experiment  string             `json:"experiment"`
	DisplayName string             `json:"display_name"`
	LogSize     int64              `json:"log_size"`

	Raw json.RawMessage `json:"-"` // the view as the server sent it
}

// UnmarshalJSON keeps the text beside the fields, so that what a newer server adds is shown too.
func (j *Job) UnmarshalJSON(b []byte) error {
	type plain Job
	return keepText(b, (*plain)(j), &j.Raw)
}

// PutJob submits a job under name. The server submits nothing a second time under the same name; that there was such a
// job before is a problem with the code JobExists.
func (c *Client) PutJob(ctx context.Context, name string, properties map[string]any) error {
	a, err := c.call(ctx, http.MethodPut, c.arm("jobs", name), map[string]any{"properties": properties}, nil)
	if err == nil && a.status == http.StatusOK && !a.repeated {
		return &workspace.Problem{
			Class: workspace.Conflict, Code: "JobExists", Target: name, Message: "there is a job named " + name + " already; nothing was submitted",
			Mend: "take another name, or none; that job: moorage job show " + name,
		}
	}
	return err
}

// Job is how a job is.
func (c *Client) Job(ctx context.Context, name string) (*Job, error) {
	j := &Job{}
	_, err := c.call(ctx, http.MethodGet, c.native("jobs", name), nil, j)
	return j, err
}

// JobDocument is the job as ARM shows it.
func (c *Client) JobDocument(ctx context.Context, name string) (json.RawMessage, error) {
	var doc json.RawMessage
	_, err := c.call(ctx, http.MethodGet, c.arm("jobs", name), nil, &doc)
	return doc, err
}

// Jobs lists jobs, newest first: at most limit of them, or all for 0. query takes state, compute and experiment.
func (c *Client) Jobs(ctx context.Context, query url.Values, limit int) ([]*Job, error) {
	jobs := []*Job{}
	after := ""
	for {
		q := url.Values{}
		maps.Copy(q, query)
		page := 1000
		if limit > 0 {
			page = min(page, limit-len(jobs))
		}
		q.Set("limit", strconv.Itoa(page))
		if after != "" {
			q.Set("after", after)
		}
		var out struct {
			Jobs []*Job `json:"jobs"`
			Next string `json:"next"`
		}
		if _, err := c.call(ctx, http.MethodGet, c.native("jobs")+"?"+q.Encode(), nil, &out); err != nil {
			return nil, err
		}
		jobs = append(jobs, out.Jobs...)
		if out.Next == "" || out.Next == after || (limit > 0 && len(jobs) >= limit) {
			return jobs, nil
		}
		after = out.Next
	}
}

// WaitJob returns the job when it is over, or after at most d as it is then.
func (c *Client) WaitJob(ctx context.Context, name string, d time.Duration) (*Job, error) {
	j := &Job{}
	_, err := c.call(ctx, http.MethodGet, c.native("jobs", name, "wait")+"?timeout="+d.String(), nil, j)
	return j, err
}

// CancelJob asks for a job's end.
func (c *Client) CancelJob(ctx context.Context, name string) error {
	_, err := c.call(ctx, http.MethodPost, c.arm("jobs", name, "cancel"), nil, nil)
	return err
}

// AbandonJob gives up a job whose compute will never answer again.
func (c *Client) AbandonJob(ctx context.Context, name string) error {
	_, err := c.call(ctx, http.MethodPost, c.native("jobs", name, "abandon"), nil, nil)
	return err
}

// Log copies the job's log to w from offset from on, until the job is over when follow is set. It returns the offset
// after the last byte written, also with an error, so that the caller can go on from there. stream is "" for the
// command's output and "prepare" for the making of its environment.
func (c *Client) Log(ctx context.Context, name, stream string, from int64, follow bool, w io.Writer) (int64, error) {
	q := url.Values{"from": {strconv.FormatInt(from, 10)}}
	if follow {
		q.Set("follow", "1")
	}
	if stream != "" {
		q.Set("stream", stream)
	}
	resp, err := c.send(ctx, http.MethodGet, c.native("jobs", name, "log")+"?"+q.Encode(), nil, "")
	if err != nil {
		return from, err
	}
	defer resp.Body.Close()
	if n, err := strconv.ParseInt(resp.Header.Get("X-Moorage-Log-From"), 10, 64); err == nil {
		from = n
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return from, &writeError{werr}
			}
			from += int64(n)
		}
		if err == io.EOF {
			return from, nil
		}
		if err != nil {
			return from, &broken{c.lost(err)}
		}
	}
}

// broken is a connection that broke in the midst of an answer.
type broken struct{ error }

func (b *broken) Unwrap() error { return b.error }

// Broken tells whether err is a log's connection that broke after the server had answered.
func Broken(err error) bool {
	_, ok := errors.AsType[*broken](err)
	return ok
}

// writeError is a failure of the caller's writer, which trying again does not mend.
type writeError struct{ err error }

func (e *writeError) Error() string { return "client: write log: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// Events calls fn with the job's view now and whenever it changes, until it is over or the connection breaks.
func (c *Client) Events(ctx context.Context, name string, fn func(*Job)) error {
	resp, err := c.send(ctx, http.MethodGet, c.native("jobs", name, "events"), nil, "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 4096), 4<<20)
	event, data := "", ""
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "":
			if data != "" && (event == "" || event == "state") {
				j := &Job{}
				if json.Unmarshal([]byte(data), j) == nil && j.State != "" {
					fn(j)
				}
			}
			event, data = "", ""
		case strings.HasPrefix(line, "event:"):
			event = strings.TrimSpace(line[len("event:"):])
		case strings.HasPrefix(line, "data:"):
			data += strings.TrimPrefix(line[len("data:"):], " ")
		}
	}
	if err := lines.Err(); err != nil {
		return c.lost(err)
	}
	return nil
}
