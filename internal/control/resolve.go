package control

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// resolve turns a command job into a spec: every reference looked up, everything that cannot work refused now.
func (c *Control) resolve(ctx context.Context, ws workspace.Workspace, name string, j *commandJob, on store.Compute) (spec workspace.JobSpec, err error) {
	if spec.Command, err = j.fill(); err != nil {
		return spec, err
	}
	spec.Variables = j.Variables
	size, err := j.scale()
	if err == nil {
		err = c.enlarge(ctx, ws, &spec, on, size)
	}
	if err != nil {
		return spec, err
	}
	j.note(size)
	timeout, err := parseDuration(j.Limits.Timeout)
	if err != nil {
		return spec, err
	}
	spec.Timeout = int64(timeout.Seconds())
	if j.CodeID != "" {
		root, err := c.codeRoot(ctx, ws, j.CodeID)
		if err != nil {
			return spec, err
		}
		spec.Code = string(root)
	}
	if spec.Environment, err = c.environment(ctx, ws, j.EnvironmentID); err != nil {
		return spec, err
	}
	if spec.Inputs, err = c.inputs(ctx, ws, j); err != nil {
		return spec, err
	}
	spec.Outputs, err = c.outputs(ctx, ws, name, j)
	return spec, err
}

// properties gives the "properties" of an ARM document, or the document itself where it has none.
func properties(body json.RawMessage) json.RawMessage {
	var d struct {
		Properties json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(body, &d) == nil && d.Properties != nil {
		return d.Properties
	}
	return body
}

// assetRef reads "azureml:NAME:VERSION", "azureml:NAME@latest" and ARM ids ending in /collection/NAME/versions/VERSION.
func assetRef(id, collection string) (name, version string) {
	if rest, ok := strings.CutPrefix(id, "azureml:"); ok && !strings.HasPrefix(rest, "/") {
		if name, ok := strings.CutSuffix(rest, "@latest"); ok {
			return name, "latest"
		}
		name, version, _ = strings.Cut(rest, ":")
		return name, version
	}
	parts := strings.Split(id, "/")
	for i := len(parts) - 2; i >= 0; i-- {
		if strings.EqualFold(parts[i], collection) {
			name = parts[i+1]
			if i+3 < len(parts) {
				version = parts[i+3]
			}
			return name, version
		}
	}
	return "", ""
}

// lastSegment is the name in a compute's ARM id, in "azureml:NAME" or in a plain name.
func lastSegment(id string) string {
	id = strings.TrimPrefix(id, "azureml:")
	return id[strings.LastIndexByte(id, '/')+1:]
}

// inputs looks up every input that is not literal.
func (c *Control) inputs(ctx context.Context, ws workspace.Workspace, j *commandJob) ([]workspace.InputSpec, error) {
	var specs []workspace.InputSpec
	for name, in := range j.Inputs {
		if in.literal() {
			continue
		}
		if err := checkMode("input", name, in.Mode, inputModes); err != nil {
			return nil, err
		}
		spec, err := c.input(ctx, ws, name, in)
		if err != nil {
			return nil, err
		}
		mode := strings.ToLower(strings.ReplaceAll(in.Mode, "_", ""))
		spec.Link = strings.HasSuffix(mode, "mount")
		specs = append(specs, spec)
	}
	slices.SortFunc(specs, func(a, b workspace.InputSpec) int { return strings.Compare(a.Name, b.Name) })
	return specs, nil
}

var (
	datastoreURI = regexp.MustCompile(`(?i)^azureml://(?:.*/)?datastores/([^/]+)/paths/?(.*)$`)
	jobOutputURI = regexp.MustCompile(`(?i)^azureml://(?:.*/)?jobs/([^/]+)/outputs/([^/]+)(?:/paths/?(.*))?$`)
	snapshotURI  = regexp.MustCompile(`^moorage://snapshots/([0-9a-f]{64})(?:/(.+))?$`)
)

// maxAssets is through how many data assets the path of an input is looked for. One may name another, or itself.
const maxAssets = 8

func (c *Control) input(ctx context.Context, ws workspace.Workspace, name string, in jobInput) (workspace.InputSpec, error) {
	spec := workspace.InputSpec{Name: name, Folder: in.folder()}
	uri := strings.TrimSpace(in.URI)
	if m := snapshotURI.FindStringSubmatch(uri); m != nil {
		spec.Tree = m[1]
		return spec, c.complete(ctx, snapshot.Hash(m[1]))
	}
	if m := datastoreURI.FindStringSubmatch(uri); m != nil {
		var err error
		spec.Prefix, err = c.datastorePath(ctx, ws, m[1], m[2])
		return spec, err
	}
	if m := jobOutputURI.FindStringSubmatch(uri); m != nil {
		var err error
		spec.Prefix, err = c.jobOutputPath(ctx, ws, m[1], m[2], m[3])
		return spec, err
	}
	if strings.HasPrefix(uri, "https://") || strings.HasPrefix(uri, "http://") {
		if place, ours := c.ownBlob(uri); ours {
			spec.Prefix = place
			return spec, nil
		}
		spec.URL = uri
		return spec, nil
	}
	if asset, version := assetRef(uri, "data"); asset != "" {
		doc, err := c.Asset(ctx, ws, "data", asset, version)
		if err != nil {
			return spec, err
		}
		var d struct {
			DataURI  string `json:"dataUri"`
			DataType string `json:"dataType"`
		}
		if err := json.Unmarshal(properties(doc.Body), &d); err != nil || d.DataURI == "" {
			return spec, invalid("InvalidData", "inputs."+name, fmt.Sprintf("data asset %q has no path", asset), "", "register it again with a path")
		}
		if in.assets == maxAssets {
			return spec, invalid("InvalidData", "inputs."+name, fmt.Sprintf("data asset %q leads to other data assets and to no path", asset), "", "register it again with a path")
		}
		return c.input(ctx, ws, name, jobInput{Type: d.DataType, URI: d.DataURI, Mode: in.Mode, assets: in.assets + 1})
	}
	return spec, invalid("UnsupportedInput", "inputs."+name, fmt.Sprintf("input %q has the path %s, which this server cannot read", name, quote(uri)), "",
		"use a local path, azureml://datastores/…, azureml://jobs/…/outputs/…, a registered data asset, or https://")
}

// datastorePath is where a path of a datastore lies in the blob store.
func (c *Control) datastorePath(ctx context.Context, ws workspace.Workspace, datastore, p string) (string, error) {
	container, err := c.DatastoreContainer(ctx, ws, datastore)
	if err != nil {
		return "", err
	}
	clean := path.Clean("/" + p)
	return strings.TrimSuffix("c/"+container+clean, "/"), nil
}

// jobOutputPath is where an output of an earlier job lies.
func (c *Control) jobOutputPath(ctx context.Context, ws workspace.Workspace, jobName, output, p string) (string, error) {
	job, err := c.Store.Job(ctx, ws.ID, jobName)
	if err != nil {
		return "", notFound(err, "job", jobName)
	}
	var spec workspace.JobSpec
	if err := json.Unmarshal(job.Spec, &spec); err != nil {
		return "", fmt.Errorf("control: job %s: %w", jobName, err)
	}
	for _, o := range spec.Outputs {
		if o.Name == output {
			return strings.TrimSuffix(strings.TrimSuffix(o.Prefix, "/")+path.Clean("/"+p), "/"), nil
		}
	}
	return "", invalid("UnknownOutput", "inputs", fmt.Sprintf("job %q has no output %q", jobName, output), "", "name one of its outputs: moorage job show "+jobName)
}

// outputs gives each output its place: where the job says, else azureml/{job}/{output}/ of the default datastore, where
// Azure's clients look (azureml-v2.md §10).
func (c *Control) outputs(ctx context.Context, ws workspace.Workspace, job string, j *commandJob) ([]workspace.OutputSpec, error) {
	var specs []workspace.OutputSpec
	for name, out := range j.Outputs {
		if name == "default" { // the run's own artifacts, collected anyway
			continue
		}
		if p := workspace.CheckName("output", name); p != nil {
			return nil, p
		}
		if err := checkMode("output", name, out.Mode, outputModes); err != nil {
			return nil, err
		}
		at := "azureml/" + job + "/" + name
		store := DefaultDatastore
		if m := datastoreURI.FindStringSubmatch(out.URI); m != nil {
			store, at = m[1], strings.ReplaceAll(m[2], "${{name}}", job)
		} else if out.URI != "" {
			return nil, invalid("UnsupportedOutput", "outputs."+name, fmt.Sprintf("output %q goes to %s, where this server cannot write", name, quote(out.URI)), "", "leave path out, or name azureml://datastores/workspaceblobstore/paths/…")
		}
		prefix, err := c.datastorePath(ctx, ws, store, at)
		if err != nil {
			return nil, err
		}
		specs = append(specs, workspace.OutputSpec{Name: name, Folder: out.folder(), Prefix: prefix + "/"})
	}
	slices.SortFunc(specs, func(a, b workspace.OutputSpec) int { return strings.Compare(a.Name, b.Name) })
	return specs, nil
}

// The datastores that every workspace has, and their containers.
const (
	DefaultDatastore  = "workspaceblobstore"
	ArtifactDatastore = "workspaceartifactstore"
)

// Container is the blob container of a datastore: unique on the server, because clients name containers without the
// workspace (azureml-v2.md §7).
func Container(workspaceID, datastore string) (string, error) {
	switch datastore {
	case DefaultDatastore:
		return "azureml-blobstore-" + workspaceID, nil
	case ArtifactDatastore:
		return "azureml-artifacts-" + workspaceID, nil
	}
	return "", &workspace.Problem{
		Class: workspace.NotFound, Code: "UnknownDatastore", Target: datastore,
		Message: "datastore " + quote(datastore) + " was not found",
		Mend:    "use " + DefaultDatastore + " or " + ArtifactDatastore,
	}
}

// ownBlob recognises the URL of a blob on this server, whose form is …/blob/ACCOUNT/CONTAINER/PATH.
func (c *Control) ownBlob(uri string) (place string, ours bool) {
	_, rest, ok := strings.Cut(uri, "/blob/acct")
	if !ok {
		return "", false
	}
	_, rest, ok = strings.Cut(rest, "/")
	if !ok {
		return "", false
	}
	rest, _, _ = strings.Cut(rest, "?")
	return "c" + path.Clean("/"+rest), true
}
