package reconcile

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/image"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Images has images made of environments: one build for all jobs that need an image, whichever server they belong to. A
// job asks by For and waits; Run begins what is wanted.
type Images struct {
	cfg ImagesConfig

	mu      sync.Mutex
	waiting map[buildKey]map[store.Hint]bool // jobs of this server that wait for a build
	kick    chan struct{}
}

type buildKey struct{ workspace, hash string }

// ImagesConfig is what Images are made of.
type ImagesConfig struct {
	Store *store.Store
	Blob  blob.Store
	CAS   *blob.CAS
	Clock clock.Source
	Log   *slog.Logger
	// Holder is this process's id, and Lease how long a silent server keeps what it builds; 0 is 30 s.
	Holder string
	Lease  time.Duration
	// Parallel bounds the builds of this server at a time; 0 is 2.
	Parallel int
	// Place tells where images for a compute go, by its kind and the details of its facts: "" is the server's registry. ok is
	// false when there is no builder whose images the compute could use.
	Place func(c store.Compute, facts map[string]string) (place string, ok bool)
	// Builder gives what makes a workspace's images for a place.
	Builder func(ctx context.Context, ws workspace.Workspace, place string) (image.Builder, error)
	// Dockerfiles tells whether the builder of a place builds them too; nil: none does.
	Dockerfiles func(place string) bool
	// Name gives the name of an image, as those who pull it write it; tag is a hash.
	Name func(ctx context.Context, ws workspace.Workspace, place, tag string) (string, error)
	// Login gives a workspace's login for an image, nil for one that is had without; a nil function: there are none.
	Login func(ctx context.Context, ws workspace.Workspace, image string) (*compute.Login, error)
	// There tells whether an image that was made is still where it was put; nil: it is.
	There func(ctx context.Context, ws workspace.Workspace, b store.ImageBuild) (bool, error)
	// Keep is how long an image stays that no job uses; 0 is 90 days. Remove takes it away from where it is; nil: it stays.
	Keep   time.Duration
	Remove func(ctx context.Context, ws workspace.Workspace, b store.ImageBuild) error
}

// NewImages makes Images; Run must be running for builds to begin.
func NewImages(cfg ImagesConfig) *Images {
	cfg.Lease, cfg.Parallel, cfg.Keep = cmp.Or(cfg.Lease, 30*time.Second), cmp.Or(cfg.Parallel, 2), cmp.Or(cfg.Keep, 90*24*time.Hour)
	return &Images{cfg: cfg, waiting: map[buildKey]map[store.Hint]bool{}, kick: make(chan struct{}, 1)}
}

// ImageBuilding is the code of the reason why a job waits for its image. The reason's target is the hash of the build.
const ImageBuilding = "ImageBuilding"

// imagePending says that a job's image is not there yet.
type imagePending struct{ reason *workspace.Problem }

func (p *imagePending) Error() string { return p.reason.Error() }

// imageRecipe is what is kept of what an image is made of.
type imageRecipe struct {
	Platform string         `json:"platform"`
	Base     string         `json:"base,omitempty"`
	Build    *contextRecipe `json:"build,omitempty"`
	Packages *packageRecipe `json:"packages,omitempty"`
	Say      []string       `json:"say,omitempty"`
}

type contextRecipe struct {
	Tree string `json:"tree,omitempty"`
	Path string `json:"path,omitempty"`
	Text string `json:"text,omitempty"`
}

type packageRecipe struct {
	Requirements []string `json:"requirements"`
	Flags        []string `json:"flags,omitempty"`
	Python       string   `json:"python,omitempty"`
	Exact        bool     `json:"exact,omitempty"`
}

// Needed is an environment whose image is to be made.
type Needed struct {
	Workspace workspace.Workspace
	Compute   store.Compute
	Facts     map[string]string // the details of the compute's facts
	Spec      environment.Spec
	Tools     environment.Tools
	Curated   environment.Curated
	// Tree makes what lies below a place in the blob store into a snapshot.
	Tree func(ctx context.Context, prefix string) (snapshot.Hash, error)
	// Packed wants the packages in the image, even where the compute could install them itself.
	Packed bool
}

// packed tells whether packages belong into the image: pods begin anew each time, while an engine keeps environments.
func (n Needed) packed() bool { return n.Packed || n.Facts["containers"] == "kubernetes" }

// contained tells whether the compute runs jobs in containers.
func (n Needed) contained() bool {
	c := n.Facts["containers"]
	return c == "docker" || c == "kubernetes" || c == "machine"
}

