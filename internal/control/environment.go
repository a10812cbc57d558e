package control

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// environments is the collection of environments, for clients of v1 and v2 alike. A document has ARM's form; one that
// came from v1 has the client's definition beside it.
const environments = "environments"

// definitionField is the field of an environment's document that holds the definition of azureml-core.
const definitionField = ownFields + "Definition"

// autosaved begins the versions of environments that nobody registered: those of submitted runs (azureml-v1.md §25).
// They count neither in numbering nor as the latest, as long as there is another.
const autosaved = "Autosave_"

// EnvironmentVersion is a version of an environment as azureml-core reads it.
type EnvironmentVersion struct {
	Name, Version string
	Definition    json.RawMessage // an object, without name and version
}

// RegisterEnvironment keeps a version of an environment for a client of v1. Without a version the next number is given, unless
// the newest numbered version is the same: that one is then meant. A version that is there is not changed.
func (c *Control) RegisterEnvironment(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name, version string, body json.RawMessage) (EnvironmentVersion, error) {
	if environment.CuratedName(name) {
		return EnvironmentVersion{}, invalid("ReservedName", "name", "the name "+quote(name)+" is one of curated environments, which nobody changes", "", "register a copy: env.clone(\"another-name\")")
	}
	if version != "" {
		if p := workspace.CheckName("version", version); p != nil {
			return EnvironmentVersion{}, p
		}
	}
	d, plain, err := environment.ReadDefinition(body)
	if err != nil {
		return EnvironmentVersion{}, err
	}
	if plain == nil {
		return EnvironmentVersion{}, invalid("InvalidEnvironment", "environment", "the environment says nothing but its name", "", "send its python, docker and environmentVariables")
	}
	if err := c.keepImageLogin(ctx, ws, d, body); err != nil {
		return EnvironmentVersion{}, err
	}
	d.Name = name
	doc, err := c.newEnvironment(p, ws, d, plain)
	if err != nil {
		return EnvironmentVersion{}, err
	}
	doc.Version = version
	err = c.Store.Write(ctx, func(tx *store.Tx) (err error) {
		if version == "" {
			doc, err = insertNumbered(ctx, tx, doc)
			return err
		}
		if err = tx.InsertDocument(ctx, doc); errors.Is(err, store.ErrExists) {
			return sameEnvironment(ctx, tx, doc)
		}
		return err
	})
	if err != nil {
		return EnvironmentVersion{}, err
	}
	return environmentVersion(doc)
}

// newEnvironment is a document without a version.
func (c *Control) newEnvironment(p workspace.Principal, ws workspace.Workspace, d environment.Definition, plain json.RawMessage) (store.Document, error) {
	if p := workspace.CheckName(singular[environments], d.Name); p != nil {
		return store.Document{}, p
	}
	arm, err := d.ARM()
	if err != nil {
		return store.Document{}, err
	}
	body, err := json.Marshal(map[string]json.RawMessage{"properties": arm, definitionField: plain})
	if err != nil {
		return store.Document{}, fmt.Errorf("control: environment %s: %w", d.Name, err)
	}
	now := c.Clock.Millis()
	return store.Document{
		WorkspaceID: ws.ID, Collection: environments, Name: d.Name, Body: body, Hash: contentHash(d.Name, plain),
		Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name,
	}, nil
}

// insertNumbered keeps a document as the version after the highest number, or finds it as the newest version.
func insertNumbered(ctx context.Context, tx *store.Tx, doc store.Document) (store.Document, error) {
	newest, err := tx.LatestDocumentBut(ctx, doc.WorkspaceID, doc.Collection, doc.Name, autosaved)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return doc, err
	}
	if err == nil {
		same, err := hasContent(newest, doc.Hash)
		if err != nil || same {
			return newest, err
		}
	}
	return insertNext(ctx, tx, doc, newest)
}

func sameEnvironment(ctx context.Context, tx *store.Tx, doc store.Document) error {
	had, err := tx.Document(ctx, doc.WorkspaceID, doc.Collection, doc.Name, doc.Version)
	if err != nil {
		return err
	}
	same, err := hasContent(had, doc.Hash)
	if err != nil || same {
		return err
	}
	return &workspace.Problem{
		Class: workspace.Conflict, Code: "VersionExists", Target: "version",
		Message: fmt.Sprintf("version %s of environment %s exists and is another", had.Version, quote(had.Name)),
		Mend:    "set its version to None, which gives it the next number",
	}
}

// hasContent tells whether a document, whoever registered it, has the content of a hash.
func hasContent(doc store.Document, hash string) (bool, error) {
	v, err := environmentVersion(doc)
	return contentHash(doc.Name, v.Definition) == hash, err
}

// contentHash is equal for definitions of one content under one name. What is null or empty does not count: the client writes
// more of it into a run's definition than into a registration.
func contentHash(name string, definition json.RawMessage) string {
	var v any
	if json.Unmarshal(definition, &v) != nil {
		return ""
	}
	b, _ := json.Marshal(pruned(v)) // with sorted keys; it was JSON when it came
	sum := sha256.Sum256([]byte(name + "\x00" + string(b)))
	return hex.EncodeToString(sum[:])
}

