package all

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func commandJob(more map[string]any) map[string]any {
	p := map[string]any{"jobType": "Command", "command": "echo hi", "futureField": "kept", "description": nil, "tags": map[string]string{"a": "b"}}
	maps.Copy(p, more)
	return map[string]any{"properties": p}
}

// finish writes the end of a job, as the loop would have done a while ago.
func (s *server) finish(name string, state workspace.State, log string, failure *workspace.Problem) store.Job {
	s.t.Helper()
	job, err := s.store.Job(s.t.Context(), s.ws.ID, name)
	must(s.t, err)
	job.State, job.Phase, job.Started, job.Ended, job.Error, job.Due = state, store.Collected, job.Created-9000, job.Created-5000, failure, nil
	job.LogInline, job.LogSize = []byte(log), int64(len(log))
	must(s.t, s.store.Write(s.t.Context(), func(tx *store.Tx) error { return tx.ForceJob(s.t.Context(), job) }))
	return job
}

func TestJobKeepsWhatItsClientSentAndShowsWhatTheServerKnows(t *testing.T) {
	s := newServer(t)
	body := commandJob(map[string]any{"experimentName": "exp", "displayName": "d1", "outputs": map[string]any{"m": map[string]any{"jobOutputType": "uri_folder"}, "default": map[string]any{"jobOutputType": "uri_folder"}}})
	s.call("PUT", wsPath+"/jobs/j1?api-version=2025-01-01-preview", body).want(201)
	a := s.call("GET", wsPath+"/jobs/j1?api-version=2024-01-01-preview", nil).want(200)
	a.has(map[string]any{
		"name": "j1", "id": wsPath + "/jobs/j1", "type": "Microsoft.MachineLearningServices/workspaces/jobs", "properties.futureField": "kept", "properties.displayName": "d1",
		"properties.experimentName": "exp", "properties.status": "Queued", "properties.tags.a": "b", "properties.computeId": wsPath + "/computes/local",
		"properties.services.Studio.jobServiceType": "Studio", "properties.services.Tracking.jobServiceType": "Tracking", "properties.services.Local": nil,
		"properties.outputs.default": nil, "properties.outputs.m.jobOutputType": "uri_folder", "properties.isArchived": false,
	})
	if strings.Contains(a.Body.String(), "null") {
		t.Errorf("null in the answer: %s", a.Body)
	}
	if e, _ := a.get("properties.services.Studio.endpoint").(string); !strings.HasPrefix(e, "https://box.example:8443/") || !strings.Contains(e, "?") {
		t.Errorf("the Studio link %q cannot have &tid appended", e)
	}
	// The same again is not another job; what may change does.
	again := commandJob(map[string]any{"displayName": "d2", "isArchived": true})
	s.call("PUT", wsPath+"/jobs/j1", again).want(200).has(map[string]any{"properties.displayName": "d2", "properties.isArchived": true})
	s.call("GET", wsPath+"/jobs", nil).want(200).has(map[string]any{"value.0": nil})
	s.call("GET", wsPath+"/jobs?listViewType=All", nil).want(200).has(map[string]any{"value.0.name": "j1"})
}

func TestJobWithComputeLocalKeepsThatProperty(t *testing.T) {
	s := newServer(t)
	local := map[string]any{"resources": map[string]any{"properties": map[string]any{"IsLocal": true}}, "environmentVariables": map[string]string{"AZUREML_COMPUTE_USE_COMMON_RUNTIME": "true"}}
	s.call("PUT", wsPath+"/jobs/j1", commandJob(local)).want(201).has(map[string]any{"properties.computeId": nil, "properties.resources.properties.IsLocal": true})
}

func TestJobsThatCannotRunAreRefusedByName(t *testing.T) {
	s := newServer(t)
	for kind, code := range map[string]string{"Sweep": "UnsupportedJobType", "Pipeline": "UnsupportedJobType", "Spark": "UnsupportedJobType", "AutoML": "UnsupportedJobType"} {
		a := s.call("PUT", wsPath+"/jobs/j1", map[string]any{"properties": map[string]any{"jobType": kind}}).want(501).has(map[string]any{"error.code": code})
		if m, _ := a.get("error.message").(string); !strings.Contains(m, kind) {
			t.Errorf("%s is not named: %s", kind, m)
		}
	}
	root := strings.Repeat("a", 64)
	s.call("PUT", wsPath+"/jobs/j2", commandJob(map[string]any{"codeId": wsPath + "/codes/" + root + "/versions/1"})).want(409).has(map[string]any{"error.code": "SnapshotMissing"})
	s.call("PUT", wsPath+"/jobs/j3", commandJob(map[string]any{"computeId": wsPath + "/computes/nothing"})).want(404)
	s.call("PUT", wsPath+"/jobs/a%2Fb", commandJob(nil)).want(400).has(map[string]any{"error.code": "InvalidName"})
}

