package arm

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moorage-ml/moorage/internal/api"
)

// envelope lays what every ARM resource has over a document.
func envelope(o api.Object, id, name, kind string) api.Object {
	o.Set("id", id)
	o.Set("name", name)
	o.Set("type", "Microsoft.MachineLearningServices/workspaces"+kind)
	return o
}

// systemData says who made and changed a resource, and when.
func systemData(created, modified int64, by, modifiedBy string) map[string]string {
	if by == "" {
		by = "moorage"
	}
	if modifiedBy == "" {
		modifiedBy = by
	}
	return map[string]string{
		"createdAt": api.FormatTime(created), "createdBy": by, "createdByType": "User",
		"lastModifiedAt": api.FormatTime(modified), "lastModifiedBy": modifiedBy, "lastModifiedByType": "User",
	}
}

// withoutNulls removes the fields that a client sent as null.
func withoutNulls(o api.Object) {
	maps.DeleteFunc(o, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
}

// list writes a page. next is the cursor of the page after it, "" on the last; nextLink is left out then, because older
// clients look for the key alone (azureml-v1.md §2).
func list[T any](w http.ResponseWriter, r *http.Request, values []T, next string) error {
	if values == nil {
		values = []T{}
	}
	body := map[string]any{"value": values}
	if next != "" {
		q := r.URL.Query()
		q.Set("$skip", next)
		body["nextLink"] = api.BaseURL(r) + r.URL.EscapedPath() + "?" + q.Encode()
	}
	return api.WriteJSON(w, http.StatusOK, body)
}

// pageSize is how many a client asks for by name ($top, count, maxpagesize), or the usual number.
func pageSize(q url.Values, usual int) int {
	for _, name := range []string{"$top", "count", "$maxpagesize"} {
		if n, err := strconv.Atoi(q.Get(name)); err == nil && n > 0 {
			return min(n, 1000)
		}
	}
	return usual
}

// cut gives the first n of one more, and whether there was one more.
func cut[T any](all []T, n int) (page []T, more bool) {
	if len(all) > n {
		return all[:n], true
	}
	return all, false
}
