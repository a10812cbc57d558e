package docker

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// failed makes an error of the contract of what the engine or the way to it said.
func (t *Target) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*compute.Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[*keeper.Fault](err); ok { // of an agent in a container
		return kept.Failed(ctx, err)
	}
	if t.way.why != nil {
		if e := t.way.why(err); e != nil {
			return e
		}
	}
	e := &compute.Error{Kind: compute.ErrUnreachable, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: "EngineFailed", Message: "the Docker engine could not do it", Cause: err.Error(),
		Mend: "look at the engine's log, e.g. with journalctl -u docker",
	}}
	switch {
	case errors.Is(err, fs.ErrPermission) || errdefs.IsPermissionDenied(err) || errdefs.IsUnauthorized(err):
		e.Kind = compute.ErrDenied
		e.Problem.Class, e.Problem.Code, e.Problem.Message = workspace.Denied, "EngineDenied", "the Docker engine at "+t.way.at+" may not be used"
		e.Problem.Mend = "let the server's user use it, e.g. with usermod -aG docker USER, and start the server again"
	case client.IsErrConnectionFailed(err) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist):
		e.Problem.Code, e.Problem.Message = "EngineUnreachable", "the Docker engine does not answer at "+t.way.at
		e.Problem.Mend = "start the engine, e.g. with systemctl start docker; the records of its jobs stay in their containers"
	case errdefs.IsInvalidArgument(err):
		e.Kind, e.Problem.Class = compute.ErrInvalid, workspace.Invalid
		e.Problem.Mend = "correct the compute's settings"
	}
	return e
}

func gone(err error) bool     { return errdefs.IsNotFound(err) }
func conflict(err error) bool { return errdefs.IsConflict(err) }

func unknown(key compute.Key) error {
	return &compute.Error{Kind: compute.ErrNotFound, Problem: workspace.Problem{
		Class: workspace.NotFound, Code: "JobNotFound", Message: "the Docker engine does not know the job", Target: key.String(),
	}}
}
