// Package server wires a whole server out of the other packages, and is the only one that knows them all. cmd/moorage
// runs it; test/e2e runs it in process.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/all"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/internal/fleet"
	"github.com/moorage-ml/moorage/internal/keeper/dist"
	"github.com/moorage-ml/moorage/internal/reconcile"
	"github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/secret"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Options are what the wiring takes beside the operator's Config.
type Options struct {
	Log     *slog.Logger
	Clock   clock.Source
	Drivers []compute.Driver
	Version string
	Fault   *fault.Points
}

// Server is a running server.
type Server struct {
	cfg  Config
	opts Options
	log  *slog.Logger

	lock     *os.File
	store    *store.Store
	blob     blob.Store
	cas      *blob.CAS
	images   *registry.Registry
	space    *space
	garbage  *collector
	box      *secret.Box
	auth     *authn.Authenticator
	fleet    *fleet.Fleet
	control  *control.Control
	loop     *reconcile.Loop
	builds   *reconcile.Images
	tracking *tracking.Tracking
	metrics  *prometheus.Registry
	way      *wayBack
	keepers  dist.Programs
	ca       []byte
	tls      *tls.Config

	proxyWord workspace.Secret // of clients elsewhere, see proxy.go

	listener net.Listener
	api      *all.API
	http     *http.Server
	wayHTTP  *http.Server
	work     sync.WaitGroup
	cancel   context.CancelFunc
	failed   chan error
}

// Start brings a server up: when it returns, the server answers. The caller calls Close once.
func Start(ctx context.Context, cfg Config, opts Options) (*Server, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, opts: opts, log: opts.Log, metrics: prometheus.NewRegistry(), failed: make(chan error, 2)}
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	for _, step := range []func(context.Context) error{
		s.openData, s.openKeys, s.wire, s.listen,
		func(context.Context) error { s.serve(running); return nil },
		s.firstStart,
		func(context.Context) error { return s.announce() },
	} {
		if err := step(ctx); err != nil {
			s.Close(ctx)
			return nil, err
		}
	}
	return s, nil
}

// URL is the address by which clients on this machine reach the server.
func (s *Server) URL() string {
	host, port, _ := net.SplitHostPort(s.listener.Addr().String()) // our own listener's address
	if ip := net.ParseIP(host); ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		host = "localhost"
	}
	return "https://" + net.JoinHostPort(host, port)
}

// Data is the data folder.
func (s *Server) Data() string { return s.cfg.Data }

// Failed tells when the server can no longer serve.
func (s *Server) Failed() <-chan error { return s.failed }

// openData locks the data folder and opens what lies in it.
func (s *Server) openData(ctx context.Context) (err error) {
	if s.lock, err = lockData(s.cfg.Data); err != nil {
		return err
	}
	url := s.cfg.Database
	if url == "" {
		url = "sqlite:" + filepath.Join(s.cfg.Data, "moorage.db")
	}
	if s.store, err = store.Open(ctx, store.Config{URL: url, Log: s.log, Clock: s.opts.Clock}); err != nil {
		return err
	}
	if s.cfg.Database == "" { // the lock says that the holders of these are dead
		if err := s.store.Write(ctx, func(tx *store.Tx) error { return tx.FreeLeases(ctx) }); err != nil {
			s.log.Warn("leases of an earlier server could not be freed; they expire", "error", err)
		}
	}
	disk, err := blob.NewDisk(s.cfg.Blobs)
	if err != nil {
		return err
	}
	s.blob = tracking.RunFiles{Store: disk, Rows: s.store}
	s.cas = blob.NewCAS(disk, s.store, s.opts.Clock)
	s.space = &space{folders: []string{s.cfg.Data, s.cfg.Blobs}, min: s.cfg.MinFree, now: s.opts.Clock.Now, log: s.log}
	s.images = registry.New(registry.Config{Store: s.store, Blob: roomyStore{disk, s.space}, Clock: s.opts.Clock})
	return nil
}

// wire makes the parts that decide and work.
func (s *Server) wire(ctx context.Context) error {
	tools, curated, err := s.environments()
	if err != nil {
		return err
	}
	serverID, err := s.serverID(ctx)
	if err != nil {
		return err
	}
	addresses, err := s.addresses()
	if err != nil {
		return err
	}
	s.way = newWayBack(s.tls)
	s.fleet = fleet.New(fleet.Config{
		Drivers:  s.opts.Drivers,
		Settings: func(ctx context.Context, id string) (fleet.Settings, error) { return s.control.Settings(ctx, id) },
		Server:   serverID, Log: s.log, Clock: s.opts.Clock, Objects: s.cas,
		WayBack: s.way.Serve, CA: s.ca, Keeper: s.keepers.Program, Metrics: s.metrics,
	})
	s.control = control.New(control.Config{
		Store: s.store, Blob: s.blob, CAS: s.cas, Images: s.images, Fleet: s.fleet, Box: s.box, Catalog: addresses, Curated: curated,
		Clock: s.opts.Clock, Log: s.log, Fault: s.opts.Fault, Room: s.space.room, Retention: s.cfg.Jobs.Retention,
		AuditRetention: cmp.Or(s.cfg.AuditRetention, auditRetention), DefaultCompute: s.cfg.DefaultCompute, AzureStrict: s.cfg.AzureStrict,
	})
	s.garbage = &collector{control: s.control, store: s.store, holder: "garbage " + s.opts.Clock.NewID(), who: s.auth.Administrator(), log: s.log}
	s.tracking = tracking.New(tracking.Config{Store: s.store, Blob: s.blob, Clock: s.opts.Clock})
	policy := reconcile.DefaultPolicy()
	set(&policy.UnreachableAfter, s.cfg.Jobs.UnreachableAfter)
	set(&policy.Keep, s.cfg.Jobs.Keep)
	set(&policy.Lease, s.cfg.Jobs.Lease)
	grace := 10 * time.Second
	set(&grace, s.cfg.Jobs.Grace)
	if s.builds, err = s.imageBuilds(); err != nil {
		return err
	}
	jobs := &reconcile.JobBuilder{
		Store: s.store, Blob: s.blob, CAS: s.cas, Tools: tools, Curated: curated, Limits: s.fleet.Limits, Grace: grace,
		Credential: s.auth.JobSecret, Token: s.auth.JobToken, ExperimentID: experimentID, Login: s.imageLogin, Images: s.builds,
	}
	s.control.Builds = jobs
	s.loop = reconcile.New(reconcile.Config{
		Store: s.store, Blob: s.blob, CAS: s.cas, Fleet: s.fleet, Builder: jobs,
		Ended:  s.control.RegisterOutputs,
		Server: serverID, Holder: s.opts.Clock.NewID(), Log: s.log, Clock: s.opts.Clock, Policy: policy, Fault: s.opts.Fault,
	})
	return nil
}