func TestJobsPageNewestFirst(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"j1", "j2", "j3"} {
		s.call("PUT", wsPath+"/jobs/"+name, commandJob(nil)).want(201)
	}
	first := s.call("GET", wsPath+"/jobs?$top=2", nil).want(200)
	first.has(map[string]any{"value.0.name": "j3", "value.1.name": "j2", "value.2": nil})
	s.call("GET", s.path(first.get("nextLink")), nil).want(200).has(map[string]any{"value.0.name": "j1", "value.1": nil, "nextLink": nil})
	native := s.call("GET", "/native/v1"+wsPath+"/jobs?limit=2", nil).want(200)
	native.has(map[string]any{"jobs.0.name": "j3", "jobs.0.compute": "local", "jobs.0.state": "Queued"})
	s.call("GET", "/native/v1"+wsPath+"/jobs?limit=2&after="+native.get("next").(string), nil).want(200).has(map[string]any{"jobs.0.name": "j1", "jobs.1": nil, "next": ""})
	s.call("GET", "/native/v1"+wsPath+"/jobs?state=Completed", nil).want(200).has(map[string]any{"jobs.0": nil})
	s.call("GET", "/native/v1"+wsPath+"/jobs?state=Sleeping", nil).want(400).has(map[string]any{"error.code": "InvalidState"})
}

func TestJobKeepsTheNameOfAComputeThatWasDetached(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(nil)).want(201)
	s.finish("j1", workspace.Completed, "", nil)
	s.call("DELETE", wsPath+"/computes/local?underlyingResourceAction=Detach", nil).want(200)
	native := "/native/v1" + wsPath + "/jobs"
	s.call("GET", native+"/j1", nil).want(200).has(map[string]any{"compute": "local"})
	s.call("GET", native, nil).want(200).has(map[string]any{"jobs.0.compute": "local"})
	s.call("GET", wsPath+"/jobs/j1", nil).want(200).has(map[string]any{"properties.computeId": wsPath + "/computes/local"})
	s.call("GET", wsPath+"/jobs", nil).want(200).has(map[string]any{"value.0.properties.computeId": wsPath + "/computes/local"})
}

func TestListsTellWhyAJobWaits(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"j1", "j2"} {
		s.call("PUT", wsPath+"/jobs/"+name, commandJob(nil)).want(201)
	}
	s.call("GET", "/native/v1"+wsPath+"/jobs", nil).want(200).has(map[string]any{
		"jobs.0.name": "j2", "jobs.0.reason.code": "WaitsForSlot", "jobs.0.position": 2.0, "jobs.1.reason.code": "WaitsForSlot", "jobs.1.position": 1.0,
	})
	reason, _ := s.call("GET", wsPath+"/jobs", nil).want(200).get("value.0.properties.properties").(map[string]any)
	if reason["moorage.reason"] != "waits for a slot on compute local" {
		t.Errorf("ARM's list says %v", reason)
	}
}

func TestInstanceTypeOfAJobGivesItTheGPUsOfThatType(t *testing.T) {
	s := newServer(t)
	types := map[string]any{"settings": map[string]any{"instance_types": map[string]any{"gpu1": map[string]any{"gpus": 1}, "gpu2": map[string]any{"gpus": 2}}}}
	s.call("PUT", wsPath+"/computes/vm1", vm("ssh://10.0.0.5", types)).want(201).has(map[string]any{"properties.properties.settings.instance_types.gpu2.gpus": 2.0})
	job := func(instanceType string) map[string]any {
		return commandJob(map[string]any{"computeId": wsPath + "/computes/vm1", "resources": map[string]any{"instanceCount": 1, "instanceType": instanceType}})
	}
	s.call("PUT", wsPath+"/jobs/j1", job("gpu2")).want(201).has(map[string]any{"properties.resources.instanceType": "gpu2"})
	row, err := s.store.Job(t.Context(), s.ws.ID, "j1")
	must(t, err)
	var spec workspace.JobSpec
	must(t, json.Unmarshal(row.Spec, &spec))
	if row.GPUs != 2 || spec.GPUs != 2 {
		t.Errorf("the job gets %d GPUs, and asks the target for %d", row.GPUs, spec.GPUs)
	}
	s.call("PUT", wsPath+"/jobs/j2", job("gpu9")).want(400).has(map[string]any{
		"error.code": "UnknownInstanceType", "error.message": `compute "vm1" has no instance type "gpu9". Take one of: gpu1, gpu2`,
	})
	bad := map[string]any{"settings": map[string]any{"instance_types": []string{"gpu1"}}}
	s.call("PUT", wsPath+"/computes/vm2", vm("ssh://10.0.0.6", bad)).want(400).has(map[string]any{"error.code": "InvalidInstanceTypes"})
}

