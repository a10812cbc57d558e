package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/test/engine"
)

// cli runs the command line on the server's data folder, and gives what it printed.
func (p *program) cli(args ...string) (string, error) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), moorage, append(args, "--data", p.data)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestJobRunsInTheImageOfItsDockerfile: the engine of the compute builds it once and keeps it, and the job's log of preparing
// is the build's.
func TestJobRunsInTheImageOfItsDockerfile(t *testing.T) {
	d := engine.StartDocker(t)
	p := started(t, t.TempDir())
	if out, err := p.cli("compute", "attach", "box", "--kind", "docker", "--address", "docker+unix://"+d.Socket, "--set", "image="+d.Image, "--set", "network=none"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"job.yml": "$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json\ntype: command\ncommand: cat /srv/hello.txt; echo $MADE\ncompute: azureml:box\n" +
			"environment:\n  build:\n    path: ctx\n    dockerfile_path: docker/Dockerfile\n",
		"ctx/docker/Dockerfile": "FROM " + d.Image + "\nCOPY . /srv/\nENV MADE=once\n",
		"ctx/hello.txt":         "hello ä\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	create := func(name string) {
		t.Helper()
		if out, err := p.cli("job", "create", "-f", filepath.Join(dir, "job.yml"), "-n", name); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	create("first")
	create("second")
	for _, name := range []string{"first", "second"} {
		p.mustEnd(name, "Completed")
		p.mustLog(name, "hello ä\nonce\n")
	}
	built := func() string {
		out, err := exec.CommandContext(t.Context(), "docker", "-H", "unix://"+d.Socket, "images", "--format", "{{.Repository}} {{.CreatedAt}} {{.ID}}", "moorage/*/*").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	before := built()
	if strings.Count(before, "\n") != 1 || !strings.HasPrefix(before, "moorage/main/environments ") {
		t.Errorf("the engine has the images\n%s", before)
	}

	out, err := p.cli("environment", "builds", "-o", "json")
	var builds []struct{ Build, Phase, Image string }
	if err != nil || json.Unmarshal([]byte(out), &builds) != nil || len(builds) != 1 || builds[0].Phase != "ready" || !strings.HasPrefix(builds[0].Image, "moorage/main/environments:") {
		t.Fatalf("the builds are %s (%v)", out, err)
	}
	if out, err := p.cli("environment", "log", builds[0].Build); err != nil || !strings.Contains(out, "Step 2/") {
		t.Errorf("the log of the build is %q (%v)", out, err)
	}

	// A Dockerfile that fails fails its job in seconds, with the engine's words.
	if err := os.WriteFile(filepath.Join(dir, "ctx/docker/Dockerfile"), []byte("FROM "+d.Image+"\nCOPY nowhere /srv/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	create("broken")
	v := p.mustEnd("broken", "Failed")
	if v.Error == nil || v.Error.Code != "ImageBuildFailed" || !strings.Contains(v.Error.Cause, "nowhere") {
		t.Errorf("the job failed with %+v", v.Error)
	}
	var log []byte
	if _, err := p.send(t.Context(), "GET", native+"/jobs/broken/log?stream=prepare", p.token, nil, &log); err != nil || !strings.Contains(string(log), "Step 2/") {
		t.Errorf("its log of preparing is %q (%v)", log, err)
	}
	if after := built(); after != before {
		t.Errorf("the engine had\n%sand has\n%s", before, after)
	}
}

// TestEnvironmentIsBuiltAheadOfItsJobs: by the command line, whose exit code tells how it went.
func TestEnvironmentIsBuiltAheadOfItsJobs(t *testing.T) {
	d := engine.StartDocker(t)
	p := started(t, t.TempDir())
	if out, err := p.cli("compute", "attach", "box", "--kind", "docker", "--address", "docker+unix://"+d.Socket, "--set", "image="+d.Image, "--set", "network=none"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, text := range map[string]string{"good": "FROM " + d.Image + "\nENV MADE=ahead\n", "bad": "FROM " + d.Image + "\nNONSENSE\n"} {
		code, err := p.upload(t.Context(), "Dockerfile", text)
		if err != nil {
			t.Fatal(err)
		}
		root := strings.Split(strings.TrimPrefix(code, workspacePath+"/codes/"), "/")[0]
		body := map[string]any{"properties": map[string]any{"build": map[string]any{"contextUri": "moorage://snapshots/" + root}}}
		if _, err := p.call(t.Context(), "PUT", workspacePath+"/environments/"+name+"/versions/1"+apiVersion, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := p.cli("environment", "build", "good", "--compute", "box", "--wait"); err != nil || !strings.Contains(out, "the image was made in") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := p.cli("environment", "build", "bad", "--compute", "box", "--wait"); err == nil || !strings.Contains(out, "NONSENSE") || !strings.Contains(out, "ended Failed") {
		t.Errorf("%v\n%s", err, out)
	}
	p.mustSubmit("after", "echo $MADE", map[string]any{"computeId": workspacePath + "/computes/box", "environmentId": workspacePath + "/environments/good/versions/1"})
	p.mustEnd("after", "Completed")
	p.mustLog("after", "ahead\n")
}