func set(to *time.Duration, chosen time.Duration) {
	if chosen > 0 {
		*to = chosen
	}
}

func (s *Server) listen(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: "CannotListen", Message: "the server cannot listen on " + s.cfg.Listen,
			Cause: err.Error(), Mend: "stop what listens there, or choose another address: --listen 127.0.0.1:PORT",
		}
	}
	s.listener = &proxied{Listener: l, name: s.blobHost(), word: s.proxyWord}
	return nil
}

// serve starts everything that runs until Close.
func (s *Server) serve(ctx context.Context) {
	s.api = s.router()
	s.http = api.NewServer(s.api, s.log)
	s.http.TLSConfig = s.tls
	s.wayHTTP = api.NewServer(s.api, s.log)
	s.wayHTTP.ConnContext = wayContext
	s.work.Go(func() { s.control.Run(ctx) })
	s.work.Go(func() { s.garbage.run(ctx) })
	s.work.Go(func() { s.builds.Run(ctx) })
	s.work.Go(func() {
		if err := s.loop.Run(ctx); err != nil {
			s.failed <- err
		}
	})
	s.work.Go(func() {
		if err := s.http.ServeTLS(s.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("server: %w", err)
		}
	})
	s.work.Go(func() { _ = s.wayHTTP.Serve(s.way) }) // ends with Close; each connection has its own fate
}

// Close stops in order: no new requests, jobs left to their targets, leases let go, connections dropped, files closed.
func (s *Server) Close(ctx context.Context) {
	if s.http != nil {
		soft, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		if err := s.http.Shutdown(soft); err != nil {
			_ = s.http.Close() // followers of logs come again
		}
		cancel()
		_ = s.wayHTTP.Close() // jobs' requests wait at the target for the next server
		_ = s.way.Close()     // never fails
	} else if s.listener != nil {
		_ = s.listener.Close() // nothing was served
	}
	s.cancel()
	if s.control != nil {
		s.control.Close()
	}
	s.work.Wait()
	if s.api != nil {
		s.api.Close()
	}
	if s.fleet != nil {
		s.fleet.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Error("the store could not be closed", "error", err)
		}
	}
	if s.lock != nil {
		_ = s.lock.Close() // frees the data folder
	}
}

// firstStart makes what must exist: the first workspace, and this machine as compute "local".
func (s *Server) firstStart(ctx context.Context) error {
	w := s.cfg.Workspace
	admin := s.auth.Administrator()
	ws, created, err := s.control.CreateWorkspace(ctx, admin, workspace.Workspace{
		Subscription: w.Subscription, ResourceGroup: w.ResourceGroup, Name: w.Name, Location: w.Location,
	})
	if err != nil || !created || s.cfg.NoLocal {
		return err
	}
	settings := json.RawMessage(fmt.Sprintf(`{"folder":%q}`, filepath.Join(s.cfg.Data, "local")))
	row, err := s.control.Attach(ctx, admin, ws, control.AttachRequest{Name: "local", Kind: "local", Settings: settings})
	if err == nil && row.State == store.ComputeFailed {
		s.log.Warn("this machine could not be attached as compute local", "problem", row.HealthReason)
	}
	return err
}

// Announcement is what clients on the same machine read from server.json in the data folder.
type Announcement struct {
	URL           string `json:"url"`
	Subscription  string `json:"subscription"`
	ResourceGroup string `json:"resource_group"`
	Workspace     string `json:"workspace"`
	BlobHost      string `json:"blob_host"` // where azureml-core uploads
	Version       string `json:"version"`
	PID           int    `json:"pid"`
}

// announce writes server.json and ca.pem, which hold nothing secret.
func (s *Server) announce() error {
	w := s.cfg.Workspace
	b, err := json.MarshalIndent(Announcement{
		URL: s.URL(), Subscription: w.Subscription, ResourceGroup: w.ResourceGroup, Workspace: w.Name, BlobHost: s.blobHost(), Version: s.opts.Version,
		PID: os.Getpid(),
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("server: announce: %w", err)
	}
	for name, content := range map[string][]byte{"server.json": append(b, '\n'), "ca.pem": s.ca} {
		if err := replace(filepath.Join(s.cfg.Data, name), content); err != nil {
			return fmt.Errorf("server: announce: %w", err)
		}
	}
	return nil
}

// replace writes a file so that readers see the old one or the new one, whole.
func replace(name string, content []byte) error {
	tmp := name + ".tmp"
	if err := os.WriteFile(tmp, content, 0o644); err != nil { // nothing secret, for other logins too
		return err
	}
	return os.Rename(tmp, name)
}