// For gives the spec that stands for n.Spec now that its image is made. A spec that needs none made is given back as it is. An image
// that is not there yet is wanted from now on, and the error an imagePending; one that failed since the job was made is the
// build's Problem, and the job's log of preparing is the build's. m may be nil: nothing is built.
func (m *Images) For(ctx context.Context, n Needed, job store.Job) (environment.Spec, error) {
	b, in, err := m.want(ctx, n, job.Created)
	if err != nil || b.Hash == "" {
		return n.Spec, err
	}
	switch b.Phase {
	case store.ImageReady:
		m.forget(b, job)
		return in.Within(n.Spec, b.Image, n.packed()), nil
	case store.ImageFailed, store.ImageCanceled:
		m.forget(b, job)
		if err := m.keepLog(ctx, b, job); err != nil {
			return n.Spec, err
		}
		return n.Spec, failure(b)
	}
	m.await(b, job)
	return n.Spec, &imagePending{reason: pendingReason(b)}
}

// Begin wants an image ahead of any job and gives the hash of its build; "" when nothing has to be made.
func (m *Images) Begin(ctx context.Context, n Needed) (hash string, err error) {
	if m == nil {
		return "", nil
	}
	b, _, err := m.want(ctx, n, m.cfg.Clock.Millis())
	return b.Hash, err
}

// want finds or adds the build of an image. A build that was over before since is wanted again unless it is ready.
func (m *Images) want(ctx context.Context, n Needed, since int64) (store.ImageBuild, environment.Ingredients, error) {
	if m == nil || !n.contained() {
		return store.ImageBuild{}, environment.Ingredients{}, nil
	}
	place, ok := m.cfg.Place(n.Compute, n.Facts)
	if !ok {
		return store.ImageBuild{}, environment.Ingredients{}, nil
	}
	in, err := environment.ReadIngredients(n.Spec, n.Tools, n.Curated, n.Facts["image"])
	if err != nil {
		return store.ImageBuild{}, in, err
	}
	if in.Build != nil && (m.cfg.Dockerfiles == nil || !m.cfg.Dockerfiles(place)) {
		if n.Spec.Build != nil {
			return store.ImageBuild{}, in, image.NoBuilder()
		}
		return store.ImageBuild{}, in, nil // one of azureml-core, which the plan goes on without, and says so
	}
	packages := len(in.Requirements) > 0 && n.packed() && (in.Base != "" || in.Build != nil)
	if in.Build == nil && !packages {
		return store.ImageBuild{}, in, nil
	}
	r, err := m.recipe(ctx, n, in, packages)
	if err != nil {
		return store.ImageBuild{}, in, err
	}
	b, err := m.row(ctx, n.Workspace, place, r, since)
	return b, in, err
}

func (m *Images) recipe(ctx context.Context, n Needed, in environment.Ingredients, packages bool) (imageRecipe, error) {
	r := imageRecipe{Platform: "linux/" + goarch(n.Facts["arch"]), Base: in.Base}
	if b := in.Build; b != nil {
		r.Build = &contextRecipe{Tree: b.Tree, Path: b.DockerfilePath, Text: b.Text}
		if b.Prefix != "" {
			tree, err := n.Tree(ctx, strings.TrimSuffix(b.Prefix, "/")+"/")
			if err == nil && tree == "" {
				err = &workspace.Problem{
					Class: workspace.Invalid, Code: "MissingContext", Target: "environment", Message: "the build context of the environment has no files",
					Cause: "nothing is stored at " + b.ContextURI, Mend: "register the environment again, so that its context is uploaded",
				}
			}
			if err != nil {
				return r, err
			}
			r.Build.Tree = string(tree)
		}
		if r.Build.Tree == "" && r.Build.Text == "" {
			return r, &workspace.Problem{
				Class: workspace.Unsupported, Code: "UnknownContext", Target: "environment", Message: "the build context " + b.ContextURI + " cannot be read by this server",
				Mend: "give a folder of your machine as build.path, or upload it to a datastore",
			}
		}
	}
	if packages {
		r.Packages = &packageRecipe{Requirements: in.Requirements, Flags: in.Flags, Python: in.Python, Exact: in.Exact}
		r.Say = in.Say
	}
	return r, nil
}

