package store

import (
	"context"

	"github.com/moorage-ml/moorage/internal/workspace"
)

const workspaceColumns = `id, subscription, resource_group, name, location, created`

func workspaceFields(w *workspace.Workspace) []any {
	return []any{&w.ID, &w.Subscription, &w.ResourceGroup, &w.Name, &w.Location, &w.Created}
}

// Workspace finds a workspace by its path. The case of subscription and resource group does not matter. ErrNotFound.
func (q reads) Workspace(ctx context.Context, subscription, resourceGroup, name string) (workspace.Workspace, error) {
	return one(ctx, q, workspaceFields, `SELECT `+workspaceColumns+` FROM workspaces
		WHERE name = $1 AND lower(resource_group) = lower($2) AND lower(subscription) = lower($3)`, name, resourceGroup, subscription)
}

// WorkspaceByID finds a workspace by its id. ErrNotFound.
func (q reads) WorkspaceByID(ctx context.Context, id string) (workspace.Workspace, error) {
	return one(ctx, q, workspaceFields, `SELECT `+workspaceColumns+` FROM workspaces WHERE id = $1`, id)
}

// Workspaces lists all, by name.
func (q reads) Workspaces(ctx context.Context) ([]workspace.Workspace, error) {
	return many(ctx, q, workspaceFields, `SELECT `+workspaceColumns+` FROM workspaces ORDER BY name, id`)
}

// InsertWorkspace adds a workspace. ErrExists if its path or id is taken.
func (tx *Tx) InsertWorkspace(ctx context.Context, w workspace.Workspace) error {
	return tx.insert(ctx, `INSERT INTO workspaces (`+workspaceColumns+`) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		w.ID, w.Subscription, w.ResourceGroup, w.Name, w.Location, w.Created)
}

// DeleteWorkspace removes a workspace with its jobs, documents, images and secrets. Its computes must be detached before; experiments and
// runs are removed by their own methods. ErrNotFound.
func (tx *Tx) DeleteWorkspace(ctx context.Context, id string) error {
	for _, statement := range []string{
		`DELETE FROM job_bodies WHERE job_id IN (SELECT id FROM jobs WHERE workspace_id = $1)`,
		`DELETE FROM job_files WHERE job_id IN (SELECT id FROM jobs WHERE workspace_id = $1)`,
		`DELETE FROM jobs WHERE workspace_id = $1`,
		`DELETE FROM documents WHERE workspace_id = $1`,
		`DELETE FROM secrets WHERE id LIKE '` + datastoreSecrets + `' || $1 || '/%'`,
		`DELETE FROM secrets WHERE id LIKE '` + registrySecrets + `' || $1 || '/%'`,
		`DELETE FROM registry_tags WHERE workspace_id = $1`,
		`DELETE FROM registry_references WHERE workspace_id = $1`,
		`DELETE FROM registry_manifests WHERE workspace_id = $1`,
		`DELETE FROM registry_links WHERE workspace_id = $1`, // the sweep finds the blobs that nobody has, and uploads that stopped
	} {
		if _, err := tx.r.exec(ctx, statement, id); err != nil {
			return err
		}
	}
	return tx.change(ctx, `DELETE FROM workspaces WHERE id = $1`, id)
}
