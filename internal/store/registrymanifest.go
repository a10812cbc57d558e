package store

import (
	"context"
	"encoding/json"
	"time"
)

// RegistryManifest is what describes an image, an index of images, or anything else that is kept beside them.
type RegistryManifest struct {
	Digest       string
	MediaType    string
	ArtifactType string
	Subject      string          // digest of the manifest that this one says something about; may be empty
	Annotations  json.RawMessage // an object of texts; empty: none
	Size         int64
	Content      []byte // left out by lists
	Pinned       int64  // milliseconds for which it stays, by the database's clock; negative: it is not pinned
}

func (m *RegistryManifest) row() []any {
	return []any{&m.Digest, &m.MediaType, &m.ArtifactType, &m.Subject, raw{&m.Annotations}, &m.Size}
}

func (m *RegistryManifest) fields() []any { return append(m.row(), &m.Content, &m.Pinned) }

const (
	manifestRow    = `m.digest, m.media_type, m.artifact_type, m.subject, m.annotations, m.size`
	manifestOf     = `m.workspace_id = $1 AND m.repository = $2`
	manifestColumn = manifestRow + `, m.content, m.pinned - `
)

// RegistryManifest finds a manifest by its digest. ErrNotFound.
func (q reads) RegistryManifest(ctx context.Context, in Repository, digest string) (RegistryManifest, error) {
	return one(ctx, q, (*RegistryManifest).fields, `SELECT `+manifestColumn+q.d.now+` FROM registry_manifests m WHERE `+manifestOf+` AND m.digest = $3`,
		in.WorkspaceID, in.Name, digest)
}

// RegistryTagged finds the manifest that a tag names. ErrNotFound.
func (q reads) RegistryTagged(ctx context.Context, in Repository, tag string) (RegistryManifest, error) {
	return one(ctx, q, (*RegistryManifest).fields, `SELECT `+manifestColumn+q.d.now+` FROM registry_tags t
		JOIN registry_manifests m ON m.workspace_id = t.workspace_id AND m.repository = t.repository AND m.digest = t.digest
		WHERE t.workspace_id = $1 AND t.repository = $2 AND t.name = $3`, in.WorkspaceID, in.Name, tag)
}

// MissingForManifest lists those of the digests that are not in a repository: blobs, or else manifests.
func (q reads) MissingForManifest(ctx context.Context, in Repository, digests []string, blobs bool) ([]string, error) {
	if len(digests) == 0 {
		return nil, nil
	}
	table := "registry_manifests"
	if blobs {
		table = "registry_links"
	}
	there, err := many(ctx, q, scalar[string], `SELECT digest FROM `+table+` WHERE workspace_id = $1 AND repository = $2 AND digest IN `+q.d.texts("$3"),
		in.WorkspaceID, in.Name, jsonList(digests))
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, d := range there {
		known[d] = true
	}
	var missing []string
	for _, d := range digests {
		if !known[d] {
			missing = append(missing, d)
		}
	}
	return missing, nil
}

