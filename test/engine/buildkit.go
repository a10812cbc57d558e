package engine

import (
	"os"
	"testing"
)

// BuildKit is a running BuildKit daemon with folders of its own.
type BuildKit struct {
	Socket  string // path of its API's socket
	Program string // buildctl
}

// StartBuildKit starts a daemon that ends with the test. It needs root.
func StartBuildKit(t testing.TB) *BuildKit {
	t.Helper()
	dir, err := os.MkdirTemp("", "buildkit-") //nolint:usetesting // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run(t, "buildkit", nil, "remove", dir) })
	v := run(t, "buildkit", nil, "start", dir)
	return &BuildKit{Socket: v["SOCKET"], Program: v["PROGRAM"]}
}
