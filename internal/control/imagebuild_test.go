package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// asked is a Builds that only writes down what is wanted.
type asked struct {
	store *store.Store
	specs []environment.Spec
}

func (a *asked) BeginImage(ctx context.Context, ws workspace.Workspace, _ *store.Compute, spec environment.Spec) (string, error) {
	if spec.Build == nil && !spec.Dockerfile {
		return "", nil
	}
	a.specs = append(a.specs, spec)
	return "h1", a.store.Write(ctx, func(tx *store.Tx) error {
		return tx.WantImageBuild(ctx, store.ImageBuild{WorkspaceID: ws.ID, Hash: "h1", Recipe: []byte("{}")})
	})
}

func (a *asked) CancelImage(ctx context.Context, ws workspace.Workspace, hash string) error {
	return a.store.Write(ctx, func(tx *store.Tx) error { return tx.CancelImageBuild(ctx, ws.ID, hash, 1) })
}

func (a *asked) BuildsFiles() bool { return true }

func (r *rig) rows(fn func(ctx context.Context, tx *store.Tx) error) {
	r.Helper()
	if err := r.Store.Write(r.Context(), func(tx *store.Tx) error { return fn(r.Context(), tx) }); err != nil {
		r.Fatal(err)
	}
}

func dockerfileDefinition(name string) json.RawMessage {
	return json.RawMessage(`{"name":"` + name + `","python":{"userManagedDependencies":true},"docker":{"enabled":true,"baseDockerfile":"FROM scratch\n"}}`)
}

func TestTheBuildOfADockerfileIsTheBuildOfItsImage(t *testing.T) {
	r := newRig(t)
	builds := &asked{store: r.Store}
	r.Builds = builds
	r.register("env", "", dockerfileDefinition("env"))
	build, err := r.BuildEnvironment(t.Context(), r.admin, r.ws, "env", "1", "")
	if err != nil || build != "image-h1" {
		t.Fatalf("%q, %v", build, err)
	}
	if from := builds.specs[0].From; from == nil || from.Text != "FROM scratch\n" {
		t.Errorf("the builder got %+v", builds.specs[0])
	}
	state := func() workspace.State {
		s, err := r.EnvironmentBuild(t.Context(), r.admin, r.ws, build)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := state(); s != workspace.Queued {
		t.Errorf("before it is begun: %s", s)
	}
	var epoch int64
	r.rows(func(ctx context.Context, tx *store.Tx) (err error) {
		epoch, _, err = tx.BeginImageBuild(ctx, r.ws.ID, "h1", "me", "imagelog/h1", time.Minute, 1)
		return err
	})
	if _, err := r.Blob.Put(t.Context(), "imagelog/h1", strings.NewReader("Step 1\n"), 7, blob.Meta{}); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if err := r.EnvironmentBuildLog(t.Context(), r.admin, r.ws, build, &log); err != nil || log.String() != "Step 1\n" || state() != workspace.Running {
		t.Errorf("the log is %q (%v), the state %s", log.String(), err, state())
	}
	r.rows(func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.EndImageBuild(ctx, store.ImageBuild{WorkspaceID: r.ws.ID, Hash: "h1", Holder: "me", Epoch: epoch, Phase: store.ImageReady}, 0)
		return err
	})
	if s := state(); s != workspace.Completed {
		t.Errorf("at its end: %s", s)
	}
}

func TestAJobThatWaitsForItsImageShowsTheBuildsLog(t *testing.T) {
	r := newRig(t)
	builds := &asked{store: r.Store}
	r.Builds = builds
	r.attached("gpu", "fake://m1")
	if _, err := builds.BeginImage(t.Context(), r.ws, nil, environment.Spec{Dockerfile: true}); err != nil {
		t.Fatal(err)
	}
	r.rows(func(ctx context.Context, tx *store.Tx) error {
		_, _, err := tx.BeginImageBuild(ctx, r.ws.ID, "h1", "me", "imagelog/h1", time.Minute, 1)
		return err
	})
	if _, err := r.Blob.Put(t.Context(), "imagelog/h1", strings.NewReader("Step 1\nStep 2\n"), 14, blob.Meta{}); err != nil {
		t.Fatal(err)
	}
	now := int64(1)
	job := store.Job{
		ID: r.Clock.NewID(), WorkspaceID: r.ws.ID, Name: "waits", State: workspace.Preparing, Created: now, Spec: json.RawMessage(`{}`),
		Reason: &workspace.Problem{Code: imageBuilding, Target: "h1", Message: "its image is being built"},
	}
	r.rows(func(ctx context.Context, tx *store.Tx) error { return tx.InsertJob(ctx, job) })
	var log bytes.Buffer
	next, err := r.JobLog(t.Context(), r.admin, r.ws, "waits", "prepare", 7, false, &log)
	if err != nil || log.String() != "Step 2\n" || next != 14 {
		t.Errorf("the log is %q up to %d (%v)", log.String(), next, err)
	}
}

func TestABuildContextIsLookedForWhenTheJobComes(t *testing.T) {
	r := newRig(t)
	spec := environment.Spec{Build: &environment.Build{ContextURI: "azureml://datastores/workspaceblobstore/paths/LocalUpload/1/ctx/"}}
	if _, err := r.checkEnvironment(t.Context(), r.ws, spec); !errors.Is(err, &workspace.Problem{Code: "BuildContextUnsupported"}) {
		t.Errorf("without a builder: %v", err)
	}
	r.Builds = &asked{store: r.Store}
	got, err := r.checkEnvironment(t.Context(), r.ws, spec)
	if err != nil || got.Build.Prefix != "c/azureml-blobstore-"+r.ws.ID+"/LocalUpload/1/ctx" {
		t.Errorf("%+v, %v", got.Build, err)
	}
	for _, uri := range []string{"https://github.com/who/what.git", "git+ssh://x/y"} {
		if _, err := r.checkEnvironment(t.Context(), r.ws, environment.Spec{Build: &environment.Build{ContextURI: uri}}); !errors.Is(err, &workspace.Problem{Code: "UnknownContext"}) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
