package tracking

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/moorage-ml/moorage/internal/blob"
)

// Artifact names an artifact as Azure's artifact service does, or a folder of them: ORIGIN/CONTAINER/PATH
// (azureml-v1.md §8). What MLflow's clients call the artifacts of a run has origin ExperimentRun and container dcid.RUN.
type Artifact struct{ Origin, Container, Path string }

// RunOrigin is the origin of runs' artifacts.
const RunOrigin = "ExperimentRun"

const runContainer = "dcid."

var (
	originName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)
	containerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)
)

// String is the artifact's id.
func (a Artifact) String() string { return a.Origin + "/" + a.Container + "/" + a.Path }

// Run is the run that the artifact belongs to; empty if to none.
func (a Artifact) Run() string {
	if a.Origin != RunOrigin {
		return ""
	}
	return strings.TrimPrefix(a.Container, runContainer)
}

// Check says what is wrong with a name, and gives it without slashes at its end.
func (a Artifact) Check() (Artifact, error) {
	p, err := checkArtifactPath(strings.TrimRight(a.Path, "/"))
	if err != nil {
		return a, err
	}
	a.Path = p
	if len(a.Origin) > 64 || len(a.Container) > 300 || !originName.MatchString(a.Origin) || !containerName.MatchString(a.Container) || a.Origin == RunOrigin && !strings.HasPrefix(a.Container, runContainer) {
		return a, invalid("artifact", "'%s' does not name an artifact; write ORIGIN/CONTAINER/PATH, with ExperimentRun/dcid.RUN for those of a run", clip(a.String()))
	}
	return a, nil
}

// ArtifactBlob gives the blob of an artifact, or what the names of those below it begin with. A job reaches the artifacts of
// its own run and of the runs below it, and those that belong to no run; of these it changes none. Writing needs a run
// that exists.
func (t *Tracking) ArtifactBlob(ctx context.Context, s Scope, a Artifact, use ArtifactUse) (string, error) {
	a, err := a.Check()
	if err != nil {
		return "", err
	}
	name := strings.TrimSuffix("c/"+ArtifactContainer(s.WorkspaceID)+"/"+a.String(), "/")
	if use == ReadArtifact && s.Run == "" {
		return name, nil // what is not there is not found
	}
	if use == WriteArtifact && a.Path == "" {
		return "", missing("path")
	}
	if run := a.Run(); run != "" {
		_, err = s.run(ctx, t.store, run)
		return name, err
	}
	if use == WriteArtifact && s.Run != "" {
		return name, t.absent(ctx, name, a)
	}
	return name, nil
}

// absent refuses a name at which there is something already.
func (t *Tracking) absent(ctx context.Context, name string, a Artifact) error {
	_, err := t.blob.Stat(ctx, name)
	if err == nil {
		return denied("a job may not change '"+clip(a.String())+"', which is there already", "give it another name")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// StatAzureArtifact tells about the artifact that ArtifactBlob gave the name of. What is not there is not found.
func (t *Tracking) StatAzureArtifact(ctx context.Context, name string) (blob.Info, error) {
	info, err := t.blob.Stat(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		err = notFound("path", "No such artifact: '%s'", clip(path.Base(name)))
	}
	return info, err
}

// ArtifactsBelow gives a page of the artifacts whose names begin with what ArtifactBlob gave, as segments: the one of that
// very name, and all below it at any depth; and the token of the next page.
func (t *Tracking) ArtifactsBelow(ctx context.Context, name, token string) (list []blob.Info, next string, err error) {
	var after string
	if err := readToken(token, &after); err != nil {
		return nil, "", err
	}
	if after != "" && !strings.HasPrefix(after, name+"/") {
		return nil, "", badToken()
	}
	if after == "" {
		info, err := t.blob.Stat(ctx, name)
		if err == nil {
			list = append(list, info)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
	}
	page, err := t.blob.List(ctx, name+"/", "", after, MaxFiles)
	if err != nil {
		return nil, "", err
	}
	if page.Next != "" {
		next = writeToken(page.Next)
	}
	return append(list, page.Blobs...), next, nil
}
