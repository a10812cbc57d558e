package engine

import (
	"os"
	"testing"
)

// Slurm is a running Slurm cluster of one node, this machine.
type Slurm struct {
	Programs string // folder of sbatch, squeue, scancel, munge and unmunge that speak to it
	Conf     string // its slurm.conf
	Node     string

	dir string
}

// StartSlurm starts a cluster that ends with the test, and its jobs with it. It needs root.
func StartSlurm(t testing.TB) *Slurm {
	t.Helper()
	dir, err := os.MkdirTemp("", "slurm-") //nolint:usetesting // open to others: jobs may be those of another user
	if err != nil {
		t.Fatal(err)
	}
	s := &Slurm{dir: dir}
	t.Cleanup(func() { run(t, "slurm", nil, "remove", dir) })
	s.Start(t)
	return s
}

// Stop kills the controller. What runs goes on.
func (s *Slurm) Stop(t testing.TB) {
	t.Helper()
	run(t, "slurm", nil, "stop", s.dir)
}

// Start brings a stopped controller back, with its queue.
func (s *Slurm) Start(t testing.TB) {
	t.Helper()
	v := run(t, "slurm", nil, "start", s.dir)
	s.Programs, s.Conf, s.Node = v["PROGRAMS"], v["CONF"], v["NODE"]
}