func TestCancelIsAcceptedAndItsPlaceTellsWhenItIsDone(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(nil)).want(201)
	a := s.call("POST", wsPath+"/jobs/j1/cancel", nil).want(202)
	if a.Header().Get("Retry-After") != "1" {
		t.Error("Retry-After is missing: the client would wait for half a minute")
	}
	job, err := s.store.Job(t.Context(), s.ws.ID, "j1")
	must(t, err)
	want := http.StatusAccepted
	if job.State.Terminal() {
		want = http.StatusOK
	}
	s.call("GET", s.path(a.Header().Get("Location")), nil).want(want)
	s.finish("j1", workspace.Canceled, "", nil)
	s.call("GET", s.path(a.Header().Get("Location")), nil).want(200)
	s.call("POST", wsPath+"/jobs/j1/cancel", nil).want(202)
	s.call("POST", wsPath+"/jobs/nothing/cancel", nil).want(404)
}

func TestHistoryGivesASignedLogThatNeedsNoToken(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(map[string]any{"computeId": wsPath + "/computes/local"})).want(201)
	s.call("PUT", wsPath+"/jobs/j2", commandJob(nil)).want(201)
	s.finish("j1", workspace.Failed, "line 1\nline 2\n", &workspace.Problem{Code: "CommandFailed", Message: "the command ended with exit code 7", Mend: "look at the log"})
	history := "/history/v1.0" + wsPath
	a := s.call("GET", history+"/runs/j1/details", nil).want(200)
	a.has(map[string]any{"runId": "j1", "status": "Failed", "target": "local", "error.error.code": "CommandFailed", "error.error.message": "the command ended with exit code 7. Look at the log"})
	s.finish("j2", workspace.Completed, "", nil)
	s.call("GET", history+"/runs/j2/details", nil).want(200).has(map[string]any{"status": "Completed"})
	quick := s.finish("j2", workspace.Completed, "", nil)
	quick.Ended = time.Now().UnixMilli()
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error { return tx.ForceJob(t.Context(), quick) }))
	s.call("GET", history+"/runs/j2/details", nil).want(200).has(map[string]any{"status": "Finalizing"}) // or the client prints no log
	s.call("GET", wsPath+"/jobs/j2", nil).want(200).has(map[string]any{"properties.status": "Completed"})
	log := s.path(a.get("logFiles").(map[string]any)["user_logs/std_log.txt"])
	got := s.call("GET", log, nil, as("")).want(200)
	if got.Body.String() != "line 1\nline 2\n" {
		t.Errorf("the log is %q", got.Body)
	}
	s.call("GET", strings.Replace(log, "/runs/j1/", "/runs/j2/", 1), nil, as("")).want(401)
	part := s.call("GET", log, nil, as(""), header("Range", "bytes=7-")).want(206)
	if part.Body.String() != "line 2\n" || part.Header().Get("Content-Range") != "bytes 7-13/*" {
		t.Errorf("from 7: %q, %s", part.Body, part.Header().Get("Content-Range"))
	}
	if part = s.call("GET", log, nil, as(""), header("Range", "bytes=5-7")).want(206); part.Body.String() != "1\nl" {
		t.Errorf("5 to 7: %q", part.Body)
	}
	s.call("GET", log, nil, as(""), header("Range", "bytes=14-")).want(416)
	s.call("GET", history+"/runs/j1/children", nil).want(200).has(map[string]any{"value.0": nil})
	s.call("POST", history+"/rundata", map[string]string{"runId": "j1"}).want(200).has(map[string]any{"runMetadata.runId": "j1", "runMetadata.status": "Failed"})
	s.call("GET", history+"/runs/nothing/details", nil).want(404)
	s.call("PATCH", history+"/experiments/Default/runs/j1", map[string]any{"displayName": "new", "tags": map[string]any{"n": 1}, "status": "Completed"}).want(200)
	s.call("GET", wsPath+"/jobs/j1", nil).want(200).has(map[string]any{"properties.displayName": "new", "properties.tags.n": "1", "properties.tags.a": "b", "properties.status": "Failed"})
}

