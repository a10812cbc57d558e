package store

import (
	"context"
	"encoding/json"
	"errors"
)

// Document is one version of something that clients put and get whole: a code, an environment, a model, a datastore.
type Document struct {
	ID          string // a ULID, made when it is first put
	WorkspaceID string
	Collection  string // "codes", "environments", "data", "models", "datastores", …
	Name        string
	Version     string          // may be empty
	Body        json.RawMessage // as the client sent it, secrets removed
	Hash        string          // of the content, where equal content shall be found; else empty
	Created     int64
	Modified    int64
	CreatedBy   string
	ModifiedBy  string
}

const documentColumns = `d.id, d.workspace_id, d.collection, d.name, d.version, d.hash, d.created, d.modified, d.created_by, d.modified_by, d.body`

func (d *Document) fields() []any {
	return []any{
		&d.ID, &d.WorkspaceID, &d.Collection, &d.Name, &d.Version, &d.Hash, &d.Created, &d.Modified, &d.CreatedBy, &d.ModifiedBy, raw{&d.Body},
	}
}

// Document finds one version. ErrNotFound.
func (q reads) Document(ctx context.Context, workspaceID, collection, name, version string) (Document, error) {
	return one(ctx, q, (*Document).fields, `SELECT `+documentColumns+` FROM documents d
		WHERE d.workspace_id = $1 AND d.collection = $2 AND d.name = $3 AND d.version = $4`, workspaceID, collection, name, version)
}

// LatestDocument finds the version that was made last. ErrNotFound.
func (q reads) LatestDocument(ctx context.Context, workspaceID, collection, name string) (Document, error) {
	return one(ctx, q, (*Document).fields, `SELECT `+documentColumns+` FROM documents d
		WHERE d.workspace_id = $1 AND d.collection = $2 AND d.name = $3 ORDER BY d.id DESC LIMIT 1`, workspaceID, collection, name)
}

// LatestDocumentBut finds the version that was made last among those that do not begin with a prefix. ErrNotFound.
func (q reads) LatestDocumentBut(ctx context.Context, workspaceID, collection, name, prefix string) (Document, error) {
	return one(ctx, q, (*Document).fields, `SELECT `+documentColumns+` FROM documents d
		WHERE d.workspace_id = $1 AND d.collection = $2 AND d.name = $3 AND substr(d.version, 1, $4) <> $5 ORDER BY d.id DESC LIMIT 1`,
		workspaceID, collection, name, len(prefix), prefix)
}

// DocumentByHash finds the newest document of a collection with that content. ErrNotFound.
func (q reads) DocumentByHash(ctx context.Context, workspaceID, collection, hash string) (Document, error) {
	return one(ctx, q, (*Document).fields, `SELECT `+documentColumns+` FROM documents d
		WHERE d.workspace_id = $1 AND d.collection = $2 AND d.hash = $3 AND d.hash <> '' ORDER BY d.id DESC LIMIT 1`, workspaceID, collection, hash)
}

// Documents lists the versions of one name, or of all names if name is empty, the one made last first. The cursor is the
// ID of the last document seen.
func (q reads) Documents(ctx context.Context, workspaceID, collection, name string, p Page) ([]Document, error) {
	query, args := `SELECT `+documentColumns+` FROM documents d WHERE d.workspace_id = $1 AND d.collection = $2`, []any{workspaceID, collection}
	if name != "" {
		args = append(args, name)
		query += ` AND d.name = $` + nth(args)
	}
	if p.After != "" {
		args = append(args, p.After)
		query += ` AND d.id < $` + nth(args)
	}
	args = append(args, p.limit())
	return many(ctx, q, (*Document).fields, query+` ORDER BY d.id DESC LIMIT $`+nth(args), args...)
}

// Containers lists the names of a collection, each with the version that was made last, by name. The cursor is the last
// name seen.
func (q reads) Containers(ctx context.Context, workspaceID, collection string, p Page) ([]Document, error) {
	return many(ctx, q, (*Document).fields, `SELECT `+documentColumns+` FROM documents d JOIN (
			SELECT max(id) AS id FROM documents WHERE workspace_id = $1 AND collection = $2 AND name > $3 GROUP BY name ORDER BY name LIMIT $4
		) AS last ON last.id = d.id ORDER BY d.name`, workspaceID, collection, p.After, p.limit())
}

// PutDocument makes a version, or replaces its body, hash and modification when it is there. ID and making of one that
// is there stay.
func (tx *Tx) PutDocument(ctx context.Context, d Document) (created bool, err error) {
	err = tx.InsertDocument(ctx, d)
	if !errors.Is(err, ErrExists) {
		return err == nil, err
	}
	return false, tx.change(ctx, `UPDATE documents SET hash = $5, modified = $6, modified_by = $7, body = $8
		WHERE workspace_id = $1 AND collection = $2 AND name = $3 AND version = $4`,
		d.WorkspaceID, d.Collection, d.Name, d.Version, d.Hash, d.Modified, d.ModifiedBy, text(d.Body))
}

// InsertDocument makes a version. ErrExists if it is there.
func (tx *Tx) InsertDocument(ctx context.Context, d Document) error {
	if d.ID == "" {
		d.ID = tx.s.newID()
	}
	return tx.insert(ctx, `INSERT INTO documents (id, workspace_id, collection, name, version, hash, created, modified, created_by, modified_by, body)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
		d.ID, d.WorkspaceID, d.Collection, d.Name, d.Version, d.Hash, d.Created, d.Modified, d.CreatedBy, d.ModifiedBy, text(d.Body))
}

// DeleteDocument removes one version. ErrNotFound.
func (tx *Tx) DeleteDocument(ctx context.Context, workspaceID, collection, name, version string) error {
	return tx.change(ctx, `DELETE FROM documents WHERE workspace_id = $1 AND collection = $2 AND name = $3 AND version = $4`,
		workspaceID, collection, name, version)
}
