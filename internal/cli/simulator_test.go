package cli

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/snapshot"
)

// simulator is a simulated server: it answers the routes that the command line uses, runs nothing, and records what it
// was asked. A job's command is its script, parts separated by ";":
//
//	print TEXT          a line of log
//	queue N             Queued with N before it, then Running
//	unreachable         Queued on a compute that does not answer
//	prepare TEXT        Preparing with a line in its log
//	drop                the connection of the log breaks here, once
//	hold                runs until it is canceled
//	write OUTPUT PATH N a file of N bytes
//	exit N              fails with this code
type simulator struct {
	*httptest.Server
	base string // native path of the workspace

	mu       sync.Mutex
	requests []request
	objects  map[snapshot.Hash]bool
	jobs     map[string]*simJob
	computes map[string]map[string]any
	assets   map[string]json.RawMessage
	catalog  map[string]map[string]any
	broken   map[string]bool // files whose first transfer was cut
}

type request struct {
	what string // method and path
	body []byte
}

type simJob struct {
	view      map[string]any
	history   []map[string]any
	log       []string // pieces; between them the connection breaks
	prepare   string
	files     map[string]int
	exit      int
	canceled  chan struct{}
	holds     bool
	dropsLeft int
}

const simSecret, simWorkspace = "secret-of-the-simulator", "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"

// newSimulator starts one and writes the public files of its data folder to dir.
func newSimulator(dir string) (*simulator, error) {
	s := &simulator{
		base: "/native/v1" + simWorkspace, objects: map[snapshot.Hash]bool{}, jobs: map[string]*simJob{}, computes: map[string]map[string]any{},
		assets: map[string]json.RawMessage{}, catalog: map[string]map[string]any{}, broken: map[string]bool{},
	}
	mux := http.NewServeMux()
	s.routes(mux)
	s.Server = httptest.NewUnstartedServer(s.record(mux))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // scripts break connections on purpose
	s.EnableHTTP2 = true
	s.StartTLS()
	files := map[string]string{
		"ca.pem":            string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})),
		"keys/admin.secret": simSecret + "\n",
		"server.json":       fmt.Sprintf(`{"url":%q,"subscription":"sub","resource_group":"rg","workspace":"ws"}`, s.URL),
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *simulator) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		path := strings.NewReplacer(simWorkspace, "{ws}", "/native/v1", "/native").Replace(r.URL.Path)
		q := r.URL.Query()
		q.Del("api-version")
		if len(q) > 0 {
			path += "?" + q.Encode()
		}
		if path == "/healthz" { // opens a connection and may come at any time
			return
		}
		s.mu.Lock()
		s.requests = append(s.requests, request{r.Method + " " + path, body})
		s.mu.Unlock()
		if !strings.HasPrefix(r.URL.Path, "/signed/") && r.Header.Get("Authorization") != "Bearer "+simSecret {
			fail(w, http.StatusUnauthorized, "Unauthenticated", "the token is not known", "", "")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func fail(w http.ResponseWriter, status int, code, message, cause, mend string) {
	full := message
	if cause != "" {
		full += ": " + cause
	}
	if mend != "" {
		full += ". " + strings.ToUpper(mend[:1]) + mend[1:]
	}
	answerJSON(w, status, map[string]any{"error": map[string]any{"code": code, "message": full, "cause": cause, "mend": mend, "details": []any{}}})
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *simulator) routes(mux *http.ServeMux) {
	arm := simWorkspace
	mux.HandleFunc("PUT "+arm+"/jobs/{n}", s.putJob)
	mux.HandleFunc("GET "+arm+"/jobs/{n}", s.job(func(w http.ResponseWriter, _ *http.Request, j *simJob) {
		answerJSON(w, 200, map[string]any{"name": j.view["name"], "properties": map[string]any{"jobType": "Command"}})
	}))
	mux.HandleFunc("POST "+arm+"/jobs/{n}/cancel", s.job(func(w http.ResponseWriter, _ *http.Request, j *simJob) {
		s.mu.Lock()
		defer s.mu.Unlock()
		select {
		case <-j.canceled:
		default:
			close(j.canceled)
		}
		if j.holds {
			j.view["state"] = "Canceled"
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	mux.HandleFunc("GET "+s.base+"/jobs", s.listJobs)
	mux.HandleFunc("GET "+s.base+"/jobs/{n}", s.job(func(w http.ResponseWriter, _ *http.Request, j *simJob) { s.view(w, j) }))
	mux.HandleFunc("GET "+s.base+"/jobs/{n}/wait", s.job(func(w http.ResponseWriter, r *http.Request, j *simJob) {
		d, _ := time.ParseDuration(r.URL.Query().Get("timeout"))
		j.over(r, d)
		s.view(w, j)
	}))
	mux.HandleFunc("GET "+s.base+"/jobs/{n}/events", s.job(s.events))
	mux.HandleFunc("GET "+s.base+"/jobs/{n}/log", s.job(s.log))
	mux.HandleFunc("GET "+s.base+"/jobs/{n}/files", s.job(s.listFiles))
	mux.HandleFunc("POST "+s.base+"/jobs/{n}/abandon", s.job(func(w http.ResponseWriter, _ *http.Request, _ *simJob) { w.WriteHeader(http.StatusNoContent) }))
	mux.HandleFunc("GET /signed/{size}", s.signed)
	mux.HandleFunc("POST "+s.base+"/snapshots/missing", s.missing)
	mux.HandleFunc("POST "+s.base+"/snapshots/objects", s.store)
	mux.HandleFunc("PUT "+arm+"/environments/{n}/versions/{v}", func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, 201, map[string]any{"name": r.PathValue("v")})
	})
	s.computeRoutes(mux)
	s.connectionRoutes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, 404, "NotSimulated", r.Method+" "+r.URL.Path+" is not simulated", "", "")
	})
}

