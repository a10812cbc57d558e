package ssh

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	plans "github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/test/engine"
)

// pythonImage has Debian's Python, and nothing else beside the engine's own image.
const pythonImage = "local/python:1"

func makePython(t *testing.T, d *engine.Docker) {
	t.Helper()
	id := strings.TrimSpace(dockerSays(t, d, "create", d.Image, "true"))
	copying := exec.Command("sh", "-c", `set -e
python=$(readlink -f /usr/bin/python3) && lib=/usr/lib/${python##*/}
cd / && tar -ch "${python#/}" "${lib#/}" etc/ssl/certs/ca-certificates.crt $(ldd "$python" "$lib"/lib-dynload/*.so | grep -o '/[^ )]*\.so[^ )]*' | grep -v lib-dynload | sort -u | sed 's,^/,,') |
	docker --host "unix://$0" cp - "$1:/"`, d.Socket, id)
	if out, err := copying.CombinedOutput(); err != nil {
		engine.Absent(t, "this machine has no Python that an image could be made of: "+string(out))
	}
	dockerSays(t, d, "commit", id, pythonImage)
	dockerSays(t, d, "rm", id)
}

// kept puts the program of uv among the exam's objects.
type keptObjects struct{ *computetest.Objects }

func (keptObjects) Has(_ context.Context, hashes []snapshot.Hash) ([]snapshot.Hash, error) {
	return hashes, nil
}

func (k keptObjects) Put(_ context.Context, _ snapshot.Hash, r io.Reader, _ int64) error {
	b, err := io.ReadAll(r)
	if err == nil {
		k.AddFile(b)
	}
	return err
}

func TestPackagesAreInstalledWithThePythonOfTheImage(t *testing.T) {
	server, d := machineWithDocker(t)
	makePython(t, d)
	env := environment(t)
	objects := &computetest.Objects{}
	env.Objects = objects
	cache := os.Getenv("MOORAGE_CACHE")
	if cache == "" {
		cache = t.TempDir()
	}
	uv, err := plans.NewUvTool(plans.UvConfig{Dir: filepath.Join(cache, "uv"), Objects: keptObjects{objects}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := uv.Get(t.Context(), runtime.GOOS, runtime.GOARCH); err != nil {
		engine.Absent(t, "uv cannot be fetched here: "+err.Error())
	}
	target, err := Driver{}.Open(t.Context(), encode(t, settingsFor(t, server)), env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	facts, err := target.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := plans.Plan(t.Context(), plans.Spec{Image: pythonImage, Pip: []string{"six==1.16.0"}}, facts.Details, plans.Tools{Uv: uv.Get}, plans.Curated{})
	if err != nil || p.Image == nil {
		t.Fatalf("%+v %v", p, err)
	}
	key := compute.Key{Server: "server", Compute: "compute", Job: clock.System().NewID(), Attempt: 1}
	h := compute.Handle{Key: key}
	_, err = target.Submit(t.Context(), compute.Job{
		Key: key, Epoch: 1, Image: p.Image, Environment: p.Environment,
		Command: `python -c "import six, os, sys; print(six.__version__, os.path.realpath(sys.executable), os.path.exists('/usr/bin/ssh'))"`,
	})
	if err != nil {
		t.Fatal(err)
	}
	x, log := await(t, target, h)
	prepared := newBuffer()
	if _, err := target.Logs(t.Context(), h, compute.LogQuery{Stream: "prepare"}, prepared); err != nil {
		t.Fatal(err)
	}
	if x.Outcome != compute.Succeeded || !strings.HasPrefix(log, "1.16.0 /usr/bin/python3.") || !strings.HasSuffix(log, " False\n") {
		t.Errorf("%+v\n%s\n%s", x, log, prepared)
	}
	for _, say := range []string{"in a container of image " + pythonImage, "made inside the container", "Python 3."} {
		if !strings.Contains(prepared.String(), say) {
			t.Errorf("the log of preparing does not say %q:\n%s", say, prepared)
		}
	}
}
