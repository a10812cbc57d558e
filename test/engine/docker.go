package engine

import (
	"os"
	"testing"
)

// Docker is a running Docker engine with folders of its own.
type Docker struct {
	Socket string // path of its API's socket
	Image  string // a small image that is there: a shell and the usual programs

	dir string
}

// StartDocker starts an engine that ends with the test, and its containers with it. It needs root.
func StartDocker(t testing.TB) *Docker {
	t.Helper()
	dir, err := os.MkdirTemp("", "docker-") //nolint:usetesting // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	d := &Docker{dir: dir}
	t.Cleanup(func() { run(t, "docker", nil, "remove", dir) })
	d.Start(t)
	return d
}

// Stop kills the engine. Its containers go on.
func (d *Docker) Stop(t testing.TB) {
	t.Helper()
	run(t, "docker", nil, "stop", d.dir)
}

// Start brings a stopped engine back, with its containers.
func (d *Docker) Start(t testing.TB) {
	t.Helper()
	v := run(t, "docker", nil, "start", d.dir)
	d.Socket, d.Image = v["SOCKET"], v["IMAGE"]
}