func (s *simulator) job(h func(http.ResponseWriter, *http.Request, *simJob)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		j := s.jobs[r.PathValue("n")]
		s.mu.Unlock()
		if j == nil {
			fail(w, 404, "JobNotFound", fmt.Sprintf("job %q was not found", r.PathValue("n")), "", "see the names: moorage job list")
			return
		}
		h(w, r, j)
	}
}

func (s *simulator) view(w http.ResponseWriter, j *simJob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answerJSON(w, 200, j.view)
}

func (s *simulator) putJob(w http.ResponseWriter, r *http.Request) {
	var doc struct {
		Properties struct {
			Command, CodeID, ComputeID, ExperimentName string
			Inputs                                     map[string]struct{ URI string }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&doc); err != nil {
		fail(w, 400, "InvalidJSON", "the body is not JSON", err.Error(), "")
		return
	}
	p := doc.Properties
	s.mu.Lock()
	defer s.mu.Unlock()
	roots := []string{}
	if p.CodeID != "" {
		roots = append(roots, strings.Split(strings.TrimPrefix(p.CodeID, simWorkspace+"/codes/"), "/")[0])
	}
	for _, in := range p.Inputs {
		if root, ok := strings.CutPrefix(in.URI, "moorage://snapshots/"); ok {
			roots = append(roots, strings.Split(root, "/")[0])
		}
	}
	for _, root := range roots {
		if !s.objects[snapshot.Hash(root)] {
			fail(w, 409, "SnapshotMissing", "the snapshot "+root+" is not here", "", "upload it")
			return
		}
	}
	if strings.HasSuffix(p.ComputeID, "/gone") {
		fail(w, 404, "ComputeNotFound", `compute "gone" was not found`, "", "see the names: moorage compute list")
		return
	}
	if s.jobs[r.PathValue("n")] != nil {
		answerJSON(w, 200, map[string]any{"name": r.PathValue("n")})
		return
	}
	s.jobs[r.PathValue("n")] = newSimJob(r.PathValue("n"), p.Command, p.ComputeID[strings.LastIndexByte(p.ComputeID, '/')+1:], p.ExperimentName)
	answerJSON(w, 201, map[string]any{"name": r.PathValue("n")})
}

func newSimJob(name, script, compute, experiment string) *simJob {
	j := &simJob{canceled: make(chan struct{}), files: map[string]int{}, log: []string{""}}
	view := func(state string, more map[string]any) map[string]any {
		v := map[string]any{
			"name": name, "id": "01J", "compute": compute, "state": state, "reason": nil, "position": 0, "exit_code": nil, "error": nil,
			"created": "2026-11-24T08:00:00Z", "started": nil, "ended": nil, "experiment": experiment, "display_name": name, "log_size": 0, "tags": map[string]any{},
		}
		maps.Copy(v, more)
		return v
	}
	for part := range strings.SplitSeq(script, ";") {
		word, rest, _ := strings.Cut(strings.TrimSpace(part), " ")
		last := len(j.log) - 1
		switch word {
		case "print":
			j.log[last] += rest + "\n"
		case "drop":
			j.log = append(j.log, "")
		case "queue":
			n, _ := strconv.Atoi(rest)
			j.history = append(j.history, view("Queued", map[string]any{"position": n, "reason": map[string]any{"code": "WaitsForSlot", "message": "waits for a slot on " + compute}}))
		case "unreachable":
			j.history = append(j.history, view("Queued", map[string]any{"position": 1, "reason": map[string]any{
				"code": "ComputeUnhealthy", "message": "waits for compute gpu, which is unreachable", "cause": "no route to it",
			}}))
		case "prepare":
			j.prepare = rest + "\n"
			j.history = append(j.history, view("Preparing", nil))
		case "hold":
			j.holds = true
		case "write":
			f := strings.Fields(rest)
			j.files[f[0]+"\x00"+f[1]], _ = strconv.Atoi(f[2])
		case "exit":
			j.exit, _ = strconv.Atoi(rest)
		}
	}
	j.dropsLeft = len(j.log) - 1
	j.history = append(j.history, view("Running", map[string]any{"started": "2026-11-24T08:00:01Z"}))
	end := map[string]any{"started": "2026-11-24T08:00:01Z", "ended": "2026-11-24T08:00:03.5Z", "exit_code": j.exit, "log_size": len(strings.Join(j.log, ""))}
	state := "Completed"
	if j.exit != 0 {
		state = "Failed"
		end["error"] = map[string]any{"code": "CommandFailed", "message": fmt.Sprintf("the command ended with exit code %d", j.exit), "mend": "look at the end of its log"}
	}
	j.view = view(state, end)
	if j.holds {
		j.view = view("Running", map[string]any{"started": "2026-11-24T08:00:01Z", "log_size": len(strings.Join(j.log, ""))})
	}
	return j
}

// over waits until the job is over, the caller has gone, or the time is up.
func (j *simJob) over(r *http.Request, d time.Duration) {
	if !j.holds {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-j.canceled:
	case <-r.Context().Done():
	case <-t.C:
	}
}

func (s *simulator) events(w http.ResponseWriter, r *http.Request, j *simJob) {
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(v any) {
		s.mu.Lock()
		text, _ := json.Marshal(v)
		s.mu.Unlock()
		fmt.Fprintf(w, "event: state\ndata: %s\n\n", text)
		w.(http.Flusher).Flush()
	}
	for _, v := range j.history {
		send(v)
	}
	j.over(r, time.Hour)
	send(j.view)
}

func (s *simulator) log(w http.ResponseWriter, r *http.Request, j *simJob) {
	q := r.URL.Query()
	from, _ := strconv.Atoi(q.Get("from"))
	w.Header().Set("X-Moorage-Log-From", strconv.Itoa(from))
	if q.Get("stream") == "prepare" {
		_, _ = io.WriteString(w, j.prepare)
		return
	}
	s.mu.Lock()
	pieces := j.log
	if j.dropsLeft > 0 {
		pieces = j.log[:len(j.log)-j.dropsLeft]
		j.dropsLeft--
	}
	s.mu.Unlock()
	text := strings.Join(pieces, "")
	_, _ = io.WriteString(w, text[min(from, len(text)):])
	w.(http.Flusher).Flush()
	if len(pieces) < len(j.log) {
		cutConnection()
	}
	if q.Get("follow") != "" {
		j.over(r, time.Hour)
	}
}

func (s *simulator) listJobs(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []any{}
	for _, name := range sorted(s.jobs) {
		if state := r.URL.Query().Get("state"); state == "" || state == s.jobs[name].view["state"] {
			out = append(out, s.jobs[name].view)
		}
	}
	answerJSON(w, 200, map[string]any{"jobs": out, "next": ""})
}

func TestSimulatorFilesAreReadable(t *testing.T) {
	dir := t.TempDir()
	s, err := newSimulator(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := readServer(dir)
	if err != nil || got.URL != s.URL || got.Workspace != "ws" {
		t.Errorf("server.json: %+v, %v", got, err)
	}
}
