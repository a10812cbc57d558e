package api

import (
	"net/http"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// DataPlane is the dialect of Azure's data-plane services, those that azureml-core speaks to (azureml-v1.md §17). Their
// clients show the message alone, so it holds cause and mend, and they break on an error without details (§25).
type DataPlane struct{}

type dataPlaneError struct {
	Error       dataPlaneBody     `json:"error"`
	Correlation map[string]string `json:"correlation"`
	Environment string            `json:"environment"`
	Location    string            `json:"location"`
	Time        string            `json:"time"`
	Component   string            `json:"componentName"`
}

// dataPlaneBody is ARM's error with the code once more, where the generated clients look for the cause.
type dataPlaneBody struct {
	ErrorBody
	Inner struct {
		Code string `json:"code"`
	} `json:"innerError"`
}

// WriteProblem implements Dialect.
func (DataPlane) WriteProblem(w http.ResponseWriter, r *http.Request, p *workspace.Problem) {
	CommonHeaders(w, r, p)
	w.Header().Set("x-ms-error-code", p.Code)
	body := dataPlaneError{
		Error:       dataPlaneBody{ErrorBody: Body(p)},
		Correlation: map[string]string{"operation": RequestID(r), "request": RequestID(r)},
		Environment: "moorage", Location: "moorage", Component: "moorage",
		Time: time.Now().UTC().Format(TimeFormat),
	}
	body.Error.Inner.Code = p.Code
	_ = WriteJSON(w, Status(p.Class), body)
}

var _ Dialect = DataPlane{}

// TimeFormat is how Azure's services write a time in UTC (azureml-v1.md §2): with microseconds, always.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

// FormatTime writes a time in milliseconds since the epoch as TimeFormat has it.
func FormatTime(ms int64) string { return time.UnixMilli(ms).UTC().Format(TimeFormat) }

// OrNull is a text whose absence is null on the wire.
func OrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// ReadTime reads a time as clients of the data plane write it: with a zone or, meaning UTC, without.
func ReadTime(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err == nil {
		return at, nil
	}
	if at, bare := time.Parse("2006-01-02T15:04:05.999999999", text); bare == nil {
		return at, nil
	}
	return time.Time{}, &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidTime", Message: "a time cannot be read: " + clip(text), Mend: "write times as 2026-11-24T08:34:23.151000Z",
	}
}
