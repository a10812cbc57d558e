package control

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// ScriptRun is a run as Azure's v1 client submits it (azureml-v1.md §6.1).
type ScriptRun struct {
	Experiment string
	Parent     string // id of the run above; empty for none
	Snapshot   string // name of the snapshot of its folder
	Definition json.RawMessage
}

// SubmitRun accepts a run under the client's name, or reports the one of that name with created false. It becomes a job like
// any other, which v2 clients see as a command job.
func (c *Control) SubmitRun(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, r ScriptRun) (job store.Job, created bool, err error) {
	if p := workspace.CheckName("run", name); p != nil {
		return store.Job{}, false, p
	}
	if err := c.room(); err != nil {
		return store.Job{}, false, err
	}
	d, err := parseRunDefinition(r.Definition)
	if err != nil {
		return store.Job{}, false, err
	}
	on, err := c.standsFor(ctx, ws, d.Target)
	if err == nil {
		err = errors.Join(notReady(on), d.fits(on))
	}
	if err != nil {
		return store.Job{}, false, err
	}
	kept, err := c.KeepEnvironment(ctx, p, ws, d.Environment)
	if err != nil {
		return store.Job{}, false, err
	}
	data, err := c.data(ctx, p, ws, name, d)
	if err != nil {
		return store.Job{}, false, err
	}
	size, err := d.scale()
	if err != nil {
		return store.Job{}, false, err
	}
	spec, line, err := c.resolveRun(ctx, ws, r, d, on, kept, data)
	if err == nil {
		err = c.enlarge(ctx, ws, &spec, on, size)
	}
	if err != nil {
		return store.Job{}, false, err
	}
	asJob := &commandJob{ExperimentName: r.Experiment, Properties: d.properties(r, targetType(on.Kind))}
	asJob.note(size)
	job = c.newJob(p, ws, name, asJob, on)
	job.GPUs = spec.GPUs
	job.Doc, err = json.Marshal(d.asCommandJob(ws, r, spec, line, kept, size))
	if err == nil {
		job.Spec, err = json.Marshal(spec)
	}
	if err != nil {
		return store.Job{}, false, fmt.Errorf("control: run %s: %w", name, err)
	}
	return c.accept(ctx, ws, job, tracking.JobRun{Parent: r.Parent}, &store.RunRecord{Type: runType, Target: d.Target, RunBody: d.body(r, data)})
}

// runType is what the client makes a ScriptRun of (azureml-v1.md §6.2).
const runType = "azureml.scriptrun"

// body is what the run history shows of a run.
func (d *runDefinition) body(r ScriptRun, data *runData) store.RunBody {
	b := store.RunBody{Script: d.Script, Definition: withoutRegistryPassword(r.Definition)}
	b.Inputs, _ = json.Marshal(data.read) // texts always encode
	b.Outputs, _ = json.Marshal(data.made)
	return b
}

// properties are those of a run that the client reads.
func (d *runDefinition) properties(r ScriptRun, target string) textMap {
	p := textMap{"_azureml.ComputeTargetType": target}
	if r.Snapshot != "" {
		p["ContentSnapshotId"] = r.Snapshot
	}
	return p
}

// targetType is the name of a kind in the property by which the client knows where a run is (azureml-v1.md §6.2).
func targetType(kind string) string {
	if kind == "ssh" {
		return "remotevm"
	}
	return kind
}

// resolveRun turns a definition into a spec: environment and snapshot looked up, everything that cannot work refused now.
func (c *Control) resolveRun(ctx context.Context, ws workspace.Workspace, r ScriptRun, d *runDefinition, on store.Compute, kept KeptEnvironment, data *runData) (spec workspace.JobSpec, line *commandLine, err error) {
	snap, err := c.snapshot(ctx, ws, r.Snapshot)
	if err == nil {
		err = c.hasScript(ctx, snap.Snapshot, d.Script)
	}
	if err != nil {
		return spec, nil, err
	}
	hook, err := c.flushHook(ctx)
	if err != nil {
		return spec, nil, err
	}
	spec = workspace.JobSpec{
		Code: string(snap.Snapshot), Timeout: d.seconds(), Inputs: []workspace.InputSpec{hook}, Variables: d.variables(kept.Spec), Datasets: data.datasets, BlobHost: true,
	}
	maps.Copy(spec.Variables, data.variables)
	line = &commandLine{search: placeholder("inputs", hook.Name), variables: map[string]string{}, values: map[string]string{}}
	if err := c.onTarget(ctx, data, &spec, line); err != nil {
		return spec, nil, err
	}
	spec.Command = d.text(line)
	wanted := kept.Spec
	wanted.Variables = nil // they are the job's
	if !d.inContainer() {  // every environment names an image, whether it is used or not
		wanted.Image, wanted.Dockerfile = "", false
	}
	if wanted.Empty() {
		return spec, line, nil
	}
	if wanted, err = c.checkEnvironment(ctx, ws, wanted); err != nil {
		return spec, nil, err
	}
	spec.Environment, err = json.Marshal(wanted)
	return spec, line, err
}

