package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// About is what people say of a workspace. The zero value says nothing.
type About struct {
	FriendlyName string            `json:"friendlyName,omitempty"`
	Description  string            `json:"description,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
}

// aboutCollection holds one document of a workspace, without a version.
const aboutCollection, aboutName = "workspace", "about"

// AboutWorkspace gives what was said of a workspace.
func (c *Control) AboutWorkspace(ctx context.Context, ws workspace.Workspace) (About, error) {
	return readAbout(ctx, c.Store, ws)
}

func readAbout(ctx context.Context, from documentReads, ws workspace.Workspace) (about About, err error) {
	doc, err := from.Document(ctx, ws.ID, aboutCollection, aboutName, "")
	if errors.Is(err, store.ErrNotFound) {
		return about, nil
	}
	if err == nil {
		err = json.Unmarshal(doc.Body, &about)
	}
	return about, err
}

// DescribeWorkspace changes what is said of a workspace: what the change leaves empty stays, and tags are added to those
// there are.
func (c *Control) DescribeWorkspace(ctx context.Context, p workspace.Principal, ws workspace.Workspace, change About) error {
	if change.FriendlyName == "" && change.Description == "" && len(change.Tags) == 0 {
		return nil
	}
	return c.Store.Write(ctx, func(tx *store.Tx) error {
		about, err := readAbout(ctx, tx, ws)
		if err != nil {
			return err
		}
		about.FriendlyName = cmp.Or(change.FriendlyName, about.FriendlyName)
		about.Description = cmp.Or(change.Description, about.Description)
		if about.Tags == nil {
			about.Tags = map[string]string{}
		}
		maps.Copy(about.Tags, change.Tags)
		body, err := json.Marshal(about)
		if err != nil {
			return fmt.Errorf("control: workspace %s: %w", ws.Name, err)
		}
		now := c.Clock.Millis()
		_, err = tx.PutDocument(ctx, store.Document{
			WorkspaceID: ws.ID, Collection: aboutCollection, Name: aboutName, Body: body, Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name,
		})
		return err
	})
}
