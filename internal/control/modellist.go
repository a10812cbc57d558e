package control

import (
	"context"
	"encoding/json"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// ModelFilter says which models to list. What is empty does not count.
type ModelFilter struct {
	Name, Framework, Run, Dataset string
	Tags, Properties              []Wanted
	LatestOnly                    bool // of each name the newest version alone
}

// Wanted is an entry that must be there, with its value if one is given.
type Wanted struct {
	Key   string
	Value *string
}

// Models lists versions of models, those made last first. Archived ones are left out, and so are those whose version is
// no number, since azureml-core cannot read them. next is the cursor of the next page, "" on the last.
func (c *Control) Models(ctx context.Context, ws workspace.Workspace, f ModelFilter, page store.Page) (list []Model, next string, err error) {
	limit := page.Limit
	for after := page.After; ; {
		docs, err := c.Store.Documents(ctx, ws.ID, models, f.Name, store.Page{After: after, Limit: 500})
		if err != nil {
			return nil, "", err
		}
		for _, doc := range docs {
			m, fits, err := c.fits(ctx, ws, f, doc)
			if err != nil {
				return nil, "", err
			}
			if fits && len(list) == limit {
				return list, after, nil
			}
			if fits {
				list = append(list, m)
			}
			after = doc.ID
		}
		if len(docs) == 0 {
			return list, "", nil
		}
	}
}

// fits reads a document and tells whether it belongs into the list.
func (c *Control) fits(ctx context.Context, ws workspace.Workspace, f ModelFilter, doc store.Document) (m Model, fits bool, err error) {
	if _, ok := number(doc.Version); !ok || archived(doc) {
		return m, false, nil
	}
	if m, err = readModel(doc); err != nil {
		return m, false, err
	}
	if f.Framework != "" && m.Framework != f.Framework || f.Run != "" && m.Run != f.Run || !all(f.Tags, m.Tags) || !all(f.Properties, m.Properties) || !made(m, f.Dataset) {
		return m, false, nil
	}
	if !f.LatestOnly {
		return m, true, nil
	}
	last, err := c.Model(ctx, ws, doc.Name)
	return m, err == nil && last.Version == m.Version, err
}

func archived(doc store.Document) bool {
	var p struct {
		Archived bool `json:"isArchived"`
	}
	return json.Unmarshal(properties(doc.Body), &p) == nil && p.Archived
}

func all(wanted []Wanted, in map[string]string) bool {
	for _, w := range wanted {
		v, there := in[w.Key]
		if !there || w.Value != nil && *w.Value != v {
			return false
		}
	}
	return true
}

func made(m Model, dataset string) bool {
	if dataset == "" {
		return true
	}
	for _, d := range m.Datasets {
		if d.ID == dataset {
			return true
		}
	}
	return false
}
