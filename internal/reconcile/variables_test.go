package reconcile

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// TestAzuremlCoreFindsItsRun holds the variables that Run.get_context() reads (azureml-v1.md §9).
func TestAzuremlCoreFindsItsRun(t *testing.T) {
	r := newRig(t, compute.Limits{})
	b := r.builder()
	expires := time.Unix(2_000_000_000, 5)
	b.Token = func(id string, attempt int) (workspace.Secret, time.Time) {
		return workspace.NewSecret("token of " + id), expires
	}
	b.ExperimentID = func(ws workspace.Workspace, experiment string) string { return ws.ID + "/" + experiment }
	spec, err := json.Marshal(workspace.JobSpec{Command: "x"})
	if err != nil {
		t.Fatal(err)
	}
	row := store.Job{ID: "j", WorkspaceID: "w", Name: "exp_1", Experiment: "exp", Spec: spec}
	job, err := b.Build(t.Context(), row, r.compute)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"AZUREML_RUN_ID": "exp_1", "AZUREML_ARM_PROJECT_NAME": "exp", "AZUREML_EXPERIMENT_ID": "w/exp", "AZUREML_WORKSPACE_ID": "w",
		"AZUREML_ARM_SUBSCRIPTION": "s", "AZUREML_ARM_RESOURCEGROUP": "g", "AZUREML_ARM_WORKSPACE_NAME": "main",
		"AZUREML_DATA_CONTAINER_ID": "dcid.exp_1", "AZUREML_RUN_TOKEN_EXPIRY": "2033-05-18T03:33:20Z", "AZUREML_CURRENT_CLOUD": "MoorageCloud",
		"AZUREML_SERVICE_ENDPOINT":           "https://" + compute.WayBackAddress,
		"AZUREML_DISCOVERY_SERVICE_ENDPOINT": "https://" + compute.WayBackAddress + "/discovery/workspaces/w",
		"REQUESTS_CA_BUNDLE":                 compute.CAFile, "SSL_CERT_FILE": compute.CAFile,
	} {
		if job.Env[name] != want {
			t.Errorf("%s is %q, want %q", name, job.Env[name], want)
		}
	}
	if job.Secrets["AZUREML_RUN_TOKEN"].Reveal() != "token of j" {
		t.Errorf("secrets %v", job.Secrets)
	}
	if job.Env["MOORAGE_BLOB_HOST"] != "" {
		t.Error("a job that uploads nothing by azureml-core pays for its name")
	}
	b.Limits = func(string) compute.Limits { return compute.Limits{NoWayBack: true} }
	if job, err = b.Build(t.Context(), row, r.compute); err != nil {
		t.Fatal(err)
	}
	for name, value := range job.Env {
		if strings.Contains(value, compute.WayBackAddress) || strings.Contains(name, "TOKEN") {
			t.Errorf("a target without a way back gets %s=%s", name, value)
		}
	}
	if len(job.Secrets) > 0 {
		t.Error("a target without a way back gets secrets")
	}
}

// TestJobsThatMayUploadByAzuremlCoreAskForItsName: the others start without.
func TestJobsThatMayUploadByAzuremlCoreAskForItsName(t *testing.T) {
	for name, tt := range map[string]struct {
		spec workspace.JobSpec
		want bool
	}{
		"plain":             {workspace.JobSpec{Command: "x"}, false},
		"of the v1 client":  {workspace.JobSpec{BlobHost: true}, true},
		"says so":           {workspace.JobSpec{Variables: map[string]string{"MOORAGE_BLOB_HOST_WAY": ""}}, true},
		"with its package":  {workspace.JobSpec{Environment: json.RawMessage(`{"conda_file":"dependencies: [{pip: [azureml-core]}]"}`)}, true},
		"with other things": {workspace.JobSpec{Environment: json.RawMessage(`{"pip":["numpy"],"image":"mcr.microsoft.com/azureml/base"}`)}, false},
	} {
		if got := uploads(tt.spec); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
