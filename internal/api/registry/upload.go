package registry

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	images "github.com/moorage-ml/moorage/internal/registry"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// begin is POST: it takes a blob from another repository (mount), or whole with the request (digest), or starts an upload.
func (h handlers) begin(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	q := r.URL.Query()
	if text := q.Get("mount"); text != "" {
		b, ok, err := h.mount(r, in, q.Get("from"), text)
		if err != nil || ok {
			return h.created(w, e.name, b, err)
		}
	}
	whole := images.Digest("")
	if text := q.Get("digest"); text != "" {
		var err error
		if whole, err = images.ParseDigest(text); err != nil {
			return err
		}
	}
	u, err := h.Images.Begin(r.Context(), in)
	if err != nil {
		return err
	}
	if whole == "" {
		return accepted(w, e.name, u)
	}
	if u, err = h.Images.Append(r.Context(), u, r.Body); err != nil {
		// The client does not know the upload, so it cannot go on with it.
		return errors.Join(err, h.Images.Cancel(r.Context(), in, u.ID))
	}
	b, err := h.Images.Finish(r.Context(), u, whole)
	return h.created(w, e.name, b, err)
}

// mount takes a blob from another repository of the same workspace. Where there is none, ok is false.
func (h handlers) mount(r *http.Request, in store.Repository, from, text string) (b store.RegistryBlob, ok bool, err error) {
	digest, err := images.ParseDigest(text)
	if err != nil {
		return b, false, err
	}
	source := ""
	if from != "" {
		other, err := h.Images.Find(r.Context(), from)
		if err != nil || other.WorkspaceID != in.WorkspaceID {
			return b, false, nil //nolint:nilerr // what cannot be mounted is sent
		}
		source = other.Name
	}
	return h.Images.Mount(r.Context(), in, source, digest)
}

// created tells of a blob that is there now.
func (h handlers) created(w http.ResponseWriter, name string, b store.RegistryBlob, err error) error {
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+b.Digest)
	w.Header().Set("Docker-Content-Digest", b.Digest)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func progress(w http.ResponseWriter, name string, u store.RegistryUpload) {
	w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+u.ID)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(u.Size-1, 0)))
	w.Header().Set("Docker-Upload-UUID", u.ID)
}

func accepted(w http.ResponseWriter, name string, u store.RegistryUpload) error {
	progress(w, name, u)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// status tells how far an upload is.
func (h handlers) status(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	u, err := h.Images.Upload(r.Context(), in, e.reference)
	if err != nil {
		return err
	}
	progress(w, e.name, u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// patch adds a chunk, or all in one stream.
func (h handlers) patch(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	u, err := h.append(w, r, in, e)
	if err != nil {
		return err
	}
	return accepted(w, e.name, u)
}

// finish adds what the request brings, if anything, and closes the upload.
func (h handlers) finish(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	digest, err := images.ParseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	u, err := h.append(w, r, in, e)
	if err != nil {
		return err
	}
	b, err := h.Images.Finish(r.Context(), u, digest)
	return h.created(w, e.name, b, err)
}

var contentRange = regexp.MustCompile(`^(?:bytes[ =])?(\d{1,18})-(\d{1,18})$`)

// append adds the request's body to an upload. With Content-Range it must begin where the upload ends.
func (h handlers) append(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) (store.RegistryUpload, error) {
	u, err := h.Images.Upload(r.Context(), in, e.reference)
	if err != nil {
		return u, err
	}
	if text, _, _ := strings.Cut(r.Header.Get("Content-Range"), "/"); text != "" {
		m := contentRange.FindStringSubmatch(text)
		if m == nil {
			return u, &workspace.Problem{Class: workspace.Invalid, Code: "OutOfOrder", Message: fmt.Sprintf("the Content-Range %.60q is not one", text), Mend: "write it as FIRST-LAST, in bytes from 0"}
		}
		first, _ := strconv.ParseInt(m[1], 10, 64) // digits only, and few enough
		last, _ := strconv.ParseInt(m[2], 10, 64)
		if first != u.Size || r.ContentLength >= 0 && last-first+1 != r.ContentLength {
			progress(w, e.name, u)
			return u, &workspace.Problem{
				Class: workspace.Invalid, Code: "OutOfOrder", Target: "Content-Range", Message: fmt.Sprintf("the chunk %.60q does not go on where the upload ends", text),
				Cause: fmt.Sprintf("it has %d bytes, and the request %d", u.Size, r.ContentLength), Mend: "send chunks one after the other",
			}
		}
	}
	return h.Images.Append(r.Context(), u, r.Body)
}

// cancel forgets an upload.
func (h handlers) cancel(w http.ResponseWriter, r *http.Request, in store.Repository, e endpoint) error {
	if err := h.Images.Cancel(r.Context(), in, e.reference); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
