package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// JobBuilder makes what a target runs from a job's row.
type JobBuilder struct {
	Store   *store.Store
	Blob    blob.Store
	CAS     *blob.CAS
	Tools   environment.Tools
	Curated environment.Curated
	// Credential gives the secret by which a job's own requests are known.
	Credential func(jobID string, attempt int) workspace.Secret
	// Token gives the same as a token, for clients that take nothing else, and tells its end. nil: such clients find none.
	Token func(jobID string, attempt int) (workspace.Secret, time.Time)
	// ExperimentID gives the id by which Azure's run history knows an experiment; nil: jobs are told the name alone.
	ExperimentID func(ws workspace.Workspace, experiment string) string
	// Login gives what a registry asks for to let a workspace's jobs have an image; nil for one that asks for nothing. A nil
	// function: there are no such registries.
	Login func(ctx context.Context, ws workspace.Workspace, image string) (*compute.Login, error)
	// Images has images made of environments; nil: none are.
	Images *Images
	// Limits tells what a kind cannot do.
	Limits func(kind string) compute.Limits
	// Grace is how long a job may take to end when asked to.
	Grace time.Duration
}

var _ Builder = (*JobBuilder)(nil)

// Build plans the environment for the compute, makes inputs that lie in the blob store into trees, and sets the
// variables by which Azure's clients and MLflow find this server from inside the job.
func (b *JobBuilder) Build(ctx context.Context, row store.Job, c store.Compute) (compute.Job, error) {
	var spec workspace.JobSpec
	if err := json.Unmarshal(row.Spec, &spec); err != nil {
		return compute.Job{}, fmt.Errorf("reconcile: job %s: spec: %w", row.ID, err)
	}
	ws, err := b.Store.WorkspaceByID(ctx, row.WorkspaceID)
	if err != nil {
		return compute.Job{}, err
	}
	job := compute.Job{
		Name: row.Name, Command: spec.Command, Code: snapshot.Hash(spec.Code), GPUs: spec.GPUs,
		Timeout: time.Duration(spec.Timeout) * time.Second, Grace: b.Grace,
	}
	if r := spec.Resources; r != nil {
		job.Resources = compute.Resources(*r)
	}
	if r := spec.Ranks; r != nil {
		job.Ranks = compute.Ranks{Nodes: r.Nodes, PerNode: r.PerNode, Framework: compute.Framework(r.Framework)}
	}
	for _, o := range spec.Outputs {
		job.Outputs = append(job.Outputs, compute.Output{Name: o.Name, Folder: o.Folder})
	}
	for _, in := range spec.Inputs {
		input, err := b.input(ctx, in)
		if err != nil {
			return compute.Job{}, err
		}
		job.Inputs = append(job.Inputs, input)
	}
	if err := b.environment(ctx, ws, row, spec, c, &job); err != nil {
		return compute.Job{}, err
	}
	job.Env = names(ws, row)
	b.experiment(ws, row, job.Env)
	if !b.Limits(c.Kind).NoWayBack {
		maps.Copy(job.Env, ways(ws, row))
		if uploads(spec) {
			job.Env["MOORAGE_BLOB_HOST"] = compute.BlobHost
		}
		job.Secrets = b.secrets(row, job.Env)
	}
	maps.Copy(job.Env, spec.Variables)
	return job, nil
}

// environment plans what the job needs around its code, and the image that it runs in.
func (b *JobBuilder) environment(ctx context.Context, ws workspace.Workspace, row store.Job, spec workspace.JobSpec, c store.Compute, job *compute.Job) error {
	var wanted environment.Spec
	if spec.Environment != nil {
		if err := json.Unmarshal(spec.Environment, &wanted); err != nil {
			return fmt.Errorf("reconcile: environment: %w", err)
		}
	}
	var facts struct{ Details map[string]string }
	if len(c.Facts) > 0 {
		if err := json.Unmarshal(c.Facts, &facts); err != nil {
			return fmt.Errorf("reconcile: facts of compute %s: %w", c.Name, err)
		}
	}
	wanted, err := b.Images.For(ctx, Needed{Workspace: ws, Compute: c, Facts: facts.Details, Spec: wanted, Tools: b.Tools, Curated: b.Curated, Tree: b.tree}, row)
	if err != nil {
		return err
	}
	p, err := environment.Plan(ctx, wanted, facts.Details, b.Tools, b.Curated)
	if err != nil {
		return err
	}
	job.Environment, job.Image = p.Environment, p.Image
	if p.Image != nil && b.Login != nil {
		p.Image.Login, err = b.Login(ctx, ws, p.Image.Name)
	}
	return err
}

func (b *JobBuilder) input(ctx context.Context, in workspace.InputSpec) (compute.Input, error) {
	out := compute.Input{Name: in.Name, Folder: in.Folder, Link: in.Link, Tree: snapshot.Hash(in.Tree), URL: in.URL, Path: in.Path}
	if in.Prefix == "" {
		return out, nil
	}
	place := strings.TrimSuffix(in.Prefix, "/")
	info, err := b.Blob.Stat(ctx, place)
	switch {
	case err == nil: // one blob
		entry, err := b.entry(ctx, path.Base(place), info)
		if err != nil {
			return out, err
		}
		out.Tree, err = b.CAS.PutTree(ctx, snapshot.Tree{entry})
		return out, err
	case !errors.Is(err, fs.ErrNotExist):
		return out, err
	}
	out.Tree, err = b.tree(ctx, place+"/")
	if err == nil && out.Tree == "" {
		return out, &workspace.Problem{
			Class: workspace.Invalid, Code: "MissingInput", Target: "inputs." + in.Name,
			Message: fmt.Sprintf("input %q has no data", in.Name), Cause: "nothing is stored at " + strings.TrimPrefix(in.Prefix, "c/"),
			Mend: "upload it first, or correct the path",
		}
	}
	return out, err
}

// tree makes the blobs below a prefix into a snapshot. It is empty when there are none.
func (b *JobBuilder) tree(ctx context.Context, prefix string) (snapshot.Hash, error) {
	var t snapshot.Tree
	after := ""
	for {
		page, err := b.Blob.List(ctx, prefix, "/", after, 1000)
		if err != nil {
			return "", err
		}
		for _, folder := range page.Prefixes {
			hash, err := b.tree(ctx, folder)
			if err != nil {
				return "", err
			}
			if hash == "" { // its blobs were deleted since
				continue
			}
			t = append(t, snapshot.Entry{Name: path.Base(folder), Kind: snapshot.Folder, Hash: hash})
		}
		for _, info := range page.Blobs {
			entry, err := b.entry(ctx, path.Base(info.Name), info)
			if err != nil {
				return "", err
			}
			t = append(t, entry)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(t) == 0 {
		return "", nil
	}
	if _, err := snapshot.Decode(t.Encode()); err != nil {
		return "", &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidInput", Message: "the data at " + strings.TrimPrefix(prefix, "c/") + " cannot be placed as a folder",
			Cause: err.Error(), Mend: "rename what is there both as a file and as a folder, or has a name that no file can have",
		}
	}
	return b.CAS.PutTree(ctx, t)
}

func (b *JobBuilder) entry(ctx context.Context, name string, info blob.Info) (snapshot.Entry, error) {
	hash, err := b.CAS.Import(ctx, info)
	return snapshot.Entry{Name: name, Kind: snapshot.File, Size: info.Size, Hash: hash}, err
}
