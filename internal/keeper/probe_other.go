//go:build !linux

package keeper

import "github.com/moorage-ml/moorage/internal/workspace"

func release() string { return "" }

func memory() string { return "" }

func (a *agent) probeFolder(func(string, string)) []workspace.Problem { return nil }

func probeSystem(func(string, string)) []workspace.Problem {
	return []workspace.Problem{{
		Code: "NoProc", Message: "on this system, processes that leave a job's group are not found when the job is ended", Warning: true,
		Mend: "use a Linux machine for jobs that start daemons",
	}}
}

func diskFree(string) (int64, bool) { return 0, false }

// kernelRelease is not known here.
func kernelRelease() string { return "" }
