package reconcile

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// BeginImage wants the image of an environment ahead of the jobs that will need it, for a compute or, without one, for the
// server's registry, where only an image that a Dockerfile makes is worth it. It gives the hash of the build; "" when none is needed.
func (b *JobBuilder) BeginImage(ctx context.Context, ws workspace.Workspace, on *store.Compute, spec environment.Spec) (hash string, err error) {
	n := Needed{Workspace: ws, Facts: map[string]string{"containers": "docker"}, Spec: spec, Tools: b.Tools, Curated: b.Curated, Tree: b.tree}
	if on != nil {
		var facts struct{ Details map[string]string }
		if len(on.Facts) > 0 {
			if err := json.Unmarshal(on.Facts, &facts); err != nil {
				return "", fmt.Errorf("reconcile: facts of compute %s: %w", on.Name, err)
			}
		}
		n.Compute, n.Facts = *on, facts.Details
	}
	return b.Images.Begin(ctx, n)
}

// CancelImage ends a build, or does nothing when it is over.
func (b *JobBuilder) CancelImage(ctx context.Context, ws workspace.Workspace, hash string) error {
	if b.Images == nil {
		return nil
	}
	return b.Images.Cancel(ctx, ws, hash)
}

// BuildsFiles tells whether there is a place whose builder may build Dockerfiles.
func (b *JobBuilder) BuildsFiles() bool { return b.Images != nil && b.Images.cfg.Dockerfiles != nil }
