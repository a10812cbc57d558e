package blob

import (
	"encoding/xml"
	"net/http"
	"strconv"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// dialect writes errors as Azure's Blob service does: XML, and the code in a header for HEAD.
type dialect struct{}

// statuses are those that follow from a code and not from a problem's class.
var statuses = map[string]int{
	"InvalidRange": http.StatusRequestedRangeNotSatisfiable, "ConditionNotMet": http.StatusPreconditionFailed, "BlobAlreadyExists": http.StatusConflict,
	"AppendPositionConditionNotMet": http.StatusPreconditionFailed, "MaxBlobSizeConditionNotMet": http.StatusPreconditionFailed,
}

// WriteProblem implements api.Dialect.
func (dialect) WriteProblem(w http.ResponseWriter, r *http.Request, p *workspace.Problem) {
	api.CommonHeaders(w, r, p)
	status, known := statuses[p.Code]
	if !known {
		status = api.Status(p.Class)
	}
	code := p.Code
	switch p.Class {
	case workspace.Unauthenticated:
		code = "AuthenticationFailed"
	case workspace.Denied:
		code = "AuthorizationPermissionMismatch"
	}
	if code == "ConditionNotMet" && r.Method != http.MethodPut && r.Header.Get("If-None-Match") != "" {
		status = http.StatusNotModified
	}
	h := w.Header()
	common(w, r)
	h.Set("x-ms-error-code", code)
	if r.Method == http.MethodHead || status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	body, err := xml.Marshal(struct {
		XMLName       xml.Name `xml:"Error"`
		Code, Message string
	}{Code: code, Message: p.Error() + "\nRequestId:" + api.RequestID(r)})
	if err != nil {
		body = nil // the header says the code
	}
	h.Set("Content-Type", "application/xml")
	h.Set("Content-Length", strconv.Itoa(len(xml.Header)+len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(xml.Header), body...)) // the client is gone: there is nobody to tell
}

var _ api.Dialect = dialect{}
