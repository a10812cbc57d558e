package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// AssetCollections are the collections of versioned documents, by their ARM names.
var AssetCollections = []string{"codes", "environments", "data", "models"}

// singular is for messages.
var singular = map[string]string{"codes": "code", "environments": "environment", "data": "data asset", "models": "model"}

// ownFields begins the names of the fields of documents that are ours: clients neither see nor change them.
const ownFields = "moorage"

// snapshotField is the field of a code's document that names its snapshot.
const snapshotField = ownFields + "Snapshot"

// fixed are the properties that a version keeps for ever, so that a job means the same tomorrow. Clients rely on being
// refused: a new environment without a version is tried as the latest one first, and gets the next number then.
var fixed = map[string][]string{
	"environments": {"image", "condaFile", "build", "inferenceConfig"},
	"data":         {"dataUri", "dataType"},
	"models":       {"modelUri", "modelType"},
}

// PutAsset keeps a version of an asset as the client sent it. The same name and version again changes its description
// and tags; other content is refused. Code is made once and stays. The files of code become a snapshot here, so a job of
// that code needs no more uploads.
func (c *Control) PutAsset(ctx context.Context, p workspace.Principal, ws workspace.Workspace, collection, name, version string, body json.RawMessage) (doc store.Document, created bool, err error) {
	if p := workspace.CheckName(singular[collection], name); p != nil {
		return doc, false, p
	}
	if p := workspace.CheckName("version", version); p != nil {
		return doc, false, p
	}
	if body, err = withOwnFields(body, nil); err != nil {
		return doc, false, err
	}
	now := c.Clock.Millis()
	doc = store.Document{
		WorkspaceID: ws.ID, Collection: collection, Name: name, Version: version, Body: body,
		Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name,
	}
	if collection == "codes" {
		had, err := c.Store.Document(ctx, ws.ID, collection, name, version)
		if err == nil {
			return had, false, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return doc, false, err
		}
		if err := c.takeCode(ctx, ws, &doc); err != nil {
			return doc, false, err
		}
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) (err error) {
		had, err := tx.Document(ctx, ws.ID, collection, name, version)
		if err == nil {
			err = sameContent(had, body)
		}
		if err == nil {
			doc.Hash = cmp.Or(doc.Hash, had.Hash)
			doc.Body, err = withOwnFields(body, had.Body)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		created, err = tx.PutDocument(ctx, doc)
		return err
	})
	if err != nil {
		return doc, false, err
	}
	if collection == "codes" {
		c.dropUpload(context.WithoutCancel(ctx), body)
	}
	doc, err = c.Store.Document(ctx, ws.ID, collection, name, version)
	return doc, created, err
}

// sameContent refuses another content for a version that is there.
func sameContent(had store.Document, body json.RawMessage) error {
	var was, is map[string]any
	if err := errors.Join(json.Unmarshal(properties(had.Body), &was), json.Unmarshal(properties(body), &is)); err != nil {
		return invalid("InvalidProperties", "properties", "the properties cannot be read", err.Error(), "send an object")
	}
	for _, field := range fixed[had.Collection] {
		if !reflect.DeepEqual(was[field], is[field]) && !sameCondaFile(field, was[field], is[field]) {
			return &workspace.Problem{
				Class: workspace.Conflict, Code: "VersionExists", Target: field,
				Message: fmt.Sprintf("version %s of %s %s exists and has another %s", had.Version, singular[had.Collection], quote(had.Name), field),
				Mend:    "register it under another version, or without one",
			}
		}
	}
	return nil
}

func sameCondaFile(field string, was, is any) bool {
	a, ok := was.(string)
	b, also := is.(string)
	return field == "condaFile" && ok && also && environment.SameCondaFile(a, b)
}

// Asset gives one version of an asset; "" and "latest" are the newest.
func (c *Control) Asset(ctx context.Context, ws workspace.Workspace, collection, name, version string) (store.Document, error) {
	if version != "" && !strings.EqualFold(version, "latest") {
		doc, err := c.Store.Document(ctx, ws.ID, collection, name, version)
		return doc, assetNotFound(err, collection, name+":"+version)
	}
	doc, err := c.latest(ctx, ws, collection, name)
	return doc, assetNotFound(err, collection, name)
}

