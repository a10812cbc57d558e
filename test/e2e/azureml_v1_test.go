package e2e

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/moorage-ml/moorage/test/engine"
)

// vmID is an ARM id under which the catalogue knows the test's machine.
const vmID = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/moorage/providers/Microsoft.Compute/virtualMachines/box"

// TestDocumentedCodeOfAzuremlCoreRuns runs test/clients/v1: azureml-core attaches, trains, logs, registers, downloads and
// detaches as the documentation tells people to, against a real server and a machine behind a real sshd.
func TestDocumentedCodeOfAzuremlCoreRuns(t *testing.T) {
	python := engine.PythonWith(t, "MOORAGE_PYTHON_V1", "requirements-v1.txt")
	const password = "Pa55-w0rd-of-v1"
	machine := engine.StartSSHD(t, engine.SSHDOptions{Password: password})
	server := started(t, filepath.Join(t.TempDir(), "data"))
	host, port, err := net.SplitHostPort(machine.Addr)
	if err != nil {
		t.Fatal(err)
	}
	// azure-ai-ml, which looks in too, names an image in every environment; here none can be pulled, and the machine's Python will do.
	resource := map[string]any{"id": vmID, "address": "ssh://" + machine.Addr, "settings": map[string]string{"containers": "never"}}
	if _, err := server.call(t.Context(), "PUT", "/native/v1/resources", resource, nil); err != nil {
		t.Fatal(err)
	}
	p := newPerson(t, server, python)
	args := []string{host, port, machine.User, password, machine.KeyFile, vmID, seed(t)}
	p.promises(t, "client.py", map[string]wish{
		// The server is killed and comes back where it was.
		"restart": func(json.RawMessage) (any, error) {
			p.server.kill()
			p.server = startedAt(t, p.server.data, p.server.addr())
			return nil, nil
		},
		// Somebody with azure-ai-ml and MLflow looks at what v1 made, and makes something for it to see.
		"look": func(with json.RawMessage) (any, error) {
			last, err := p.run(t.Context(), engine.Python(t), v1Script(t, "look.py"), string(with))
			return json.RawMessage(last), err
		},
	}, args...)

	t.Run("other clients", func(t *testing.T) {
		for _, other := range []struct{ name, variable, list, script string }{
			{"azureml-core 1.50", "MOORAGE_PYTHON_V1_OLD", "requirements-v1-old.txt", "tour.py"},
			{"Python 3.9", "MOORAGE_PYTHON_V1_39", "requirements-v1-python3.9.txt", "tour.py"},
			{"azure-mgmt-machinelearningservices", "MOORAGE_PYTHON_V1", "requirements-v1.txt", "management.py"},
		} {
			t.Run(other.name, func(t *testing.T) {
				t.Parallel()
				newPerson(t, p.server, engine.PythonWith(t, other.variable, other.list)).promises(t, other.script, nil, args...)
			})
		}
	})

	// Another server at the same address, which knows nothing of what the person's client remembers.
	p.server.kill()
	p.server = startedAt(t, filepath.Join(t.TempDir(), "data"), server.addr())
	p.configure(t)
	p.promises(t, "wiped.py", nil, args...)
}

// seed is the folder with the documentation's code blocks, empty where there is none.
func seed(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(os.Getenv("MOORAGE_SHARED"), "seed")
	if _, err := os.Stat(filepath.Join(dir, "block1.py")); err != nil {
		return ""
	}
	return dir
}
