package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// registryRig is a Docker engine that is logged in to a server of its own.
type registryRig struct {
	dir    string
	socket string
	host   string // of the registry
	server *serverProcess
	images int
}

// startRegistry starts both. The engine takes a registry on loopback without asking for its authority.
func (r *rig) startRegistry(ctx context.Context) (*registryRig, error) {
	g := &registryRig{dir: filepath.Join(r.dir, "registry")}
	at := filepath.Join(g.dir, "docker")
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return nil, err
	}
	said, err := r.start(ctx, "docker", at)
	if err != nil {
		return nil, err
	}
	g.socket = said["SOCKET"]
	if g.server, err = r.startServer(ctx, "registry-data"); err != nil {
		return nil, err
	}
	u, err := url.Parse(g.server.url)
	if err != nil {
		return nil, err
	}
	g.host = "127.0.0.1:" + u.Port()
	_, err = g.docker(ctx, strings.NewReader(g.server.token), "login", "-u", "moorage", "--password-stdin", g.host)
	return g, err
}

// docker runs a command of Docker's and takes its time.
func (g *registryRig) docker(ctx context.Context, in io.Reader, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"-H", "unix://" + g.socket}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Join(g.dir, "config"))
	cmd.Stdin = in
	return timed(func() error {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("docker %s: %w: %s", args[0], err, out)
		}
		return nil
	})
}

// image makes an image of 150 MB that no registry has seen: 1,500 files of 100 KB, of which a third does not compress.
func (g *registryRig) image(ctx context.Context) (name string, err error) {
	g.images++
	name = "local/image:" + strconv.Itoa(g.images)
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeFiles(w, uint64(g.images))) }()
	_, err = g.docker(ctx, r, "import", "-", name)
	return name, errors.Join(err, r.Close())
}

func writeFiles(w io.Writer, seed uint64) error {
	random := rand.NewChaCha8([32]byte{byte(seed), 1})
	line := strings.Repeat("x = 1  # padding that makes a line of sixty four characters..\n", 1600)
	files := tar.NewWriter(w)
	noise := make([]byte, 33<<10)
	for i := range 1500 {
		if _, err := random.Read(noise); err != nil {
			return err
		}
		content := append([]byte(line[:100_000-len(noise)]), noise...)
		if err := files.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/f%d", i%40, i), Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := files.Write(content); err != nil {
			return err
		}
	}
	return files.Close()
}

// there is the time that two ways of an image take: out of the engine and in again, with the engine's own copy removed in
// between.
func (g *registryRig) there(ctx context.Context, name string, out, in []string, outs, ins *[]float64) (time.Duration, error) {
	a, err := g.docker(ctx, nil, out...)
	if err == nil {
		_, err = g.docker(ctx, nil, "rmi", "-f", name)
	}
	if err != nil {
		return 0, err
	}
	b, err := g.docker(ctx, nil, in...)
	*outs, *ins = append(*outs, milliseconds(a)), append(*ins, milliseconds(b))
	return a + b, err
}

// registrySpeed pushes and pulls an image with Docker's engine, and lets the same engine save and load it.
func registrySpeed(ctx context.Context, r *rig, f *figure) error {
	g, err := r.startRegistry(ctx)
	if err != nil {
		return err
	}
	var pushes, pulls, saves, loads []float64
	name := ""
	err = f.ratio(5, "", func() (time.Duration, error) {
		local, err := g.image(ctx)
		name = g.host + "/main/image:" + strconv.Itoa(g.images)
		if err == nil {
			_, err = g.docker(ctx, nil, "tag", local, name)
		}
		if err == nil {
			_, err = g.docker(ctx, nil, "rmi", local)
		}
		if err != nil {
			return 0, err
		}
		return g.there(ctx, name, []string{"push", name}, []string{"pull", name}, &pushes, &pulls)
	}, func() (time.Duration, error) {
		file := filepath.Join(g.dir, "image.tar")
		took, err := g.there(ctx, name, []string{"save", "-o", file, name}, []string{"load", "-i", file}, &saves, &loads)
		if err == nil {
			_, err = g.docker(ctx, nil, "rmi", "-f", name)
		}
		return took, errors.Join(err, os.Remove(file))
	})
	f.Of = fmt.Sprintf("docker save and load; push %.0f ms against save %.0f, pull %.0f against load %.0f", median(pushes), median(saves), median(pulls), median(loads))
	r.registry = g
	return err
}

// registryMemory is the most memory that the server had while the images went through it.
func registryMemory(_ context.Context, r *rig, f *figure) error {
	if r.registry == nil {
		return absent("no image was pushed in this run")
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.registry.server.cmd.Process.Pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			kb, err := strconv.ParseFloat(fields[1], 64)
			f.Value, f.Note = kb/1000, fmt.Sprintf("resident, at its peak; %d images of 150 MB went in and out", r.registry.images)
			return err
		}
	}
	return errors.New("no VmHWM line")
}
