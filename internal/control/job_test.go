package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestJobIsAcceptedOnce(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	first := r.submitted("job")
	again, created, err := r.SubmitJob(t.Context(), r.admin, r.ws, "job", json.RawMessage(`{"jobType":"Command","command":"another"}`))
	if err != nil || created || again.ID != first.ID {
		t.Errorf("again: %v, created %v, %v", again.ID == first.ID, created, err)
	}
	if run, err := r.Store.Run(t.Context(), r.ws.ID, "job"); err != nil || run.Status != tracking.Scheduled {
		t.Errorf("run %+v, %v", run, err)
	}
	second := r.submitted("second")
	for i, job := range []store.Job{first, second} {
		got, err := r.Job(t.Context(), r.admin, r.ws, job.Name)
		if err != nil || got.Position != i+1 || got.Reason == nil {
			t.Errorf("%s: position %d, reason %v, %v", job.Name, got.Position, got.Reason, err)
		}
	}
}

func TestJobsThatCannotRunAreRefusedAtOnce(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	for _, tc := range []struct{ name, properties, code string }{
		{"no such compute", `{"jobType":"Command","command":"x","computeId":"azureml:none"}`, "ResourceNotFound"},
		{"type", `{"jobType":"Sweep"}`, "UnsupportedJobType"},
		{"no command", `{"jobType":"Command","command":" "}`, "MissingCommand"},
		{"not JSON", `[`, "InvalidJob"},
		{"nodes", `{"jobType":"Command","command":"x","resources":{"instanceCount":2}}`, "TooManyNodes"},
		{"gpus", `{"jobType":"Command","command":"x","resources":{"properties":{"gpus":-1}}}`, "InvalidGPUs"},
		{"reference", `{"jobType":"Command","command":"${{inputs.x}}"}`, "UnknownReference"},
		{"timeout", `{"jobType":"Command","command":"x","limits":{"timeout":"soon"}}`, "InvalidTimeout"},
		{"variable", `{"jobType":"Command","command":"x","environmentVariables":{"A=B":"c"}}`, "InvalidVariable"},
		{"mode", `{"jobType":"Command","command":"x","inputs":{"a":{"jobInputType":"uri_file","uri":"https://h/x","mode":"teleport"}}}`, "UnsupportedMode"},
		{"input", `{"jobType":"Command","command":"x","inputs":{"a":{"jobInputType":"uri_file","uri":"ftp://h/x"}}}`, "UnsupportedInput"},
		{"datastore", `{"jobType":"Command","command":"x","inputs":{"a":{"jobInputType":"uri_file","uri":"azureml://datastores/none/paths/x"}}}`, "UnknownDatastore"},
		{"other job", `{"jobType":"Command","command":"x","inputs":{"a":{"jobInputType":"uri_folder","uri":"azureml://jobs/none/outputs/o"}}}`, "ResourceNotFound"},
		{"data asset", `{"jobType":"Command","command":"x","inputs":{"a":{"jobInputType":"uri_folder","uri":"azureml:none:1"}}}`, "ResourceNotFound"},
		{"output", `{"jobType":"Command","command":"x","outputs":{"a":{"jobOutputType":"uri_folder","uri":"s3://b"}}}`, "UnsupportedOutput"},
		{"environment", `{"jobType":"Command","command":"x","environmentId":"azureml:none:1"}`, "ResourceNotFound"},
		{"snapshot", `{"jobType":"Command","command":"x","inputs":{"a":{"jobInputType":"uri_folder","uri":"moorage://snapshots/` + strings.Repeat("0", 64) + `"}}}`, "SnapshotMissing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := r.SubmitJob(t.Context(), r.admin, r.ws, "job", json.RawMessage(tc.properties))
			r.refused(err, tc.code)
		})
	}
	_, _, err := r.SubmitJob(t.Context(), r.admin, r.ws, "../job", json.RawMessage(`{}`))
	r.refused(err, "InvalidName")
	if jobs, err := r.Jobs(t.Context(), r.admin, r.ws, store.JobFilter{IncludeArchived: true}, store.Page{}); err != nil || len(jobs) != 0 {
		t.Errorf("%d jobs were kept, %v", len(jobs), err)
	}
}

