package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// The phases of an image build.
//
//	wanted ──► building ──► ready
//	  ▲           ├───────► failed    (wanted again by the next that needs it)
//	  └───────────┤ not now
//	              └───────► canceled  (the same)
const (
	ImageWanted   = "wanted"
	ImageBuilding = "building"
	ImageReady    = "ready"
	ImageFailed   = "failed"
	ImageCanceled = "canceled"
)

// ImageBuild is the making of one image of a workspace. All who need the image wait for the one row. While it is built it
// belongs to a holder under an epoch, as a compute does; a holder that is silent for too long loses it.
type ImageBuild struct {
	WorkspaceID string
	Hash        string // of what the image is made of and of Place
	Place       string // where it goes; "" is the server's registry
	Recipe      json.RawMessage
	Phase       string
	Image       string // its name, once it is ready
	Digest      string
	Problem     *workspace.Problem // why it failed, or why it is tried again
	Log         string             // name of the blob that holds its log; "": none yet
	Tries       int64
	Holder      string
	Epoch       int64
	Created     int64
	Started     int64
	Ended       int64
	LastUsed    int64
}

func (b *ImageBuild) fields() []any {
	return []any{
		&b.WorkspaceID, &b.Hash, &b.Place,
		raw{&b.Recipe},
		&b.Phase, &b.Image, &b.Digest,
		decoded[*workspace.Problem]{&b.Problem},
		&b.Log, &b.Tries, &b.Holder, &b.Epoch,
		&b.Created, &b.Started, &b.Ended, &b.LastUsed,
	}
}

const imageBuildColumns = `workspace_id, hash, place, recipe, phase, image, digest, problem, log, tries, holder, epoch, created, started, ended, last_used`

// ImageBuild finds a build. ErrNotFound.
func (q reads) ImageBuild(ctx context.Context, workspaceID, hash string) (ImageBuild, error) {
	return one(ctx, q, (*ImageBuild).fields, `SELECT `+imageBuildColumns+` FROM image_builds WHERE workspace_id = $1 AND hash = $2`, workspaceID, hash)
}

// ImageBuilds lists the builds of a workspace by hash. The cursor is the last hash seen.
func (q reads) ImageBuilds(ctx context.Context, workspaceID string, p Page) ([]ImageBuild, error) {
	return many(ctx, q, (*ImageBuild).fields, `SELECT `+imageBuildColumns+` FROM image_builds WHERE workspace_id = $1 AND hash > $2 ORDER BY hash LIMIT $3`,
		workspaceID, p.After, p.limit())
}

// DueImageBuilds lists builds that nobody is at: those that are wanted now, and those whose holder is silent. The one that
// waits longest comes first.
func (q reads) DueImageBuilds(ctx context.Context, limit int) ([]ImageBuild, error) {
	return many(ctx, q, (*ImageBuild).fields, `SELECT `+imageBuildColumns+` FROM image_builds
		WHERE (phase = 'wanted' AND due <= `+q.d.now+`) OR (phase = 'building' AND expires <= `+q.d.now+`) ORDER BY created, hash LIMIT $1`, limit)
}

// WantImageBuild asks for an image: a row is added, or one that failed or was canceled is wanted again. What is wanted, being
// built or ready stays as it is.
func (tx *Tx) WantImageBuild(ctx context.Context, b ImageBuild) error {
	_, err := tx.r.exec(ctx, `INSERT INTO image_builds (workspace_id, hash, place, recipe, phase, image, digest, problem, log, tries, due, holder, epoch, expires, stop, created, started, ended, last_used)
		VALUES ($1, $2, $3, $4, 'wanted', '', '', '', '', 0, 0, '', 0, 0, 0, $5, 0, 0, $5)
		ON CONFLICT (workspace_id, hash) DO UPDATE SET phase = 'wanted', recipe = excluded.recipe, problem = '', tries = 0, due = 0, stop = 0, created = excluded.created,
			started = 0, ended = 0, last_used = excluded.last_used
		WHERE image_builds.phase IN ('failed', 'canceled')`,
		b.WorkspaceID, b.Hash, b.Place, text(b.Recipe), b.Created)
	return err
}

// LoseImageBuild makes an image wanted again that was ready under a digest and is no longer where it was.
func (tx *Tx) LoseImageBuild(ctx context.Context, b ImageBuild, now int64) error {
	_, err := tx.r.exec(ctx, `UPDATE image_builds SET phase = 'wanted', problem = '', tries = 0, due = 0, stop = 0, created = $4, started = 0, ended = 0
		WHERE workspace_id = $1 AND hash = $2 AND phase = 'ready' AND digest = $3`, b.WorkspaceID, b.Hash, b.Digest, now)
	return err
}

