package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Model is a version of a model as azureml-core sees it (azureml-v1.md §11). It is kept as a document of the collection
// "models" in ARM's form, which azure-ai-ml reads; what that form has no place for is in a field of its own.
type Model struct {
	Name        string
	Version     int
	Description string
	Tags        map[string]string
	Properties  map[string]string
	ModelDetails
	Created, Modified int64 // milliseconds since the epoch
	CreatedBy         string
}

// ModelDetails are what only azureml-core says of a model. Of a model that another client registered there are none.
type ModelDetails struct {
	Asset            string          `json:"asset,omitempty"` // id of the ModelAsset with its files
	MimeType         string          `json:"mime_type,omitempty"`
	Unpack           bool            `json:"unpack,omitempty"`
	Framework        string          `json:"framework,omitempty"`
	FrameworkVersion string          `json:"framework_version,omitempty"`
	Run              string          `json:"run,omitempty"`
	Experiment       string          `json:"experiment,omitempty"`
	Parent           string          `json:"parent,omitempty"`
	SampleInput      string          `json:"sample_input,omitempty"`
	SampleOutput     string          `json:"sample_output,omitempty"`
	Datasets         []ModelDataset  `json:"datasets,omitempty"`
	Resources        json.RawMessage `json:"resources,omitempty"`
}

// ModelDataset is a dataset that a model was made with.
type ModelDataset struct {
	Name string `json:"name"` // what it was for
	ID   string `json:"id"`
}

const models = "models"

// detailsField is the field of a model's document that holds ModelDetails.
const detailsField = ownFields + "Model"

// ID is how azureml-core names the version.
func (m Model) ID() string { return m.Name + ":" + strconv.Itoa(m.Version) }

// RegisterModel keeps a new version of a model, whose files are those of its asset. Versions are numbers from 1, one more
// than the highest there is.
func (c *Control) RegisterModel(ctx context.Context, p workspace.Principal, ws workspace.Workspace, m Model) (Model, error) {
	if p := workspace.CheckName("model", m.Name); p != nil {
		return m, p
	}
	place, err := c.assetPlace(ctx, ws, m.Asset)
	if err != nil {
		return m, err
	}
	kind := "custom_model"
	if _, err := c.Blob.Stat(ctx, place+"/MLmodel"); err == nil {
		kind = "mlflow_model"
	}
	body, err := m.write(map[string]json.RawMessage{}, map[string]any{"modelUri": DatastoreURI(ws, place), "modelType": kind})
	if err != nil {
		return m, err
	}
	now := c.Clock.Millis()
	doc := store.Document{WorkspaceID: ws.ID, Collection: models, Name: m.Name, Body: body, Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name}
	err = c.Store.Write(ctx, func(tx *store.Tx) (err error) {
		doc, err = insertNext(ctx, tx, doc, store.Document{})
		return err
	})
	if err != nil {
		return m, err
	}
	return readModel(doc)
}

// number reads a version that azureml-core can name. Those of other clients may be any text.
func number(version string) (int, bool) {
	n, err := strconv.Atoi(version)
	return n, err == nil && n > 0 && strconv.Itoa(n) == version && n < 1<<31
}

// write puts the model into a document: over its properties, and its details.
func (m Model) write(body map[string]json.RawMessage, properties map[string]any) (json.RawMessage, error) {
	properties["description"], properties["tags"], properties["properties"] = m.Description, m.Tags, m.Properties
	if m.Run != "" {
		properties["jobName"] = m.Run
	}
	var err error
	if body["properties"], err = json.Marshal(properties); err == nil {
		body[detailsField], err = json.Marshal(m.ModelDetails)
	}
	if err != nil {
		return nil, fmt.Errorf("control: model %s: %w", m.Name, err)
	}
	return json.Marshal(body)
}

