package control

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// KeptEnvironment is the version that a run was submitted with, and what it asks for.
type KeptEnvironment struct {
	Name, Version string
	Spec          environment.Spec
}

// KeepEnvironment keeps the environment of a run of azureml-core under its name and gives what the run needs of it
// (azureml-v1.md §25). Content that is there under the name is that version; what is new becomes a version of its own, which
// is not counted by the numbering. v1 is the environment as the client writes it into a run's definition: whole, or a
// reference by name and version. The image in the spec is the one that the client names, whether Docker is switched on or not.
func (c *Control) KeepEnvironment(ctx context.Context, p workspace.Principal, ws workspace.Workspace, v1 json.RawMessage) (KeptEnvironment, error) {
	if len(v1) == 0 || string(v1) == "null" {
		return KeptEnvironment{}, nil
	}
	d, plain, err := environment.ReadDefinition(v1)
	if err != nil {
		return KeptEnvironment{}, err
	}
	if err := c.keepImageLogin(ctx, ws, d, v1); err != nil {
		return KeptEnvironment{}, err
	}
	if plain == nil {
		if d.Name == "" {
			return KeptEnvironment{}, nil
		}
		v, err := c.Environment(ctx, ws, d.Name, d.Version)
		if err != nil {
			return KeptEnvironment{}, err
		}
		return kept(v.Name, v.Version, v.Definition)
	}
	if d.Name == "" {
		d.Name = defaultEnvironment
	}
	if d.Version != "" {
		if v, err := c.Environment(ctx, ws, d.Name, d.Version); err == nil && contentHash(d.Name, v.Definition) == contentHash(d.Name, plain) {
			return kept(v.Name, v.Version, plain)
		}
	}
	doc, err := c.newEnvironment(p, ws, d, plain)
	if err != nil {
		return KeptEnvironment{}, err
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		had, err := tx.DocumentByHash(ctx, ws.ID, environments, doc.Hash)
		if err == nil {
			doc = had
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		doc.Version = autosaved + c.Clock.Now().UTC().Format("20060102T150405Z") + "_" + doc.Hash[:8]
		if err = tx.InsertDocument(ctx, doc); errors.Is(err, store.ErrExists) { // another server kept the same in this very second
			return nil
		}
		return err
	})
	if err != nil {
		return KeptEnvironment{}, err
	}
	return kept(doc.Name, doc.Version, plain)
}

// defaultEnvironment is the name that azureml-core gives to an environment without one.
const defaultEnvironment = "default-environment"

func kept(name, version string, definition json.RawMessage) (KeptEnvironment, error) {
	d, _, err := environment.ReadDefinition(definition)
	if err != nil {
		return KeptEnvironment{}, err
	}
	spec, err := d.Spec()
	if !spec.Dockerfile {
		spec.Image = d.BaseImage()
	}
	return KeptEnvironment{Name: name, Version: version, Spec: spec}, err
}

// environment reads what a job's environmentId names and checks that a plan can be made of it.
func (c *Control) environment(ctx context.Context, ws workspace.Workspace, id string) (json.RawMessage, error) {
	if id == "" {
		return nil, nil
	}
	spec, curated := environment.FromReference(id)
	if !curated {
		name, version := assetRef(id, environments)
		if name == "" {
			return nil, invalid("InvalidEnvironment", "environmentId", quote(id)+" does not name an environment", "", "name one as azureml:NAME:VERSION, or give image and conda_file in the job")
		}
		var err error
		if spec, err = c.environmentSpec(ctx, ws, name, version); err != nil {
			return nil, err
		}
	}
	if spec.Empty() {
		return nil, nil
	}
	spec, err := c.checkEnvironment(ctx, ws, spec)
	if err != nil {
		return nil, err
	}
	return json.Marshal(spec)
}

// environmentSpec reads a version that is kept, or, where the name is nobody's, a curated one.
func (c *Control) environmentSpec(ctx context.Context, ws workspace.Workspace, name, version string) (environment.Spec, error) {
	doc, err := c.Asset(ctx, ws, environments, name, version)
	if errors.Is(err, &workspace.Problem{Code: "ResourceNotFound"}) {
		if found, ok := c.Curated.Find(name); ok {
			return found, nil
		}
	}
	if err != nil {
		return environment.Spec{}, err
	}
	definition := definitionIn(doc)
	if definition == nil {
		return environment.FromARM(properties(doc.Body))
	}
	d, _, err := environment.ReadDefinition(definition)
	if err != nil {
		return environment.Spec{}, err
	}
	return d.Spec()
}