// hasScript refuses a script that is not in the snapshot.
func (c *Control) hasScript(ctx context.Context, root snapshot.Hash, script string) error {
	if script == "" {
		return nil
	}
	missing := invalid("ScriptNotFound", "script", "script "+quote(script)+" is not in the run's folder", "", "name it by its path in source_directory, and look at .amlignore")
	names := strings.Split(strings.TrimPrefix(path.Clean("/"+script), "/"), "/")
	for i, name := range names {
		if root == "" {
			return missing
		}
		tree, err := c.CAS.Tree(ctx, root)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(tree, func(e snapshot.Entry) bool { return e.Name == name })
		last := i == len(names)-1
		if at < 0 || last != (tree[at].Kind == snapshot.File) {
			return missing
		}
		root = tree[at].Hash
	}
	return nil
}

//go:embed flush/sitecustomize.py
var flushModule []byte

// flushName is the input that holds the module which sends a script's last metrics. No input of a run can have the name.
const flushName = "moorage.flush"

// flushHook is that module as an input: Python finds it by PYTHONPATH and runs it at its start (azureml-v1.md §25).
func (c *Control) flushHook(ctx context.Context) (workspace.InputSpec, error) {
	entry := snapshot.Entry{Name: "sitecustomize.py", Kind: snapshot.File, Size: int64(len(flushModule)), Hash: snapshot.Sum(flushModule)}
	missing, err := c.CAS.Has(ctx, []snapshot.Hash{entry.Hash})
	if err == nil && len(missing) > 0 {
		err = c.CAS.Put(ctx, entry.Hash, strings.NewReader(string(flushModule)), entry.Size)
	}
	if err != nil {
		return workspace.InputSpec{}, err
	}
	root, err := c.CAS.PutTree(ctx, snapshot.Tree{entry})
	return workspace.InputSpec{Name: flushName, Folder: true, Tree: string(root)}, err
}

// asCommandJob is the run as v2 clients read it: its properties as those of a command job (azureml-v2.md §9).
func (d *runDefinition) asCommandJob(ws workspace.Workspace, r ScriptRun, spec workspace.JobSpec, line *commandLine, kept KeptEnvironment, size scale) map[string]any {
	inputs, outputs := map[string]any{}, map[string]any{}
	for _, in := range spec.Inputs {
		if in.Name == flushName {
			continue
		}
		kind, mode := "uri_file", "Download"
		if in.Folder {
			kind = "uri_folder"
		}
		if in.Link {
			mode = "ReadOnlyMount"
		}
		inputs[in.Name] = map[string]string{"jobInputType": kind, "mode": mode, "uri": DatastoreURI(ws, in.Prefix)}
	}
	for _, out := range spec.Outputs {
		outputs[out.Name] = map[string]string{"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": DatastoreURI(ws, out.Prefix)}
	}
	doc := map[string]any{
		"jobType": "Command", "command": d.brief(line), "experimentName": r.Experiment, "computeId": ws.Path() + "/computes/" + d.Target,
		"environmentVariables": d.variables(kept.Spec), "inputs": inputs, "outputs": outputs, "resources": size.asked(),
	}
	if distribution := size.distribution(); distribution != nil {
		doc["distribution"] = distribution
	}
	if spec.Code != "" {
		doc["codeId"] = ws.Path() + "/codes/" + spec.Code + "/versions/1"
	}
	if kept.Version != "" {
		doc["environmentId"] = ws.Path() + "/environments/" + kept.Name + "/versions/" + kept.Version
	}
	if spec.Timeout > 0 {
		doc["limits"] = map[string]string{"jobLimitsType": "Command", "timeout": "PT" + strconv.FormatInt(spec.Timeout, 10) + "S"}
	}
	if r.Parent != "" {
		doc["parentJobName"] = r.Parent
	}
	return doc
}
