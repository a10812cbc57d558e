package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/test/engine"
)

// keeperProgram builds the keeper once, as it is placed on targets.
func keeperProgram(t *testing.T) func(goos, goarch string) (compute.Program, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keeper")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", path, "github.com/moorage-ml/moorage/cmd/keeper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the keeper: %v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := compute.Program{Hash: snapshot.Sum(b), Size: int64(len(b)), Open: func() (io.ReadCloser, error) { return os.Open(path) }}
	return func(string, string) (compute.Program, error) { return p, nil }
}

func settings(t *testing.T, s Settings) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// door stands between the server and an engine's socket, and can be shut.
type door struct {
	path, engine string

	mu    sync.Mutex
	ln    net.Listener
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newDoor(t *testing.T, engine string) *door {
	t.Helper()
	dir, err := os.MkdirTemp("", "door-") //nolint:usetesting // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	d := &door{path: filepath.Join(dir, "sock"), engine: engine, conns: map[net.Conn]bool{}}
	d.open(t)
	t.Cleanup(func() {
		d.shut()
		d.wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return d
}

func (d *door) open(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("unix", d.path)
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.ln = ln
	d.mu.Unlock()
	d.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { d.pass(c) })
		}
	})
}

func (d *door) pass(c net.Conn) {
	up, err := net.Dial("unix", d.engine)
	if err != nil {
		_ = c.Close()
		return
	}
	d.mu.Lock()
	if d.ln == nil {
		_ = c.Close()
	}
	d.conns[c] = true
	d.mu.Unlock()
	var wg sync.WaitGroup
	carry := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.(*net.UnixConn).CloseWrite()
	}
	wg.Go(func() { carry(up, c) })
	wg.Go(func() { carry(c, up) })
	wg.Wait()
	_ = errors.Join(up.Close(), c.Close())
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
}

func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ln == nil {
		return
	}
	_ = d.ln.Close()
	d.ln = nil
	for c := range d.conns {
		_ = c.Close()
	}
}

func TestDockerPassesTheExam(t *testing.T) {
	e := engine.StartDockerWith(t, engine.DockerOptions{GPUs: true})
	keeper := keeperProgram(t)
	var mu sync.Mutex
	doors := map[string]*door{}
	at := func(place string) *door {
		mu.Lock()
		defer mu.Unlock()
		if doors[place] == nil {
			doors[place] = newDoor(t, e.Socket)
		}
		return doors[place]
	}
	open := func(ctx context.Context, env compute.Env, w computetest.Want) (compute.Target, error) {
		env.Keeper = keeper
		slots := w.Slots
		if slots == 0 {
			slots = 4
		}
		s := Settings{Address: "docker+unix://" + at(w.Place).path, Image: e.Image, Slots: slots, Network: "none", GPUs: w.GPUs}
		return Driver{Slots: "moorage.slots." + w.Place}.Open(ctx, settings(t, s), env)
	}
	computetest.Run(t, open, computetest.Options{
		Limits:    Driver{}.Limits(),
		Many:      40, // each is a container
		Processes: true, Image: e.Image, OtherImage: e.Other,
		Outage: func(t *testing.T, place string, down bool) {
			d := at(place)
			d.shut()
			if !down {
				d.open(t)
			}
		},
		Skip: map[string]string{
			"refused":                   "the engine is started by root, who may use every socket",
			"DialReachesAPortOfTheJob":  "the test's image has no Python",
			"InputIsFetchedByTheTarget": "the test's containers have no network",
		},
	})
}