func TestEveryFormOfInputIsFound(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	tree := snapshot.Tree{}
	root, err := r.CAS.PutTree(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	body := json.RawMessage(`{"properties":{"dataType":"uri_folder","dataUri":"azureml://datastores/workspaceblobstore/paths/data/v1"}}`)
	if _, _, err := r.PutAsset(t.Context(), r.admin, r.ws, "data", "digits", "1", body); err != nil {
		t.Fatal(err)
	}
	r.submitted("earlier", `"outputs":{"model":{"jobOutputType":"uri_folder"}}`)
	container, err := Container(r.ws.ID, DefaultDatastore)
	if err != nil {
		t.Fatal(err)
	}
	home := "c/" + container
	for i, tc := range []struct {
		uri  string
		want workspace.InputSpec
	}{
		{"azureml://datastores/workspaceblobstore/paths/a/b", workspace.InputSpec{Prefix: home + "/a/b"}},
		{"azureml://subscriptions/s/resourcegroups/g/workspaces/main/datastores/workspaceblobstore/paths/a/", workspace.InputSpec{Prefix: home + "/a"}},
		{"azureml://datastores/workspaceblobstore/paths/../../x", workspace.InputSpec{Prefix: home + "/x"}},
		{"azureml://jobs/earlier/outputs/model", workspace.InputSpec{Prefix: home + "/azureml/earlier/model"}},
		{"azureml://jobs/earlier/outputs/model/paths/best.pt", workspace.InputSpec{Prefix: home + "/azureml/earlier/model/best.pt"}},
		{"azureml:digits:1", workspace.InputSpec{Prefix: home + "/data/v1"}},
		{"azureml:digits@latest", workspace.InputSpec{Prefix: home + "/data/v1"}},
		{r.ws.Path() + "/data/digits/versions/1", workspace.InputSpec{Prefix: home + "/data/v1"}},
		{"https://example.org/x.csv", workspace.InputSpec{URL: "https://example.org/x.csv"}},
		{"https://localhost:8443/blob/acct/" + container + "/up/x?sig=y", workspace.InputSpec{Prefix: home + "/up/x"}},
		{"moorage://snapshots/" + string(root), workspace.InputSpec{Tree: string(root)}},
	} {
		t.Run(tc.uri, func(t *testing.T) {
			for _, mode := range []string{"", "Download", "ReadOnlyMount", "ro_mount"} {
				spec, err := r.inputs(t.Context(), r.ws, &commandJob{Inputs: map[string]jobInput{"in": {Type: "uri_folder", URI: tc.uri, Mode: mode}}})
				want := tc.want
				want.Name, want.Folder, want.Link = "in", true, strings.HasSuffix(strings.ToLower(mode), "mount")
				if err != nil || len(spec) != 1 || spec[0] != want {
					t.Errorf("case %d, mode %q: %+v, %v, wanted %+v", i, mode, spec, err, want)
				}
			}
		})
	}
}

func TestDataAssetsMayNameEachOtherButNotInACircle(t *testing.T) {
	r := newRig(t)
	for name, uri := range map[string]string{"digits": "azureml://datastores/workspaceblobstore/paths/d", "alias": "azureml:digits:1", "itself": "azureml:itself:1"} {
		body := json.RawMessage(`{"properties":{"dataType":"uri_folder","dataUri":"` + uri + `"}}`)
		if _, _, err := r.PutAsset(t.Context(), r.admin, r.ws, "data", name, "1", body); err != nil {
			t.Fatal(err)
		}
	}
	if spec, err := r.input(t.Context(), r.ws, "in", jobInput{URI: "azureml:alias:1"}); err != nil || !strings.HasSuffix(spec.Prefix, "/d") {
		t.Errorf("%+v, %v", spec, err)
	}
	_, err := r.input(t.Context(), r.ws, "in", jobInput{URI: "azureml:itself:1"})
	r.refused(err, "InvalidData")
}

func TestWaitIsWokenAtOnce(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	job := r.submitted("job")
	if got, err := r.WaitJob(t.Context(), r.admin, r.ws, "job", 0); err != nil || got.ID != job.ID {
		t.Errorf("no time to wait: %v, %v", got.ID, err)
	}
	if got, err := r.WaitJob(t.Context(), r.admin, r.ws, "job", time.Millisecond); err != nil || got.State.Terminal() {
		t.Errorf("time is up: %s, %v", got.State, err)
	}
	const many = 50
	woken := make(chan time.Duration, many)
	var ended time.Time
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			got, err := r.WaitJob(t.Context(), r.admin, r.ws, "job", time.Minute)
			if err != nil || got.State != workspace.Canceled {
				t.Errorf("waited: %s, %v", got.State, err)
			}
			woken <- time.Since(ended)
		})
	}
	r.eventually("all wait", func() bool {
		r.watchers.mu.Lock()
		defer r.watchers.mu.Unlock()
		return len(r.watchers.jobs[job.ID]) == many
	})
	ended = time.Now()
	if err := r.CancelJob(t.Context(), r.admin, r.ws, "job"); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	close(woken)
	for d := range woken {
		if d > look/2 {
			t.Errorf("one was woken after %s", d)
		}
	}
	if n := len(r.watchers.jobs); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
	_, err := r.WaitJob(t.Context(), r.admin, r.ws, "none", time.Second)
	r.refused(err, "ResourceNotFound")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.submitted("other")
	if _, err := r.WaitJob(ctx, r.admin, r.ws, "other", time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who left got %v", err)
	}
}

