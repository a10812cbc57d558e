package store

import (
	"context"
	"time"
)

// Repository is a place for images: a name in a workspace. Nothing of one workspace is seen from another.
type Repository struct {
	WorkspaceID string
	Name        string
}

// RegistryUpload is a blob on its way in.
type RegistryUpload struct {
	Repository
	ID    string
	Size  int64  // bytes received
	Parts int64  // in which they lie
	Hash  []byte // the state of SHA-256 over them
}

func (u *RegistryUpload) fields() []any {
	return []any{&u.ID, &u.WorkspaceID, &u.Name, &u.Size, &u.Parts, &u.Hash}
}

// RegistryPart is a run of a blob's bytes.
type RegistryPart struct {
	Place string // name of the blob in the blob store
	Size  int64
}

func (p *RegistryPart) fields() []any { return []any{&p.Place, &p.Size} }

// RegistryBlob is a blob that is in a repository.
type RegistryBlob struct {
	Digest string
	Size   int64
	Owner  string // of its parts
	Pinned int64  // milliseconds for which it stays, by the database's clock; negative: it is not pinned
}

func (b *RegistryBlob) fields() []any { return []any{&b.Digest, &b.Size, &b.Owner, &b.Pinned} }

// InsertRegistryUpload adds an upload, and gives it an id.
func (tx *Tx) InsertRegistryUpload(ctx context.Context, u RegistryUpload) (id string, err error) {
	id = tx.s.newID()
	_, err = tx.r.exec(ctx, `INSERT INTO registry_uploads (id, workspace_id, repository, size, parts, hash, modified) VALUES ($1, $2, $3, $4, $5, $6, `+tx.d.now+`)`,
		id, u.WorkspaceID, u.Name, u.Size, u.Parts, u.Hash)
	return id, err
}

// RegistryUpload finds an upload in its repository. ErrNotFound.
func (q reads) RegistryUpload(ctx context.Context, in Repository, id string) (RegistryUpload, error) {
	return one(ctx, q, (*RegistryUpload).fields, `SELECT id, workspace_id, repository, size, parts, hash FROM registry_uploads
		WHERE id = $1 AND workspace_id = $2 AND repository = $3`, id, in.WorkspaceID, in.Name)
}

// AddRegistryPart adds a part to an upload that stands as was; hash is the state after it. ErrNotFound if the upload has
// gone on or is gone.
func (tx *Tx) AddRegistryPart(ctx context.Context, was RegistryUpload, part RegistryPart, hash []byte) error {
	err := tx.change(ctx, `UPDATE registry_uploads SET size = $3, parts = $4, hash = $5, modified = `+tx.d.now+` WHERE id = $1 AND size = $2 AND parts = $6`,
		was.ID, was.Size, was.Size+part.Size, was.Parts+1, hash, was.Parts)
	if err != nil {
		return err
	}
	_, err = tx.r.exec(ctx, `INSERT INTO registry_parts (owner, number, place, size) VALUES ($1, $2, $3, $4)`, was.ID, was.Parts, part.Place, part.Size)
	return err
}

