package reconcile

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/image"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// imageRig is a rig whose compute runs containers, with servers that have images made by a builder that a test directs.
type imageRig struct {
	*rig
	jobs *JobBuilder

	mu      sync.Mutex
	made    []image.Recipe
	images  map[string]string // of jobs, by name
	removed []string
	make    func(ctx context.Context, r image.Recipe, log io.Writer) error
}

func newImageRig(t *testing.T, containers string) *imageRig {
	t.Helper()
	r := &imageRig{rig: newRig(t, compute.Limits{}), images: map[string]string{}}
	r.compute.Facts = fmt.Appendf(nil, `{"Details":{"containers":%q,"arch":"x86_64"}}`, containers)
	r.jobs = r.builder()
	r.make = func(context.Context, image.Recipe, io.Writer) error { return nil }
	r.build = func(ctx context.Context, row store.Job) (compute.Job, error) {
		job, err := r.jobs.Build(ctx, row, r.compute)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err == nil && job.Image != nil {
			r.images[row.Name] = job.Image.Name
		}
		job.Image, job.Environment, job.Secrets, job.Env = nil, nil, nil, nil // the fake has none
		return job, err
	}
	return r
}

// Build is what a server's builder does.
func (r *imageRig) Build(ctx context.Context, recipe image.Recipe, log io.Writer) (image.Result, error) {
	r.mu.Lock()
	r.made = append(r.made, recipe)
	n := len(r.made)
	r.mu.Unlock()
	fmt.Fprintln(log, "build", n)
	return image.Result{Name: recipe.Name, Digest: "sha256:1"}, r.make(ctx, recipe, log)
}

// imageOf is the image that a job was handed over with.
func (r *imageRig) imageOf(job store.Job) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.images[job.Name]
}

func (r *imageRig) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.made)
}

