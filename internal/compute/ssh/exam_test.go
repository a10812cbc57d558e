package ssh

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/test/engine"
)

const waitLimit = 20 * time.Second

func newReader(b []byte) io.Reader { return bytes.NewReader(b) }
func newBuffer() *bytes.Buffer     { return &bytes.Buffer{} }

// nvidiaSMI plays the machine's GPUs.
const nvidiaSMI = `#!/bin/sh
case "$*" in
*--query-gpu=*) echo "0, GPU-0, Exam GPU, 8192 MiB"; echo "1, GPU-1, Exam GPU, 8192 MiB" ;;
*) echo "GPU 0: Exam GPU (UUID: GPU-0)"; echo "GPU 1: Exam GPU (UUID: GPU-1)" ;;
esac
`

func TestSSHPassesTheExam(t *testing.T) {
	server := engine.StartSSHD(t, engine.SSHDOptions{})
	server.WriteHome(t, ".profile", "PATH=$HOME/bin:$PATH\n", 0o644)
	server.WriteHome(t, "bin/nvidia-smi", nvidiaSMI, 0o755)
	shared := filepath.Join(server.Home, "shared")
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
		p := proxies[place]
		if p == nil {
			p = engine.StartProxy(t, server.Addr)
			proxies[place] = p
		}
		return p
	}
	open := func(ctx context.Context, env compute.Env, w computetest.Want) (compute.Target, error) {
		s := settingsFor(t, server)
		s.Address = "ssh://" + server.User + "@" + proxy(w.Place).Addr
		s.Folder, s.Slots = "~/moorage "+w.Place, w.Slots
		if w.Refused {
			s.PrivateKey = anotherKey(t)
		}
		b, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		env.Keeper = keeper
		return Driver{}.Open(ctx, b, env)
	}
	computetest.Run(t, open, computetest.Options{
		Limits: Driver{}.Limits(), Processes: true, Shared: shared,
		Folder: func(place string) string { return filepath.Join(server.Home, "moorage "+place) },
		Outage: func(_ *testing.T, place string, down bool) { proxy(place).Refuse(down) },
	})
}

func anotherKey(t testing.TB) string {
	private, _ := engine.NewKey(t, "")
	return private
}
