package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Garbage is what a collection found, and took away unless it was dry.
type Garbage struct {
	Dry     bool  `json:"dry_run"`
	Jobs    int   `json:"jobs"`    // whose time was over
	Audit   int64 `json:"audit"`   // entries of the audit log whose time was over
	Objects int   `json:"objects"` // of snapshots, all there are
	Removed int   `json:"removed"` // of those, what nothing needs
	Images  int   `json:"images"`  // of the registry, with manifests of other things; what nothing needs
	Bytes   int64 `json:"bytes"`   // of those removed
}

// CollectGarbage deletes jobs that ended longer ago than the retention, with their files, and then the objects of
// snapshots and the images that nothing needs. Jobs may come and go meanwhile. With dry it only counts.
func (c *Control) CollectGarbage(ctx context.Context, _ workspace.Principal, dry bool) (Garbage, error) {
	g := Garbage{Dry: dry}
	var err error
	if g.Jobs, err = c.expireJobs(ctx, dry); err != nil {
		return g, err
	}
	if g.Audit, err = c.expireAudit(ctx, dry); err != nil {
		return g, err
	}
	swept, err := c.CAS.Sweep(ctx, c.liveRoots(ctx), dry)
	g.Objects, g.Removed, g.Bytes = swept.Objects, swept.Removed, swept.Bytes
	if err == nil && !dry {
		err = c.Store.DeletePins(ctx)
	}
	if err == nil {
		err = c.collectImages(ctx, &g)
	}
	return g, err
}

// liveRoots are the snapshots that are needed: code and inputs of every job that is kept, and code and snapshots that were put.
func (c *Control) liveRoots(ctx context.Context) iter.Seq2[snapshot.Hash, error] {
	return func(yield func(snapshot.Hash, error) bool) {
		err := c.rootsOfCode(ctx, yield)
		if err == nil {
			err = c.rootsOfContexts(ctx, yield)
		}
		if err == nil {
			err = c.rootsOfJobs(ctx, yield)
		}
		if err != nil && !errors.Is(err, errEnough) {
			yield("", err)
		}
	}
}

// errEnough ends a walk whose caller wants no more.
var errEnough = errors.New("control: enough")

func (c *Control) rootsOfJobs(ctx context.Context, yield func(snapshot.Hash, error) bool) error {
	after := ""
	for {
		page, err := c.Store.JobSpecs(ctx, store.Page{After: after, Limit: 1000})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, row := range page {
			after = row.JobID
			var spec workspace.JobSpec
			if err := json.Unmarshal(row.Spec, &spec); err != nil {
				return fmt.Errorf("control: spec of job %s: %w", row.JobID, err) // rather keep too much
			}
			roots := []string{spec.Code}
			for _, in := range spec.Inputs {
				roots = append(roots, in.Tree)
			}
			for _, root := range roots {
				if root != "" && !yield(snapshot.Hash(root), nil) {
					return errEnough
				}
			}
		}
	}
}

func (c *Control) rootsOfCode(ctx context.Context, yield func(snapshot.Hash, error) bool) error {
	return c.documents(ctx, []string{"codes", snapshotCollection}, func(d store.Document) error {
		if root := snapshotOf(d); root != "" && !yield(root, nil) {
			return errEnough
		}
		return nil
	})
}

// documents walks all versions of collections in every workspace.
func (c *Control) documents(ctx context.Context, collections []string, visit func(store.Document) error) error {
	spaces, err := c.Store.Workspaces(ctx)
	if err != nil {
		return err
	}
	for _, ws := range spaces {
		for _, collection := range collections {
			for after := ""; ; {
				page, err := c.Store.Documents(ctx, ws.ID, collection, "", store.Page{After: after, Limit: 1000})
				if err != nil {
					return err
				}
				for _, d := range page {
					after = d.ID
					if err := visit(d); err != nil {
						return err
					}
				}
				if len(page) == 0 {
					break
				}
			}
		}
	}
	return nil
}

func (c *Control) expireAudit(ctx context.Context, dry bool) (n int64, err error) {
	if c.AuditRetention <= 0 {
		return 0, nil
	}
	before := c.Clock.Now().Add(-c.AuditRetention).UnixMilli()
	if dry {
		return c.Store.CountAudit(ctx, before)
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		n, err = tx.DeleteAudit(ctx, before)
		return err
	})
	return n, err
}

