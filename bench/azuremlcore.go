package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// azuremlCore submits with azureml-core and tells what its requests took.
//
//go:embed azuremlcore.py
var azuremlCore []byte

// v1Request is one request of the client. Times are seconds since 1970; Waited is what of it the client's thread did not
// spend on the processor, in seconds; Content is the bytes of an uploaded file.
type v1Request struct {
	Path                 string
	Began, Ended, Waited float64
	Content              int64
}

// v1Run is a run that the client submitted and saw ended. Times are seconds since 1970.
type v1Run struct {
	Accepted  string  // the run's id
	At        float64 // the answer to the submission had come
	Completed float64 // a client that does not poll had been told that the run is complete
	Began     float64 // the script reads config.json
	Loaded    float64 // the workspace is known, and Experiment.submit is called
	Ended     float64 // wait_for_completion returned
	Status    string
	Requests  []v1Request
	Log       string
	Values    int // of the metric, read back
}

// ours is what the client waited for the server and the target, in seconds: for the answers to its requests before the run
// was taken, from there until the run was complete, and for the answers after that. What it did meanwhile, and its sleeps
// between two looks, are its own. Requests that go beside each other are counted one by one, which is against us.
func (v v1Run) ours() float64 {
	sum := v.Completed - v.At
	for _, q := range v.Requests {
		if q.Began >= v.Began && q.Began < v.Ended && (q.Ended <= v.At || q.Ended > v.Completed) {
			sum += q.Waited
		}
	}
	return sum
}

func (v v1Run) content() (n int64) {
	for _, q := range v.Requests {
		n += q.Content
	}
	return n
}

// submitV1 runs the client in a process of its own, as a user's script is one. Python "prepared" has an environment with
// azureml-core made on the target; else it is a Python that is there.
func (r *rig) submitV1(ctx context.Context, folder, script, python string, metric ...string) (v v1Run, err error) {
	client := os.Getenv("MOORAGE_PYTHON_V1")
	if client == "" {
		return v, absent("MOORAGE_PYTHON_V1 names no Python with azureml-core: make setup installs one, and test/environment names it")
	}
	person := filepath.Join(r.dir, "person") // a home, where the client keeps its caches, with config.json
	program := filepath.Join(person, "submit.py")
	config, err := r.command(ctx, "config", "--data", r.server.data).Output()
	if err != nil {
		return v, fmt.Errorf("config: %w: %s", err, stderr(err))
	}
	if err := errors.Join(os.MkdirAll(person, 0o700), os.WriteFile(filepath.Join(person, "config.json"), config, 0o600), os.WriteFile(program, azuremlCore, 0o600)); err != nil {
		return v, err
	}
	// The proxy is asked for the name of uploads alone: everything else goes to the server directly.
	args := []string{"-c", `vars=$("$0" env --proxy --data "$1") && eval "$vars" && shift && exec "$@"`, r.moorage, r.server.data, client, program, "gpu", folder, script, python}
	cmd := exec.CommandContext(ctx, "sh", append(args, metric...)...)
	cmd.Dir = person
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !strings.EqualFold(name, "https_proxy") { // there is room for one
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+person, "TMPDIR="+person, "AZURE_CORE_COLLECT_TELEMETRY=no", "PYTHONWARNINGS=ignore")
	var noise bytes.Buffer
	cmd.Stderr = &noise
	out, err := cmd.StdoutPipe()
	if err != nil {
		return v, err
	}
	if err := cmd.Start(); err != nil {
		return v, err
	}
	followed := v.follow(ctx, r.server, bufio.NewReader(out))
	if err := errors.Join(cmd.Wait(), followed); err != nil {
		return v, fmt.Errorf("azureml-core: %w: %s", err, tail(noise.String()))
	}
	return v, nil
}

// follow reads what the client tells until it ends, and waits for the run beside it.
func (v *v1Run) follow(ctx context.Context, s *serverProcess, lines *bufio.Reader) error {
	type end struct {
		at  float64
		err error
	}
	var ended chan end
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) == 0 && err != nil {
			break
		}
		if err := json.Unmarshal(line, v); err != nil {
			return fmt.Errorf("%w: %s", err, line)
		}
		if ended == nil {
			ended = make(chan end, 1)
			go func(run string) {
				err := s.wait(ctx, run)
				ended <- end{float64(time.Now().UnixNano()) / 1e9, err}
			}(v.Accepted)
		}
	}
	if ended == nil {
		return errors.New("it submitted nothing")
	}
	e := <-ended
	v.Completed = e.at
	return e.err
}

// tail is the end of what a client printed, which has the reason.
func tail(s string) string { return s[max(0, len(s)-1500):] }

// v1Folder makes a folder with one script.
func (r *rig) v1Folder(name, script string) (string, error) {
	dir := filepath.Join(r.dir, name)
	return dir, errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "train.py"), []byte(script), 0o644)) // read by another login
}