// BeginImageBuild takes a build that nobody is at, for ttl. ok is false when another was first. log is where its log will be.
func (tx *Tx) BeginImageBuild(ctx context.Context, workspaceID, hash, holder, log string, ttl time.Duration, now int64) (epoch int64, ok bool, err error) {
	got, err := many(ctx, tx.reads, scalar[int64], `UPDATE image_builds SET phase = 'building', holder = $3, epoch = epoch + 1, expires = `+tx.d.now+` + $4, stop = 0, started = $5,
			tries = tries + 1, log = $6
		WHERE workspace_id = $1 AND hash = $2 AND ((phase = 'wanted' AND due <= `+tx.d.now+`) OR (phase = 'building' AND expires <= `+tx.d.now+`)) RETURNING epoch`,
		workspaceID, hash, holder, ttl.Milliseconds(), now, log)
	if err != nil || len(got) == 0 {
		return 0, false, err
	}
	return got[0], true, nil
}

// RenewImageBuild prolongs what BeginImageBuild gave. held is false when another has it by now; stop tells that it is no
// longer wanted.
func (tx *Tx) RenewImageBuild(ctx context.Context, b ImageBuild, ttl time.Duration) (held, stop bool, err error) {
	got, err := many(ctx, tx.reads, scalar[int64], `UPDATE image_builds SET expires = `+tx.d.now+` + $5
		WHERE workspace_id = $1 AND hash = $2 AND phase = 'building' AND holder = $3 AND epoch = $4 RETURNING stop`,
		b.WorkspaceID, b.Hash, b.Holder, b.Epoch, ttl.Milliseconds())
	if err != nil || len(got) == 0 {
		return false, false, err
	}
	return true, got[0] == 1, nil
}

// EndImageBuild writes how a build ended, under its epoch: b.Phase is ready, failed or canceled, or wanted for another try
// after pause. changed is false when another has it by now, whose result counts.
func (tx *Tx) EndImageBuild(ctx context.Context, b ImageBuild, pause time.Duration) (changed bool, err error) {
	n, err := tx.r.exec(ctx, `UPDATE image_builds SET phase = $5, image = $6, digest = $7, problem = $8, due = `+tx.d.now+` + $9, ended = $10, holder = '', expires = 0
		WHERE workspace_id = $1 AND hash = $2 AND phase = 'building' AND holder = $3 AND epoch = $4`,
		b.WorkspaceID, b.Hash, b.Holder, b.Epoch, b.Phase, b.Image, b.Digest, problemText(b.Problem), pause.Milliseconds(), b.Ended)
	return n > 0, err
}

// CancelImageBuild ends a build: at once when nobody is at it, else by asking its holder. Over already: nothing.
func (tx *Tx) CancelImageBuild(ctx context.Context, workspaceID, hash string, now int64) error {
	_, err := tx.r.exec(ctx, `UPDATE image_builds SET phase = CASE WHEN phase = 'wanted' THEN 'canceled' ELSE phase END,
			ended = CASE WHEN phase = 'wanted' THEN $3 ELSE ended END, stop = 1
		WHERE workspace_id = $1 AND hash = $2 AND phase IN ('wanted', 'building')`, workspaceID, hash, now)
	return err
}

// UseImageBuild notes that an image is used, to the hour.
func (tx *Tx) UseImageBuild(ctx context.Context, workspaceID, hash string, now int64) error {
	_, err := tx.r.exec(ctx, `UPDATE image_builds SET last_used = $3 WHERE workspace_id = $1 AND hash = $2 AND last_used < $4`, workspaceID, hash, now, now-UseGrain.Milliseconds())
	return err
}

// UseGrain is how exactly the last use of an image is known.
const UseGrain = time.Hour

// DeleteImageBuilds removes the rows of builds that are over and were last used before a time, and gives them.
func (tx *Tx) DeleteImageBuilds(ctx context.Context, before int64) ([]ImageBuild, error) {
	return many(ctx, tx.reads, (*ImageBuild).fields, `DELETE FROM image_builds WHERE phase IN ('ready', 'failed', 'canceled') AND last_used < $1 RETURNING `+imageBuildColumns, before)
}
