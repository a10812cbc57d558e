package engine

import (
	"os"
	"path/filepath"
	"testing"
)

// DockerOptions says how a Docker engine is set up.
type DockerOptions struct {
	TLS  bool // it also listens on loopback, and demands certificates
	GPUs bool // it takes requests for GPUs: a simulator of NVIDIA's runtime and hook, which gives none
}

// Docker is a running Docker engine with folders of its own.
type Docker struct {
	Socket string // path of its API's socket
	Image  string // a small image that is there: a shell, bash and the usual programs
	Other  string // the same with the variable EXAM_IMAGE=other
	TCP    string // host:port; empty without DockerOptions.TLS

	dir string
	tls string
}

// StartDocker starts an engine that ends with the test, and its containers with it. It needs root. MOORAGE_DOCKERD names
// another engine than the installed one.
func StartDocker(t testing.TB) *Docker {
	t.Helper()
	return StartDockerWith(t, DockerOptions{})
}

// StartDockerWith is StartDocker with options.
func StartDockerWith(t testing.TB, o DockerOptions) *Docker {
	t.Helper()
	dir, err := os.MkdirTemp("", "docker-") //nolint:usetesting // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	d := &Docker{dir: dir}
	t.Cleanup(func() { run(t, "docker", nil, "remove", dir) })
	var env []string
	if o.TLS {
		env = append(env, "ENGINE_TLS=1")
	}
	if o.GPUs {
		env = append(env, "ENGINE_GPUS=1")
	}
	d.start(t, env)
	return d
}

func (d *Docker) start(t testing.TB, env []string) {
	t.Helper()
	v := run(t, "docker", env, "start", d.dir)
	d.Socket, d.Image, d.Other, d.TCP, d.tls = v["SOCKET"], v["IMAGE"], v["OTHER_IMAGE"], v["TCP"], v["TLS"]
}

// PEM reads a certificate or key of an engine with TLS: "ca", "cert" and "key" of a client that it takes, "other" and
// "other-key" of one that it does not.
func (d *Docker) PEM(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.tls, name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Stop kills the engine. Its containers go on.
func (d *Docker) Stop(t testing.TB) {
	t.Helper()
	run(t, "docker", nil, "stop", d.dir)
}

// Start brings a stopped engine back, with its containers.
func (d *Docker) Start(t testing.TB) {
	t.Helper()
	d.start(t, nil)
}