// readModel reads a document whose version is a number.
func readModel(doc store.Document) (m Model, err error) {
	var body struct {
		Properties struct {
			Description *string        `json:"description"`
			Tags        map[string]any `json:"tags"`
			Properties  map[string]any `json:"properties"`
			JobName     *string        `json:"jobName"`
		} `json:"properties"`
		Details ModelDetails `json:"moorageModel"`
	}
	if err := json.Unmarshal(doc.Body, &body); err != nil {
		return m, fmt.Errorf("control: model %s:%s: %w", doc.Name, doc.Version, err)
	}
	m = Model{Name: doc.Name, Tags: plainTexts(body.Properties.Tags), Properties: plainTexts(body.Properties.Properties), ModelDetails: body.Details, Created: doc.Created, Modified: doc.Modified, CreatedBy: doc.CreatedBy}
	m.Version, _ = number(doc.Version)
	if d := body.Properties.Description; d != nil {
		m.Description = *d
	}
	if j := body.Properties.JobName; j != nil && m.Run == "" {
		m.Run = *j
	}
	return m, nil
}

// plainTexts makes text of values that clients may have sent as something else.
func plainTexts(values map[string]any) map[string]string {
	out := map[string]string{}
	for k, v := range values {
		switch v := v.(type) {
		case nil:
		case string:
			out[k] = v
		default:
			out[k] = fmt.Sprint(v)
		}
	}
	return out
}

// Model finds a version by its id NAME:VERSION; a NAME alone is its newest.
func (c *Control) Model(ctx context.Context, ws workspace.Workspace, id string) (Model, error) {
	doc, err := c.modelDocument(ctx, c.Store, ws, id)
	if err != nil {
		return Model{}, err
	}
	return readModel(doc)
}

// documentReads are reads of documents, in a transaction or outside of one.
type documentReads interface {
	Document(ctx context.Context, workspaceID, collection, name, version string) (store.Document, error)
	Documents(ctx context.Context, workspaceID, collection, name string, p store.Page) ([]store.Document, error)
}

func (c *Control) modelDocument(ctx context.Context, from documentReads, ws workspace.Workspace, id string) (store.Document, error) {
	name, version, given := strings.Cut(id, ":")
	if given {
		if _, ok := number(version); !ok {
			return store.Document{}, modelNotFound(store.ErrNotFound, id)
		}
		doc, err := from.Document(ctx, ws.ID, models, name, version)
		return doc, modelNotFound(err, id)
	}
	if name == "" { // which would list all of them
		return store.Document{}, modelNotFound(store.ErrNotFound, id)
	}
	docs, err := from.Documents(ctx, ws.ID, models, name, store.Page{Limit: 1000})
	if err != nil {
		return store.Document{}, err
	}
	for _, doc := range docs {
		if _, ok := number(doc.Version); ok {
			return doc, nil
		}
	}
	return store.Document{}, modelNotFound(store.ErrNotFound, id)
}

func modelNotFound(err error, id string) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return &workspace.Problem{Class: workspace.NotFound, Code: "ModelNotFound", Target: id, Message: "model " + quote(id) + " was not found", Mend: "register it first, or correct name and version"}
}

// UpdateModel changes description, tags, properties and details of a version. Its files stay what they are.
func (c *Control) UpdateModel(ctx context.Context, p workspace.Principal, ws workspace.Workspace, id string, change func(*Model) error) (m Model, err error) {
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		doc, err := c.modelDocument(ctx, tx, ws, id)
		if err != nil {
			return err
		}
		if m, err = readModel(doc); err != nil {
			return err
		}
		asset := m.Asset
		if err := change(&m); err != nil {
			return err
		}
		m.Asset = asset
		body, fields := map[string]json.RawMessage{}, map[string]any{}
		if err := errors.Join(json.Unmarshal(doc.Body, &body), json.Unmarshal(properties(doc.Body), &fields)); err != nil {
			return fmt.Errorf("control: model %s: %w", id, err)
		}
		if doc.Body, err = m.write(body, fields); err != nil {
			return err
		}
		doc.Modified, doc.ModifiedBy = c.Clock.Millis(), p.Name
		m.Modified = doc.Modified
		_, err = tx.PutDocument(ctx, doc)
		return err
	})
	return m, err
}

// DeleteModel forgets a version. Its files stay: they may be a run's, or another version's.
func (c *Control) DeleteModel(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, id string) error {
	return c.Store.Write(ctx, func(tx *store.Tx) error {
		doc, err := c.modelDocument(ctx, tx, ws, id)
		if err != nil {
			return err
		}
		return tx.DeleteDocument(ctx, ws.ID, models, doc.Name, doc.Version)
	})
}
