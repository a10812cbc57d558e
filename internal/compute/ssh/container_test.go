package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/test/engine"
)

// otherImage is made from the engine's own.
const otherImage = "local/other:1"

// machineWithDocker is a machine whose login finds an engine.
func machineWithDocker(t *testing.T) (*engine.SSHD, *engine.Docker) {
	t.Helper()
	d := engine.StartDocker(t)
	makeOther(t, d)
	server := engine.StartSSHD(t, engine.SSHDOptions{})
	letIn(t, d, 0o666)
	server.WriteHome(t, ".profile", "export DOCKER_HOST=unix://"+d.Socket+" HTTPS_PROXY=\n", 0o644)
	return server, d
}

func makeOther(t *testing.T, d *engine.Docker) {
	t.Helper()
	id := strings.TrimSpace(dockerSays(t, d, "create", d.Image, "true"))
	dockerSays(t, d, "commit", "--change", "ENV EXAM_IMAGE=other", id, otherImage)
	dockerSays(t, d, "rm", id)
}

// letIn lets every login of this machine use the engine, or none but root.
func letIn(t *testing.T, d *engine.Docker, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.Chmod(filepath.Dir(d.Socket), 0o711), os.Chmod(d.Socket, mode)); err != nil {
		t.Fatal(err)
	}
}

func dockerSays(t testing.TB, d *engine.Docker, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", append([]string{"--host", "unix://" + d.Socket}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// contained lets every job of the exam run in a container.
type contained struct {
	*kept.Target
	image string
}

func (c contained) Submit(ctx context.Context, job compute.Job) (compute.Ref, error) {
	if job.Image == nil {
		job.Image = &compute.Image{Name: c.image}
	}
	return c.Target.Submit(ctx, job)
}

func openContained(t *testing.T, server *engine.SSHD, image string) computetest.Opener {
	return func(ctx context.Context, env compute.Env, w computetest.Want) (compute.Target, error) {
		s := settingsFor(t, server)
		s.Folder, s.Slots = "~/moorage "+w.Place, w.Slots
		b, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		env.Keeper = keeper
		target, err := Driver{}.Open(ctx, b, env)
		if err != nil {
			return nil, err
		}
		return contained{target.(*kept.Target), image}, nil //nolint:forcetypeassert // it is one
	}
}

func TestJobsInContainersPassTheExam(t *testing.T) {
	server, docker := machineWithDocker(t)
	computetest.Run(t, openContained(t, server, docker.Image), computetest.Options{
		Limits: Driver{}.Limits(), Processes: true, Many: 40, Image: docker.Image, OtherImage: otherImage,
		Folder: func(place string) string { return filepath.Join(server.Home, "moorage "+place) },
		Skip: map[string]string{
			"unreachable":              "containers change nothing about it",
			"refused":                  "containers change nothing about it",
			"gpus":                     "this machine has no GPU that an engine could show",
			"DialReachesAPortOfTheJob": "the image has no Python",
		},
	})
	if left := dockerSays(t, docker, "ps", "--all", "--quiet", "--filter", "label=moorage.key"); left != "" {
		t.Errorf("containers are left: %q", left)
	}
}
