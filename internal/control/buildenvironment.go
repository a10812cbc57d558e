package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// buildExperiment is the experiment of the jobs that do nothing but have their environment made.
const buildExperiment = "environment-builds"

// buildCommand tells what is in the environment that was made.
const buildCommand = `python=$(command -v python || command -v python3) || exit 0
exec "$python" -c 'import sys, importlib.metadata as m
print("Python", sys.version.split()[0], "at", sys.executable)
for name, version in sorted({(d.metadata["Name"] or "", d.version) for d in m.distributions()}): print(name, version)'
`

// Builds has images made of environments, by jobs that wait for them and ahead of any.
type Builds interface {
	// BeginImage wants the image of an environment, for a compute or, without one, for the server's registry, and gives the
	// hash of its build; "" when the environment needs no image.
	BeginImage(ctx context.Context, ws workspace.Workspace, on *store.Compute, spec environment.Spec) (hash string, err error)
	// CancelImage ends a build that is not over.
	CancelImage(ctx context.Context, ws workspace.Workspace, hash string) error
	// BuildsFiles tells whether Dockerfiles are built.
	BuildsFiles() bool
}

// imageBuild begins the id of a build that makes an image, before its hash.
const imageBuild = "image-"

// BuildEnvironment has an environment made before a job needs it and gives the id of that: the build of its image, where one
// is to be made, else a job on the compute that does nothing but have it made. Without a compute it otherwise only checks
// that the environment can be made, and gives "".
func (c *Control) BuildEnvironment(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, version, on string) (build string, err error) {
	v, err := c.Environment(ctx, ws, name, version)
	if err != nil {
		return "", err
	}
	spec, err := c.environmentSpec(ctx, ws, v.Name, v.Version)
	if err == nil {
		spec, err = c.checkEnvironment(ctx, ws, spec)
	}
	if err != nil {
		return "", err
	}
	var target *store.Compute
	if on != "" {
		found, err := c.standsFor(ctx, ws, on)
		if err != nil {
			return "", unknownCompute(err)
		}
		target = &found
	}
	if c.Builds != nil {
		if hash, err := c.Builds.BeginImage(ctx, ws, target, spec); err != nil || hash != "" {
			return imageBuild + hash, err
		}
	}
	if on == "" {
		return "", nil
	}
	properties, err := json.Marshal(map[string]string{
		"jobType": "Command", "command": buildCommand, "experimentName": buildExperiment, "displayName": "build of " + name + ":" + v.Version,
		"computeId": ws.Path() + "/computes/" + on, "environmentId": ws.Path() + "/" + environments + "/" + v.Name + "/versions/" + v.Version,
	})
	if err != nil {
		return "", fmt.Errorf("control: build of %s: %w", name, err)
	}
	build = "build-" + strings.ToLower(c.Clock.NewID())
	_, _, err = c.SubmitJob(ctx, p, ws, build, properties)
	return build, err
}

// unknownCompute makes a compute that is not there the caller's mistake: the client takes NotFound for the environment's absence.
func unknownCompute(err error) error {
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || p.Class != workspace.NotFound {
		return err
	}
	wrong := *p
	wrong.Class = workspace.Invalid
	return &wrong
}

// EnvironmentBuild tells how a build is.
func (c *Control) EnvironmentBuild(ctx context.Context, p workspace.Principal, ws workspace.Workspace, build string) (workspace.State, error) {
	b, err := c.imageBuild(ctx, ws, build)
	if err != nil || b.Hash == "" {
		job, err := c.Job(ctx, p, ws, build)
		return job.State, err
	}
	switch b.Phase {
	case store.ImageReady:
		return workspace.Completed, nil
	case store.ImageFailed:
		return workspace.Failed, nil
	case store.ImageCanceled:
		return workspace.Canceled, nil
	case store.ImageWanted:
		return workspace.Queued, nil
	}
	return workspace.Running, nil
}

// EnvironmentBuildLog writes the log of a build, as far as it is there: of an image, or of a job's preparing and then what it
// printed.
func (c *Control) EnvironmentBuildLog(ctx context.Context, p workspace.Principal, ws workspace.Workspace, build string, w io.Writer) error {
	b, err := c.imageBuild(ctx, ws, build)
	if err != nil {
		return err
	}
	if b.Hash != "" {
		_, err := c.imageLog(ctx, b, 0, w)
		return err
	}
	for _, stream := range []string{"prepare", ""} {
		if _, err := c.JobLog(ctx, p, ws, build, stream, 0, false, w); err != nil {
			return err
		}
	}
	return nil
}

// imageBuild finds the build of an image by its id; the zero ImageBuild when the id is that of a job.
func (c *Control) imageBuild(ctx context.Context, ws workspace.Workspace, build string) (store.ImageBuild, error) {
	hash, ok := strings.CutPrefix(build, imageBuild)
	if !ok {
		return store.ImageBuild{}, nil
	}
	b, err := c.Store.ImageBuild(ctx, ws.ID, hash)
	if errors.Is(err, store.ErrNotFound) {
		return store.ImageBuild{}, nil
	}
	return b, err
}

// imageLog writes the log of an image's build from an offset on, as far as it is home, and gives the offset after it.
func (c *Control) imageLog(ctx context.Context, b store.ImageBuild, from int64, w io.Writer) (int64, error) {
	if b.Log == "" {
		return from, nil
	}
	r, _, err := c.Blob.Get(ctx, b.Log, from, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return from, nil
	}
	if err != nil {
		return from, err
	}
	defer r.Close()
	n, err := io.Copy(w, r)
	return from + n, err
}

// imageBuilding is the code of the reason of a job that waits for its image; the reason's target is the hash of the build.
const imageBuilding = "ImageBuilding"

