package all

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/authn"
)

const (
	contentPath   = "/content/v2.0" + wsPath + "/snapshots"
	executionPath = "/execution/v1.0" + wsPath + "/experiments/exp"
	snapshotID    = "2f6b1b0e-9f0c-4a53-8f6e-0f7f3d0f3c11"
)

// putSnapshot uploads train.py as azureml-core does, and puts a snapshot of it.
func (s *server) putSnapshot(id string) {
	s.t.Helper()
	node := s.call("POST", contentPath+"/getblob", map[string]any{"FileNames": []string{"train.py"}}).want(200)
	node.has(map[string]any{"fileNodes.0.fullName": "train.py"})
	place := node.get("fileNodes.0.blobUri").(string)
	if !strings.HasPrefix(place, "https://moorage.blob.localhost:8443/") {
		s.t.Fatalf("the client cannot upload to %s", place)
	}
	s.call("PUT", place+"&timeout=30", "print(1)", as(""), header("x-ms-blob-type", "BlockBlob"), header("x-ms-version", "2022-11-02")).want(201)
	s.call("POST", contentPath+"/"+id, map[string]any{
		"ParentSnapshotId": "00000000-0000-0000-0000-000000000000", "Tags": nil, "Properties": map[string]any{},
		"DirTreeNode": map[string]any{"name": "", "type": "Directory", "hash": "h", "timestamp": "2026-11-24T08:00:00", "children": map[string]any{
			"train.py": map[string]any{"name": "train.py", "type": "File", "hash": "f", "timestamp": "2026-11-24T08:00:00", "children": map[string]any{}},
		}},
		"FileRevisionList": map[string]any{"FileNodes": []any{map[string]any{"FullName": "train.py", "BlobUri": place, "FileSize": 8}}},
	}).want(200).has(map[string]any{"id": id})
}

func TestAzuremlCoreSubmitsARun(t *testing.T) {
	s := newServer(t)
	latest := "/content/v1.0" + wsPath + "/snapshots/latest/metadata"
	s.call("GET", latest, nil).want(200).has(map[string]any{"id": "00000000-0000-0000-0000-000000000000", "root.type": "Directory"})
	s.putSnapshot(snapshotID)
	s.call("GET", latest, nil).want(200).has(map[string]any{"id": snapshotID, "root.hash": "h"})

	run := map[string]any{"TargetDetails": nil, "SnapshotId": snapshotID, "Configuration": map[string]any{"target": "local", "script": "train.py", "arguments": []any{}}}
	s.call("POST", executionPath+"/snapshotrun?runId=exp_1_ab", run).want(200).has(map[string]any{"runId": "exp_1_ab"})
	s.call("POST", executionPath+"/snapshotrun?runId=exp_1_ab", run).want(200).has(map[string]any{"runId": "exp_1_ab"})
	s.call("GET", wsPath+"/jobs/exp_1_ab", nil).want(200).has(map[string]any{"properties.command": "python train.py", "properties.experimentName": "exp"})

	link := s.call("POST", contentPath+"/"+snapshotID+"/zip", nil).want(200).get("zipSasUri")
	body := s.call("GET", s.path(link), nil, as("")).want(200).Body.Bytes()
	z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	must(t, err)
	if len(z.File) != 1 || z.File[0].Name != "train.py" {
		t.Errorf("the snapshot is restored as %v", z.File)
	}
	other := strings.Replace(s.path(link), snapshotID, "00000000-0000-0000-0000-000000000000", 1)
	s.call("GET", other, nil, as("")).want(401)
}

func TestARunThatCannotBeIsRefusedInTheClientsShape(t *testing.T) {
	s := newServer(t)
	s.call("POST", executionPath+"/snapshotrun?runId=exp_1", map[string]any{"SnapshotId": snapshotID, "Configuration": map[string]any{"target": "local", "script": "a.py"}}).
		want(400).has(map[string]any{"error.code": "SnapshotNotFound", "error.innerError.code": "SnapshotNotFound"})
	s.call("POST", executionPath+"/snapshotrun?runId=", map[string]any{"Configuration": map[string]any{"target": "local", "script": "a.py"}}).want(400)
	s.call("POST", executionPath+"/snapshotrun?runId=x", "{").want(400)
	s.call("POST", executionPath+"/snapshotrun?runId=x", map[string]any{}).want(400)
	s.call("POST", executionPath+"/startrun?runId=x", nil).want(501)
	s.call("POST", executionPath+"/localrun?runId=x", "no form").want(400).has(map[string]any{"error.code": "InvalidForm"})
	s.call("POST", contentPath+"/"+snapshotID, map[string]any{}).want(400)
	s.call("POST", contentPath+"/"+snapshotID, map[string]any{"ParentSnapshotId": "gone", "DirTreeNode": map[string]any{"type": "Directory"}}).
		want(400).has(map[string]any{"error.code": "SnapshotNotFound"})
	s.call("POST", contentPath+"/"+snapshotID, map[string]any{
		"DirTreeNode":      map[string]any{"type": "Directory", "children": map[string]any{"a": map[string]any{"type": "File"}}},
		"FileRevisionList": map[string]any{"FileNodes": []any{map[string]any{"FullName": "a", "BlobUri": "https://elsewhere/../code-/1"}}},
	}).want(400).has(map[string]any{"error.code": "InvalidSnapshot"})
	s.call("POST", contentPath+"/gone/zip", nil).want(400)
}

