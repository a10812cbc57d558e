package registry

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	images "github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// checkReference tells whether a manifest may be looked for by a text at all.
func checkReference(reference string) error {
	if strings.Contains(reference, ":") {
		_, err := images.ParseDigest(reference)
		return err
	}
	if images.IsTag(reference) {
		return nil
	}
	return &workspace.Problem{
		Class: workspace.NotFound, Code: "ManifestUnknown", Target: "reference", Message: fmt.Sprintf("%.150q cannot be a tag", reference), Mend: "use 1 to 128 letters, digits, '_', '.' and '-'",
	}
}

// getManifest serves GET and HEAD. It is given as it was pushed, whatever the client says to accept.
func (h handlers) getManifest(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	if err := checkReference(e.reference); err != nil {
		return err
	}
	m, err := h.Images.Manifest(r.Context(), in, e.reference)
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Docker-Content-Digest", m.Digest)
	header.Set("ETag", `"`+m.Digest+`"`)
	header.Set("Content-Type", m.MediaType)
	header.Set("Content-Length", strconv.FormatInt(m.Size, 10))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err = w.Write(m.Content)
	return err
}

func (h handlers) putManifest(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, images.MaxManifest))
	if err != nil {
		return err
	}
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	m, err := h.Images.PutManifest(r.Context(), in, e.reference, strings.TrimSpace(mediaType), content)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v2/"+e.name+"/manifests/"+m.Digest)
	w.Header().Set("Docker-Content-Digest", m.Digest)
	if m.Subject != "" {
		w.Header().Set("OCI-Subject", m.Subject)
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (h handlers) deleteManifest(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	err := checkReference(e.reference)
	if err == nil {
		err = h.Images.DeleteManifest(r.Context(), in, e.reference)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
