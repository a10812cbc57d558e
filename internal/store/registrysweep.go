package store

import (
	"context"
	"time"
)

// RegistryNode is a manifest as the sweep sees it.
type RegistryNode struct {
	Digest  string
	Subject string
	Root    bool // a tag names it, or it is pinned
}

// RegistryEdge says that a manifest names something.
type RegistryEdge struct{ Manifest, Digest string }

// AllRepositories lists every repository that holds anything, in every workspace.
func (q reads) AllRepositories(ctx context.Context) ([]Repository, error) {
	return many(ctx, q, func(r *Repository) []any { return []any{&r.WorkspaceID, &r.Name} },
		`SELECT workspace_id, repository FROM registry_manifests UNION SELECT workspace_id, repository FROM registry_links ORDER BY 1, 2`)
}

// RegistryGraph gives the manifests of a repository, and which of its manifests each names.
func (q reads) RegistryGraph(ctx context.Context, in Repository) (nodes []RegistryNode, edges []RegistryEdge, err error) {
	nodes, err = many(ctx, q, func(n *RegistryNode) []any { return []any{&n.Digest, &n.Subject, &n.Root} }, `SELECT m.digest, m.subject,
			m.pinned > `+q.d.now+` OR EXISTS (SELECT 1 FROM registry_tags t WHERE t.workspace_id = m.workspace_id AND t.repository = m.repository AND t.digest = m.digest)
		FROM registry_manifests m WHERE `+manifestOf+` ORDER BY m.digest`, in.WorkspaceID, in.Name)
	if err != nil {
		return nil, nil, err
	}
	edges, err = many(ctx, q, func(e *RegistryEdge) []any { return []any{&e.Manifest, &e.Digest} }, `SELECT r.manifest, r.digest FROM registry_references r
		JOIN registry_manifests m ON m.workspace_id = r.workspace_id AND m.repository = r.repository AND m.digest = r.digest
		WHERE `+manifestOf, in.WorkspaceID, in.Name)
	return nodes, edges, err
}

// PreparedTexts lists what the environments of all computes, and the images of all workspaces, were made of and have
// become: texts in which images are named.
func (q reads) PreparedTexts(ctx context.Context) ([]string, error) {
	return many(ctx, q, scalar[string], `SELECT spec FROM environments UNION ALL SELECT digest || ' ' || recipe FROM image_builds`)
}

// SweepRegistryLinks takes the blobs out of a repository that none of its manifests names and nobody has pinned.
func (tx *Tx) SweepRegistryLinks(ctx context.Context, in Repository) (removed int64, err error) {
	return tx.r.exec(ctx, `DELETE FROM registry_links WHERE workspace_id = $1 AND repository = $2 AND pinned <= `+tx.d.now+`
		AND NOT EXISTS (SELECT 1 FROM registry_references r
			WHERE r.workspace_id = registry_links.workspace_id AND r.repository = registry_links.repository AND r.digest = registry_links.digest)`, in.WorkspaceID, in.Name)
}

// SweepRegistryBlobs forgets up to limit blobs that no repository has, with how many bytes they are and where these lie.
func (tx *Tx) SweepRegistryBlobs(ctx context.Context, limit int) (blobs []RegistryBlob, places []string, err error) {
	blobs, err = many(ctx, tx.reads, func(b *RegistryBlob) []any { return []any{&b.Digest, &b.Size, &b.Owner} }, `DELETE FROM registry_blobs
		WHERE digest IN (SELECT b.digest FROM registry_blobs b WHERE NOT EXISTS (SELECT 1 FROM registry_links l WHERE l.digest = b.digest) LIMIT $1)
		RETURNING digest, size, owner`, limit)
	for _, b := range blobs {
		var more []string
		if err == nil {
			more, err = tx.dropParts(ctx, b.Owner)
		}
		places = append(places, more...)
	}
	return blobs, places, err
}

// SweepRegistryUploads forgets up to limit uploads to which nothing came for a time, and gives back where their bytes are.
func (tx *Tx) SweepRegistryUploads(ctx context.Context, idle time.Duration, limit int) (uploads []string, places []string, err error) {
	uploads, err = many(ctx, tx.reads, scalar[string], `DELETE FROM registry_uploads
		WHERE id IN (SELECT id FROM registry_uploads WHERE modified <= `+tx.d.now+` - $1 ORDER BY modified LIMIT $2) RETURNING id`, idle.Milliseconds(), limit)
	for _, id := range uploads {
		var more []string
		if err == nil {
			more, err = tx.dropParts(ctx, id)
		}
		places = append(places, more...)
	}
	return uploads, places, err
}

// UnknownRegistryPlaces lists those of the places that no part has.
func (q reads) UnknownRegistryPlaces(ctx context.Context, places []string) ([]string, error) {
	if len(places) == 0 {
		return nil, nil
	}
	there, err := many(ctx, q, scalar[string], `SELECT place FROM registry_parts WHERE place IN `+q.d.texts("$1"), jsonList(places))
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, p := range there {
		known[p] = true
	}
	var unknown []string
	for _, p := range places {
		if !known[p] {
			unknown = append(unknown, p)
		}
	}
	return unknown, nil
}