// pruned is a JSON value without what is null or empty; nil if nothing is left.
func pruned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			if value = pruned(value); value != nil {
				out[key] = value
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		if len(v) == 0 {
			return nil
		}
		out := make([]any, len(v))
		for i, value := range v {
			out[i] = pruned(value)
		}
		return out
	}
	return v
}

// Environment gives one version of an environment; "" is the newest that was registered, and without one the newest of a
// run. A curated name gives its packages, in whatever version. One that is not there is NotFound; for a curated name the
// problem names the nearest.
func (c *Control) Environment(ctx context.Context, ws workspace.Workspace, name, version string) (EnvironmentVersion, error) {
	latest := version == "" || strings.EqualFold(version, "latest")
	if latest && environment.CuratedName(name) {
		if v, ok, err := c.curated(name, "1"); ok || err != nil {
			return v, err
		}
	}
	doc, err := c.Asset(ctx, ws, environments, name, version)
	if err == nil {
		return environmentVersion(doc)
	}
	if !environment.CuratedName(name) || !errors.Is(err, &workspace.Problem{Code: "ResourceNotFound"}) {
		return EnvironmentVersion{}, err
	}
	if !latest && !strings.HasPrefix(version, autosaved) {
		if v, ok, err := c.curated(name, version); ok || err != nil {
			return v, err
		}
	}
	unknown := *c.Curated.Unknown(name)
	unknown.Class = workspace.NotFound
	return EnvironmentVersion{}, &unknown
}

// curated is an environment of the table, with what a script of v1 needs besides.
func (c *Control) curated(name, version string) (v EnvironmentVersion, ok bool, err error) {
	spec, ok := c.Curated.Find(name)
	if !ok {
		return v, false, nil
	}
	v.Name, v.Version = name, version
	v.Definition, err = environment.DefinitionOf(spec.WithSDK())
	return v, true, err
}

// NewestEnvironments lists environments by name, each with the version that Environment gives for it, and after them the curated
// ones. after is the name last seen; next is "" at the end.
func (c *Control) NewestEnvironments(ctx context.Context, ws workspace.Workspace, after string) (list []EnvironmentVersion, next string, err error) {
	const page = 500
	docs, err := c.AssetNames(ctx, ws, environments, store.Page{After: after, Limit: page})
	if err != nil {
		return nil, "", err
	}
	for _, doc := range docs {
		if environment.CuratedName(doc.Name) {
			if _, known := c.Curated.Find(doc.Name); known {
				continue
			}
		}
		if anonymous(doc) {
			continue
		}
		v, err := environmentVersion(doc)
		if err != nil {
			return nil, "", err
		}
		list = append(list, v)
	}
	if len(docs) == page {
		return list, docs[page-1].Name, nil
	}
	for _, name := range c.Curated.Listed() {
		v, _, err := c.curated(name, "1")
		if err != nil {
			return nil, "", err
		}
		list = append(list, v)
	}
	return list, "", nil
}

// registered lists the versions of an environment that were registered, newest first; those of runs where there are no others.
func (c *Control) registered(ctx context.Context, ws workspace.Workspace, name string, page store.Page) ([]store.Document, error) {
	latest, err := c.latest(ctx, ws, environments, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil || strings.HasPrefix(latest.Version, autosaved) {
		return c.Store.Documents(ctx, ws.ID, environments, name, page)
	}
	limit := min(cmp.Or(max(page.Limit, 0), 100), 1000)
	var list []store.Document
	for some := (store.Page{After: page.After, Limit: 1000}); ; {
		docs, err := c.Store.Documents(ctx, ws.ID, environments, name, some)
		if err != nil {
			return nil, err
		}
		for _, doc := range docs {
			if !strings.HasPrefix(doc.Version, autosaved) {
				list = append(list, doc)
			}
		}
		if len(docs) < some.Limit || len(list) >= limit {
			return list[:min(len(list), limit)], nil
		}
		some.After = docs[len(docs)-1].ID
	}
}

// environmentVersion reads a document: the definition that v1 gave, or one made of what v2 gave.
func environmentVersion(doc store.Document) (EnvironmentVersion, error) {
	v := EnvironmentVersion{Name: doc.Name, Version: doc.Version}
	if v.Definition = definitionIn(doc); v.Definition != nil {
		return v, nil
	}
	spec, err := environment.FromARM(properties(doc.Body))
	if err != nil {
		return v, err
	}
	v.Definition, err = environment.DefinitionOf(spec)
	return v, err
}

// anonymous tells whether a client of v2 kept the version for one job alone (azureml-v2.md §11).
func anonymous(doc store.Document) bool {
	var p struct {
		Anonymous bool `json:"isAnonymous"`
	}
	return json.Unmarshal(properties(doc.Body), &p) == nil && p.Anonymous
}

func definitionIn(doc store.Document) json.RawMessage {
	var body map[string]json.RawMessage
	if json.Unmarshal(doc.Body, &body) != nil {
		return nil
	}
	return body[definitionField]
}
