package control

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Definition is what a dataset is: a text in the client's language, which this server keeps and does not evaluate
// (azureml-v1.md §21). The same definition has the same id in a workspace.
type Definition struct {
	ID         string          `json:"-"` // a UUID
	Type       string          `json:"type"`
	Dataflow   string          `json:"dataflow"`
	Properties json.RawMessage `json:"properties,omitempty"`
}

// Dataset is a version of a definition under a name.
type Dataset struct {
	ID          string            `json:"-"` // of the name: a UUID, the same for all versions
	Name        string            `json:"-"`
	Version     int               `json:"-"` // from 1
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Definition  Definition        `json:"-"`
	Created     int64             `json:"-"` // milliseconds since the epoch
	Modified    int64             `json:"-"`
}

// The collections of documents of datasets. A version's hash is the id of its definition.
const (
	datasets    = "datasets"
	definitions = "dataset definitions"
)

// maxDataflow bounds a definition. Those of clients have a few KB.
const maxDataflow = 4 << 20

// datasetName allows blanks, which people use.
var datasetName = newNameForm(`^[\pL\pN][\pL\pN ._-]*$`, 255)

func checkDatasetName(field, name string) error {
	if datasetName.MatchString(name) {
		return nil
	}
	return invalid("InvalidName", field, "dataset name "+quote(name)+" cannot be used", "", "use 1 to 255 letters, digits, blanks, '.', '_' and '-', beginning with a letter or digit")
}

// SaveDefinition keeps a definition, and gives it with its id.
func (c *Control) SaveDefinition(ctx context.Context, p workspace.Principal, ws workspace.Workspace, d Definition) (Definition, error) {
	doc, err := c.definitionDocument(p, ws, &d)
	if err != nil {
		return d, err
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.PutDocument(ctx, doc)
		return err
	})
	return d, err
}

// definitionDocument checks a definition, gives it its id and makes its document.
func (c *Control) definitionDocument(p workspace.Principal, ws workspace.Workspace, d *Definition) (store.Document, error) {
	switch {
	case d.Type != "file" && d.Type != "tabular":
		return store.Document{}, invalid("InvalidDatasetType", "datasetType", "a dataset cannot be of type "+quote(d.Type), "", "make it with Dataset.File or Dataset.Tabular")
	case d.Dataflow == "":
		return store.Document{}, invalid("InvalidDataset", "dataflow", "the dataset has no definition", "", "make it with Dataset.File or Dataset.Tabular")
	case len(d.Dataflow) > maxDataflow:
		return store.Document{}, &workspace.Problem{Class: workspace.TooLarge, Code: "DatasetTooLarge", Target: "dataflow", Message: fmt.Sprintf("the dataset's definition is over %d MiB", maxDataflow>>20), Mend: "name folders and patterns in place of many files"}
	}
	d.ID = uuidOf(ws.ID, "dataset definition", d.Type, d.Dataflow)
	body, err := json.Marshal(d)
	if err != nil {
		return store.Document{}, invalid("InvalidDataset", "properties", "the dataset's properties cannot be read", err.Error(), "send an object")
	}
	now := c.Clock.Millis()
	return store.Document{WorkspaceID: ws.ID, Collection: definitions, Name: d.ID, Body: body, Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name}, nil
}

// uuidOf makes an id of UUID form that is the same for the same words.
func uuidOf(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\n")))
	return uuid([16]byte(sum[:16]), 8) // of our own making
}

// uuid writes an id of UUID form, of a version as RFC 9562 numbers them.
func uuid(b [16]byte, version byte) string {
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// Definition finds a definition by its id.
func (c *Control) Definition(ctx context.Context, ws workspace.Workspace, id string) (d Definition, err error) {
	doc, err := c.Store.Document(ctx, ws.ID, definitions, id, "")
	if err != nil {
		return d, datasetNotFound(err, id)
	}
	if err = json.Unmarshal(doc.Body, &d); err != nil {
		return d, fmt.Errorf("control: dataset definition %s: %w", id, err)
	}
	d.ID = id
	return d, nil
}

func datasetNotFound(err error, name string) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return &workspace.Problem{Class: workspace.NotFound, Code: "DatasetNotFound", Target: name, Message: "dataset " + quote(name) + " was not found", Mend: "register it first, or correct name and version"}
}

// RegisterDataset keeps a definition under a name, as its version 1. When the name is taken it is a Problem DatasetExists,
// or with another the next version.
func (c *Control) RegisterDataset(ctx context.Context, p workspace.Principal, ws workspace.Workspace, d Dataset, another bool) (Dataset, error) {
	if err := checkDatasetName("name", d.Name); err != nil {
		return d, err
	}
	definition, err := c.definitionDocument(p, ws, &d.Definition)
	if err != nil {
		return d, err
	}
	body, err := json.Marshal(d)
	if err != nil {
		return d, fmt.Errorf("control: dataset %s: %w", d.Name, err)
	}
	now := c.Clock.Millis()
	doc := store.Document{WorkspaceID: ws.ID, Collection: datasets, Name: d.Name, Body: body, Hash: d.Definition.ID, Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name}
	err = c.Store.Write(ctx, func(tx *store.Tx) (err error) {
		if _, err := tx.PutDocument(ctx, definition); err != nil {
			return err
		}
		doc.Version, err = insertDataset(ctx, tx, doc, another)
		return err
	})
	if err != nil {
		return d, err
	}
	return c.readDataset(ctx, ws, doc)
}

