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
	at := filepath.Join(r.dir, "docker")
	cmd := exec.CommandContext(ctx, "test/servers/docker", "start", at)
	cmd.WaitDelay = time.Second // the engine holds its standard error
	out, err := cmd.Output()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		if x, ok := errors.AsType[*exec.ExitError](err); ok && x.ExitCode() == 3 {
			return nil, absent(stderr(err))
		}
		return nil, fmt.Errorf("docker: %w: %s", err, stderr(err))
	}
	r.closers = append(r.closers, func() { _ = exec.Command("test/servers/docker", "remove", at).Run() })
	d := &dockerRig{}
	for line := range strings.Lines(string(out)) {
		switch k, v, _ := strings.Cut(strings.TrimSpace(line), "="); k {
		case "SOCKET":
			d.socket = v
		case "IMAGE":
			d.image = v
		}
	}
	out, err = r.cli(ctx, "compute", "attach", "engine", "--kind", "docker", "--address", "docker+unix://"+d.socket,
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
	dir, err := r.sources()
	if err != nil {
		return err
	}
	file, err := r.job("docker-sources", "type: command\ncompute: azureml:engine\ncode: ./sources\ncommand: "+dockerCommand+"\n")
	if err != nil {
		return err
	}
	bare, err := r.job("docker-bare", "type: command\ncompute: azureml:engine\ncommand: "+dockerCommand+"\n")
	if err != nil {
		return err
	}
	edits := 0
	_, f.Ours, f.Floor, err = pairs(10, func() (time.Duration, error) {
		edits++
		text := fmt.Appendf(nil, "# edit %d\n%s", edits, strings.Repeat("x = 1\n", 8000))
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