// PutRegistryManifest keeps a manifest with the digests of what it is made of, pinned for a time. One that is there
// already is the same, but for its media type, which is what the client says last.
func (tx *Tx) PutRegistryManifest(ctx context.Context, in Repository, m RegistryManifest, of []string, keep time.Duration) error {
	_, err := tx.r.exec(ctx, `INSERT INTO registry_manifests (workspace_id, repository, digest, media_type, artifact_type, subject, annotations, size, content, pinned)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, `+tx.d.now+` + $10)
		ON CONFLICT (workspace_id, repository, digest) DO UPDATE SET media_type = excluded.media_type, artifact_type = excluded.artifact_type, pinned = excluded.pinned`,
		in.WorkspaceID, in.Name, m.Digest, m.MediaType, m.ArtifactType, m.Subject, text(m.Annotations), m.Size, m.Content, keep.Milliseconds())
	if err != nil {
		return err
	}
	for _, digest := range of {
		if _, err := tx.r.exec(ctx, `INSERT INTO registry_references (workspace_id, repository, manifest, digest) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			in.WorkspaceID, in.Name, m.Digest, digest); err != nil {
			return err
		}
	}
	return nil
}

// PinRegistryManifest keeps a manifest from the sweep for a time. ErrNotFound if it is not there.
func (tx *Tx) PinRegistryManifest(ctx context.Context, in Repository, digest string, keep time.Duration) error {
	return tx.change(ctx, `UPDATE registry_manifests SET pinned = `+tx.d.now+` + $4 WHERE workspace_id = $1 AND repository = $2 AND digest = $3`,
		in.WorkspaceID, in.Name, digest, keep.Milliseconds())
}

// DeleteRegistryManifest removes a manifest with its tags. ErrNotFound.
func (tx *Tx) DeleteRegistryManifest(ctx context.Context, in Repository, digest string) error {
	for _, statement := range []string{
		`DELETE FROM registry_tags WHERE workspace_id = $1 AND repository = $2 AND digest = $3`,
		`DELETE FROM registry_references WHERE workspace_id = $1 AND repository = $2 AND manifest = $3`,
	} {
		if _, err := tx.r.exec(ctx, statement, in.WorkspaceID, in.Name, digest); err != nil {
			return err
		}
	}
	return tx.change(ctx, `DELETE FROM registry_manifests WHERE workspace_id = $1 AND repository = $2 AND digest = $3`, in.WorkspaceID, in.Name, digest)
}

// PutRegistryTag lets a tag name a manifest, whatever it named before.
func (tx *Tx) PutRegistryTag(ctx context.Context, in Repository, tag, digest string) error {
	_, err := tx.r.exec(ctx, `INSERT INTO registry_tags (workspace_id, repository, name, digest, modified) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (workspace_id, repository, name) DO UPDATE SET digest = excluded.digest, modified = excluded.modified`,
		in.WorkspaceID, in.Name, tag, digest, tx.s.clock.Millis())
	return err
}

// DeleteRegistryTag removes a tag, and nothing that it names. ErrNotFound.
func (tx *Tx) DeleteRegistryTag(ctx context.Context, in Repository, tag string) error {
	return tx.change(ctx, `DELETE FROM registry_tags WHERE workspace_id = $1 AND repository = $2 AND name = $3`, in.WorkspaceID, in.Name, tag)
}

// RegistryTags lists the tags of a repository in byte order. The cursor is the last one seen.
func (q reads) RegistryTags(ctx context.Context, in Repository, p Page) ([]string, error) {
	name := q.d.sorted("name")
	return many(ctx, q, scalar[string], `SELECT name FROM registry_tags WHERE workspace_id = $1 AND repository = $2 AND `+name+` > $3 ORDER BY `+name+` LIMIT $4`,
		in.WorkspaceID, in.Name, p.After, p.limit())
}

// RegistryReferrers lists, without content, the manifests whose subject is a digest; of one artifact type unless that is
// empty. The cursor is the digest of the last one seen.
func (q reads) RegistryReferrers(ctx context.Context, in Repository, subject, artifactType string, p Page) ([]RegistryManifest, error) {
	return many(ctx, q, (*RegistryManifest).row, `SELECT `+manifestRow+` FROM registry_manifests m
		WHERE `+manifestOf+` AND m.subject = $3 AND m.subject <> '' AND ($4 = '' OR m.artifact_type = $4) AND m.digest > $5 ORDER BY m.digest LIMIT $6`,
		in.WorkspaceID, in.Name, subject, artifactType, p.After, p.limit())
}

// Repositories lists the repositories of a workspace that hold a manifest, by name in byte order. The cursor is the last
// one seen.
func (q reads) Repositories(ctx context.Context, workspaceID string, p Page) ([]string, error) {
	name := q.d.sorted("repository")
	return many(ctx, q, scalar[string], `SELECT DISTINCT `+name+` FROM registry_manifests WHERE workspace_id = $1 AND `+name+` > $2 ORDER BY 1 LIMIT $3`,
		workspaceID, p.After, p.limit())
}

// HasRepository tells whether anything was ever put into a repository and not swept since.
func (q reads) HasRepository(ctx context.Context, in Repository) (bool, error) {
	n, err := one(ctx, q, scalar[int64], `SELECT CASE WHEN EXISTS (SELECT 1 FROM registry_manifests WHERE workspace_id = $1 AND repository = $2)
		OR EXISTS (SELECT 1 FROM registry_links WHERE workspace_id = $1 AND repository = $2) THEN 1 ELSE 0 END`, in.WorkspaceID, in.Name)
	return n > 0, err
}