// latest is the version that was made last. What was kept for a run counts only where nothing else is.
func (c *Control) latest(ctx context.Context, ws workspace.Workspace, collection, name string) (store.Document, error) {
	if collection == environments {
		if doc, err := c.Store.LatestDocumentBut(ctx, ws.ID, collection, name, autosaved); !errors.Is(err, store.ErrNotFound) {
			return doc, err
		}
	}
	return c.Store.LatestDocument(ctx, ws.ID, collection, name)
}

// Assets lists versions of an asset, newest first. Environments of runs are among them only where nothing else is.
func (c *Control) Assets(ctx context.Context, ws workspace.Workspace, collection, name string, page store.Page) ([]store.Document, error) {
	if collection == environments {
		return c.registered(ctx, ws, name, page)
	}
	return c.Store.Documents(ctx, ws.ID, collection, name, page)
}

// DeleteAsset forgets one version. Jobs that used it keep what they were given.
func (c *Control) DeleteAsset(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, collection, name, version string) error {
	err := c.Store.Write(ctx, func(tx *store.Tx) error {
		return tx.DeleteDocument(ctx, ws.ID, collection, name, version)
	})
	return assetNotFound(err, collection, name+":"+version)
}

// CodeByHash gives the code that a client once uploaded under its own hash; ok is false if there is none, or its
// snapshot is no longer whole.
func (c *Control) CodeByHash(ctx context.Context, ws workspace.Workspace, hash string) (doc store.Document, ok bool, err error) {
	doc, err = c.Store.DocumentByHash(ctx, ws.ID, "codes", hash)
	if errors.Is(err, store.ErrNotFound) {
		return doc, false, nil
	}
	if err != nil {
		return doc, false, err
	}
	missing, err := c.CAS.Complete(ctx, snapshotOf(doc))
	return doc, err == nil && len(missing) == 0, err
}

// AssetBody gives a document's body without the fields that are ours.
func AssetBody(doc store.Document) (map[string]json.RawMessage, error) {
	body := map[string]json.RawMessage{}
	if err := json.Unmarshal(doc.Body, &body); err != nil {
		return nil, fmt.Errorf("control: document %s/%s/%s: %w", doc.Collection, doc.Name, doc.Version, err)
	}
	maps.DeleteFunc(body, func(field string, _ json.RawMessage) bool { return strings.HasPrefix(field, ownFields) })
	return body, nil
}

// withOwnFields gives a client's body with the fields that are ours as they are in another document, and no others of
// their names.
func withOwnFields(body, from json.RawMessage) (json.RawMessage, error) {
	var fields, ours map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		return nil, invalid("InvalidRequestContent", "", "the asset's document is not an object", "", "send an object")
	}
	if len(from) > 0 {
		if err := json.Unmarshal(from, &ours); err != nil {
			return nil, fmt.Errorf("control: document: %w", err)
		}
	}
	maps.DeleteFunc(fields, func(field string, _ json.RawMessage) bool { return strings.HasPrefix(field, ownFields) })
	for field, v := range ours {
		if strings.HasPrefix(field, ownFields) {
			fields[field] = v
		}
	}
	return json.Marshal(fields)
}

// insertNext keeps a document as the version after the highest number that its name has. known is a version that may lie
// beyond what is looked at; the zero value is none.
func insertNext(ctx context.Context, tx *store.Tx, doc, known store.Document) (store.Document, error) {
	had, err := tx.Documents(ctx, doc.WorkspaceID, doc.Collection, doc.Name, store.Page{Limit: 1000})
	if err != nil {
		return doc, err
	}
	next := 1
	for _, d := range append(had, known) {
		if n, ok := number(d.Version); ok {
			next = max(next, n+1)
		}
	}
	for ; ; next++ { // beyond what one page showed
		doc.Version = strconv.Itoa(next)
		if err := tx.InsertDocument(ctx, doc); !errors.Is(err, store.ErrExists) {
			return doc, err
		}
	}
}

