package control

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// home stands for the server in what run.py asks of it, and keeps what it was told.
type home struct {
	*httptest.Server
	mu     sync.Mutex
	said   []string          // events with their errors, and statuses, in their order
	stored map[string]string // by the path of the request
	gets   map[string]string // what may be fetched
	cancel string            // the file whose being there is the wish to cancel
}

func newHome(t *testing.T) *home {
	h := &home{stored: map[string]string{}, gets: map[string]string{}}
	h.Server = httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.Close)
	return h
}

func (h *home) serve(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	var body struct {
		Name, Status string
		Data         struct {
			ErrorResponse struct{ Error struct{ Message string } }
		}
		Paths []struct{ Path string }
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	blob := strings.HasPrefix(r.URL.Path, "/blob/")
	if !blob {
		if r.Header.Get("Authorization") != "Bearer of the run" {
			http.Error(w, "who?", http.StatusUnauthorized)
			return
		}
		_ = json.Unmarshal(b, &body)
	}
	switch {
	case blob && r.Method == http.MethodPut:
		h.stored[r.URL.Path] = string(b)
		w.WriteHeader(http.StatusCreated)
	case blob:
		_, _ = io.WriteString(w, h.gets[r.URL.Path])
	case strings.HasSuffix(r.URL.Path, "/events"):
		h.said = append(h.said, strings.TrimSpace(body.Name[strings.LastIndexByte(body.Name, '.')+1:]+" "+body.Data.ErrorResponse.Error.Message))
	case r.Method == http.MethodPatch:
		h.said = append(h.said, body.Status)
	case strings.Contains(r.URL.Path, "/batch/metadata/"):
		places := map[string]map[string]string{}
		for _, p := range body.Paths {
			places[p.Path] = map[string]string{"contentUri": "https://x.blob.nowhere.invalid/artifacts/" + url.PathEscape(p.Path) + "?sig=s"}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"artifactContentInformation": places})
	default:
		status := "Running"
		if _, err := os.Stat(h.cancel); err == nil {
			status = "CancelRequested"
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"status": status})
	}
}

// localRun asks for a run and unpacks what the client gets into a copy of the project.
func localRun(t *testing.T, r *rig, h *home, files project, fields string) (dir string) {
	t.Helper()
	way := LocalWay{
		Service: h.URL, Token: workspace.NewSecret("of the run"), Expires: time.Now().Add(time.Hour),
		Sign: func(container, blob, verbs string) string { return "sig=" + verbs },
	}
	file, err := r.LocalRun(t.Context(), r.admin, r.ws, "exp_1", ScriptRun{Experiment: "exp", Definition: json.RawMessage(`{"target":"local",` + fields + `}`)}, way)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range z.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, f.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// invoke starts it as the client does.
func invoke(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", filepath.Join(dir, "azureml-setup", "Invocation.sh"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		text, _ := os.ReadFile(filepath.Join(dir, "azureml-setup", "run.log"))
		t.Fatalf("%v: %s%s", err, out, text)
	}
}

const userManaged = `"environment":{"name":"mine","python":{"userManagedDependencies":true,"interpreterPath":"python3"}}`

