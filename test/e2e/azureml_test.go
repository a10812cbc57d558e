package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/test/engine"
)

// TestMicrosoftsClientWorksUnmodified runs test/clients/azureml/client.py: azure-ai-ml attaches a machine over SSH, and
// uploads, submits, streams, downloads and detaches. The client learns where the server is from what `moorage env` prints
// in a shell, and from nothing else.
func TestMicrosoftsClientWorksUnmodified(t *testing.T) {
	python := engine.Python(t)
	script, err := filepath.Abs("../clients/azureml/client.py")
	if err != nil {
		t.Fatal(err)
	}
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	p := started(t, filepath.Join(t.TempDir(), "data"))

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", `eval "$("$1" env --data "$2")"; shift 2; exec "$@"`, "sh",
		moorage, p.data, python, script, "ssh://"+s.User+"@"+s.Addr, s.KeyFile)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "AZURE_CORE_COLLECT_TELEMETRY=no", "PYTHONWARNINGS=ignore", "MOORAGE_PROGRAM="+moorage)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "kept ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
