package batch

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/compute/local"
	"github.com/moorage-ml/moorage/internal/compute/ssh"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/test/engine"
)

var driver = Driver{Machines: map[string]func(json.RawMessage, compute.Env) (kept.Options, error){"ssh": ssh.Machine, "local": local.Machine}}

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
	return func(goos, goarch string) (compute.Program, error) {
		if goos != runtime.GOOS || goarch != runtime.GOARCH {
			return compute.Program{}, fmt.Errorf("not built: %w", compute.ErrInvalid)
		}
		return p, nil
	}
}

func encode(t *testing.T, settings map[string]any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSlurmOverSSHPassesTheExam(t *testing.T) {
	cluster := engine.StartSlurm(t)
	door := engine.StartSSHD(t, engine.SSHDOptions{})
	if !door.Own {
		engine.Absent(t, "the jobs' user must be a throw-away one, made by root")
	}
	keeper := keeperProgram(t)
	shared := filepath.Join(door.Home, "shared")
	if err := os.Mkdir(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	proxies := map[string]*engine.Proxy{}
	proxy := func(place string) *engine.Proxy {
		mu.Lock()
		defer mu.Unlock()
		if proxies[place] == nil {
			proxies[place] = engine.StartProxy(t, door.Addr)
		}
		return proxies[place]
	}
	folder := func(place string) string { return filepath.Join(door.Home, "moorage "+place) }
	wrong, _ := engine.NewKey(t, "")
	open := func(ctx context.Context, env compute.Env, w computetest.Want) (compute.Target, error) {
		env.Keeper = keeper
		s := map[string]any{
			"address": "slurm+ssh://" + door.User + "@" + proxy(w.Place).Addr, "host_key": door.HostKey, "private_key": door.Key(t),
			"folder": folder(w.Place), "programs": cluster.Programs, "settle": 2,
		}
		if w.Slots == 1 { // one job of a name at a time, in the order in which they came
			s["options"] = []string{"--job-name=" + w.Place, "--dependency=singleton"}
		}
		if w.Refused {
			s["private_key"] = wrong
		}
		return driver.Open(ctx, encode(t, s), env)
	}
	computetest.Run(t, open, computetest.Options{
		Limits: driver.Limits(), Processes: true, Shared: shared, Folder: folder,
		Many:   40, // each is queued by itself
		Outage: func(_ *testing.T, place string, down bool) { proxy(place).Refuse(down) },
	})
}
