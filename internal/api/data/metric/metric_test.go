package metric_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/data/metric"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/store/storetest"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var home = workspace.Workspace{ID: "11111111-1111-4111-8111-111111111111", Subscription: "s", ResourceGroup: "g", Name: "home"}

// callers knows the administrator by "admin", and jobs by "job:" and their name.
type callers struct{}

func (callers) Authenticate(r *http.Request) (workspace.Principal, error) {
	text := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if name, is := strings.CutPrefix(text, "job:"); is {
		return workspace.Principal{Kind: "job", Job: "01J", Name: name, Workspace: home.ID}, nil
	}
	return workspace.Principal{Kind: "administrator", Name: "administrator"}, nil
}

func (callers) CheckSignature(url.Values, string, string, string) error { return nil }

func (callers) Workspace(context.Context, string, string, string) (workspace.Workspace, error) {
	return home, nil
}

// server is the service on a socket.
type server struct {
	*httptest.Server
	tracking *tracking.Tracking
	scope    tracking.Scope
}

func start(t testing.TB, url string) *server {
	t.Helper()
	st := storetest.Open(t, url)
	s := &server{tracking: tracking.New(tracking.Config{Store: st, Clock: clock.System()})}
	s.Server = httptest.NewServer(api.New(api.Config{Auth: callers{}, Workspaces: callers{}, Clock: clock.System(), Log: slog.New(slog.DiscardHandler)}, metric.Routes(s.tracking)))
	t.Cleanup(func() {
		s.Client().CloseIdleConnections()
		s.Close()
	})
	var err error
	if s.scope, err = s.tracking.Scope(t.Context(), workspace.Principal{Kind: "administrator"}, home.ID, ""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine", "theirs"} {
		if err := st.Write(t.Context(), func(tx *store.Tx) error {
			return tracking.CreateJobRun(t.Context(), tx, tracking.JobRun{WorkspaceID: home.ID, Name: name, Created: 1})
		}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func sqliteFile(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "t.db") }

// as sends a request and gives status and body.
func (s *server) as(t testing.TB, credential, run, call, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/metric/v2.0"+home.Path()+"/runs/"+run+"/"+call, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+credential)
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func (s *server) ok(t testing.TB, run, call, body string) string {
	t.Helper()
	status, answer := s.as(t, "admin", run, call, body)
	if status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", call, body, status, answer)
	}
	return answer
}

// TestMetricsAreReadAsTheyWereLogged: requests and answers are those of azureml-v1.md §7.
func TestMetricsAreReadAsTheyWereLogged(t *testing.T) {
	s := start(t, sqliteFile(t))
	got := s.ok(t, "mine", "batch", `{"values":[
		{"name":"acc","columns":{"acc":"double"},"value":[{"metricId":"1","createdUtc":"2026-11-24T08:34:23.151234Z","data":{"acc":0.9}}],"properties":{"uxMetricType":"azureml.v1.scalar"}},
		{"name":"acc","columns":{"acc":"double"},"value":[{"metricId":"2","createdUtc":"2026-11-24T08:34:24.000000Z","data":{"acc":NaN}}],"properties":{"uxMetricType":"azureml.v1.scalar"}},
		{"name":"row","columns":{"y":"integer","x":"string"},"value":[{"metricId":"3","createdUtc":"2026-11-24T08:34:23.151234","step":null,"data":{"x":"say \"NaN\"","y":2}}],"properties":{"uxMetricType":"azureml.v1.table"}},
		{"name":"acc","columns":{"acc":"string"},"value":[{"metricId":"4","createdUtc":"2026-11-24T08:34:25Z","data":{"acc":"words"}}],"properties":{"uxMetricType":"azureml.v1.scalar"}}
	],"reportErrors":true}`)
	var answer struct {
		Errors []struct {
			Metric struct {
				Name string `json:"name"`
			} `json:"metric"`
			Response struct {
				Error struct {
					Code, Message string
					Details       []any
				} `json:"error"`
			} `json:"errorResponse"`
		} `json:"errors"`
	}
	if err := json.Unmarshal([]byte(got), &answer); err != nil || len(answer.Errors) != 1 || answer.Errors[0].Metric.Name != "acc" || answer.Errors[0].Response.Error.Code != "MetricTypeMismatch" || answer.Errors[0].Response.Error.Details == nil {
		t.Errorf("%s: %v", got, err)
	}
	for _, c := range []struct{ call, body, want string }{
		{"list", `{}`, `{"continuationToken":null,"value":[{"metricKey":{"namespace":"","name":"acc"},"columns":{"acc":"double"}},{"metricKey":{"namespace":"","name":"row"},"columns":{"y":"integer","x":"string"}}]}`},
		{"full", `{"metricName":"acc"}`, `{"dataContainerId":"dcid.mine","name":"acc","columns":{"acc":"double"},"value":[` +
			`{"metricId":null,"createdUtc":"2026-11-24T08:34:23.151000Z","step":0,"data":{"acc":0.9}},{"metricId":null,"createdUtc":"2026-11-24T08:34:24.000000Z","step":1,"data":{"acc":"NaN"}}],` +
			`"properties":{"uxMetricType":"azureml.v1.scalar"},"continuationToken":null}`},
		{"full", `{"metricName":"row"}`, `{"dataContainerId":"dcid.mine","name":"row","columns":{"y":"integer","x":"string"},"value":[` +
			`{"metricId":null,"createdUtc":"2026-11-24T08:34:23.151234Z","step":null,"data":{"x":"say \"NaN\"","y":2}}],"properties":{"uxMetricType":"azureml.v1.table"},"continuationToken":null}`},
		{"full", `{"metricName":"acc","startTime":"2026-11-24T08:34:24Z","endTime":"2026-11-25T00:00:00+00:00"}`, `{"dataContainerId":"dcid.mine","name":"acc","columns":{"acc":"double"},"value":[` +
			`{"metricId":null,"createdUtc":"2026-11-24T08:34:24.000000Z","step":1,"data":{"acc":"NaN"}}],"properties":{"uxMetricType":"azureml.v1.scalar"},"continuationToken":null}`},
	} {
		if got := s.ok(t, "mine", c.call, c.body); got != c.want {
			t.Errorf("%s %s\n got %s\nwant %s", c.call, c.body, got, c.want)
		}
	}
}

func TestFaultyRequestsAreToldOfInTheServicesShape(t *testing.T) {
	s := start(t, sqliteFile(t))
	for _, c := range []struct {
		run, call, body string
		status          int
	}{
		{"mine", "full", `{"metricName":"none"}`, 404},
		{"mine", "full", `{}`, 400},
		{"mine", "full", `{"metricName":"a","startTime":"yesterday"}`, 400},
		{"none", "list", `{}`, 404},
		{"none", "batch", `{"values":[]}`, 404},
		{"mine", "batch", `{"values":[{"name":"a","columns":{"a":"double"},"value":[{"createdUtc":"x","data":{"a":1}}]}]}`, 400},
		{"mine", "batch", `{"values":[{"name":"a","columns":{"a":"double"},"value":[{"createdUtc":"2026-11-24T08:34:25Z","data":[1]}]}]}`, 400},
		{"mine", "batch", `{"values":[{"value":NaN Infinity]`, 400},
		{"mine", "batch", `{"values":[` + strings.TrimSuffix(strings.Repeat(`{},`, 1001), ",") + `]}`, 400},
		{"mine", "list", `{"continuationToken":"x"}`, 400},
	} {
		status, body := s.as(t, "admin", c.run, c.call, c.body)
		var e struct {
			Error struct {
				Code, Message string
				Details       []any
				InnerError    struct{ Code string }
			} `json:"error"`
			Correlation map[string]string
			Time        time.Time
		}
		err := json.Unmarshal([]byte(body), &e)
		if status != c.status || err != nil || e.Error.Code == "" || e.Error.Message == "" || e.Error.Details == nil || e.Error.InnerError.Code != e.Error.Code || e.Correlation["request"] == "" || e.Time.IsZero() {
			t.Errorf("%s %s %.60s: %d, want %d: %s", c.run, c.call, c.body, status, c.status, body)
		}
	}
}

func TestAJobLogsToItsOwnRunsOnly(t *testing.T) {
	s := start(t, sqliteFile(t))
	if _, err := s.tracking.PatchRun(t.Context(), s.scope, "", "x", tracking.RunPatch{ID: "kid", Parent: new("mine")}); err != nil {
		t.Fatal(err)
	}
	for run, want := range map[string]int{"mine": 200, "kid": 200, "theirs": 403} {
		for call, body := range map[string]string{"batch": batch(0, 1), "list": `{}`, "full": `{"metricName":"m0"}`} {
			s.as(t, "admin", run, "batch", batch(0, 1))
			if status, answer := s.as(t, "job:mine", run, call, body); status != want {
				t.Errorf("%s of %s: %d %s", call, run, status, answer)
			}
		}
	}
}

// batch is a request as the client sends it: n values of five metrics, of which it logged the first as the from-th.
func batch(from, n int) string {
	var b bytes.Buffer
	b.WriteString(`{"values":[`)
	for i := from; i < from+n; i++ {
		if i > from {
			b.WriteByte(',')
		}
		at := time.UnixMicro(1_795_533_712_815_000 + int64(i)*24).UTC().Format(api.TimeFormat)
		fmt.Fprintf(&b, `{"name":"m%d","columns":{"m%d":"double"},"value":[{"metricId":"00000000-0000-4000-8000-%012d","createdUtc":"%s","data":{"m%d":%d.5}}],"properties":{"uxMetricType":"azureml.v1.scalar"}}`, i%5, i%5, i, at, i%5, i)
	}
	b.WriteString(`],"reportErrors":true}`)
	return b.String()
}

// logAll sends total values in batches of 45 over a few connections, as the client does, and gives the time it took.
func (s *server) logAll(t testing.TB, run string, total int) time.Duration {
	t.Helper()
	const size, senders = 45, 4
	work := make(chan string)
	var wg sync.WaitGroup
	began := time.Now()
	for range senders {
		wg.Go(func() {
			for body := range work {
				if status, answer := s.as(t, "job:"+run, run, "batch", body); status != http.StatusOK || answer != `{"errors":[]}` {
					t.Errorf("%d %s", status, answer)
				}
			}
		})
	}
	for from := 0; from < total; from += size {
		work <- batch(from, min(size, total-from))
	}
	close(work)
	wg.Wait()
	return time.Since(began)
}

// TestTenThousandMetricsArriveInOrder also holds the promise of speed: 2,000 values a second in a job, of which the client
// itself takes most. The server must leave it that.
func TestTenThousandMetricsArriveInOrder(t *testing.T) {
	s := start(t, sqliteFile(t))
	const total = 10_000
	took := s.logAll(t, "mine", total)
	t.Logf("%d values in %v: %.0f a second", total, took, total/took.Seconds())
	if rate := total / took.Seconds(); rate < 2000 {
		t.Errorf("%.0f values a second", rate)
	}
	for m := range 5 {
		points, _, err := s.tracking.History(t.Context(), s.scope, "mine", fmt.Sprintf("m%d", m), total, "")
		if err != nil || len(points) != total/5 {
			t.Fatalf("m%d has %d points, %v", m, len(points), err)
		}
		for i, p := range points {
			if want := float64(5*i+m) + 0.5; p.Value != want || p.Step != int64(i) {
				t.Fatalf("m%d: point %d is %+v, want value %v", m, i, p, want)
			}
		}
	}
}

func BenchmarkLogging(b *testing.B) {
	s := start(b, sqliteFile(b))
	const total = 4500
	run := 0
	for b.Loop() {
		id := fmt.Sprintf("run%d", run)
		run++
		if _, err := s.tracking.PatchRun(b.Context(), s.scope, "", "x", tracking.RunPatch{ID: id, Parent: new("mine")}); err != nil {
			b.Fatal(err)
		}
		for from := 0; from < total; from += 45 {
			if status, answer := s.as(b, "admin", id, "batch", batch(from, 45)); status != http.StatusOK {
				b.Fatal(answer)
			}
		}
	}
	b.ReportMetric(float64(total)*float64(b.N)/b.Elapsed().Seconds(), "values/s")
}