func TestAbandonDoesNotUndoAnEnd(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	r.force(r.submitted("done"), func(j *store.Job) { j.State, j.Phase, j.Due = workspace.Completed, store.Collected, nil })
	if err := r.AbandonJob(t.Context(), r.admin, r.ws, "done"); err != nil {
		t.Fatal(err)
	}
	if job, err := r.Job(t.Context(), r.admin, r.ws, "done"); err != nil || job.State != workspace.Completed {
		t.Errorf("it is %s, %v", job.State, err)
	}
	stuck := r.force(r.submitted("stuck"), func(j *store.Job) { j.State, j.Phase = workspace.Running, store.Submitted })
	if _, err := (tracking.JobLog{Blob: r.Blob}).Append(t.Context(), stuck.ID, 0, strings.NewReader("a piece\n")); err != nil {
		t.Fatal(err)
	}
	if err := r.AbandonJob(t.Context(), r.admin, r.ws, "stuck"); err != nil {
		t.Fatal(err)
	}
	job, err := r.Job(t.Context(), r.admin, r.ws, "stuck")
	if err != nil || job.State != workspace.Failed || job.Error.Code != "Abandoned" || job.Due != nil {
		t.Errorf("%+v, %v", job, err)
	}
	if got := r.log("stuck", "", 0, false); got != "a piece\n" {
		t.Errorf("log %q", got)
	}
}

func (r *rig) log(name, stream string, from int64, follow bool) string {
	r.Helper()
	var b bytes.Buffer
	next, err := r.JobLog(r.Context(), r.admin, r.ws, name, stream, from, follow, &b)
	if err != nil {
		r.Fatal(err)
	}
	if next != max(from, 0)+int64(b.Len()) {
		r.Errorf("log of %s from %d: %d bytes and then %d", name, from, b.Len(), next)
	}
	return b.String()
}

