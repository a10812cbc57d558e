package control

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// linkCollection is where linked services are kept; they have no versions.
const linkCollection = "linkedServices"

// maxLinks is how many links of a workspace are listed.
const maxLinks = 1000

// synapseWorkspace is the id of what can be linked.
var synapseWorkspace = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Synapse/workspaces/[^/]+$`)

// PutLink gives a Synapse workspace a name in the workspace, by which its Spark pools are attached later. It is a name
// and no more: nothing is asked of Synapse.
func (c *Control) PutLink(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, body json.RawMessage) (store.Document, error) {
	if p := workspace.CheckName("linked service", name); p != nil {
		return store.Document{}, p
	}
	var link struct {
		LinkedServiceResourceID string `json:"linkedServiceResourceId"`
	}
	if err := json.Unmarshal(properties(body), &link); err != nil || !synapseWorkspace.MatchString(link.LinkedServiceResourceID) {
		return store.Document{}, invalid("InvalidLinkedService", "properties.linkedServiceResourceId",
			quote(link.LinkedServiceResourceID)+" is not the id of a Synapse workspace", "",
			"link /subscriptions/…/resourceGroups/…/providers/Microsoft.Synapse/workspaces/NAME")
	}
	now := c.Clock.Millis()
	err := c.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.PutDocument(ctx, store.Document{
			WorkspaceID: ws.ID, Collection: linkCollection, Name: name, Body: body, Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name,
		})
		return err
	})
	if err != nil {
		return store.Document{}, err
	}
	return c.Link(ctx, ws, name)
}

// Link gives a linked service.
func (c *Control) Link(ctx context.Context, ws workspace.Workspace, name string) (store.Document, error) {
	doc, err := c.Store.Document(ctx, ws.ID, linkCollection, name, "")
	return doc, linkNotFound(err, name)
}

// Links lists a workspace's linked services.
func (c *Control) Links(ctx context.Context, ws workspace.Workspace) ([]store.Document, error) {
	return c.Store.Documents(ctx, ws.ID, linkCollection, "", store.Page{Limit: maxLinks})
}

// DeleteLink forgets a linked service. Computes that were attached by it stay.
func (c *Control) DeleteLink(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) error {
	err := c.Store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteDocument(ctx, ws.ID, linkCollection, name, "") })
	return linkNotFound(err, name)
}

func linkNotFound(err error, name string) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return &workspace.Problem{
		Class: workspace.NotFound, Code: "ResourceNotFound", Target: name, Message: "linked service " + quote(name) + " was not found",
		Mend: "register it first: LinkedService.register(…)",
	}
}