func snapshotOf(doc store.Document) snapshot.Hash {
	var body map[string]json.RawMessage
	var root snapshot.Hash
	if json.Unmarshal(doc.Body, &body) == nil {
		_ = json.Unmarshal(body[snapshotField], &root) // our own writing; without it there is no root
	}
	return root
}

var rootHash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// codeRoot is the snapshot that a job's codeId names: code that was put, or "…/codes/ROOT/versions/1" of a snapshot
// that was uploaded, which exists without being put.
func (c *Control) codeRoot(ctx context.Context, ws workspace.Workspace, codeID string) (snapshot.Hash, error) {
	name, version := assetRef(codeID, "codes")
	if name == "" {
		return "", invalid("InvalidCode", "codeId", quote(codeID)+" does not name code", "", "give a local folder as code; Git addresses are not fetched by this server")
	}
	doc, err := c.Asset(ctx, ws, "codes", name, version)
	if err == nil {
		return snapshotOf(doc), c.complete(ctx, snapshotOf(doc))
	}
	if rootHash.MatchString(name) && errors.Is(err, &workspace.Problem{Code: "ResourceNotFound"}) {
		return snapshot.Hash(name), c.complete(ctx, snapshot.Hash(name))
	}
	return "", err
}

// complete refuses a snapshot of which objects are missing, and pins those that are there.
func (c *Control) complete(ctx context.Context, root snapshot.Hash) error {
	missing, err := c.CAS.Complete(ctx, root)
	if err != nil {
		return err
	}
	if len(missing) == 0 {
		return nil
	}
	return &workspace.Problem{
		Class: workspace.Conflict, Code: "SnapshotMissing", Target: string(root),
		Message: fmt.Sprintf("the server lacks %d objects of snapshot %s", len(missing), root[:min(12, len(root))]),
		Mend:    "upload them and submit again; moorage job create does so by itself",
	}
}

func assetNotFound(err error, collection, name string) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return &workspace.Problem{
		Class: workspace.NotFound, Code: "ResourceNotFound", Target: name,
		Message: singular[collection] + " " + quote(name) + " was not found",
		Mend:    "register it first, or correct name and version",
	}
}

// AssetNames lists the names of a collection by name, each with its newest version. The page's cursor is a name.
func (c *Control) AssetNames(ctx context.Context, ws workspace.Workspace, collection string, page store.Page) ([]store.Document, error) {
	docs, err := c.Store.Containers(ctx, ws.ID, collection, page)
	if err != nil || collection != environments {
		return docs, err
	}
	for i, doc := range docs {
		if !strings.HasPrefix(doc.Version, autosaved) {
			continue
		}
		if docs[i], err = c.latest(ctx, ws, collection, doc.Name); err != nil {
			return nil, assetNotFound(err, collection, doc.Name)
		}
	}
	return docs, nil
}

// containerCollection is where what clients say of an asset as a whole is kept, beside its versions.
func containerCollection(collection string) string { return collection + " containers" }

// PutAssetContainer keeps what a client says of an asset as a whole: its description, and whether it is archived.
func (c *Control) PutAssetContainer(ctx context.Context, p workspace.Principal, ws workspace.Workspace, collection, name string, body json.RawMessage) (doc store.Document, created bool, err error) {
	if p := workspace.CheckName(singular[collection], name); p != nil {
		return doc, false, p
	}
	now := c.Clock.Millis()
	doc = store.Document{
		WorkspaceID: ws.ID, Collection: containerCollection(collection), Name: name, Body: body, Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name,
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) (err error) {
		created, err = tx.PutDocument(ctx, doc)
		return err
	})
	return doc, created, err
}

// AssetContainer gives what PutAssetContainer kept, and the newest version of the asset; either may be missing, and then
// its Name is empty. ResourceNotFound when both are.
func (c *Control) AssetContainer(ctx context.Context, ws workspace.Workspace, collection, name string) (container, latest store.Document, err error) {
	container, err = c.Store.Document(ctx, ws.ID, containerCollection(collection), name, "")
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return container, latest, err
	}
	none := err != nil
	latest, err = c.latest(ctx, ws, collection, name)
	if errors.Is(err, store.ErrNotFound) && !none {
		err = nil
	}
	return container, latest, assetNotFound(err, collection, name)
}
