package mlflow_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
)

func TestJobCredentialReachesItsOwnRunOnly(t *testing.T) {
	s := start(t)
	for _, name := range []string{"mine", "theirs"} {
		if err := s.store.Write(t.Context(), func(tx *store.Tx) error {
			return tracking.CreateJobRun(t.Context(), tx, tracking.JobRun{WorkspaceID: home.ID, Name: name, Experiment: "exp", Created: 1})
		}); err != nil {
			t.Fatal(err)
		}
	}
	child := `{"experiment_id":"1","tags":[{"key":"mlflow.parentRunId","value":"mine"}]}`
	elsewhere := "@/mlflow/v2.0" + other.Path() + "/api/2.0"
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/mlflow/runs/get?run_id=mine", "", 200},
		{"GET", "/mlflow/runs/get?run_id=theirs", "", 403},
		{"GET", "/mlflow/runs/get?run_uuid=theirs", "", 403},
		{"POST", "/mlflow/runs/log-batch", `{"run_id":"mine","metrics":[{"key":"m","value":1,"timestamp":1}]}`, 200},
		{"POST", "/mlflow/runs/log-batch", `{"run_id":"theirs","metrics":[{"key":"m","value":1,"timestamp":1}]}`, 403},
		{"POST", "/mlflow/runs/update", `{"run_id":"mine","status":"FINISHED"}`, 200},
		{"POST", "/mlflow/runs/delete", `{"run_id":"theirs"}`, 403},
		{"POST", "/mlflow/runs/create", child, 200},
		{"POST", "/mlflow/runs/create", `{"experiment_id":"1"}`, 403},
		{"POST", "/mlflow/runs/create", `{"experiment_id":"0"}`, 403},
		{"GET", "/mlflow/metrics/get-history?run_id=theirs&metric_key=m", "", 403},
		{"GET", "/mlflow/metrics/get-history-bulk-interval?run_ids=mine&run_ids=theirs&metric_key=m", "", 403},
		{"GET", "/mlflow/experiments/get-by-name?experiment_name=exp", "", 200},
		{"GET", "/mlflow/experiments/get?experiment_id=0", "", 403},
		{"POST", "/mlflow/experiments/create", `{"name":"new"}`, 403},
		{"POST", "/mlflow/experiments/create", `{"name":"exp"}`, 400},
		{"POST", "/mlflow/experiments/delete", `{"experiment_id":"1"}`, 403},
		{"POST", "/mlflow/runs/search", `{"experiment_ids":["0"]}`, 403},
		{"POST", "/mlflow/runs/search", `{"experiment_ids":["1"]}`, 200},
		{"PUT", "/mlflow-artifacts/artifacts/1/mine/artifacts/a", "x", 200},
		{"PUT", "/mlflow-artifacts/artifacts/1/theirs/artifacts/a", "x", 403},
		{"PUT", "/mlflow-artifacts/artifacts/1/mine/artifacts/%252e%252e/theirs/a", "x", 400},
		{"PUT", "/mlflow-artifacts/artifacts/0/mine/artifacts/a", "x", 404},
		{"PUT", "/mlflow-artifacts/artifacts/loose", "x", 403},
		{"GET", "/mlflow-artifacts/artifacts/1/mine/artifacts/a", "", 200},
		{"GET", "/mlflow-artifacts/artifacts/1/theirs/artifacts/a", "", 403},
		{"GET", "/mlflow-artifacts/artifacts?path=1/theirs/artifacts", "", 403},
		{"GET", "/mlflow-artifacts/artifacts?path=", "", 403},
		{"GET", "/mlflow/artifacts/list?run_id=theirs", "", 403},
		{"DELETE", "/mlflow-artifacts/artifacts/1/theirs/artifacts/a", "", 403},
		{"GET", elsewhere + "/mlflow/runs/get?run_id=mine", "", 403},
	} {
		if a := s.as(t, "job:mine", c.method, c.path, c.body); a.status != c.status {
			t.Errorf("%s %s %s: %d %s, want %d", c.method, c.path, c.body, a.status, a.body, c.status)
		}
	}
	if a := s.as(t, "job:mine", http.MethodPost, "/mlflow/runs/search", `{"experiment_ids":["1"]}`); strings.Contains(string(a.body), `"run_id":"theirs"`) {
		t.Errorf("a job finds another's run: %s", a.body)
	}
	if a := s.get(t, "/mlflow/runs/get?run_id=mine"); !strings.Contains(string(a.body), `"status":"SCHEDULED"`) {
		t.Errorf("the client moved a job's status: %s", a.body)
	}
	if a := s.as(t, "job:none", http.MethodGet, "/mlflow/runs/get?run_id=mine", ""); a.status != 403 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestJobsArtifactsAreWhereAzureLooks: MLflow's proxy and Azure's artifact place name the same bytes.
func TestJobsArtifactsAreWhereAzureLooks(t *testing.T) {
	s := start(t)
	id := s.newRun(t, `{}`)
	s.as(t, token, http.MethodPut, "/mlflow-artifacts/artifacts/0/"+id+"/artifacts/outputs/model.bin", "weights")
	info, err := s.blob.Stat(t.Context(), tracking.ArtifactPrefix(home.ID, id)+"outputs/model.bin")
	if err != nil || info.Size != 7 || info.Name != "c/azureml-artifacts-"+home.ID+"/ExperimentRun/dcid."+id+"/outputs/model.bin" {
		t.Errorf("%+v, %v", info, err)
	}
}
