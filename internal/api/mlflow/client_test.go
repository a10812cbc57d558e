package mlflow_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/moorage-ml/moorage/test/engine"
)

// TestPythonClient runs test/clients/mlflow/client.py, with MLflow's own client, against the API: by the default mount and
// by a workspace's.
func TestPythonClient(t *testing.T) {
	python := engine.Python(t)
	script, err := filepath.Abs("../../../test/clients/mlflow/client.py")
	if err != nil {
		t.Fatal(err)
	}
	for name, mount := range map[string]string{"default": "/mlflow", "workspace": "/mlflow/v2.0" + other.Path()} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			cmd := exec.CommandContext(t.Context(), python, script, s.URL+mount)
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), "MLFLOW_TRACKING_TOKEN="+token, "MLFLOW_DISABLE_TELEMETRY=true", "HOME="+cmd.Dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// TestDifferential runs test/clients/mlflow/differential.py: some 200 calls must have the same outcome here and on
// MLflow's own server, which MLFLOW_REFERENCE names by its URL.
func TestDifferential(t *testing.T) {
	reference := os.Getenv("MLFLOW_REFERENCE")
	if reference == "" {
		t.Skip("MLFLOW_REFERENCE names no `mlflow server` 3.17.2")
	}
	python := engine.Need(t, "python3", "apt-get install python3")
	script, err := filepath.Abs("../../../test/clients/mlflow/differential.py")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t)
	cmd := exec.CommandContext(t.Context(), python, script, reference, s.URL+"/mlflow")
	cmd.Env = append(os.Environ(), "MLFLOW_TRACKING_TOKEN="+token)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
