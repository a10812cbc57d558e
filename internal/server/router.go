package server

import (
	"context"
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/all"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// router is the whole API.
func (s *Server) router() *all.API {
	return all.New(all.Config{
		Control: s.control, Tracking: s.tracking, Blob: roomyStore{s.blob, s.space}, CAS: roomyObjects{s.cas, s.space}, Images: s.images, Auth: s.auth, Clock: s.opts.Clock, Log: s.log, Metrics: s.metrics,
		Workspace: s.firstWorkspace, Ready: s.ready, Version: s.opts.Version, BlobHost: s.blobHost(), Room: s.space.room,
	})
}

// blobHost is the name under which azureml-core uploads: the operator's own of that form, or the one that means this
// machine.
func (s *Server) blobHost() string {
	for _, name := range s.cfg.Names {
		if api.IsBlobHost(name) {
			return name
		}
	}
	return api.BlobHost
}

// firstWorkspace is the one that is meant where a path names none (plain MLflow).
func (s *Server) firstWorkspace(ctx context.Context) (workspace.Workspace, error) {
	w := s.cfg.Workspace
	return s.control.Workspace(ctx, w.Subscription, w.ResourceGroup, w.Name)
}

// ready says why the server cannot work now, or nil.
func (s *Server) ready(r *http.Request) error {
	_, err := s.serverID(r.Context())
	return err
}
