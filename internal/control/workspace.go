package control

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Workspace finds a workspace by the names in an ARM path.
func (c *Control) Workspace(ctx context.Context, subscription, resourceGroup, name string) (workspace.Workspace, error) {
	ws, err := c.Store.Workspace(ctx, subscription, resourceGroup, name)
	if errors.Is(err, store.ErrNotFound) {
		return ws, &workspace.Problem{
			Class: workspace.NotFound, Code: "ResourceNotFound", Target: name,
			Message: fmt.Sprintf("workspace %s was not found in resource group %s of subscription %s", quote(name), quote(resourceGroup), quote(subscription)),
			Mend:    "compare the three names with those that moorage env prints",
		}
	}
	return ws, err
}

// Workspaces lists every workspace of the server.
func (c *Control) Workspaces(ctx context.Context) ([]workspace.Workspace, error) {
	return c.Store.Workspaces(ctx)
}

// CreateWorkspace makes a workspace, or gives the one that there is with created false. Its id is random, never made
// from its name: clients keep caches under it (azureml-v1.md §1.5).
func (c *Control) CreateWorkspace(ctx context.Context, _ workspace.Principal, ws workspace.Workspace) (made workspace.Workspace, created bool, err error) {
	for what, name := range map[string]string{"subscription": ws.Subscription, "resource group": ws.ResourceGroup, "workspace": ws.Name} {
		if p := workspace.CheckName(what, name); p != nil {
			return ws, false, p
		}
	}
	var b [16]byte
	if _, err := io.ReadFull(c.Clock.Rand, b[:]); err != nil {
		return ws, false, fmt.Errorf("control: workspace id: %w", err)
	}
	ws.ID, ws.Created = uuid(b, 4), c.Clock.Millis()
	if ws.Location == "" {
		ws.Location = "local"
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		made, created = ws, true
		err := tx.InsertWorkspace(ctx, ws)
		if errors.Is(err, store.ErrExists) {
			created = false
			made, err = tx.Workspace(ctx, ws.Subscription, ws.ResourceGroup, ws.Name)
			return err
		}
		if err != nil {
			return err
		}
		return tx.InsertDefaultExperiment(ctx, ws.ID, ws.Created)
	})
	return made, created, err
}

// DeleteWorkspace forgets a workspace with its jobs, runs and assets. It is refused while a compute is attached: detaching
// is what leaves a target clean.
func (c *Control) DeleteWorkspace(ctx context.Context, _ workspace.Principal, ws workspace.Workspace) error {
	return c.Store.Write(ctx, func(tx *store.Tx) error {
		computes, err := tx.Computes(ctx, ws.ID)
		if err != nil {
			return err
		}
		if len(computes) > 0 {
			return &workspace.Problem{
				Class: workspace.Conflict, Code: "WorkspaceInUse", Target: ws.Name,
				Message: "workspace " + quote(ws.Name) + " has " + some(len(computes), "attached compute", computes[0].Name),
				Mend:    "detach what is attached first: moorage compute detach " + computes[0].Name,
			}
		}
		if err := tx.DeleteTracking(ctx, ws.ID); err != nil {
			return err
		}
		return tx.DeleteWorkspace(ctx, ws.ID)
	})
}
