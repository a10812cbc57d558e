package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/catalog"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/fleet"
	"github.com/moorage-ml/moorage/internal/secret"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a Control over fake machines that are attached by address: fake://NAME.
type rig struct {
	*testing.T
	*Control
	dir   string
	world *fake.World
	ws    workspace.Workspace
	admin workspace.Principal
}

func newRig(t *testing.T, others ...compute.Driver) *rig {
	t.Helper()
	r := &rig{T: t, dir: t.TempDir(), world: fake.New(compute.Limits{NoNodes: true}), admin: workspace.Principal{Kind: "administrator", Name: "admin"}}
	t.Cleanup(r.world.Close)
	st, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + filepath.Join(r.dir, "db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	bytes, err := blob.NewDisk(filepath.Join(r.dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bytes.Close() })
	box, err := secret.NewBox([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	curated, err := environment.DefaultCurated()
	if err != nil {
		t.Fatal(err)
	}
	source, log := clock.System(), slog.New(slog.NewTextHandler(t.Output(), nil))
	targets := fleet.New(fleet.Config{
		Drivers: append([]compute.Driver{byAddress{r.world.Driver()}}, others...), Server: "srv", Log: log, Clock: source,
		Settings: func(ctx context.Context, id string) (fleet.Settings, error) { return r.Settings(ctx, id) },
	})
	t.Cleanup(targets.Close)
	r.Control = New(Config{
		Store: st, Blob: bytes, CAS: blob.NewCAS(bytes, st, source), Fleet: targets, Box: box, Catalog: catalog.New(st), Curated: curated,
		Clock: source, Log: log, DefaultCompute: "gpu",
	})
	t.Cleanup(r.Control.Close)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); r.Control.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if r.ws, _, err = r.CreateWorkspace(t.Context(), r.admin, workspace.Workspace{Subscription: "s", ResourceGroup: "g", Name: "main"}); err != nil {
		t.Fatal(err)
	}
	return r
}

// byAddress is the fake's driver with an address in its settings.
type byAddress struct{ compute.Driver }

func (byAddress) Schema() json.RawMessage {
	return json.RawMessage(`{"properties":{"address":{},"slots":{},"folder":{},"password":{"writeOnly":true}}}`)
}

func (d byAddress) Open(ctx context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	var s struct {
		Address, Password string
		Slots             int
	}
	if err := json.Unmarshal(settings, &s); err != nil {
		return nil, err
	}
	u, err := url.Parse(s.Address)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(fake.Settings{Machine: u.Hostname(), Slots: s.Slots, Password: s.Password})
	if err != nil {
		return nil, err
	}
	return d.Driver.Open(ctx, b, env)
}

// attach attaches fake://MACHINE under a name.
func (r *rig) attach(name, address string, change ...func(*AttachRequest)) (store.Compute, error) {
	r.Helper()
	req := AttachRequest{Name: name, Kind: "fake", Address: address}
	for _, c := range change {
		c(&req)
	}
	return r.Attach(r.Context(), r.admin, r.ws, req)
}

func (r *rig) attached(name, address string, change ...func(*AttachRequest)) store.Compute {
	r.Helper()
	c, err := r.attach(name, address, change...)
	if err != nil {
		r.Fatal(err)
	}
	if c.State != store.ComputeSucceeded {
		r.Fatalf("compute %s is %s: %v", name, c.State, c.HealthReason)
	}
	return c
}

func (r *rig) compute(name string) store.Compute {
	r.Helper()
	c, err := r.Compute(r.Context(), r.admin, r.ws, name)
	if err != nil {
		r.Fatal(err)
	}
	return c
}

func settings(text string) func(*AttachRequest) {
	return func(req *AttachRequest) { req.Settings = json.RawMessage(text) }
}

func distinct(req *AttachRequest) { req.Distinct = true }

// refused checks that an error is a problem of that code, which says what to do and holds no secret.
func (r *rig) refused(err error, code string) *workspace.Problem {
	r.Helper()
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || p.Code != code {
		r.Fatalf("got %v, wanted the problem %s", err, code)
	}
	if p.Message == "" || p.Mend == "" {
		r.Errorf("problem %s says neither what nor how: %+v", code, p)
	}
	if strings.Contains(fmt.Sprintf("%+v", *p), hush) {
		r.Errorf("problem %s tells a secret: %+v", code, *p)
	}
	return p
}

// hush is the secret of these tests. It must be found nowhere.
const hush = "h4sh-h4sh"

// nowhere looks for the secret in all that is kept.
func (r *rig) nowhere() {
	r.Helper()
	err := filepath.WalkDir(r.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), hush) {
			r.Errorf("the secret lies in clear in %s", path)
		}
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
}

// submit accepts a command job, with further properties.
func (r *rig) submit(name string, properties ...string) (store.Job, error) {
	r.Helper()
	text := strings.Join(append([]string{`"jobType":"Command","command":"echo hello"`}, properties...), ",")
	job, _, err := r.SubmitJob(r.Context(), r.admin, r.ws, name, json.RawMessage("{"+text+"}"))
	return job, err
}

func (r *rig) submitted(name string, properties ...string) store.Job {
	r.Helper()
	job, err := r.submit(name, properties...)
	if err != nil {
		r.Fatal(err)
	}
	return job
}

// force writes what a reconciler saw of a job.
func (r *rig) force(job store.Job, change func(*store.Job)) store.Job {
	r.Helper()
	row, err := r.Store.JobByID(r.Context(), job.ID)
	if err != nil {
		r.Fatal(err)
	}
	change(&row)
	err = r.Store.Write(r.Context(), func(tx *store.Tx) error {
		tx.Saw(row.ComputeID, row.ID)
		return tx.ForceJob(r.Context(), row)
	})
	if err != nil {
		r.Fatal(err)
	}
	return row
}

func (r *rig) eventually(what string, ok func() bool) {
	r.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			r.Fatalf("not in time: %s", what)
		}
	}
}
