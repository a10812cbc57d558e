package ssh

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/test/engine"
)

// podmanConf lets Podman run in the closed places where tests do: without the right to raise limits, and without systemd.
const podmanConf = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`

// machineWithPodman is a machine whose login, which is not root's, has Podman and the images of an engine.
func machineWithPodman(t *testing.T) *engine.SSHD {
	t.Helper()
	engine.Need(t, "podman", "apt-get install --no-install-recommends podman uidmap slirp4netns")
	engine.Need(t, "newuidmap", "apt-get install uidmap")
	d := engine.StartDocker(t)
	makeOther(t, d)
	server := engine.StartSSHD(t, engine.SSHDOptions{})
	if !server.Own {
		engine.Absent(t, "a login of its own, which is not root, can only be made by root")
	}
	images := filepath.Join(server.Home, "images.tar")
	dockerSays(t, d, "save", "--output", images, d.Image, otherImage)
	if err := os.Chmod(images, 0o644); err != nil {
		t.Fatal(err)
	}
	server.WriteHome(t, "containers.conf", podmanConf, 0o644)
	// Another program of that name comes first, which has no engine.
	server.WriteHome(t, "bin/docker", "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n", 0o755)
	server.WriteHome(t, ".profile", "export PATH=$HOME/bin:$PATH CONTAINERS_CONF=$HOME/containers.conf XDG_RUNTIME_DIR=$HOME/.run\nmkdir -p -m 700 $HOME/.run\n", 0o644)
	s := settingsFor(t, server)
	target := mustOpen(t, s)
	f, err := target.Probe(t.Context())
	if err != nil || f.Details["containers"] != "machine" || filepath.Base(f.Details["engine"]) != "podman" {
		t.Fatalf("probe: %+v %v", f.Details, err)
	}
	if x, log := run(t, target, "podman load --input "+images+" && rm "+images); x.Outcome != compute.Succeeded {
		engine.Absent(t, "podman does not work for a login of this machine: "+log)
	}
	return server
}

func TestJobsInRootlessPodmanPassTheExam(t *testing.T) {
	server := machineWithPodman(t)
	const image = "local/base:1"
	computetest.Run(t, openContained(t, server, image), computetest.Options{
		Limits: Driver{}.Limits(), Processes: true, Many: 20, Image: image, OtherImage: otherImage,
		Folder: func(place string) string { return filepath.Join(server.Home, "moorage "+place) },
		Skip: map[string]string{
			"unreachable":              "containers change nothing about it",
			"refused":                  "containers change nothing about it",
			"gpus":                     "this machine has no GPU that an engine could show",
			"DialReachesAPortOfTheJob": "the image has no Python",
			"MemoryOverItsLimitIsSaid": "rootless Podman bounds no memory where control groups are of version 1",
		},
	})
	if x, log := run(t, mustOpen(t, settingsFor(t, server)), "podman ps --all --quiet --filter label=moorage.key"); x.Outcome != compute.Succeeded || log != "" {
		t.Errorf("containers are left: %q", log)
	}
}
