package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(t *testing.T) Options {
	t.Helper()
	world := fake.New(compute.Limits{})
	t.Cleanup(world.Close)
	return Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Clock: clock.System(), Drivers: []compute.Driver{world.Driver()}, Version: "test"}
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.Listen, cfg.NoLocal = "127.0.0.1:0", true
	s, err := Start(t.Context(), cfg, options(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.WithoutCancel(t.Context())) })
	return s
}

// client trusts the server's own authority and brings the administrator's secret.
func client(t *testing.T, s *Server) func(method, path, body string) (int, string) {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(s.Data(), "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(filepath.Join(s.Data(), "keys", "admin.secret"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(secret)))
		res, err := (&http.Client{Transport: transport}).Do(req)
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
}

func TestServerAnswersAndKeepsItsIdentity(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Data: dir})
	if code, body := client(t, s)("GET", "/healthz", ""); code != 200 || body != "ok\n" {
		t.Errorf("health %d %q", code, body)
	}
	before, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	s.Close(t.Context())
	start(t, Config{Data: dir})
	if after, err := os.ReadFile(filepath.Join(dir, "ca.pem")); err != nil || string(after) != string(before) {
		t.Errorf("the authority is another after a restart: %v", err)
	}
	for _, name := range []string{"keys/master.key", "keys/admin.secret"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestSecondServerOnADataFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Data: dir})
	_, err := Start(t.Context(), Config{Data: dir, Listen: "127.0.0.1:0", NoLocal: true}, options(t))
	problemOf(t, err, "DataFolderInUse")
	if code, _ := client(t, s)("GET", "/healthz", ""); code != 200 {
		t.Errorf("the first is harmed: %d", code)
	}
}

func TestTakenAddressIsSaid(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Start(t.Context(), Config{Data: t.TempDir(), Listen: l.Addr().String(), NoLocal: true}, options(t))
	problemOf(t, err, "CannotListen")
}

func TestWrongMasterKeyIsSaid(t *testing.T) {
	dir := t.TempDir()
	start(t, Config{Data: dir}).Close(t.Context())
	if err := os.Remove(filepath.Join(dir, "keys", "master.key")); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{Data: dir, Listen: "127.0.0.1:0", NoLocal: true}, options(t))
	problemOf(t, err, "WrongMasterKey")
}

func TestGarbageIsCollectedByRequest(t *testing.T) {
	s := start(t, Config{Data: t.TempDir()})
	code, body := client(t, s)("POST", "/native/v1/gc?dry=1", "")
	var found control.Garbage
	if err := json.Unmarshal([]byte(body), &found); err != nil || code != 200 || !found.Dry {
		t.Errorf("%d %s, %v", code, body, err)
	}
}

func TestOneOfManyServersCollects(t *testing.T) {
	s := start(t, Config{Data: t.TempDir()})
	s.garbage.once(t.Context())
	lease, err := s.store.LeaseOf(t.Context(), collectionsLease)
	if err != nil || lease.Holder != s.garbage.holder {
		t.Fatalf("lease %+v, %v", lease, err)
	}
	other := *s.garbage
	other.holder = "other"
	other.once(t.Context())
	if again, err := s.store.LeaseOf(t.Context(), collectionsLease); err != nil || again.Holder != s.garbage.holder {
		t.Errorf("another took it: %+v, %v", again, err)
	}
	s.garbage.letGo()
	other.once(t.Context())
	if again, err := s.store.LeaseOf(t.Context(), collectionsLease); err != nil || again.Holder != "other" {
		t.Errorf("let go, it is %+v, %v", again, err)
	}
}

