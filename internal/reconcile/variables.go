package reconcile

import (
	"bytes"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// names are the variables that tell a job who it is (azureml-v2.md §1.1, azureml-v1.md §9, mlflow.md §13).
func names(ws workspace.Workspace, row store.Job) map[string]string {
	return map[string]string{
		"AZUREML_RUN_ID":             row.Name,
		"AZUREML_EXPERIMENT_NAME":    row.Experiment,
		"AZUREML_ARM_SUBSCRIPTION":   ws.Subscription,
		"AZUREML_ARM_RESOURCEGROUP":  ws.ResourceGroup,
		"AZUREML_ARM_WORKSPACE_NAME": ws.Name,
		"AZUREML_ARM_PROJECT_NAME":   row.Experiment,
		"AZUREML_WORKSPACE_ID":       ws.ID,
		"AZUREML_DATA_CONTAINER_ID":  "dcid." + row.Name,
		"MOORAGE_JOB":                row.Name,
		"PYTHONUNBUFFERED":           "1",
	}
}

// ways are the variables by which a job's clients find this server. They lead to it by the way back, so they work on a
// machine that cannot reach it, and a target without a way back gets none: clients would wait for what never comes.
func ways(ws workspace.Workspace, row store.Job) map[string]string {
	const plain, safe = "http://" + compute.WayBackAddress, "https://" + compute.WayBackAddress
	return map[string]string{
		"MLFLOW_TRACKING_URI":    plain + "/mlflow/v1.0" + ws.Path(),
		"MLFLOW_RUN_ID":          row.Name,
		"MLFLOW_EXPERIMENT_NAME": row.Experiment,
		"IDENTITY_ENDPOINT":      plain + "/msi/token",
		// What azureml-core's Run.get_context() reads (azureml-v1.md §9); both bundles, because its parts look at different ones.
		"ARM_CLOUD_METADATA_URL":             safe + "/metadata/endpoints?api-version=2019-05-01",
		"AZUREML_CURRENT_CLOUD":              "MoorageCloud", // of one called AzureCloud azure-ai-ml has its own idea
		"AZUREML_SERVICE_ENDPOINT":           safe,
		"AZUREML_DISCOVERY_SERVICE_ENDPOINT": safe + "/discovery/workspaces/" + ws.ID,
		"REQUESTS_CA_BUNDLE":                 compute.CAFile,
		"SSL_CERT_FILE":                      compute.CAFile,
		// The link that MLflow would print leads to the way back, which nobody outside the job can follow.
		"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
	}
}

// uploads tells whether a job may upload by azureml-core, for which the compute has to do something: what Azure's v1 client
// submits, what asks for one of that client's packages, and what says so by a variable of its own.
func uploads(spec workspace.JobSpec) bool {
	_, says := spec.Variables["MOORAGE_BLOB_HOST_WAY"]
	return spec.BlobHost || says || bytes.Contains(spec.Environment, []byte("azureml-"))
}

// experiment is the id by which azureml-core names the experiment; without it the client warns and goes by the name.
func (b *JobBuilder) experiment(ws workspace.Workspace, row store.Job, env map[string]string) {
	if b.ExperimentID != nil {
		env["AZUREML_EXPERIMENT_ID"] = b.ExperimentID(ws, row.Experiment)
	}
}

// secrets are what a job's requests are known by, in the form that each of its clients takes, and when the token ends. That
// is told as a date: azureml-core takes a number for one of the machine's own time zone (azureml-v1.md §9).
func (b *JobBuilder) secrets(row store.Job, env map[string]string) map[string]workspace.Secret {
	attempt := max(row.Attempt, 1)
	credential := b.Credential(row.ID, attempt)
	all := map[string]workspace.Secret{
		"MLFLOW_TRACKING_TOKEN": credential,
		"IDENTITY_HEADER":       credential,
	}
	if b.Token != nil {
		token, expires := b.Token(row.ID, attempt)
		all["AZUREML_RUN_TOKEN"] = token
		env["AZUREML_RUN_TOKEN_EXPIRY"] = expires.UTC().Format(time.RFC3339)
	}
	return all
}