// localForm is what azureml-core sends for a run on its own computer.
func localForm(t *testing.T, definition map[string]any) (body string, contentType option) {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	part, err := form.CreateFormFile("files", "definition.json")
	must(t, err)
	must(t, json.NewEncoder(part).Encode(definition))
	part, err = form.CreateFormFile("files", "aml_config.zip")
	must(t, err)
	_, err = part.Write([]byte("PK"))
	must(t, err)
	must(t, form.Close())
	return b.String(), header("Content-Type", form.FormDataContentType())
}

func TestTheTokenOfALocalRunReachesThatRunAlone(t *testing.T) {
	s := newServer(t)
	form, contentType := localForm(t, map[string]any{"Configuration": map[string]any{"target": "local", "script": "train.py"}})
	s.call("POST", executionPath+"/localrun?runId=other", form, contentType).want(200)
	a := s.call("POST", executionPath+"/localrun?runId=mine", form, contentType).want(200)
	if a.Header().Get("Content-Type") != "application/zip" {
		t.Errorf("the answer is of type %s", a.Header().Get("Content-Type"))
	}
	z, err := zip.NewReader(bytes.NewReader(a.Body.Bytes()), int64(a.Body.Len()))
	must(t, err)
	f, err := z.Open("azureml-setup/run.json")
	must(t, err)
	text, err := io.ReadAll(f)
	must(t, err)
	var spec struct{ Token, Service string }
	must(t, json.Unmarshal(text, &spec))
	if spec.Service != "https://box.example:8443" {
		t.Errorf("the run is to reach the server at %s", spec.Service)
	}
	for _, f := range z.File {
		if f.Name == "azureml-setup/Invocation.sh" && f.Mode()&0o111 == 0 {
			t.Error("Invocation.sh cannot be executed")
		}
	}
	history := "/history/v1.0" + wsPath + "/experiments/exp/runs/"
	for _, tt := range []struct {
		method, path string
		body         any
		status       int
	}{
		{"GET", history + "mine", nil, 200},
		{"GET", history + "other", nil, 403},
		{"POST", history + "mine/events", map[string]any{"name": "Microsoft.MachineLearning.Run.Start", "data": map[string]any{"RunId": "mine"}}, 200},
		{"POST", history + "other/events", map[string]any{"name": "Microsoft.MachineLearning.Run.Start", "data": map[string]any{"RunId": "other"}}, 403},
		{"POST", executionPath + "/runs/mine/outputs", map[string]any{}, 200},
		{"POST", executionPath + "/runs/other/outputs", map[string]any{}, 403},
		{"POST", executionPath + "/localrun?runId=third", nil, 403},
		{"GET", wsPath + "/jobs", nil, 403},
		{"GET", "/content/v1.0" + wsPath + "/snapshots/latest/metadata", nil, 200},
		{"POST", history + "mine/events", map[string]any{"name": "Microsoft.MachineLearning.Run.Completed", "data": map[string]any{"RunId": "mine"}}, 200},
		{"GET", history + "mine", nil, 401},
	} {
		if a := s.call(tt.method, tt.path, tt.body, as(spec.Token)); a.Code != tt.status {
			t.Errorf("%s %s: %d, want %d: %s", tt.method, tt.path, a.Code, tt.status, a.Body)
		}
	}
}

func TestAJobSeesNoSnapshotButThoseItKnows(t *testing.T) {
	s := newServer(t)
	s.putSnapshot(snapshotID)
	s.call("POST", executionPath+"/snapshotrun?runId=exp_1", map[string]any{"SnapshotId": snapshotID, "Configuration": map[string]any{"target": "local", "script": "train.py"}}).want(200)
	job, err := s.control.Job(t.Context(), s.auth.Administrator(), s.ws, "exp_1")
	must(t, err)
	token, _ := s.auth.JobToken(job.ID, job.Attempt)
	onWayBack := func(r *http.Request) { *r = *r.WithContext(authn.WithWayBack(r.Context(), job.ID, job.Attempt)) }
	s.call("GET", "/content/v1.0"+wsPath+"/snapshots/latest/metadata", nil, as(token.Reveal()), onWayBack).want(200).has(map[string]any{"id": "00000000-0000-0000-0000-000000000000"})
	s.call("POST", contentPath+"/"+snapshotID+"/zip", nil, as(token.Reveal()), onWayBack).want(200)
	s.call("POST", contentPath+"/"+snapshotID+"/zip", nil, as(token.Reveal())).want(401)
	for _, way := range []string{"snapshotrun", "localrun", "startrun"} {
		s.call("POST", executionPath+"/"+way+"?runId=exp_2", map[string]any{"ParentRunId": "exp_1"}, as(token.Reveal()), onWayBack).want(403).has(map[string]any{"error.code": "JobsSubmitNoRuns"})
	}
}