func goarch(machine string) string {
	switch machine {
	case "", "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return machine
}

// row finds the build of a recipe, or adds it.
func (m *Images) row(ctx context.Context, ws workspace.Workspace, place string, r imageRecipe, since int64) (store.ImageBuild, error) {
	recipe, err := json.Marshal(r)
	if err != nil {
		return store.ImageBuild{}, fmt.Errorf("reconcile: image: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(place), place, recipe))
	hash, now := hex.EncodeToString(sum[:20]), m.cfg.Clock.Millis()
	b, err := m.cfg.Store.ImageBuild(ctx, ws.ID, hash)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return b, err
	case err == nil && b.Phase == store.ImageReady:
		return m.used(ctx, ws, b, now)
	case err == nil && (b.Ended >= since || b.Phase == store.ImageWanted || b.Phase == store.ImageBuilding):
		return b, nil
	}
	err = m.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.WantImageBuild(ctx, store.ImageBuild{WorkspaceID: ws.ID, Hash: hash, Place: place, Recipe: recipe, Created: now}); err != nil {
			return err
		}
		b, err = tx.ImageBuild(ctx, ws.ID, hash)
		return err
	})
	m.wake()
	return b, err
}

// used notes the use of an image that was made. One that is gone is made anew.
func (m *Images) used(ctx context.Context, ws workspace.Workspace, b store.ImageBuild, now int64) (store.ImageBuild, error) {
	there := true
	var err error
	if m.cfg.There != nil {
		there, err = m.cfg.There(ctx, ws, b)
	}
	if err != nil || there && now-b.LastUsed < store.UseGrain.Milliseconds() {
		return b, err
	}
	err = m.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		if !there {
			if err := tx.LoseImageBuild(ctx, b, now); err != nil {
				return err
			}
		}
		if err := tx.UseImageBuild(ctx, ws.ID, b.Hash, now); err != nil {
			return err
		}
		b, err = tx.ImageBuild(ctx, ws.ID, b.Hash)
		return err
	})
	if !there {
		m.wake()
	}
	return b, err
}

func pendingReason(b store.ImageBuild) *workspace.Problem {
	p := &workspace.Problem{Class: workspace.Unavailable, Code: ImageBuilding, Target: b.Hash, Message: "its image is being built"}
	switch {
	case b.Problem != nil:
		p.Message, p.Cause, p.Mend = "its image cannot be built now and is tried again", b.Problem.Message+": "+b.Problem.Cause, b.Problem.Mend
	case b.Phase == store.ImageWanted:
		p.Message = "its image is about to be built"
	}
	return p
}

func failure(b store.ImageBuild) *workspace.Problem {
	if b.Problem != nil {
		return b.Problem
	}
	return &workspace.Problem{Class: workspace.Invalid, Code: "ImageCanceled", Target: "environment", Message: "the build of its image was canceled", Mend: "submit the job again"}
}

// await notes a job that is to be looked at when a build is over, and forget takes the note back.
func (m *Images) await(b store.ImageBuild, job store.Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := buildKey{b.WorkspaceID, b.Hash}
	if m.waiting[key] == nil {
		m.waiting[key] = map[store.Hint]bool{}
	}
	m.waiting[key][store.Hint{ComputeID: job.ComputeID, JobID: job.ID}] = true
}

func (m *Images) forget(b store.ImageBuild, job store.Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := buildKey{b.WorkspaceID, b.Hash}
	delete(m.waiting[key], store.Hint{ComputeID: job.ComputeID, JobID: job.ID})
	if len(m.waiting[key]) == 0 {
		delete(m.waiting, key)
	}
}

// hints takes the jobs that wait for a build.
func (m *Images) hints(b store.ImageBuild) map[store.Hint]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := buildKey{b.WorkspaceID, b.Hash}
	all := m.waiting[key]
	delete(m.waiting, key)
	return all
}

func (m *Images) wake() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// keepLog makes the log of a build that of a job's preparing.
func (m *Images) keepLog(ctx context.Context, b store.ImageBuild, job store.Job) error {
	if b.Log == "" {
		return nil
	}
	r, _, err := m.cfg.Blob.Get(ctx, b.Log, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	return tracking.JobLog{Blob: m.cfg.Blob}.SealPreparing(ctx, job, io.LimitReader(r, maxBuildLog))
}

// lookAgain is after what time a job looks for its image again that nobody hinted at: another server builds it.
const lookAgain = 3 * time.Second

// image makes a job wait for its image, in the state Preparing. It takes no slot meanwhile.
func (s step) image(ctx context.Context, row *store.Job, p *imagePending, r *result) {
	r.failed, r.ended, r.after = false, true, lookAgain
	if row.State == workspace.Preparing && row.Reason != nil && *row.Reason == *p.reason || row.State.Terminal() || row.Wish == store.Cancel {
		return
	}
	row.State, row.Reason = workspace.Preparing, p.reason
	if err := s.write(ctx, row); errors.Is(err, errLeaseLost) {
		r.stale = true
	}
}