// FinishRegistryUpload makes an upload that stands as was the blob of a digest in its repository, pinned for a time.
// When the digest was known already, the upload's own bytes are needless: their places are given back. ErrNotFound if
// the upload has gone on or is gone.
func (tx *Tx) FinishRegistryUpload(ctx context.Context, was RegistryUpload, digest string, keep time.Duration) (needless []string, err error) {
	if err := tx.change(ctx, `DELETE FROM registry_uploads WHERE id = $1 AND size = $2 AND parts = $3`, was.ID, was.Size, was.Parts); err != nil {
		return nil, err
	}
	n, err := tx.r.exec(ctx, `INSERT INTO registry_blobs (digest, size, owner) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, digest, was.Size, was.ID)
	if err == nil && n == 0 {
		needless, err = tx.dropParts(ctx, was.ID)
	}
	if err != nil {
		return nil, err
	}
	return needless, tx.link(ctx, was.Repository, digest, keep)
}

// DeleteRegistryUpload forgets an upload and gives back where its bytes are. ErrNotFound.
func (tx *Tx) DeleteRegistryUpload(ctx context.Context, in Repository, id string) (places []string, err error) {
	if err := tx.change(ctx, `DELETE FROM registry_uploads WHERE id = $1 AND workspace_id = $2 AND repository = $3`, id, in.WorkspaceID, in.Name); err != nil {
		return nil, err
	}
	return tx.dropParts(ctx, id)
}

func (tx *Tx) dropParts(ctx context.Context, owner string) (places []string, err error) {
	return many(ctx, tx.reads, scalar[string], `DELETE FROM registry_parts WHERE owner = $1 RETURNING place`, owner)
}

func (tx *Tx) link(ctx context.Context, in Repository, digest string, keep time.Duration) error {
	_, err := tx.r.exec(ctx, `INSERT INTO registry_links (workspace_id, repository, digest, pinned) VALUES ($1, $2, $3, `+tx.d.now+` + $4)
		ON CONFLICT (workspace_id, repository, digest) DO UPDATE SET pinned = excluded.pinned WHERE registry_links.pinned < excluded.pinned`,
		in.WorkspaceID, in.Name, digest, keep.Milliseconds())
	return err
}

// RegistryBlob finds a blob in a repository. ErrNotFound.
func (q reads) RegistryBlob(ctx context.Context, in Repository, digest string) (RegistryBlob, error) {
	return one(ctx, q, (*RegistryBlob).fields, `SELECT b.digest, b.size, b.owner, l.pinned - `+q.d.now+` FROM registry_links l JOIN registry_blobs b ON b.digest = l.digest
		WHERE l.workspace_id = $1 AND l.repository = $2 AND l.digest = $3`, in.WorkspaceID, in.Name, digest)
}

// RegistryParts lists where the bytes of an owner lie, in their order.
func (q reads) RegistryParts(ctx context.Context, owner string) ([]RegistryPart, error) {
	return many(ctx, q, (*RegistryPart).fields, `SELECT place, size FROM registry_parts WHERE owner = $1 ORDER BY number`, owner)
}

// PinRegistryBlob keeps a blob of a repository from the sweep for a time. ErrNotFound if it is not there.
func (tx *Tx) PinRegistryBlob(ctx context.Context, in Repository, digest string, keep time.Duration) error {
	return tx.change(ctx, `UPDATE registry_links SET pinned = `+tx.d.now+` + $4 WHERE workspace_id = $1 AND repository = $2 AND digest = $3`,
		in.WorkspaceID, in.Name, digest, keep.Milliseconds())
}

// MountRegistryBlob puts a blob that another repository of the same workspace has into this one, pinned for a time. from
// names that repository; empty is any. ErrNotFound if it has none.
func (tx *Tx) MountRegistryBlob(ctx context.Context, in Repository, from, digest string, keep time.Duration) (RegistryBlob, error) {
	_, err := one(ctx, tx.reads, scalar[string], `SELECT repository FROM registry_links WHERE workspace_id = $1 AND digest = $2 AND ($3 = '' OR repository = $3) LIMIT 1`,
		in.WorkspaceID, digest, from)
	if err == nil {
		err = tx.link(ctx, in, digest, keep)
	}
	if err != nil {
		return RegistryBlob{}, err
	}
	return tx.RegistryBlob(ctx, in, digest)
}

// DeleteRegistryBlob takes a blob out of a repository. ErrNotFound.
func (tx *Tx) DeleteRegistryBlob(ctx context.Context, in Repository, digest string) error {
	return tx.change(ctx, `DELETE FROM registry_links WHERE workspace_id = $1 AND repository = $2 AND digest = $3`, in.WorkspaceID, in.Name, digest)
}
