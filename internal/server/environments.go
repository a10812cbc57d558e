package server

import (
	"context"
	"path/filepath"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// environments makes what environments are planned with: the curated table and the uv program.
func (s *Server) environments() (environment.Tools, environment.Curated, error) {
	curated, err := environment.DefaultCurated()
	if err == nil && s.cfg.Curated != "" {
		curated, err = environment.LoadCurated(s.cfg.Curated)
	}
	if err != nil {
		return environment.Tools{}, curated, err
	}
	index := environment.Index{URL: s.cfg.PackageIndex}
	if p := index.Check(); p != nil {
		return environment.Tools{}, curated, p
	}
	if p := s.cfg.Python.Check(); p != nil {
		return environment.Tools{}, curated, p
	}
	uv, err := environment.NewUvTool(environment.UvConfig{
		Dir: filepath.Join(s.cfg.Data, "tools"), Objects: s.cas, Index: workspace.NewSecret(s.cfg.PackageIndex), Log: s.log,
	})
	if err != nil {
		return environment.Tools{}, curated, err
	}
	return environment.Tools{
		Uv:     func(ctx context.Context, goos, goarch string) (compute.Tool, error) { return uv.Get(ctx, goos, goarch) },
		Index:  index,
		Python: s.cfg.Python,
	}, curated, nil
}