// insertDataset makes a dataset's document the next version of its name, and gives the version.
func insertDataset(ctx context.Context, tx *store.Tx, doc store.Document, another bool) (version string, err error) {
	last, err := tx.LatestDocument(ctx, doc.WorkspaceID, datasets, doc.Name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	if err == nil && !another {
		return "", &workspace.Problem{Class: workspace.Conflict, Code: "DatasetExists", Target: doc.Name, Message: "a dataset " + quote(doc.Name) + " is registered already", Mend: "register it with create_new_version=True, or under another name"}
	}
	number, _ := strconv.Atoi(last.Version) // of our own making; none: 0
	doc.Version = strconv.Itoa(number + 1)
	return doc.Version, tx.InsertDocument(ctx, doc)
}

func (c *Control) readDataset(ctx context.Context, ws workspace.Workspace, doc store.Document) (d Dataset, err error) {
	if err = json.Unmarshal(doc.Body, &d); err == nil {
		d.Version, err = strconv.Atoi(doc.Version)
	}
	if err != nil {
		return d, fmt.Errorf("control: dataset %s: %w", doc.Name, err)
	}
	d.ID, d.Name, d.Created, d.Modified = uuidOf(ws.ID, "dataset", doc.Name), doc.Name, doc.Created, doc.Modified
	d.Definition, err = c.Definition(ctx, ws, doc.Hash)
	return d, err
}

// Dataset gives a version of a dataset; "" and "latest" are the newest.
func (c *Control) Dataset(ctx context.Context, ws workspace.Workspace, name, version string) (Dataset, error) {
	var doc store.Document
	var err error
	if version == "" || strings.EqualFold(version, "latest") {
		doc, err = c.Store.LatestDocument(ctx, ws.ID, datasets, name)
	} else {
		doc, err = c.Store.Document(ctx, ws.ID, datasets, name, version)
	}
	if err != nil {
		return Dataset{}, datasetNotFound(err, name)
	}
	return c.readDataset(ctx, ws, doc)
}

// DatasetOf gives the newest registered version that has a definition; ok is false if there is none.
func (c *Control) DatasetOf(ctx context.Context, ws workspace.Workspace, definitionID string) (d Dataset, ok bool, err error) {
	doc, err := c.Store.DocumentByHash(ctx, ws.ID, datasets, definitionID)
	if errors.Is(err, store.ErrNotFound) {
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	d, err = c.readDataset(ctx, ws, doc)
	return d, err == nil, err
}

// Datasets lists the newest version of each dataset, by name, which is the page's cursor.
func (c *Control) Datasets(ctx context.Context, ws workspace.Workspace, page store.Page) ([]Dataset, error) {
	docs, err := c.Store.Containers(ctx, ws.ID, datasets, page)
	if err != nil {
		return nil, err
	}
	list := make([]Dataset, len(docs))
	for i, doc := range docs {
		if list[i], err = c.readDataset(ctx, ws, doc); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// DescribeDataset changes description and tags of a version; version 0 is the newest.
func (c *Control) DescribeDataset(ctx context.Context, p workspace.Principal, ws workspace.Workspace, d Dataset) (Dataset, error) {
	body, err := json.Marshal(d)
	if err != nil {
		return d, fmt.Errorf("control: dataset %s: %w", d.Name, err)
	}
	var doc store.Document
	err = c.Store.Write(ctx, func(tx *store.Tx) (err error) {
		if d.Version == 0 {
			doc, err = tx.LatestDocument(ctx, ws.ID, datasets, d.Name)
		} else {
			doc, err = tx.Document(ctx, ws.ID, datasets, d.Name, strconv.Itoa(d.Version))
		}
		if err != nil {
			return err
		}
		doc.Body, doc.Modified, doc.ModifiedBy = body, c.Clock.Millis(), p.Name
		_, err = tx.PutDocument(ctx, doc)
		return err
	})
	if err != nil {
		return d, datasetNotFound(err, d.Name)
	}
	return c.readDataset(ctx, ws, doc)
}

// UnregisterDataset forgets all versions of a name. Their definitions stay, because runs name them.
func (c *Control) UnregisterDataset(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) error {
	err := c.Store.Write(ctx, func(tx *store.Tx) error {
		for found := false; ; found = true {
			doc, err := tx.LatestDocument(ctx, ws.ID, datasets, name)
			if errors.Is(err, store.ErrNotFound) && found {
				return nil
			}
			if err == nil {
				err = tx.DeleteDocument(ctx, ws.ID, datasets, name, doc.Version)
			}
			if err != nil {
				return err
			}
		}
	})
	return datasetNotFound(err, name)
}

// DataPath is a place that a definition names: of kind "file", "folder" or "pattern".
type DataPath struct{ Kind, URI string }

// Paths are the places of a definition, which its text holds as YAML within JSON (azureml-v1.md §21.1). What else the text
// says is to be done with the files is not looked at.
func (d Definition) Paths() ([]DataPath, error) {
	unread := func(cause string) error {
		return invalid("UnreadableDataset", "dataset", "the definition of the dataset names no files that this server can find", cause, "make it with Dataset.File.from_files((datastore, path)), or read it in the script")
	}
	text := d.Dataflow
	var flow struct {
		Meta struct {
			RsDataflow string `json:"RsDataflow"`
		} `json:"meta"`
	}
	if json.Unmarshal([]byte(text), &flow) == nil {
		text = flow.Meta.RsDataflow
	}
	var table struct {
		Paths []map[string]string `yaml:"paths"`
	}
	if err := environment.DecodeYAML([]byte(text), &table); err != nil {
		return nil, unread(err.Error())
	}
	var paths []DataPath
	for _, p := range table.Paths {
		for _, kind := range []string{"file", "folder", "pattern"} {
			if uri, ok := p[kind]; ok {
				paths = append(paths, DataPath{kind, uri})
			}
		}
	}
	if len(paths) == 0 {
		return nil, unread("it has no paths")
	}
	return paths, nil
}
