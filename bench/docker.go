package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// dockerRig is a Docker engine that is attached to the rig's server as compute "engine".
type dockerRig struct {
	socket, image string
}

// dockerCommand is the tiny job in a container, where there is no Python.
const dockerCommand = "/bin/echo 7"

// engine starts the engine when it is first needed.
func (r *rig) engine(ctx context.Context) (*dockerRig, error) {
	if r.docker != nil {
		return r.docker, nil
	}
	said, err := r.start(ctx, "docker", filepath.Join(r.dir, "docker"))
	if err != nil {
		return nil, err
	}
	d := &dockerRig{socket: said["SOCKET"], image: said["IMAGE"]}
	out, err := r.cli(ctx, "compute", "attach", "engine", "--kind", "docker", "--address", "docker+unix://"+d.socket,
		"--set", "image="+d.image, "--set", "network=none", "--slots", "2")
	if err != nil {
		return nil, fmt.Errorf("attach: %w\n%s", err, out)
	}
	r.docker = d
	return d, nil
}

// submitDocker compares a job in a container with Docker's own program on the same engine and image.
func submitDocker(ctx context.Context, r *rig, f *figure) error {
	d, err := r.engine(ctx)
	if err != nil {
		return err
	}
	return f.ratio(20, "docker run of the same command", func() (time.Duration, error) {
		name := jobName()
		return timed(func() error {
			return errors.Join(r.server.submitTo(ctx, "engine", name, dockerCommand), r.server.wait(ctx, name))
		})
	}, func() (time.Duration, error) {
		args := append([]string{"-H", "unix://" + d.socket, "run", "--rm", "--network", "none", d.image}, strings.Fields(dockerCommand)...)
		return timed(func() error {
			if out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("docker run: %w: %s", err, out)
			}
			return nil
		})
	})
}

// editedDocker is what one changed line in 1,000 files of 50 MB costs over a job without code, both by the command line.
func editedDocker(ctx context.Context, r *rig, f *figure) error {
	if _, err := r.engine(ctx); err != nil {
		return err
	}
	return r.edited(ctx, f, "engine", 10)
}

// edited compares jobs on a compute whose code changed in one line with jobs that have none.
func (r *rig) edited(ctx context.Context, f *figure, compute string, n int) error {
	dir, err := r.sources()
	if err != nil {
		return err
	}
	tail := "compute: azureml:" + compute + "\ncommand: " + dockerCommand + "\n"
	file, err := r.job(compute+"-sources", "type: command\ncode: ./sources\n"+tail)
	if err != nil {
		return err
	}
	bare, err := r.job(compute+"-bare", "type: command\n"+tail)
	if err != nil {
		return err
	}
	edits := 0
	_, f.Ours, f.Floor, err = pairs(n, func() (time.Duration, error) {
		edits++
		text := fmt.Appendf(nil, "# edit %d of %s\n%s", edits, compute, strings.Repeat("x = 1\n", 8000))
		if err := os.WriteFile(filepath.Join(dir, "pkg7", "m7.py"), text, 0o644); err != nil { // read by another login
			return 0, err
		}
		think(ctx)
		return r.submitFile(ctx, file)
	}, func() (time.Duration, error) {
		think(ctx)
		return r.submitFile(ctx, bare)
	})
	f.Value, f.Of = f.Ours-f.Floor, "the job without code; a second passes between submissions"
	return err
}
