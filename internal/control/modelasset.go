package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// ModelAsset names the files of a model: artifacts that were uploaded for it, or that a run has (azureml-v1.md §11, §25).
type ModelAsset struct {
	ID        string         `json:"-"`
	Name      string         `json:"name"`
	Run       string         `json:"run,omitempty"`
	Artifacts []ArtifactName `json:"artifacts"`
	Created   int64          `json:"-"` // milliseconds since the epoch
}

// ArtifactName names one artifact, or all below a prefix, as ORIGIN/CONTAINER/PATH. One of the two is set.
type ArtifactName struct {
	ID     string `json:"id,omitempty"`
	Prefix string `json:"prefix,omitempty"`
}

func (n ArtifactName) text() string {
	if n.ID != "" {
		return n.ID
	}
	return strings.TrimRight(n.Prefix, "/")
}

// modelAssets is the collection of their documents. A document's hash is the name of the first artifact.
const modelAssets = "model assets"

// ModelOrigin is the origin of the artifacts of models that lie outside of the artifact container: Model/NAME:VERSION/….
const ModelOrigin = "Model"

// maxArtifacts bounds an asset's artifacts. azureml-core names one.
const maxArtifacts = 1000

// KeepModelAsset keeps the names of a model's files, which must be there.
func (c *Control) KeepModelAsset(ctx context.Context, p workspace.Principal, ws workspace.Workspace, a ModelAsset) (ModelAsset, error) {
	if len(a.Artifacts) == 0 || len(a.Artifacts) > maxArtifacts {
		return a, invalid("InvalidAsset", "artifacts", fmt.Sprintf("the model's asset names %d artifacts", len(a.Artifacts)), "", fmt.Sprintf("name 1 to %d", maxArtifacts))
	}
	for _, n := range a.Artifacts {
		if strings.Count(n.text(), "/") < 2 {
			return a, invalid("InvalidAsset", "artifacts", quote(n.text())+" does not name an artifact", "", "write ORIGIN/CONTAINER/PATH")
		}
		there, err := c.anyBlob(ctx, artifactPlace(ws, n))
		if err != nil {
			return a, err
		}
		if !there {
			return a, invalid("NoSuchArtifact", n.text(), "there are no files at "+quote(n.text()), "", "upload them first; files in outputs/ of a run are there when it has ended")
		}
	}
	body, err := json.Marshal(a)
	if err != nil {
		return a, fmt.Errorf("control: model asset: %w", err)
	}
	id := c.Clock.NewID()
	a.ID, a.Created = uuidOf(ws.ID, modelAssets, id), c.Clock.Millis()
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		return tx.InsertDocument(ctx, store.Document{
			WorkspaceID: ws.ID, Collection: modelAssets, Name: a.ID, Body: body, Hash: a.Artifacts[0].text(), Created: a.Created, Modified: a.Created, CreatedBy: p.Name, ModifiedBy: p.Name,
		})
	})
	return a, err
}

func artifactPlace(ws workspace.Workspace, n ArtifactName) string {
	return "c/" + tracking.ArtifactContainer(ws.ID) + "/" + n.text()
}

// anyBlob tells whether there is a blob of a name, or one below it.
func (c *Control) anyBlob(ctx context.Context, name string) (bool, error) {
	_, err := c.Blob.Stat(ctx, name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	page, err := c.Blob.List(ctx, name+"/", "", "", 1)
	return len(page.Blobs) > 0, err
}

// ModelAsset finds an asset by its id. That of a model which another client registered has the model's id, NAME:VERSION,
// and names the files to which that model's URI leads.
func (c *Control) ModelAsset(ctx context.Context, ws workspace.Workspace, id string) (a ModelAsset, err error) {
	if strings.Contains(id, ":") {
		return c.modelOwnAsset(ctx, ws, id)
	}
	doc, err := c.Store.Document(ctx, ws.ID, modelAssets, id, "")
	if errors.Is(err, store.ErrNotFound) {
		return a, &workspace.Problem{Class: workspace.NotFound, Code: "AssetNotFound", Target: id, Message: "there is no asset " + quote(id), Mend: "register the model again"}
	}
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(doc.Body, &a); err != nil {
		return a, fmt.Errorf("control: model asset %s: %w", id, err)
	}
	a.ID, a.Created = doc.Name, doc.Created
	return a, nil
}

func (c *Control) modelOwnAsset(ctx context.Context, ws workspace.Workspace, id string) (ModelAsset, error) {
	place, err := c.ModelPlace(ctx, ws, id)
	if err != nil {
		return ModelAsset{}, err
	}
	m, err := c.Model(ctx, ws, id)
	a := ModelAsset{ID: id, Name: m.Name, Run: m.Run, Created: m.Created}
	prefix, own := strings.CutPrefix(place, "c/"+tracking.ArtifactContainer(ws.ID)+"/")
	if !own || strings.Count(prefix, "/") < 2 {
		prefix = ModelOrigin + "/" + id + "/" + path.Base(place)
	}
	a.Artifacts = []ArtifactName{{Prefix: prefix}}
	return a, err
}

// assetPlace is where the files of an asset lie in the blob store: the first artifact that it names.
func (c *Control) assetPlace(ctx context.Context, ws workspace.Workspace, id string) (string, error) {
	a, err := c.ModelAsset(ctx, ws, id)
	if err != nil {
		return "", err
	}
	return artifactPlace(ws, a.Artifacts[0]), nil
}

// HasModelFiles tells whether a registered model consists of the artifacts of that very name, whoever's run they are.
func (c *Control) HasModelFiles(ctx context.Context, ws workspace.Workspace, artifact string) (bool, error) {
	_, err := c.Store.DocumentByHash(ctx, ws.ID, modelAssets, strings.TrimRight(artifact, "/"))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

var runURI = regexp.MustCompile(`^runs:/([^/]+)/(.+)$`)

// ModelPlace is where the files of a model lie in the blob store, by its id: a blob, or all below it.
func (c *Control) ModelPlace(ctx context.Context, ws workspace.Workspace, id string) (string, error) {
	doc, err := c.modelDocument(ctx, c.Store, ws, id)
	if err != nil {
		return "", err
	}
	var p struct {
		URI string `json:"modelUri"`
	}
	if err := json.Unmarshal(properties(doc.Body), &p); err != nil {
		return "", fmt.Errorf("control: model %s: %w", id, err)
	}
	if m := runURI.FindStringSubmatch(p.URI); m != nil {
		return tracking.ArtifactPrefix(ws.ID, m[1]) + strings.TrimPrefix(path.Clean("/"+m[2]), "/"), nil
	}
	spec, err := c.input(ctx, ws, "model", jobInput{Type: "uri_folder", URI: p.URI})
	if err == nil && spec.Prefix == "" {
		err = &workspace.Problem{Class: workspace.Unsupported, Code: "RemoteModel", Target: id, Message: "the files of model " + quote(id) + " are not on this server", Cause: "its path is " + p.URI, Mend: "download them from there"}
	}
	return spec.Prefix, err
}