func TestLogIsReadWhereverItIs(t *testing.T) {
	r := newRig(t)
	c := r.attached("gpu", "fake://m1")
	m := r.world.Machine("m1")
	job := r.submitted("job")
	if got := r.log("job", "", 0, false); got != "" {
		t.Errorf("before it met the target: %q", got)
	}
	key := compute.Key{Server: "srv", Compute: c.ID, Job: job.ID, Attempt: 1}
	target, release, err := r.Fleet.Use(t.Context(), c.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := target.Submit(t.Context(), compute.Job{Key: key, Epoch: 1, Command: "echo one\nwait go\necho two"}); err != nil {
		t.Fatal(err)
	}
	r.force(job, func(j *store.Job) { j.Phase, j.State = store.Submitted, workspace.Running })
	r.eventually("a line at the target", func() bool { return r.log("job", "", 0, false) == "one\n" })
	if got := r.log("job", "", 2, false); got != "e\n" {
		t.Errorf("from an offset: %q", got)
	}
	// Followed over an outage of the target, to the end.
	read, write := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := r.JobLog(t.Context(), r.admin, r.ws, "job", "", 0, true, write)
		_ = write.CloseWithError(err)
	})
	first := make([]byte, 4)
	if _, err := io.ReadFull(read, first); err != nil || string(first) != "one\n" {
		t.Fatalf("followed %q, %v", first, err)
	}
	m.Down(true)
	m.Signal("go")
	m.Down(false)
	rest, err := io.ReadAll(read)
	if err != nil || string(rest) != "two\n" {
		t.Errorf("followed on: %q, %v", rest, err)
	}
	wg.Wait()
	// At home: a short log in the row, a long one as a blob, and the making of the environment.
	m.FailAlways(fake.Logs, errors.New("the target is not to be asked any more"))
	done := r.force(job, func(j *store.Job) {
		j.Phase, j.State, j.Due, j.LogInline, j.LogSize = store.Collected, workspace.Completed, nil, []byte("one\ntwo\n"), 8
	})
	for from, want := range map[int64]string{-5: "one\ntwo\n", 0: "one\ntwo\n", 4: "two\n", 8: "", 100: ""} {
		var b bytes.Buffer
		if _, err := r.JobLog(t.Context(), r.admin, r.ws, "job", "", from, true, &b); err != nil || b.String() != want {
			t.Errorf("from %d: %q, %v", from, b.String(), err)
		}
	}
	if got := r.log("job", "prepare", 0, false); got != "" {
		t.Errorf("the making of nothing: %q", got)
	}
	log := tracking.JobLog{Blob: r.Blob}
	if err := log.SealPreparing(t.Context(), done, strings.NewReader("no such package\n")); err != nil {
		t.Fatal(err)
	}
	if got := r.log("job", "prepare", 3, false); got != "such package\n" {
		t.Errorf("the making of the environment: %q", got)
	}
	long := r.force(r.submitted("long"), func(j *store.Job) {
		j.Phase, j.State, j.Due, j.LogSize = store.Collected, workspace.Completed, nil, 9000
	})
	if _, err := log.Seal(t.Context(), long, strings.NewReader(strings.Repeat("x", 9000))); err != nil {
		t.Fatal(err)
	}
	if got := r.log("long", "", 8990, true); got != strings.Repeat("x", 10) {
		t.Errorf("the end of a long log: %q", got)
	}
	_, err = r.JobLog(t.Context(), r.admin, r.ws, "none", "", 0, false, io.Discard)
	r.refused(err, "ResourceNotFound")
}

func TestNothingNewIsTakenWhenTheDiskIsLow(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	low := &workspace.Problem{Class: workspace.Unavailable, Code: "DiskLow", Message: "the disk is nearly full", Mend: "make room"}
	r.Room = func() error { return low }
	_, err := r.submit("job")
	r.refused(err, "DiskLow")
	_, err = r.attach("two", "fake://m2")
	r.refused(err, "DiskLow")
	if _, err := r.Blob.Put(t.Context(), "c/output", strings.NewReader("x"), 1, blob.Meta{}); err != nil {
		t.Errorf("outputs of running jobs: %v", err)
	}
}
