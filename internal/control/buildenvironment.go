package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/environment"
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

// BuildEnvironment has an environment made on a compute before a job needs it, by a job that does nothing else, and gives
// that job's name. Without a compute it only checks that the environment can be made, and gives "".
func (c *Control) BuildEnvironment(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, version, on string) (build string, err error) {
	v, err := c.Environment(ctx, ws, name, version)
	if err != nil {
		return "", err
	}
	spec, err := c.environmentSpec(ctx, ws, v.Name, v.Version)
	if err == nil {
		err = environment.Check(spec, c.Curated)
	}
	if err != nil || on == "" {
		return "", err
	}
	if _, err := c.standsFor(ctx, ws, on); err != nil {
		return "", unknownCompute(err)
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

// EnvironmentBuild gives the job of a build.
func (c *Control) EnvironmentBuild(ctx context.Context, p workspace.Principal, ws workspace.Workspace, build string) (store.Job, error) {
	return c.Job(ctx, p, ws, build)
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
