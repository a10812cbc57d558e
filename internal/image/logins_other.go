//go:build !linux

package image

import (
	"os/exec"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// handOver refuses: there is no file here that is on no disk.
func handOver(*exec.Cmd, string, []Login) (end func(), err error) {
	return nil, &workspace.Problem{
		Class: workspace.Unsupported, Code: "NoLogins", Target: "environment", Message: "private base images are not built with BuildKit by a server on this system",
		Cause: "logins are handed to buildctl in memory, which only Linux has for it", Mend: "run the server on Linux, or let a Docker engine build",
	}
}