// waitingLog writes what there is of the log of the image that a job waits for; ok is false when it waits for none.
func (c *Control) waitingLog(ctx context.Context, job store.Job, from int64, w io.Writer) (next int64, ok bool, err error) {
	if job.Reason == nil || job.Reason.Code != imageBuilding {
		return from, false, nil
	}
	b, err := c.Store.ImageBuild(ctx, job.WorkspaceID, job.Reason.Target)
	if errors.Is(err, store.ErrNotFound) {
		return from, false, nil
	}
	if err == nil {
		from, err = c.imageLog(ctx, b, from, w)
	}
	return from, true, err
}

// ImageBuilds lists the builds of images of a workspace, a page at a time by their hash.
func (c *Control) ImageBuilds(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, page store.Page) ([]store.ImageBuild, error) {
	return c.Store.ImageBuilds(ctx, ws.ID, page)
}

// CancelEnvironmentBuild ends a build that is not over, and with it the jobs that wait for its image.
func (c *Control) CancelEnvironmentBuild(ctx context.Context, p workspace.Principal, ws workspace.Workspace, build string) error {
	b, err := c.imageBuild(ctx, ws, build)
	if err != nil {
		return err
	}
	if b.Hash == "" || c.Builds == nil {
		return c.CancelJob(ctx, p, ws, build)
	}
	return c.Builds.CancelImage(ctx, ws, b.Hash)
}

// checkEnvironment says what is wrong with an environment whatever the target, and finds the contexts of its Dockerfiles.
func (c *Control) checkEnvironment(ctx context.Context, ws workspace.Workspace, spec environment.Spec) (environment.Spec, error) {
	builds := c.Builds != nil && c.Builds.BuildsFiles()
	if spec.Build != nil && !builds {
		return spec, environment.Check(spec, c.Curated)
	}
	var err error
	if spec.Build, err = c.buildContext(ctx, ws, spec.Build); err != nil {
		return spec, err
	}
	if builds && spec.Dockerfile {
		if spec.From, err = c.buildContext(ctx, ws, spec.From); err != nil {
			return spec, err
		}
	}
	rest := spec
	rest.Build = nil
	return spec, environment.Check(rest, c.Curated)
}

// buildContext finds where the context of a Dockerfile is.
func (c *Control) buildContext(ctx context.Context, ws workspace.Workspace, b *environment.Build) (*environment.Build, error) {
	if b == nil || b.ContextURI == "" {
		return b, nil
	}
	in, err := c.input(ctx, ws, "build", jobInput{Type: "uri_folder", URI: b.ContextURI})
	if errors.Is(err, &workspace.Problem{Code: "UnsupportedInput"}) || err == nil && in.Tree == "" && in.Prefix == "" {
		return nil, invalid("UnknownContext", "build", "the build context "+quote(b.ContextURI)+" cannot be read by this server", "it is neither on this server nor in a datastore of the workspace",
			"give a folder of your machine as build.path, or upload it to a datastore of the workspace")
	}
	if err != nil {
		return nil, err
	}
	found := *b
	found.Tree, found.Prefix = in.Tree, in.Prefix
	return &found, nil
}

// rootsOfContexts are the snapshots from which environments are built.
func (c *Control) rootsOfContexts(ctx context.Context, yield func(snapshot.Hash, error) bool) error {
	return c.documents(ctx, []string{environments}, func(d store.Document) error {
		var body struct {
			Build *struct {
				ContextURI string `json:"contextUri"`
			} `json:"build"`
		}
		if json.Unmarshal(properties(d.Body), &body) != nil || body.Build == nil {
			return nil
		}
		if m := snapshotURI.FindStringSubmatch(body.Build.ContextURI); m != nil && !yield(snapshot.Hash(m[1]), nil) {
			return errEnough
		}
		return nil
	})
}

// environmentLabels is the collection of labels: a document's version is the label, its body names the version that has it.
const environmentLabels = "environment labels"

// LabelEnvironment gives labels to a version of an environment. A label is one version's at a time. "latest" is nobody's to give.
func (c *Control) LabelEnvironment(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, version string, labels []string) error {
	if _, err := c.Asset(ctx, ws, environments, name, version); err != nil {
		return err
	}
	for _, label := range labels {
		if p := workspace.CheckName("label", label); p != nil {
			return p
		}
		if strings.EqualFold(label, "latest") {
			return invalid("ReservedName", "labels", "the label latest is always that of the newest version", "", "choose another label")
		}
	}
	body, err := json.Marshal(version)
	if err != nil {
		return fmt.Errorf("control: label: %w", err)
	}
	now := c.Clock.Millis()
	return c.Store.Write(ctx, func(tx *store.Tx) error {
		for _, label := range labels {
			_, err := tx.PutDocument(ctx, store.Document{
				WorkspaceID: ws.ID, Collection: environmentLabels, Name: name, Version: label, Body: body, Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// LabelledEnvironment gives the version of an environment that has a label; "latest" is the newest.
func (c *Control) LabelledEnvironment(ctx context.Context, ws workspace.Workspace, name, label string) (EnvironmentVersion, error) {
	if strings.EqualFold(label, "latest") {
		return c.Environment(ctx, ws, name, "")
	}
	doc, err := c.Store.Document(ctx, ws.ID, environmentLabels, name, label)
	if err != nil {
		return EnvironmentVersion{}, assetNotFound(err, environments, name+"@"+label)
	}
	var version string
	if err := json.Unmarshal(doc.Body, &version); err != nil {
		return EnvironmentVersion{}, fmt.Errorf("control: label %s of %s: %w", label, name, err)
	}
	return c.Environment(ctx, ws, name, version)
}