// expireJobs deletes the jobs whose time is over. One whose outputs are registered as data, dataset or model is kept: its
// files are theirs.
func (c *Control) expireJobs(ctx context.Context, dry bool) (deleted int, err error) {
	if c.Retention <= 0 {
		return 0, nil
	}
	reg, err := c.registrations(ctx)
	if err != nil {
		return 0, err
	}
	spaces, err := c.Store.Workspaces(ctx)
	if err != nil {
		return 0, err
	}
	limit := c.Clock.Now().Add(-c.Retention)
	for _, ws := range spaces {
		after := clock.FirstID(limit) // what was made later cannot have ended before
		for {
			page, err := c.Store.Jobs(ctx, ws.ID, store.JobFilter{States: terminalStates(), IncludeArchived: true}, store.Page{After: after, Limit: 1000})
			if err != nil {
				return deleted, err
			}
			if len(page) == 0 {
				break
			}
			after = page[len(page)-1].ID
			n, err := c.expire(ctx, page, limit, reg, dry)
			deleted += n
			if err != nil {
				return deleted, err
			}
		}
	}
	return deleted, nil
}

// expire deletes those of ended jobs whose time was over at limit.
func (c *Control) expire(ctx context.Context, jobs []store.Job, limit time.Time, reg registrations, dry bool) (deleted int, err error) {
	for _, job := range jobs {
		if job.Ended > limit.UnixMilli() || job.Phase != store.Released || strings.Contains(reg.text, job.Name) {
			continue
		}
		wrote, err := c.wroteTo(ctx, job, reg.places)
		if err != nil {
			return deleted, err
		}
		if wrote {
			continue
		}
		if !dry {
			if err := c.deleteJob(ctx, job); err != nil {
				return deleted, err
			}
		}
		deleted++
	}
	return deleted, nil
}

// registrations are what all registered data, models and datasets say of where their files are.
type registrations struct {
	text   string   // which names jobs
	places []string // of datasets, in the blob store
}

func (c *Control) registrations(ctx context.Context) (reg registrations, err error) {
	var text strings.Builder
	err = c.documents(ctx, []string{"data", "models", datasets}, func(d store.Document) error {
		if d.Collection != datasets {
			fmt.Fprintf(&text, "%s\n", d.Body)
			return nil
		}
		ws := workspace.Workspace{ID: d.WorkspaceID}
		definition, err := c.Definition(ctx, ws, d.Hash)
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s\n%s\n", definition.Dataflow, definition.Properties)
		paths, err := definition.Paths()
		if err != nil {
			return nil //nolint:nilerr // a definition that cannot be read names no place
		}
		for _, p := range paths {
			if places, err := c.places(ctx, ws, "", []DataPath{p}); err == nil { // others are not of this server
				reg.places = append(reg.places, places[0].root)
			}
		}
		return nil
	})
	reg.text = text.String()
	return reg, err
}

// wroteTo tells whether a file of a job's outputs lies in one of the places.
func (c *Control) wroteTo(ctx context.Context, job store.Job, places []string) (bool, error) {
	if len(places) == 0 {
		return false, nil
	}
	files, err := c.Store.JobFiles(ctx, job.ID)
	for _, f := range files {
		for _, root := range places {
			if f.Place == root || strings.HasPrefix(f.Place, root+"/") {
				return true, err
			}
		}
	}
	return false, err
}

func terminalStates() []workspace.State {
	return []workspace.State{workspace.Completed, workspace.Failed, workspace.Canceled}
}

// deleteJob takes a job's bytes and then its row, so that an interruption leaves nothing without a row. Its run stays,
// with its metrics.
func (c *Control) deleteJob(ctx context.Context, job store.Job) error {
	files, err := c.Store.JobFiles(ctx, job.ID)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := c.Blob.Delete(ctx, f.Place); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := c.deleteBelow(ctx, tracking.ArtifactPrefix(job.WorkspaceID, job.Name)); err != nil {
		return err
	}
	if err := (tracking.JobLog{Blob: c.Blob}).Drop(ctx, job.ID); err != nil {
		return err
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error { return tx.DeleteJob(ctx, job.ID) })
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func (c *Control) deleteBelow(ctx context.Context, prefix string) error {
	for {
		page, err := c.Blob.List(ctx, prefix, "", "", 1000)
		if err != nil {
			return err
		}
		for _, b := range page.Blobs {
			if err := c.Blob.Delete(ctx, b.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
	}
}