func submitV1(ctx context.Context, r *rig, f *figure) error {
	folder, err := r.v1Folder("tiny", "print(1)\n")
	if err != nil {
		return err
	}
	python, _, _ := strings.Cut(r.hello, " ")
	file, err := r.job("tiny", "type: command\ncompute: azureml:gpu\ncode: ./tiny\ncommand: "+python+" train.py\n")
	if err != nil {
		return err
	}
	var gross, loading []float64
	err = f.ratio(10, "", func() (time.Duration, error) {
		v, err := r.submitV1(ctx, folder, "train.py", python)
		gross, loading = append(gross, (v.Ended-v.Began)*1000), append(loading, (v.Loaded-v.Began)*1000)
		return time.Duration(v.ours() * float64(time.Second)), err
	}, func() (time.Duration, error) { return r.submitFile(ctx, file) })
	f.Of = fmt.Sprintf("job create --stream of the same script. Ours is what the client waited for answers before the run was taken and after it was complete, by the clock less its own processor time, and all between; with the client's Python and polling it was %.0f ms, of which %.0f ms Workspace.from_config", median(gross), median(loading))
	return err
}

// logger logs 10,000 values as scripts do, and tells how long that took.
const logger = `import json, resource, time
from azureml.core import Run

def busy():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

run = Run.get_context(allow_offline=False)
began, before = time.monotonic(), busy()
for i in range(10_000):
    run.log("many", i)
run.flush()
print(json.dumps({"Wall": time.monotonic() - began, "Busy": busy() - before}), flush=True)
`

func metricsV1(ctx context.Context, r *rig, f *figure) error {
	const n = 10_000
	folder, err := r.v1Folder("metrics", logger)
	if err != nil {
		return err
	}
	if _, err := r.submitV1(ctx, folder, "train.py", "prepared", "many"); err != nil { // has the environment made
		return err
	}
	answered, asked, err := r.server.answering(ctx, "/metric/")
	if err != nil {
		return err
	}
	busy, err := processorTime(r.server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	v, err := r.submitV1(ctx, folder, "train.py", "prepared", "many")
	if err != nil {
		return err
	}
	if v.Values != n {
		return fmt.Errorf("%d values can be read back of %d", v.Values, n)
	}
	busyAfter, err := processorTime(r.server.cmd.Process.Pid)
	if err != nil {
		return err
	}
	answeredAfter, askedAfter, err := r.server.answering(ctx, "/metric/")
	if err != nil {
		return err
	}
	var client struct{ Wall, Busy float64 }
	_, line, _ := strings.Cut(v.Log, `{"Wall"`)
	line, _, _ = strings.Cut(line, "\n")
	if err := json.Unmarshal([]byte(`{"Wall"`+line), &client); err != nil {
		return fmt.Errorf("%w: %s", err, tail(v.Log))
	}
	answering, working := answeredAfter-answered, busyAfter-busy
	f.Value = n / max(client.Wall-client.Busy, answering, working)
	f.Note = fmt.Sprintf("gross %.0f/s: %.2f s by the clock, and the client's threads used %.2f s of processor time; the server answered %d requests in %.2f s and used %.2f s of processor time for all of the run. Net is by the largest of: the clock less the client's processor time, the answers, the server's processor time",
		n/client.Wall, client.Wall, client.Busy, askedAfter-asked, answering, working)
	return nil
}

// processorTime is what a process has used since its start, in seconds.
func processorTime(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(b), ") ") // behind the program's name, in which blanks may be
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("the kernel does not tell the processor time of a process: %q", b)
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100, errors.Join(err, err2) // Linux tells programs a hundredth of a second, whatever its own tick
}

// answering is the time in seconds that a server took for requests whose route has a word in it, since it started, and
// their number.
func (s *serverProcess) answering(ctx context.Context, word string) (seconds float64, requests int, err error) {
	b, err := s.call(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		at := strings.LastIndex(line, " ")
		if at < 0 || !strings.Contains(line, word) {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		switch {
		case err != nil:
			return 0, 0, fmt.Errorf("%w: %s", err, line)
		case strings.HasPrefix(line, "moorage_http_request_seconds_sum"):
			seconds += v
		case strings.HasPrefix(line, "moorage_http_request_seconds_count"):
			requests += int(v)
		}
	}
	return seconds, requests, nil
}

func unchangedV1(ctx context.Context, r *rig, f *figure) error {
	dir, err := r.sources()
	if err != nil {
		return err
	}
	// A folder of its own: the other figures edit theirs, and their jobs put it into the store.
	own := filepath.Join(r.dir, "sources-v1")
	if err := errors.Join(os.CopyFS(own, os.DirFS(dir)), os.WriteFile(filepath.Join(own, "train.py"), []byte("print(1)\n"), 0o644)); err != nil {
		return err
	}
	var size int64
	err = filepath.WalkDir(own, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	python, _, _ := strings.Cut(r.hello, " ")
	first, err := r.submitV1(ctx, own, "train.py", python)
	if err != nil {
		return err
	}
	if sent := first.content(); sent < size {
		return fmt.Errorf("the first submission sent %d bytes of %d: what is sent is not seen", sent, size)
	}
	second, err := r.submitV1(ctx, own, "train.py", python)
	f.Value = float64(second.content())
	f.Note = fmt.Sprintf("uploaded by a second process; the first had uploaded %.1f MB. By the clock %.1f s and %.1f s from Experiment.submit to complete", float64(first.content())/1e6, second.Ended-second.Loaded, first.Ended-first.Loaded)
	return err
}