// builds starts what a server needs to build images; stop ends it.
func (r *imageRig) builds(holder string) (m *Images, stop func()) {
	r.Helper()
	m = NewImages(ImagesConfig{
		Store: r.store, Blob: r.blob, CAS: r.jobs.CAS, Clock: r.clock(), Log: r.log(), Holder: holder, Lease: 2 * time.Second,
		Place:       func(store.Compute, map[string]string) (string, bool) { return "", true },
		Builder:     func(context.Context, workspace.Workspace, string) (image.Builder, error) { return r, nil },
		Dockerfiles: func(string) bool { return true },
		Login: func(_ context.Context, _ workspace.Workspace, image string) (*compute.Login, error) {
			return map[string]*compute.Login{"private.test/base": {Server: "private.test", Username: "ann"}}[image], nil
		},
		Remove: func(_ context.Context, _ workspace.Workspace, b store.ImageBuild) error {
			r.removed = append(r.removed, b.Image)
			return nil
		},
		Name: func(_ context.Context, ws workspace.Workspace, _, tag string) (string, error) {
			return "registry.test/" + ws.Name + "/env:" + tag, nil
		},
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.Cleanup(stop)
	return m, stop
}

// needs gives a job an environment.
func needs(spec environment.Spec) func(*store.Job, *workspace.JobSpec) {
	return func(_ *store.Job, s *workspace.JobSpec) { s.Environment, _ = json.Marshal(spec) }
}

var fromText = environment.Spec{Build: &environment.Build{Text: "FROM scratch\n"}}

// waits waits until a job waits for its image, and gives the hash of the build.
func (r *imageRig) waits(job store.Job) string {
	r.Helper()
	row := r.until(job, "waits for its image", func(row store.Job) bool {
		return row.State == workspace.Preparing && row.Reason != nil && row.Reason.Code == ImageBuilding
	})
	return row.Reason.Target
}

func TestOneBuildServesAllJobsThatWaitForIt(t *testing.T) {
	r := newImageRig(t, "docker")
	gate := make(chan struct{})
	r.make = func(ctx context.Context, _ image.Recipe, _ io.Writer) error {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return context.Cause(ctx)
	}
	r.jobs.Images, _ = r.builds("one")
	r.serve("one")
	var jobs []store.Job
	for n := range 6 { // more than the compute has room for
		jobs = append(jobs, r.submit(fmt.Sprintf("needs-%d", n), needs(fromText)))
	}
	other := r.submit("other")
	hash := r.waits(jobs[0])
	for _, j := range jobs {
		if got := r.waits(j); got != hash {
			t.Errorf("job %s waits for %s, and the first for %s", j.Name, got, hash)
		}
	}
	r.state(other, workspace.Completed) // those that wait take no room
	close(gate)
	for _, j := range jobs {
		r.state(j, workspace.Completed)
		r.once(j)
		if got := r.imageOf(j); got != "registry.test/main/env:"+hash {
			t.Errorf("job %s ran in %q", j.Name, got)
		}
	}
	late := r.submit("late", needs(fromText))
	r.state(late, workspace.Completed)
	if r.count() != 1 {
		t.Errorf("the image was built %d times", r.count())
	}
}

func TestAFailedBuildFailsItsJobsAndIsTriedByTheNext(t *testing.T) {
	r := newImageRig(t, "docker")
	var mended atomic.Bool
	r.make = func(context.Context, image.Recipe, io.Writer) error {
		if !mended.Load() {
			return &workspace.Problem{Class: workspace.Invalid, Code: "ImageBuildFailed", Message: "step 2 failed"}
		}
		return nil
	}
	r.jobs.Images, _ = r.builds("one")
	r.serve("one")
	job := r.submit("breaks", needs(fromText))
	row := r.state(job, workspace.Failed)
	if row.Error == nil || row.Error.Code != "ImageBuildFailed" {
		t.Errorf("the job failed with %v", row.Error)
	}
	var log bytes.Buffer
	if _, err := (tracking.JobLog{Blob: r.blob}).ReadPreparing(t.Context(), row, 0, &log); err != nil || !strings.Contains(log.String(), "build 1\nerror: step 2 failed") {
		t.Errorf("its log of preparing is %q (%v)", log.String(), err)
	}
	mended.Store(true)
	r.pass(time.Second)
	r.state(r.submit("works", needs(fromText)), workspace.Completed)
	if r.count() != 2 {
		t.Errorf("the image was built %d times", r.count())
	}
}

func TestABuildIsTriedAgainWhenARegistryIsDown(t *testing.T) {
	r := newImageRig(t, "docker")
	r.make = func(context.Context, image.Recipe, io.Writer) error {
		if r.count() < 2 {
			return &workspace.Problem{Class: workspace.Unavailable, Code: "RegistryFailed", Message: "the registry is down", Cause: "refused"}
		}
		return nil
	}
	r.jobs.Images, _ = r.builds("one")
	r.serve("one")
	job := r.submit("patient", needs(fromText))
	r.until(job, "says why it waits", func(row store.Job) bool {
		return row.Reason != nil && strings.Contains(row.Reason.Cause, "the registry is down")
	})
	r.state(job, workspace.Completed)
}

func TestAnotherServerTakesABuildOver(t *testing.T) {
	r := newImageRig(t, "docker")
	r.make = func(ctx context.Context, _ image.Recipe, _ io.Writer) error {
		if r.count() == 1 {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}
	var stop func()
	r.jobs.Images, stop = r.builds("one")
	r.serve("one")
	job := r.submit("moves", needs(fromText))
	r.waits(job)
	r.eventually("it is begun", func() bool { return r.count() == 1 })
	stop()
	r.builds("two")
	r.state(job, workspace.Completed)
	r.once(job)
	if r.count() != 2 {
		t.Errorf("the image was built %d times", r.count())
	}
}

func TestACanceledBuildEndsItsJobs(t *testing.T) {
	r := newImageRig(t, "docker")
	r.make = func(ctx context.Context, _ image.Recipe, _ io.Writer) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	r.jobs.Images, _ = r.builds("one")
	r.serve("one")
	first, second := r.submit("first", needs(fromText)), r.submit("second", needs(fromText))
	hash := r.waits(second)
	r.waits(first)
	r.cancel(first)
	r.state(first, workspace.Canceled) // and the other waits on
	r.eventually("it is begun", func() bool { return r.count() == 1 })
	if err := r.jobs.Images.Cancel(t.Context(), workspace.Workspace{ID: "w"}, hash); err != nil {
		t.Fatal(err)
	}
	if row := r.state(second, workspace.Failed); row.Error == nil || row.Error.Code != "ImageCanceled" {
		t.Errorf("the job failed with %v", row.Error)
	}
}

func TestPodsHaveTheirPackagesInTheImage(t *testing.T) {
	conda := environment.Spec{Image: "python:3.12", CondaFile: "dependencies:\n- python=3.12\n- numpy=1.26\n- pip:\n  - six==1.16.0\n"}
	for _, containers := range []string{"kubernetes", "docker"} {
		r := newImageRig(t, containers)
		m, _ := r.builds("one")
		spec, err := m.For(t.Context(), Needed{Workspace: workspace.Workspace{ID: "w"}, Compute: r.compute, Facts: map[string]string{"containers": containers, "arch": "aarch64"}, Spec: conda}, store.Job{ID: "j"})
		if containers == "docker" { // an engine keeps environments itself
			if err != nil || spec.Image != "python:3.12" || spec.CondaFile == "" {
				t.Errorf("%s: %+v (%v)", containers, spec, err)
			}
			continue
		}
		if _, ok := errors.AsType[*imagePending](err); !ok {
			t.Fatalf("%s: %+v (%v)", containers, spec, err)
		}
		r.eventually("it is built", func() bool { return r.count() == 1 })
		r.eventually("it is ready", func() bool {
			spec, err = m.For(t.Context(), Needed{Workspace: workspace.Workspace{ID: "w"}, Compute: r.compute, Facts: map[string]string{"containers": containers, "arch": "aarch64"}, Spec: conda}, store.Job{ID: "j"})
			return err == nil
		})
		if spec.CondaFile != "" || !strings.HasPrefix(spec.Image, "registry.test/main/env:") {
			t.Errorf("the job runs with %+v", spec)
		}
		r.mu.Lock()
		got := r.made[0]
		r.mu.Unlock()
		if got.Base != "python:3.12" || got.Platform != "linux/arm64" || got.Packages == nil || got.Packages.Python != "3.12" || strings.Join(got.Packages.Requirements, " ") != "numpy==1.26.* six==1.16.0" {
			t.Errorf("the recipe is %+v %+v", got, got.Packages)
		}
	}
}

func TestABuildContextOfTheBlobStoreReachesTheBuilder(t *testing.T) {
	r := newImageRig(t, "docker")
	r.put("c/data/ctx/Dockerfile", "FROM scratch\n")
	r.put("c/data/ctx/sub/a.txt", "a")
	names := make(chan []string, 1)
	r.make = func(ctx context.Context, recipe image.Recipe, _ io.Writer) error {
		var b bytes.Buffer
		if err := recipe.Dockerfile.Context.Tar(ctx, &b); err != nil {
			return err
		}
		var found []string
		for in := tar.NewReader(&b); ; {
			h, err := in.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					return err
				}
				names <- found
				return nil
			}
			found = append(found, h.Name)
		}
	}
	r.jobs.Images, _ = r.builds("one")
	r.serve("one")
	job := r.submit("context", needs(environment.Spec{Build: &environment.Build{ContextURI: "azureml://x", Prefix: "c/data/ctx/"}}))
	r.state(job, workspace.Completed)
	if got := strings.Join(<-names, " "); got != "Dockerfile sub/ sub/a.txt" {
		t.Errorf("the builder got %s", got)
	}
}

func TestBuildersGetTheLoginsOfTheirBasesOnly(t *testing.T) {
	r := newImageRig(t, "docker")
	r.jobs.Images, _ = r.builds("one")
	r.serve("one")
	r.state(r.submit("private", needs(environment.Spec{Build: &environment.Build{Text: "FROM private.test/base\nCOPY --from=public.test/x /a /b\n"}})), workspace.Completed)
	if got := r.made[0].Logins; len(got) != 1 || got[0].Server != "private.test" || got[0].Username != "ann" {
		t.Errorf("the builder got %+v", got)
	}
}

func TestImagesThatNobodyUsesGo(t *testing.T) {
	r := newImageRig(t, "docker")
	var stop func()
	r.jobs.Images, stop = r.builds("one")
	r.serve("one")
	job := r.submit("used", needs(fromText))
	row := r.state(job, workspace.Completed)
	stop()
	m := r.jobs.Images
	if err := m.sweep(t.Context()); err != nil || len(r.removed) > 0 {
		t.Errorf("removed %v (%v)", r.removed, err)
	}
	r.ahead.Add(int64(91 * 24 * time.Hour))
	if err := m.sweep(t.Context()); err != nil || len(r.removed) != 1 || r.removed[0] != r.imageOf(row) {
		t.Errorf("removed %v (%v)", r.removed, err)
	}
	left, err := r.blob.List(t.Context(), "imagelog/", "", "", 0)
	if err != nil || len(left.Blobs) > 0 {
		t.Errorf("logs %v stay (%v)", left.Blobs, err)
	}
}

func TestAnImageThatIsGoneIsMadeAnew(t *testing.T) {
	r := newImageRig(t, "docker")
	r.jobs.Images, _ = r.builds("one")
	var lost atomic.Bool
	r.jobs.Images.cfg.There = func(context.Context, workspace.Workspace, store.ImageBuild) (bool, error) {
		return !lost.Swap(false), nil
	}
	r.serve("one")
	r.state(r.submit("first", needs(fromText)), workspace.Completed)
	lost.Store(true)
	r.state(r.submit("second", needs(fromText)), workspace.Completed)
	if r.count() != 2 {
		t.Errorf("the image was built %d times", r.count())
	}
}
