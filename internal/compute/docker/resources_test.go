package docker

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// resourcesAreGiven asks the engine for limits and looks from inside.
func resourcesAreGiven(t *testing.T, b bench) {
	target := b.attach(t, nil)
	j := job(target, `
c=/sys/fs/cgroup
cat $c/cpu/cpu.cfs_quota_us $c/cpu.max 2>/dev/null | cut -d' ' -f1
cat $c/memory/memory.limit_in_bytes $c/memory.max 2>/dev/null
df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2`)
	j.Resources = compute.Resources{CPULimit: 0.5, MemoryLimit: 96 << 20, Shm: 8 << 20}
	h := submit(t, target, j)
	if x := until(t, target, h, compute.Ended).Exit; x.Outcome != compute.Succeeded {
		t.Fatalf("exit: %+v", x)
	}
	if got := strings.Join(strings.Fields(logOf(t, target, h)), " "); got != "50000 100663296 8192" {
		t.Errorf("seen from inside: %q", got)
	}
}

func memoryRunsOut(t *testing.T, b bench) {
	target := b.attach(t, nil)
	// The command itself, a child of it, and a child of one that goes on and fails by itself.
	for _, command := range []string{"exec tail /dev/zero", "tail /dev/zero", "tail /dev/zero | cat; echo still here; exit 137"} {
		j := job(target, command)
		j.Resources = compute.Resources{MemoryLimit: 32 << 20}
		h := submit(t, target, j)
		x := until(t, target, h, compute.Ended).Exit
		if x.Outcome != compute.Failed || x.Code != 137 || x.Problem == nil || x.Problem.Code != "OutOfMemory" || !strings.Contains(x.Problem.Cause, "32 MiB") || x.Problem.Mend == "" {
			t.Errorf("%s: %+v %v", command, x, x.Problem)
		}
	}
}

// simulator answers like an engine as far as the creation of a container, and keeps what it was asked for. It is no engine:
// nothing runs on it.
type simulator struct {
	*httptest.Server
	info map[string]any

	mu  sync.Mutex
	got []container.HostConfig
}

func simulate(t *testing.T, info map[string]any) *simulator {
	t.Helper()
	s := &simulator{info: info}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.51")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case strings.HasSuffix(r.URL.Path, "/info"):
			_ = json.NewEncoder(w).Encode(s.info)
		case strings.HasSuffix(r.URL.Path, "/containers/create"):
			var asked struct{ HostConfig container.HostConfig }
			_ = json.NewDecoder(r.Body).Decode(&asked)
			s.mu.Lock()
			s.got = append(s.got, asked.HostConfig)
			s.mu.Unlock()
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, `{"message": "a simulator runs nothing"}`)
		default:
			_, _ = io.WriteString(w, `{}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestEngineIsAskedForGPUs(t *testing.T) {
	keeper := keeperProgram(t)
	nvidia := map[string]any{"NCPU": 2, "Architecture": "x86_64", "OSType": "linux", "Runtimes": map[string]any{"nvidia": map[string]any{"path": "nvidia-container-runtime"}}}
	devices := func(names ...string) map[string]any {
		all := []map[string]string{}
		for _, n := range names {
			all = append(all, map[string]string{"Source": "cdi", "ID": n})
		}
		return map[string]any{"NCPU": 2, "Architecture": "x86_64", "OSType": "linux", "DiscoveredDevices": all}
	}
	plain := map[string]any{"NCPU": 2, "Architecture": "x86_64", "OSType": "linux"}
	for _, c := range []struct {
		what   string
		info   map[string]any
		set    int
		wanted int
		ask    string // as JSON
		code   string // of the refusal
		told   string // Details["gpus"]
	}{
		{"hook, and a number", nvidia, 4, 2, `[{"Driver":"","Count":-1,"DeviceIDs":null,"Capabilities":[["gpu"]],"Options":null}]`, "", "4"},
		{"hook, no number", nvidia, 0, 1, "", "GPUsUnknown", ""},
		{"hook, too many", nvidia, 2, 3, "", "NotEnoughGPUs", "2"},
		{"devices", devices("nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"), 0, 2, `[{"Driver":"cdi","Count":0,"DeviceIDs":["nvidia.com/gpu=all"],"Capabilities":null,"Options":null}]`, "", "2"},
		{"devices of another maker", devices("example.com/nic=0"), 0, 1, "", "NoGPUs", ""},
		{"nothing", plain, 0, 1, "", "NoGPUs", ""},
		{"nothing asked for", nvidia, 4, 0, `null`, "", "4"},
	} {
		s := simulate(t, c.info)
		b := bench{keeper: keeper}
		target := b.at(t, "docker+tcp://"+strings.TrimPrefix(s.URL, "http://"), func(o *Settings, _ *compute.Env) { o.GPUs, o.Image = c.set, "any:1" })
		if f, err := target.Probe(t.Context()); err != nil || f.Details["gpus"] != c.told {
			t.Errorf("%s: probe %v, %v", c.what, f.Details, err)
		}
		j := job(target, "exit 0")
		j.GPUs = c.wanted
		o, err := target.order(t.Context(), j)
		if p, _ := errors.AsType[*workspace.Problem](err); c.code != "" {
			if !errors.Is(err, compute.ErrInvalid) || p == nil || p.Code != c.code || p.Mend == "" {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		} else if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if _, err := target.create(t.Context(), o, "store"); err == nil || !strings.Contains(err.Error(), "runs nothing") {
			t.Errorf("%s: %v", c.what, err)
		}
		asked, err := json.Marshal(s.got[0].DeviceRequests)
		if err != nil || string(asked) != c.ask {
			t.Errorf("%s: the engine was asked for %s", c.what, asked)
		}
		if len(o.layout.GPUs) > 0 != (c.wanted > 0) {
			t.Errorf("%s: the supervisor allots of %v", c.what, o.layout.GPUs)
		}
	}
}
