// Package blob serves the part of Azure's Blob protocol that machine learning clients use (azureml-v2.md §8), on top of
// our own blob store. Containers need not be made: any name is one. The account in the path, or in a host of the form
// X.blob.Y (azureml-v1.md §1.4), counts for nothing, because clients write into it what they like (azureml-v2.md §7). Requests come with a bearer token, or with a URL that this
// server signed.
package blob

import (
	"errors"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	store "github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/workspace"
)

type handlers struct {
	blobs   store.Store
	writing *names
}

// Routes is blob's part of the route table.
func Routes(blobs store.Store) []api.Route {
	h := handlers{blobs, &names{}}
	const container, one = "/blob/{account}/{container}", "/blob/{account}/{container}/{path...}"
	read, write, remove := api.ActionBlobs+"read", api.ActionBlobs+"write", api.ActionBlobs+"delete"
	table := []api.Route{
		{Method: "GET", Pattern: container, Action: read, Signed: grant("l"), Handler: h.list},
		{Method: "PUT", Pattern: container, Action: write, Signed: grant("c"), Handler: h.makeContainer},
		{Method: "GET", Pattern: one, Action: read, Signed: grant("r"), Handler: h.get},
		{Method: "PUT", Pattern: one, Action: write, Signed: grant("w"), Handler: h.put},
		{Method: "DELETE", Pattern: one, Action: remove, Signed: grant("d"), Handler: h.remove},
	}
	for i := range table {
		table[i].Stream = true
		table[i].Dialect = dialect{}
	}
	return table
}

func grant(verb string) func(*http.Request) api.Grant {
	return func(r *http.Request) api.Grant {
		return api.Grant{Container: r.PathValue("container"), Blob: r.PathValue("path"), Verb: verb, Variable: "path"}
	}
}

// place is the name in the blob store of what a path names; "" as blob is the container.
func place(container, blob string) (string, error) {
	if !store.IsContainerName(container) {
		return "", &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidResourceName", Target: "container", Message: "the container's name is not one",
			Mend: "use 3 to 63 small letters, digits and single dashes",
		}
	}
	return "c/" + container + "/" + blob, nil
}

// missing turns the store's answer for an absent blob into the protocol's.
func missing(err error, name string) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &workspace.Problem{Class: workspace.NotFound, Code: "BlobNotFound", Target: name, Message: "the specified blob does not exist", Mend: "upload it first"}
}

func common(w http.ResponseWriter, r *http.Request) {
	version := r.Header.Get("x-ms-version")
	if version == "" {
		version = "2021-12-02"
	}
	w.Header().Set("x-ms-version", version)
}

func (h handlers) makeContainer(w http.ResponseWriter, r *http.Request) error {
	common(w, r)
	if r.URL.Query().Get("restype") != "container" {
		return unsupported("this operation on a container")
	}
	if _, err := place(r.PathValue("container"), ""); err != nil {
		return err
	}
	containerHeaders(w)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func containerHeaders(w http.ResponseWriter) {
	w.Header().Set("ETag", `"0x1"`)
	w.Header().Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
	w.Header().Set("x-ms-lease-state", "available")
}

func (h handlers) remove(w http.ResponseWriter, r *http.Request) error {
	common(w, r)
	name, err := place(r.PathValue("container"), r.PathValue("path"))
	if err != nil {
		return err
	}
	if _, err := h.blobs.Stat(r.Context(), name); err != nil {
		return missing(err, r.PathValue("path"))
	}
	if err := h.blobs.Delete(r.Context(), name); err != nil {
		return missing(err, r.PathValue("path"))
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func unsupported(what string) error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "NotImplemented", Message: "this server does not have " + what, Mend: "use block blobs: put, get, list and delete",
	}
}

// metadata reads the x-ms-meta- headers; names are kept in small letters, as HTTP does not keep their case.
func metadata(h http.Header) (map[string]string, error) {
	meta, size := map[string]string{}, 0
	for k, v := range h {
		if name, ok := strings.CutPrefix(strings.ToLower(k), "x-ms-meta-"); ok && name != "" {
			meta[name] = strings.Join(v, ",")
			size += len(name) + len(meta[name])
		}
	}
	if size > 8<<10 {
		return nil, &workspace.Problem{Class: workspace.Invalid, Code: "MetadataTooLarge", Message: "the metadata is over 8 KiB", Mend: "give less of it"}
	}
	return meta, nil
}

// describe writes the headers that tell of a blob.
func describe(w http.ResponseWriter, info store.Info) {
	h := w.Header()
	h.Set("ETag", etag(info))
	h.Set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	h.Set("x-ms-creation-time", info.Modified.UTC().Format(http.TimeFormat))
	h.Set("x-ms-blob-type", typeOf(info))
	if info.Append {
		h.Set("x-ms-blob-committed-block-count", strconv.Itoa(info.Appended))
	}
	h.Set("x-ms-lease-status", "unlocked")
	h.Set("x-ms-lease-state", "available")
	h.Set("x-ms-server-encrypted", "false")
	h.Set("Accept-Ranges", "bytes")
	for k, v := range info.User {
		h["x-ms-meta-"+k] = []string{v}
	}
}

// etag is quoted, as the protocol wants it.
func etag(info store.Info) string {
	return `"` + strings.Trim(info.ETag, `"`) + `"`
}

func contentType(info store.Info) string {
	if info.ContentType == "" {
		return "application/octet-stream"
	}
	return info.ContentType
}

// relative is the name within its container of a blob of the store.
func relative(name, container string) string { return strings.TrimPrefix(name, "c/"+container+"/") }
