package registry

import (
	"net/http"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// dialect writes errors as the specification does: {"errors":[{"code","message","detail"}]}, and tells a client that
// has not come in where it gets a token.
type dialect struct{}

// codes are the specification's words for our own.
var codes = map[string]string{ //nolint:gochecknoglobals // a table that nobody changes
	"BlobUnknown": "BLOB_UNKNOWN", "UploadUnknown": "BLOB_UPLOAD_UNKNOWN", "UploadBrokeOff": "BLOB_UPLOAD_INVALID", "TooManyParts": "BLOB_UPLOAD_INVALID",
	"OutOfOrder": "BLOB_UPLOAD_INVALID", "InvalidRange": "BLOB_UPLOAD_INVALID", "DigestInvalid": "DIGEST_INVALID", "ManifestBlobUnknown": "MANIFEST_BLOB_UNKNOWN",
	"ManifestInvalid": "MANIFEST_INVALID", "ManifestUnknown": "MANIFEST_UNKNOWN", "NameInvalid": "NAME_INVALID", "NameUnknown": "NAME_UNKNOWN",
	"Unsupported": "UNSUPPORTED", "MethodNotAllowed": "UNSUPPORTED", "RequestBodyTooLarge": "SIZE_INVALID",
}

// statuses are those that follow from a code and not from a problem's class.
var statuses = map[string]int{ //nolint:gochecknoglobals // a table that nobody changes
	"OutOfOrder": http.StatusRequestedRangeNotSatisfiable, "InvalidRange": http.StatusRequestedRangeNotSatisfiable, "Unsupported": http.StatusMethodNotAllowed,
}

func codeOf(p *workspace.Problem) string {
	switch p.Class {
	case workspace.Unauthenticated:
		return "UNAUTHORIZED"
	case workspace.Denied:
		return "DENIED"
	case workspace.Throttled:
		return "TOOMANYREQUESTS"
	}
	if code, known := codes[p.Code]; known {
		return code
	}
	return "UNKNOWN"
}

// WriteProblem implements api.Dialect.
func (dialect) WriteProblem(w http.ResponseWriter, r *http.Request, p *workspace.Problem) {
	switch p.Class {
	case workspace.Unauthenticated:
		w.Header().Set("WWW-Authenticate", challenge(r))
	case workspace.Throttled, workspace.Unavailable:
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	status, known := statuses[p.Code]
	if !known {
		status = api.Status(p.Class)
	}
	type failure struct {
		Code    string            `json:"code"`
		Message string            `json:"message"`
		Detail  map[string]string `json:"detail,omitempty"`
	}
	f := failure{Code: codeOf(p), Message: p.Error(), Detail: map[string]string{"code": p.Code, "request": api.RequestID(r)}}
	_ = api.WriteJSON(w, status, map[string][]failure{"errors": {f}}) // the client is gone: there is nobody to tell
}

var _ api.Dialect = dialect{}

// challenge says where tokens are got, and for what: the words of Docker's token authentication.
func challenge(r *http.Request) string {
	said := `Bearer realm="` + api.BaseURL(r) + tokenPath + `",service="` + r.Host + `"`
	e, ok := endpointOf(strings.TrimPrefix(r.URL.Path, "/v2/"))
	if !ok || strings.ContainsAny(e.name, "\"\\\r\n") {
		return said
	}
	if e.kind == "catalog" {
		return said + `,scope="registry:catalog:*"`
	}
	actions := map[string]string{http.MethodGet: "pull", http.MethodHead: "pull", http.MethodDelete: "delete"}[r.Method]
	if actions == "" || e.kind == "upload" {
		actions = "pull,push"
	}
	return said + `,scope="repository:` + e.name + `:` + actions + `"`
}
