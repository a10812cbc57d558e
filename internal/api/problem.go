package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// ProblemOf gives the problem in an error. One that carries none is our fault, and says no more than the request's id:
// what it says inside may be anything.
func ProblemOf(r *http.Request, err error) *workspace.Problem {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &workspace.Problem{
			Class: workspace.TooLarge, Code: "RequestBodyTooLarge", Message: fmt.Sprintf("the request's body is over %d MiB", tooLarge.Limit>>20),
			Mend: "send less at once; files go by the blob routes, which have no such limit",
		}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &workspace.Problem{Class: workspace.Unavailable, Code: "RequestEnded", Message: "the request ended before its answer was ready", Mend: "try again"}
	}
	var p *workspace.Problem
	if errors.As(err, &p) {
		return p
	}
	return &workspace.Problem{Code: "InternalError", Message: "the server failed", Cause: "request " + RequestID(r), Mend: "look for that id in the server's log"}
}

// Status is the HTTP status for a class, the same in every dialect that has no rule of its own.
func Status(c workspace.Class) int {
	switch c {
	case workspace.Invalid:
		return http.StatusBadRequest
	case workspace.NotFound:
		return http.StatusNotFound
	case workspace.Conflict:
		return http.StatusConflict
	case workspace.Unauthenticated:
		return http.StatusUnauthorized
	case workspace.Denied:
		return http.StatusForbidden
	case workspace.Unsupported:
		return http.StatusNotImplemented
	case workspace.TooLarge:
		return http.StatusRequestEntityTooLarge
	case workspace.Throttled:
		return http.StatusTooManyRequests
	case workspace.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// CommonHeaders are those that go with a problem in every dialect.
func CommonHeaders(w http.ResponseWriter, r *http.Request, p *workspace.Problem) {
	switch p.Class {
	case workspace.Unauthenticated:
		w.Header().Set("WWW-Authenticate", `Bearer authorization_uri="`+BaseURL(r)+`/common/oauth2/authorize", resource_id="`+BaseURL(r)+`"`)
	case workspace.Throttled, workspace.Unavailable:
		w.Header().Set("Retry-After", "1")
	}
}

// ARM is the dialect of Azure's control plane, of its data planes that we serve, and of the native API:
// {"error":{"code","message","target","details":[]}} and, beside what Azure gives, cause and mend. The message holds
// these too, for clients that show nothing else.
type ARM struct{}

// ErrorBody is a problem as ARM writes it.
type ErrorBody struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Target  string      `json:"target,omitempty"`
	Details []ErrorBody `json:"details"`
	Cause   string      `json:"cause,omitempty"`
	Mend    string      `json:"mend,omitempty"`
}

// Body gives a problem as ARM writes it.
func Body(p *workspace.Problem) ErrorBody {
	return ErrorBody{Code: p.Code, Message: p.Error(), Target: p.Target, Details: []ErrorBody{}, Cause: p.Cause, Mend: p.Mend}
}

// WriteProblem implements Dialect.
func (ARM) WriteProblem(w http.ResponseWriter, r *http.Request, p *workspace.Problem) {
	CommonHeaders(w, r, p)
	w.Header().Set("x-ms-error-code", p.Code)
	_ = WriteJSON(w, Status(p.Class), map[string]ErrorBody{"error": Body(p)})
}

var _ Dialect = ARM{}

// WriteJSON writes v with a status. Nothing is written if v cannot be encoded.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("api: encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, err = w.Write(b)
	return err
}
