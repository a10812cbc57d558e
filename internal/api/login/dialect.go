package login

import (
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// dialect writes errors as OAuth 2 does.
type dialect struct{}

// WriteProblem implements api.Dialect.
func (dialect) WriteProblem(w http.ResponseWriter, r *http.Request, p *workspace.Problem) {
	code := p.Code
	if p.Class == workspace.Unauthenticated {
		code = "invalid_client"
	}
	api.CommonHeaders(w, r, p)
	_ = api.WriteJSON(w, api.Status(p.Class), map[string]any{ // the client is gone: there is nobody to tell
		"error": code, "error_description": p.Error(), "error_codes": []int{}, "correlation_id": api.RequestID(r),
	})
}

var _ api.Dialect = dialect{}
