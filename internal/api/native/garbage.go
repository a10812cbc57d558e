package native

import (
	"context"
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Garbage collects what is no longer needed; package control has it.
type Garbage interface {
	CollectGarbage(ctx context.Context, p workspace.Principal, dry bool) (control.Garbage, error)
}

func (h handlers) garbageRoutes() []api.Route {
	return []api.Route{
		{Method: "POST", Pattern: Base + "/gc", Action: api.ActionServer + "gc/action", Stream: true, Handler: h.collect},
	}
}

// collect takes garbage away now, or with dry=1 tells how much there is.
func (h handlers) collect(w http.ResponseWriter, r *http.Request) error {
	found, err := h.Garbage.CollectGarbage(r.Context(), api.PrincipalOf(r), r.URL.Query().Get("dry") == "1")
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, found)
}