func TestLowDiskRefusesNewWorkAlone(t *testing.T) {
	s := start(t, Config{Data: t.TempDir(), MinFree: 1 << 60})
	call := client(t, s)
	ws, err := s.firstWorkspace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	code, body := call("PUT", ws.Path()+"/jobs/j?api-version=2023-04-01", `{"properties":{"jobType":"Command","command":"x"}}`)
	if code != 503 || !strings.Contains(body, "DiskLow") || !strings.Contains(body, "min_free") {
		t.Errorf("a job: %d %s", code, body)
	}
	if _, err := (roomyStore{s.blob, s.space}).Put(t.Context(), "c/x", strings.NewReader("x"), 1, blob.Meta{}); err == nil {
		t.Error("an upload is taken")
	}
	if _, err := s.blob.Put(t.Context(), "c/x", strings.NewReader("x"), 1, blob.Meta{}); err != nil {
		t.Errorf("an output: %v", err)
	}
	if code, body := call("GET", ws.Path()+"/jobs?api-version=2023-04-01", ""); code != 200 {
		t.Errorf("reading: %d %s", code, body)
	}
	s.space.min, s.space.checked = 1, time.Time{}
	if err := s.space.room(); err != nil {
		t.Errorf("with room: %v", err)
	}
	s.space.min, s.space.checked = -1, time.Time{}
	if err := s.space.room(); err != nil {
		t.Errorf("without a mark: %v", err)
	}
}

// TestWayBackSpeaksTLSAndPlain: one pipe of bytes serves both, and each request carries the job that it came from.
func TestWayBackSpeaksTLSAndPlain(t *testing.T) {
	s := start(t, Config{Data: t.TempDir()})
	job := acceptedJob(t, s)
	key := compute.Key{Job: job.ID, Attempt: 1}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.ca)
	for _, secure := range []bool{false, true} {
		ours, theirs := net.Pipe()
		s.way.Serve(key, theirs)
		conn := ours
		if secure {
			conn = tls.Client(ours, &tls.Config{RootCAs: roots, ServerName: "localhost"})
		}
		answer := func(secret string) int {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/mlflow/api/2.0/mlflow/runs/get?run_id="+job.Name, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+secret)
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := req.Write(conn); err != nil {
					t.Errorf("write: %v", err)
				}
			})
			res, err := http.ReadResponse(bufio.NewReader(conn), req)
			wg.Wait()
			if err != nil {
				t.Fatalf("secure %v: %v", secure, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			return res.StatusCode
		}
		if code := answer(s.auth.JobSecret(job.ID, 1).Reveal()); code != 200 {
			t.Errorf("secure %v, the job's own credential: %d", secure, code)
		}
		if code := answer(s.auth.JobSecret("another", 1).Reveal()); code != 401 && code != 403 {
			t.Errorf("secure %v, another's credential: %d", secure, code)
		}
		_ = conn.Close()
	}
	// One that says nothing, and one that comes when the server stops, are closed.
	ours, theirs := net.Pipe()
	s.way.Serve(key, theirs)
	_ = ours.Close()
	s.Close(t.Context())
	ours, theirs = net.Pipe()
	s.way.Serve(key, theirs)
	if _, err := ours.Write([]byte("GET /")); err == nil {
		if _, err := ours.Read(make([]byte, 1)); err == nil {
			t.Error("a stopped server answers")
		}
	}
	_ = ours.Close()
}

func acceptedJob(t *testing.T, s *Server) store.Job {
	t.Helper()
	admin := workspace.Principal{Kind: "administrator", Name: "admin"}
	ws, err := s.firstWorkspace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.control.Attach(t.Context(), admin, ws, control.AttachRequest{Name: "gpu", Kind: "fake", Settings: json.RawMessage(`{"machine":"m"}`)})
	if err != nil || c.State != store.ComputeSucceeded {
		t.Fatalf("%s, %v", c.State, err)
	}
	job, _, err := s.control.SubmitJob(t.Context(), admin, ws, "job", json.RawMessage(`{"jobType":"Command","command":"wait never","computeId":"gpu"}`))
	if err != nil {
		t.Fatal(err)
	}
	return job
}
