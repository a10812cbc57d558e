package mlflow

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

type listArtifacts struct {
	runID
	Path      string `json:"path"`
	PageToken string `json:"page_token"`
}

type artifactsJSON struct {
	RootURI       string     `json:"root_uri,omitempty"`
	Files         []fileJSON `json:"files,omitempty"`
	NextPageToken string     `json:"next_page_token,omitempty"`
}

func (h *handlers) listArtifacts(ctx context.Context, s tracking.Scope, q *listArtifacts) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	uri, files, next, err := h.Tracking.ListArtifacts(ctx, s, id, q.Path, q.PageToken)
	return artifactsJSON{uri, filesOf(files), next}, err
}

type listFolder struct {
	Path string `json:"path"`
}

func (h *handlers) listFolder(ctx context.Context, s tracking.Scope, q *listFolder) (any, error) {
	files, err := h.Tracking.ListFolder(ctx, s, q.Path)
	return artifactsJSON{Files: filesOf(files)}, err
}

// searchLoggedModels finds none: this server keeps no logged models (mlflow.md §7). MLflow's client asks before it lists a
// folder of a run, and gives up on any other answer.
func (h *handlers) searchLoggedModels(ctx context.Context, s tracking.Scope, q *someExperiments) (any, error) {
	ids, err := experimentIDs(q.ExperimentIDs)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, err := h.Tracking.Experiment(ctx, s, id); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (h *handlers) putArtifact(w http.ResponseWriter, r *http.Request) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	if err := h.Tracking.PutArtifact(r.Context(), s, r.PathValue("path"), r.Body, r.ContentLength, r.Header.Get("Content-Type")); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, struct{}{})
}

// getArtifact gives an artifact, or one range of it. It never lets a browser run what somebody stored.
func (h *handlers) getArtifact(w http.ResponseWriter, r *http.Request) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	name := r.PathValue("path")
	info, err := h.Tracking.StatArtifact(r.Context(), s, name)
	if err != nil {
		return err
	}
	head := w.Header()
	head.Set("Content-Type", "application/octet-stream")
	if info.ContentType != "" {
		head.Set("Content-Type", info.ContentType)
	}
	head.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(name)}))
	head.Set("Accept-Ranges", "bytes")
	if info.ETag != "" {
		head.Set("ETag", strconv.Quote(info.ETag))
	}
	from, to, ranged := byteRange(r.Header.Get("Range"), info.Size)
	if ranged && from > to {
		head.Set("Content-Range", fmt.Sprintf("bytes */%d", info.Size))
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return nil
	}
	status := http.StatusOK
	if ranged {
		head.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, info.Size))
		status = http.StatusPartialContent
	}
	head.Set("Content-Length", strconv.FormatInt(to-from+1, 10))
	if r.Method == http.MethodHead || to < from {
		w.WriteHeader(status)
		return nil
	}
	body, err := h.Tracking.OpenArtifact(r.Context(), info, from, to-from+1)
	if err != nil {
		return err
	}
	defer body.Close()
	w.WriteHeader(status)
	_, err = io.CopyN(w, body, to-from+1)
	return err
}

// byteRange reads a Range header of one range: first and last byte, both included. A header that is not one such range
// is ignored, as HTTP allows. A range that begins after the end has from > to.
func byteRange(header string, size int64) (from, to int64, ranged bool) {
	first, last, found := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	if !found || !strings.HasPrefix(header, "bytes=") {
		return 0, size - 1, false
	}
	if first == "" {
		n, err := strconv.ParseUint(last, 10, 62)
		if err != nil {
			return 0, size - 1, false
		}
		return max(0, size-int64(n)), size - 1, true
	}
	start, err := strconv.ParseUint(first, 10, 62)
	if err != nil {
		return 0, size - 1, false
	}
	end := size - 1
	if last != "" {
		n, err := strconv.ParseUint(last, 10, 62)
		if err != nil || n < start {
			return 0, size - 1, false
		}
		end = min(end, int64(n))
	}
	return int64(start), end, true
}

func (h *handlers) deleteArtifact(w http.ResponseWriter, r *http.Request) error {
	s, err := h.scope(r)
	if err != nil {
		return err
	}
	if err := h.Tracking.DeleteArtifact(r.Context(), s, r.PathValue("path")); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, struct{}{})
}

// noMultipart answers calls that server-info says are not there. The client looks at how the message begins.
func noMultipart(http.ResponseWriter, *http.Request) error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "MultipartUnsupported",
		Message: "Multipart upload is not supported for the current artifact repository",
	}
}
