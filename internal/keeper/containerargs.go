package keeper

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// mount is a file or folder of the machine that is at the same path in a container.
type mount struct {
	path string
	at   string // another path there
	read bool   // only
}

// arg is the mount as both engines' --mount takes it, which is a line of CSV: no source that is missing is made.
func (m mount) arg() string {
	if m.at == "" {
		m.at = m.path
	}
	fields := []string{"type=bind", "source=" + m.path, "target=" + m.at}
	if m.read {
		fields = append(fields, "readonly")
	}
	for i, f := range fields {
		if strings.ContainsAny(f, ",\"\n") {
			fields[i] = `"` + strings.ReplaceAll(f, `"`, `""`) + `"`
		}
	}
	return strings.Join(fields, ",")
}

// containerArgs are the arguments of the engine's program that run a container. None of them is secret.
func (s *supervisor) containerArgs(b *box, c contain) []string {
	self := thisKeeper()
	args := []string{
		"run", "--rm", "--interactive", "--pull", "never", "--name", b.name, "--network", "host", "--log-driver", "none",
		"--label", "moorage.key=" + s.key, "--label", "moorage.compute=" + filepath.Base(s.root.path), "--label", "moorage.server=" + filepath.Base(filepath.Dir(s.root.path)),
		"--security-opt", "label=disable", // a job's folder is no other's, and changing its label would change the machine's files
		"--workdir", c.inside.Dir, "--env", processMark + "=" + c.mark, "--entrypoint", keeperInside,
	}
	args = append(args, userArgs(b.engine)...)
	args = append(args, gpuArgs(b.engine, c.gpus)...)
	if c.bounds {
		args = append(args, s.spec.Job.Bounds.args()...)
	}
	if s.names != nil {
		args = append(args, "--add-host", blobHostName+":127.0.0.1")
	}
	for _, m := range append([]mount{{path: self[0], at: keeperInside, read: true}}, c.mounts...) {
		args = append(args, "--mount", m.arg())
	}
	args = append(args, s.spec.Job.Image.Name)
	return slices.Concat(args, self[1:], []string{"inside", b.dir})
}

// userArgs let the container's processes be this login's, with its groups, so that they may do with files what it may.
func userArgs(e engine) []string {
	uid, gid := strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid())
	args := []string{"--user", uid + ":" + gid}
	if e.Kind == podman && e.Rootless {
		return append(args, "--userns", "keep-id")
	}
	groups, _ := os.Getgroups()
	for _, g := range groups {
		if n := strconv.Itoa(g); n != gid {
			args = append(args, "--group-add", n)
		}
	}
	return args
}

// gpuArgs show the container the devices that were allotted, and no others.
func gpuArgs(e engine, gpus []string) []string {
	if len(gpus) == 0 {
		return nil
	}
	if e.Kind == docker {
		return []string{"--gpus", `"device=` + strings.Join(gpus, ",") + `"`}
	}
	var args []string
	for _, g := range gpus {
		args = append(args, "--device", "nvidia.com/gpu="+g)
	}
	return args
}

func (b *Bounds) args() []string {
	shm := int64(DefaultShm)
	var args []string
	if b != nil {
		if b.CPUs > 0 {
			args = append(args, "--cpus", strconv.FormatFloat(b.CPUs, 'f', -1, 64))
		}
		if b.Memory > 0 {
			n := strconv.FormatInt(b.Memory, 10)
			args = append(args, "--memory", n, "--memory-swap", n)
		}
		if b.Shm > 0 {
			shm = b.Shm
		}
	}
	return append(args, "--shm-size", strconv.FormatInt(shm, 10))
}