func TestALocalRunTellsHowItGoes(t *testing.T) {
	r, h := newRig(t), newHome(t)
	r.upload("tab/a b.csv")
	container, _ := Container(r.ws.ID, DefaultDatastore)
	h.gets["/blob/run/"+container+"/tab/a b.csv"] = "1,2"
	script := `import os, sys
print(open(os.path.join(sys.argv[1], "a b.csv")).read(), sys.argv[2], os.environ["AZUREML_RUN_ID"], os.environ["AZUREML_RUN_TOKEN"])
open(os.path.join(os.environ["out"], "made"), "w").write("of it")
open("outputs/grün.txt", "w").write("artifact")
`
	dir := localRun(t, r, h, project{"train.py": script}, userManaged+`,"script":"train.py","arguments":["DatasetConsumptionConfig:m","it's"],`+
		`"data":{"m":{"mechanism":"mount","dataLocation":{"dataset":{"id":"`+r.files("tab/")+`"}}}},"outputData":{"out":{"mechanism":"upload"}}`)
	invoke(t, dir)
	if got := fmt.Sprint(h.said); got != "[Preparing Start Completed]" {
		t.Errorf("the server was told %s", got)
	}
	for path, want := range map[string]string{
		"/blob/run/artifacts/user_logs/std_log.txt":          "1,2 it's exp_1 of the run\n",
		"/blob/run/artifacts/outputs/grün.txt":               "artifact",
		"/blob/run/" + container + "/dataset/exp_1/out/made": "of it",
	} {
		if h.stored[path] != want {
			t.Errorf("%s holds %q", path, h.stored[path])
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "azureml-setup", "run.json")); !os.IsNotExist(err) {
		t.Error("the credential lies there still")
	}
	run, err := r.Store.HistoryRun(t.Context(), r.ws.ID, "exp_1")
	if err != nil || run.Record.Target != "local" || run.Run.Job {
		t.Errorf("the history has %+v: %v", run, err)
	}
}

func TestALocalRunFailsWithItsScript(t *testing.T) {
	r, h := newRig(t), newHome(t)
	invoke(t, localRun(t, r, h, project{"train.py": "import sys; open('outputs/part', 'w').write('x'); sys.exit('no')"}, userManaged+`,"script":"train.py"`))
	if got := fmt.Sprint(h.said); got != "[Preparing Start Failed the script ended with exit code 1]" {
		t.Errorf("the server was told %s", got)
	}
	if log := h.stored["/blob/run/artifacts/user_logs/std_log.txt"]; !strings.HasPrefix(log, "no\n") || h.stored["/blob/run/artifacts/outputs/part"] != "x" {
		t.Errorf("stored is %v", h.stored)
	}
}

func TestALocalRunEndsWhenItIsCanceled(t *testing.T) {
	r, h := newRig(t), newHome(t)
	dir := localRun(t, r, h, nil, userManaged+`,"command":"touch started; sleep 600 & wait"`)
	h.cancel = filepath.Join(dir, "started")
	invoke(t, dir)
	if got := fmt.Sprint(h.said); got != "[Preparing Start Canceled]" {
		t.Errorf("the server was told %s", got)
	}
}

func TestTheScriptsForOtherSystemsAreRendered(t *testing.T) {
	s := localSpec{Interpreter: `C:\Program Files\100% py\python.exe`}
	_, bat, _, err := s.programs()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(bat), "for %%P in (\"C:\\Program Files\\100%% py\\python.exe\" \"python\" \"py\") do (\r\n") {
		t.Errorf("Invocation.bat is\n%s", bat)
	}
	if strings.Count(string(bat), "\n") != strings.Count(string(bat), "\r\n") {
		t.Error("Invocation.bat has lines that cmd.exe does not end")
	}
	s.Interpreter = "/opt/it's/python"
	sh, _, _, err := s.programs()
	if err != nil || !strings.Contains(string(sh), `for python in '/opt/it'\''s/python' python3 python; do`) {
		t.Errorf("Invocation.sh is\n%s", sh)
	}
	if err := exec.CommandContext(t.Context(), "/bin/sh", "-n", "-c", string(sh)).Run(); err != nil {
		t.Errorf("Invocation.sh is no script: %v", err)
	}
}

func TestALocalRunInDockerIsRefused(t *testing.T) {
	r := newRig(t)
	_, err := r.LocalRun(t.Context(), r.admin, r.ws, "x", ScriptRun{Experiment: "e", Definition: json.RawMessage(`{"target":"local","script":"a.py","docker":{"useDocker":true}}`)}, LocalWay{})
	r.refused(err, "UnsupportedDocker")
}
