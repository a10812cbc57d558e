package e2e

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/moorage-ml/moorage/test/engine"
)

// TestTokensMayEndWhileAJobRuns is test/clients/v1/tokens.py: azureml-core logs in a job, and waits for it, for longer than
// any token is good that the server issues.
func TestTokensMayEndWhileAJobRuns(t *testing.T) {
	python := engine.PythonWith(t, "MOORAGE_PYTHON_V1", "requirements-v1.txt")
	machine := engine.StartSSHD(t, engine.SSHDOptions{})
	server := started(t, filepath.Join(t.TempDir(), "data"), "MOORAGE_NO_LOCAL=true", "MOORAGE_TOKENS_LIFE=20s", "MOORAGE_TOKENS_JOB_LIFE=1m")
	host, port, err := net.SplitHostPort(machine.Addr)
	if err != nil {
		t.Fatal(err)
	}
	newPerson(t, server, python).promises(t, "tokens.py", nil, host, port, machine.User, "", machine.KeyFile, vmID, "")
}
