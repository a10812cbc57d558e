package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moorage-ml/moorage/internal/api"
	images "github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// maxPage is how long a list may be; the client is told where it goes on.
const maxPage = 1000

// pageOf reads n and last. One more than asked for is fetched, which tells whether the list goes on.
func pageOf(r *http.Request) (p store.Page, n int, err error) {
	n = maxPage - 1
	if text := r.URL.Query().Get("n"); text != "" {
		asked, err := strconv.Atoi(text)
		if err != nil || asked < 0 {
			return p, 0, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidPage", Target: "n", Message: fmt.Sprintf("n=%.20q is not a number of entries", text), Mend: "leave it out, or give a number"}
		}
		n = min(n, asked)
	}
	return store.Page{After: r.URL.Query().Get("last"), Limit: n + 1}, n, nil
}

// next says where a list goes on, after what was last.
func next(w http.ResponseWriter, r *http.Request, n int, last string) {
	q := r.URL.Query()
	q.Set("last", last)
	if n > 0 {
		q.Set("n", strconv.Itoa(n))
	}
	u := url.URL{Path: r.URL.Path, RawQuery: q.Encode()}
	w.Header().Set("Link", "<"+u.String()+`>; rel="next"`)
}

// tags lists the tags of a repository in byte order.
func (h handlers) tags(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	p, n, err := pageOf(r)
	if err != nil {
		return err
	}
	list, err := h.Images.Tags(r.Context(), in, p)
	if err != nil {
		return err
	}
	if len(list) > n {
		list = list[:n]
		if n > 0 {
			next(w, r, n, list[n-1])
		}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"name": e.name, "tags": append([]string{}, list...)})
}

// catalog lists repositories, of the caller's workspace or of all (Docker's registry has it; OCI leaves it open).
func (h handlers) catalog(w http.ResponseWriter, r *http.Request) error {
	p, n, err := pageOf(r)
	if err != nil {
		return err
	}
	list, err := h.Images.Repositories(r.Context(), api.PrincipalOf(r).Workspace, p)
	if err != nil {
		return err
	}
	if len(list) > n {
		list = list[:n]
		if n > 0 {
			next(w, r, n, list[n-1])
		}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"repositories": append([]string{}, list...)})
}

const indexType = "application/vnd.oci.image.index.v1+json"

// The limits of one page of referrers: their annotations may be long.
const (
	referrersPage = 100
	referrersSize = 4 << 20
)

// referrer is a descriptor in the answer.
type referrer struct {
	MediaType    string          `json:"mediaType"`
	Digest       string          `json:"digest"`
	Size         int64           `json:"size"`
	ArtifactType string          `json:"artifactType,omitempty"`
	Annotations  json.RawMessage `json:"annotations,omitempty"`
}

// referrers lists what says something about a manifest, as an index.
func (h handlers) referrers(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	subject, err := images.ParseDigest(e.reference)
	if err != nil {
		return err
	}
	artifactType := r.URL.Query().Get("artifactType")
	list, err := h.Images.Referrers(r.Context(), in, subject, artifactType, store.Page{After: r.URL.Query().Get("last"), Limit: referrersPage + 1})
	if err != nil {
		return err
	}
	all, size := []referrer{}, 0
	for _, m := range list {
		if len(all) > 0 && (len(all) == referrersPage || size > referrersSize) {
			next(w, r, 0, all[len(all)-1].Digest)
			break
		}
		all = append(all, referrer{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations})
		size += len(m.Annotations)
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	body, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": all})
	if err != nil {
		return fmt.Errorf("api: referrers: %w", err)
	}
	w.Header().Set("Content-Type", indexType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(body)
	return err
}
