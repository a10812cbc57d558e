package tracking

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/moorage-ml/moorage/internal/blob"
)

// ArtifactContainer is the blob container of a workspace's artifacts, under the name that Azure gives it.
func ArtifactContainer(workspaceID string) string { return "azureml-artifacts-" + workspaceID }

// ArtifactPrefix is what the blob names of a run's artifacts begin with. MLflow's artifact proxy, Azure's artifact
// services and jobs' logs and outputs all mean these same blobs.
func ArtifactPrefix(workspaceID, runID string) string {
	return "c/" + ArtifactContainer(workspaceID) + "/ExperimentRun/dcid." + runID + "/"
}

// loosePrefix is where artifacts lie that belong to no run.
func loosePrefix(workspaceID string) string {
	return "c/" + ArtifactContainer(workspaceID) + "/MLflow/"
}

// File is one entry of a listing.
type File struct {
	Path   string
	Folder bool
	Size   int64
}

// MaxFiles is how many entries one page of a listing holds.
const MaxFiles = 1000

var drive = regexp.MustCompile(`^[A-Za-z]:`)

// checkArtifactPath refuses paths that could leave the folder that they are meant for, on the server or on a client that
// downloads them, also when they are percent-encoded once or twice more. It gives the path without slashes at its ends.
func checkArtifactPath(p string) (string, error) {
	bad := invalid("path", "Invalid path: '%s'", clip(p))
	clean := strings.TrimSuffix(p, "/")
	for decoded, i := clean, 0; i < 3; i++ {
		slashes := strings.ReplaceAll(decoded, `\`, "/")
		if strings.HasPrefix(slashes, "/") || drive.MatchString(slashes) || strings.ContainsRune(slashes, 0) {
			return "", bad
		}
		for segment := range strings.SplitSeq(slashes, "/") {
			if segment == ".." {
				return "", bad
			}
		}
		again, err := url.PathUnescape(decoded)
		if err != nil || again == decoded {
			break
		}
		decoded = again
	}
	if clean != "" && path.Clean(clean) != clean {
		return "", bad
	}
	return clean, nil
}

// ArtifactUse is what a caller wants to do with artifacts.
type ArtifactUse int

// The uses.
const (
	ReadArtifact ArtifactUse = iota
	WriteArtifact
)

// place gives the blob name of a path of the artifact proxy: EXPERIMENT/RUN/artifacts/… is among the run's artifacts,
// anything else is loose. Writing needs a run that exists, in that experiment.
func (t *Tracking) place(ctx context.Context, s Scope, p string, use ArtifactUse) (string, error) {
	segments := strings.SplitN(p, "/", 4)
	if len(segments) >= 3 && segments[2] == "artifacts" && runPattern().MatchString(segments[1]) {
		if id, err := ExperimentID(segments[0]); err == nil {
			rest := ""
			if len(segments) == 4 {
				rest = segments[3]
			}
			return strings.TrimSuffix(ArtifactPrefix(s.WorkspaceID, segments[1])+rest, "/"), t.allowArtifacts(ctx, s, id, segments[1], use)
		}
	}
	if s.Run != "" {
		return "", denied("a job may reach only the artifacts of its own run "+s.Run, "")
	}
	return strings.TrimSuffix(loosePrefix(s.WorkspaceID)+p, "/"), nil
}

func (t *Tracking) allowArtifacts(ctx context.Context, s Scope, experiment int64, runID string, use ArtifactUse) error {
	if use == ReadArtifact && s.Run == "" {
		return nil // what is not there is not found
	}
	run, err := s.run(ctx, t.store, runID)
	if err != nil {
		return err
	}
	if run.ExperimentID != experiment {
		return notFound("path", "Run with id=%s is not in experiment %d", runID, experiment)
	}
	return nil
}

// PutArtifact stores what r gives under a path of the artifact proxy. Size -1 is unknown. Nothing is stored if r fails.
func (t *Tracking) PutArtifact(ctx context.Context, s Scope, p string, r io.Reader, size int64, contentType string) error {
	p, err := checkArtifactPath(p)
	if err != nil {
		return err
	}
	if p == "" {
		return missing("path")
	}
	name, err := t.place(ctx, s, p, WriteArtifact)
	if err != nil {
		return err
	}
	_, err = t.blob.Put(ctx, name, r, size, blob.Meta{ContentType: contentType})
	return err
}

// StatArtifact gives size and type of an artifact.
func (t *Tracking) StatArtifact(ctx context.Context, s Scope, p string) (blob.Info, error) {
	p, err := checkArtifactPath(p)
	if err != nil {
		return blob.Info{}, err
	}
	name, err := t.place(ctx, s, p, ReadArtifact)
	if err != nil {
		return blob.Info{}, err
	}
	info, err := t.blob.Stat(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		err = notFound("path", "No such artifact: '%s'", clip(p))
	}
	return info, err
}

// OpenArtifact gives the bytes of an artifact that StatArtifact found, from an offset on; length -1 is to the end.
func (t *Tracking) OpenArtifact(ctx context.Context, info blob.Info, offset, length int64) (io.ReadCloser, error) {
	r, _, err := t.blob.Get(ctx, info.Name, offset, length)
	return r, err
}

// DeleteArtifact removes an artifact, or a folder with all below it. What is not there is not found.
func (t *Tracking) DeleteArtifact(ctx context.Context, s Scope, p string) error {
	p, err := checkArtifactPath(p)
	if err != nil {
		return err
	}
	if p == "" {
		return missing("path")
	}
	name, err := t.place(ctx, s, p, WriteArtifact)
	if err != nil {
		return err
	}
	found := false
	if err := t.blob.Delete(ctx, name); err == nil {
		found = true
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for {
		page, err := t.blob.List(ctx, name+"/", "", "", MaxFiles)
		if err != nil {
			return err
		}
		for _, b := range page.Blobs {
			if err := t.blob.Delete(ctx, b.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			found = true
		}
		if page.Next == "" {
			break
		}
	}
	if !found {
		return notFound("path", "No such artifact: '%s'", clip(p))
	}
	return nil
}

// ListFolder lists a folder of the artifact proxy by base names, all of it. A missing folder is empty, and so is a file.
func (t *Tracking) ListFolder(ctx context.Context, s Scope, p string) ([]File, error) {
	p, err := checkArtifactPath(p)
	if err != nil {
		return nil, err
	}
	name, err := t.place(ctx, s, p, ReadArtifact)
	if err != nil {
		return nil, err
	}
	var all []File
	for after := ""; ; {
		files, next, err := t.list(ctx, name, after)
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
		if next == "" {
			return all, nil
		}
		if after = next; len(all) > maxListing {
			return nil, invalid("path", "folder '%s' holds more than %d entries", clip(p), maxListing)
		}
	}
}

// maxListing bounds a listing that has no pages.
const maxListing = 100_000

// ListArtifacts gives a page of a folder of a run, by paths from the run's root, and the token of the next page. A file has
// nothing in it.
func (t *Tracking) ListArtifacts(ctx context.Context, s Scope, runID, p, token string) (uri string, files []File, next string, err error) {
	if p, err = checkArtifactPath(p); err != nil {
		return "", nil, "", err
	}
	var after string
	if err := readToken(token, &after); err != nil {
		return "", nil, "", err
	}
	run, err := s.run(ctx, t.store, runID)
	if err != nil {
		return "", nil, "", err
	}
	e, err := experiment(ctx, t.store, s, run.ExperimentID)
	if err != nil {
		return "", nil, "", err
	}
	uri = s.ArtifactLocation(e) + "/" + run.ID + "/artifacts"
	folder := strings.TrimSuffix(ArtifactPrefix(s.WorkspaceID, run.ID)+p, "/")
	if after != "" && !strings.HasPrefix(after, folder+"/") {
		return "", nil, "", badToken()
	}
	files, next, err = t.list(ctx, folder, after)
	for i := range files {
		files[i].Path = path.Join(p, files[i].Path)
	}
	if next != "" {
		next = writeToken(next)
	}
	return uri, files, next, err
}

// list gives a page of what is directly below a name, by base names.
func (t *Tracking) list(ctx context.Context, name, after string) ([]File, string, error) {
	page, err := t.blob.List(ctx, name+"/", "/", after, MaxFiles)
	if err != nil {
		return nil, "", err
	}
	files := make([]File, 0, len(page.Prefixes)+len(page.Blobs))
	for _, p := range page.Prefixes {
		files = append(files, File{Path: path.Base(p), Folder: true})
	}
	for _, b := range page.Blobs {
		files = append(files, File{Path: path.Base(b.Name), Size: b.Size})
	}
	return files, page.Next, nil
}
