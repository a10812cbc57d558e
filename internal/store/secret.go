package store

import "context"

// Secret is what package secret sealed. The store cannot open it.
type Secret struct {
	ID     string
	Sealed []byte
}

func (s *Secret) fields() []any { return []any{&s.ID, &s.Sealed} }

// Secret finds a sealed secret. ErrNotFound.
func (q reads) Secret(ctx context.Context, id string) (Secret, error) {
	return one(ctx, q, (*Secret).fields, `SELECT id, sealed FROM secrets WHERE id = $1`, id)
}

// Secrets lists all, by id: for sealing them anew under another key.
func (q reads) Secrets(ctx context.Context) ([]Secret, error) {
	return many(ctx, q, (*Secret).fields, `SELECT id, sealed FROM secrets ORDER BY id`)
}

// PutSecret keeps a sealed secret, in place of one that is there.
func (tx *Tx) PutSecret(ctx context.Context, s Secret) error {
	_, err := tx.r.exec(ctx, `INSERT INTO secrets (id, sealed) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed`, s.ID, s.Sealed)
	return err
}

// DeleteSecret forgets a secret. Unknown: nil.
func (tx *Tx) DeleteSecret(ctx context.Context, id string) error {
	_, err := tx.r.exec(ctx, `DELETE FROM secrets WHERE id = $1`, id)
	return err
}

// DatastoreSecret is the id of the secret that belongs to a datastore; it ends with its workspace.
func DatastoreSecret(workspaceID, name string) string {
	return datastoreSecrets + workspaceID + "/" + name
}

// RegistrySecret is the id of a secret by which images are pulled; it ends with its workspace.
func RegistrySecret(workspaceID, name string) string {
	return registrySecrets + workspaceID + "/" + name
}

const (
	datastoreSecrets = "datastore/"
	registrySecrets  = "registry/"
)
