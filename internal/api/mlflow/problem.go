package mlflow

import (
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Dialect writes problems as MLflow's client reads them (mlflow.md §3). What a user can mend is never 5xx, because the
// client repeats those for minutes.
type Dialect struct{}

var _ api.Dialect = Dialect{}

// WriteProblem implements api.Dialect.
func (Dialect) WriteProblem(w http.ResponseWriter, r *http.Request, p *workspace.Problem) {
	status, code := codeOf(p)
	api.CommonHeaders(w, r, p)
	_ = api.WriteJSON(w, status, map[string]string{"error_code": code, "message": p.Error()})
}

func codeOf(p *workspace.Problem) (status int, code string) {
	switch p.Class {
	case workspace.NotFound:
		if p.Code == "NotFound" { // the router's: no such path
			return http.StatusNotFound, "ENDPOINT_NOT_FOUND"
		}
		return http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST"
	case workspace.Invalid:
		switch p.Code {
		case "MethodNotAllowed":
			return http.StatusMethodNotAllowed, "ENDPOINT_NOT_FOUND"
		case "InvalidJSON", "InvalidUri":
			return http.StatusBadRequest, "BAD_REQUEST"
		}
		return http.StatusBadRequest, "INVALID_PARAMETER_VALUE"
	case workspace.TooLarge:
		return http.StatusBadRequest, "INVALID_PARAMETER_VALUE"
	case workspace.Conflict:
		if p.Code == "ResourceAlreadyExists" {
			return http.StatusBadRequest, "RESOURCE_ALREADY_EXISTS"
		}
		return http.StatusConflict, "RESOURCE_CONFLICT"
	case workspace.Unauthenticated:
		return http.StatusUnauthorized, "UNAUTHENTICATED"
	case workspace.Denied:
		return http.StatusForbidden, "PERMISSION_DENIED"
	case workspace.Unsupported:
		return http.StatusNotImplemented, "NOT_IMPLEMENTED"
	case workspace.Throttled:
		return http.StatusTooManyRequests, "REQUEST_LIMIT_EXCEEDED"
	case workspace.Unavailable:
		return http.StatusServiceUnavailable, "TEMPORARILY_UNAVAILABLE"
	}
	return http.StatusInternalServerError, "INTERNAL_ERROR"
}