func TestOutputsResolveToTheirDatastore(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(map[string]any{"outputs": map[string]any{"model": map[string]any{"jobOutputType": "uri_folder"}}})).want(201)
	a := s.call("POST", "/history/v1.0"+wsPath+"/rundata", map[string]string{"runId": "j1"}).want(200)
	id := a.get("runMetadata.outputs.model.assetId").(string)
	uris := s.call("POST", "/data/v1.0"+wsPath+"/dataversion/batchGetResolvedUris", map[string]any{"values": []string{id, "azureml://jobs/none/outputs/x", "nonsense"}}).want(200)
	values := uris.get("values").(map[string]any)
	if len(values) != 1 || !strings.HasSuffix(values[id].(map[string]any)["uri"].(string), "/datastores/workspaceblobstore/paths/azureml/j1/model/") {
		t.Errorf("values = %v", values)
	}
}

func TestNativeLogWaitAndEvents(t *testing.T) {
	s := newServer(t)
	base := "/native/v1" + wsPath + "/jobs/"
	s.call("PUT", wsPath+"/jobs/j1", commandJob(nil)).want(201)
	began := time.Now()
	s.call("GET", base+"j1/wait?timeout=50ms", nil).want(200).has(map[string]any{"state": "Queued", "reason.code": "WaitsForSlot"})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("wait took %v", took)
	}
	s.finish("j1", workspace.Completed, "hello\n", nil)
	s.call("GET", base+"j1/wait?timeout=60s", nil).want(200).has(map[string]any{"state": "Completed", "log_size": 6.0, "reason": nil})
	a := s.call("GET", base+"j1/events", nil).want(200)
	if !strings.HasPrefix(a.Body.String(), "event: state\n") || strings.Count(a.Body.String(), "event: state") != 1 || a.Header().Get("Content-Type") != "text/event-stream" {
		t.Errorf("events: %s", a.Body)
	}
	log := s.call("GET", base+"j1/log?from=2&follow=1", nil).want(200)
	if log.Body.String() != "llo\n" || log.Header().Get("X-Moorage-Log-From") != "2" {
		t.Errorf("log from 2: %q", log.Body)
	}
	s.call("GET", base+"j1/log?from=-1", nil).want(400)
	s.call("GET", base+"j1/log?stream=secret", nil).want(400)
	s.call("GET", base+"nothing/log", nil).want(404)
	s.call("POST", base+"j1/abandon", nil).want(200).has(map[string]any{"state": "Completed"})
}

func TestFilesOfAJobHaveSignedURLsForThemAlone(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(nil)).want(201)
	job, err := s.store.Job(t.Context(), s.ws.ID, "j1")
	must(t, err)
	container := "azureml-artifacts-" + s.ws.ID
	for _, name := range []string{"outputs/größe 1%.txt", "outputs/other.txt"} {
		s.call("PUT", "/blob/acct/"+container+"/ExperimentRun/dcid.j1/"+strings.ReplaceAll(strings.ReplaceAll(name, "%", "%25"), " ", "%20"), name, header("x-ms-blob-type", "BlockBlob")).want(201)
	}
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutJobFile(t.Context(), store.JobFile{JobID: job.ID, Output: "outputs", Path: "größe 1%.txt", Size: 10, Place: "c/" + container + "/ExperimentRun/dcid.j1/outputs/größe 1%.txt"})
	}))
	a := s.call("GET", "/native/v1"+wsPath+"/jobs/j1/files", nil).want(200)
	a.has(map[string]any{"files.0.output": "outputs", "files.0.path": "größe 1%.txt"})
	link := s.path(a.get("files.0.url"))
	if got := s.call("GET", link, nil, as("")).want(200); got.Body.String() != "outputs/größe 1%.txt" {
		t.Errorf("the file is %q", got.Body)
	}
	path, query, _ := strings.Cut(link, "?")
	s.call("GET", path[:strings.LastIndex(path, "/")]+"/other.txt?"+query, nil, as("")).want(401)
	s.call("DELETE", link, nil, as("")).want(403)
}
