// Package content serves Azure's project content service to azureml-core: snapshots of the folder that a run is submitted
// with (azureml-v1.md §6.1). The client names a snapshot by a GUID and sends what its parent lacks; control keeps it where
// all other code lies.
package content

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Snapshots is what the routes call; package control has it.
type Snapshots interface {
	NewUpload() string
	PutSnapshot(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, s control.NewSnapshot) error
	LatestSnapshot(ctx context.Context, ws workspace.Workspace) (name string, root *control.SnapshotNode, err error)
	SnapshotExists(ctx context.Context, ws workspace.Workspace, name string) error
	ZipSnapshot(ctx context.Context, ws workspace.Workspace, name string, w io.Writer) error
}

type handlers struct {
	snapshots Snapshots
	sign      func(authn.Signature) string
	clock     clock.Source
}

// Routes is content's part of the route table. A job's credential reaches those snapshots of its workspace whose names it
// knows, which nobody can guess: its own, and those that it takes of its folder for the runs below it.
func Routes(snapshots Snapshots, sign func(authn.Signature) string, c clock.Source) []api.Route {
	h := handlers{snapshots, sign, c}
	first, second := "/content/v1.0"+api.WorkspacePath+"/snapshots", "/content/v2.0"+api.WorkspacePath+"/snapshots"
	read, write := api.ActionWorkspaces+"snapshots/read", api.ActionWorkspaces+"snapshots/write"
	table := []api.Route{
		{Method: "GET", Pattern: first + "/latest/metadata", Action: read, Handler: h.latest},
		{Method: "POST", Pattern: second + "/getblob", Action: write, Handler: h.upload},
		{Method: "POST", Pattern: second + "/{snapshot}", Action: write, Handler: h.put},
		{Method: "POST", Pattern: second + "/{snapshot}/zip", Action: api.ActionWorkspaces + "snapshots/zip/action", Handler: h.zip},
		{Method: "GET", Pattern: second + "/{snapshot}/zip", Action: read, Signed: zipGrant, Stream: true, Handler: h.download},
	}
	for i := range table {
		table[i].Job = api.JobAny
		table[i].Dialect = api.DataPlane{}
	}
	return table
}

const (
	uploadTime   = 24 * time.Hour // for which an upload's signed URLs are good
	downloadTime = time.Hour
	// maxFiles is how many files one snapshot may bring; the client itself stops at 2,000 unless told otherwise.
	maxFiles = 200_000
)

// latest is what a client compares its folder with that has no note of what it sent last. A job learns of no snapshot
// here: it then sends all of its folder.
func (h handlers) latest(w http.ResponseWriter, r *http.Request) error {
	name, root := control.NoSnapshot, control.EmptySnapshot()
	if api.PrincipalOf(r).Job == "" {
		var err error
		if name, root, err = h.snapshots.LatestSnapshot(r.Context(), api.WorkspaceOf(r)); err != nil {
			return err
		}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"id": name, "root": root})
}

// upload gives a place for each file. The names there are numbers: the client quotes what it finds in a URL once more
// (azureml-v1.md §20).
func (h handlers) upload(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		FileNames []string
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	if len(req.FileNames) > maxFiles {
		return &workspace.Problem{
			Class: workspace.TooLarge, Code: "TooManyFiles", Target: "FileNames", Message: fmt.Sprintf("the snapshot has more than %d new files", maxFiles),
			Mend: "leave folders out that the script does not need, with .amlignore",
		}
	}
	type node struct {
		FullName string `json:"fullName"`
		BlobURI  string `json:"blobUri"`
	}
	container := h.snapshots.NewUpload()
	query := h.sign(authn.Signature{Container: container, Verbs: "rcw", Expires: h.clock.Now().Add(uploadTime)})
	nodes := make([]node, len(req.FileNames))
	for i, name := range req.FileNames {
		nodes[i] = node{name, api.BlobURL(r, container, strconv.Itoa(i), query)}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"fileNodes": nodes})
}

// uploadedAs is the end of the path of a URL of upload's: a container and a number.
var uploadedAs = regexp.MustCompile(`/(code-[0-9a-z]{26}/[0-9]{1,9})$`)

func (h handlers) put(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		ParentSnapshotID string `json:"ParentSnapshotId"`
		DirTreeNode      *control.SnapshotNode
		FileRevisionList struct {
			FileNodes []struct {
				FullName string
				BlobURI  string `json:"BlobUri"`
				FileSize *int64
			}
		}
	}
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	s := control.NewSnapshot{Parent: req.ParentSnapshotID, Root: req.DirTreeNode}
	for _, f := range req.FileRevisionList.FileNodes {
		file := control.SnapshotFile{Name: f.FullName, Size: -1}
		if u, err := url.Parse(f.BlobURI); err == nil {
			if m := uploadedAs.FindStringSubmatch(u.Path); m != nil {
				file.Blob = m[1]
			}
		}
		if f.FileSize != nil {
			file.Size = *f.FileSize
		}
		s.Files = append(s.Files, file)
	}
	name := r.PathValue("snapshot")
	if err := h.snapshots.PutSnapshot(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), name, s); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"id": name})
}

// zip tells where a snapshot can be had as a zip file: restore_snapshot fetches it there without a token
// (azureml-v1.md §25).
func (h handlers) zip(w http.ResponseWriter, r *http.Request) error {
	ws := api.WorkspaceOf(r)
	if err := h.snapshots.SnapshotExists(r.Context(), ws, r.PathValue("snapshot")); err != nil {
		return err
	}
	g := grant(ws, r.PathValue("snapshot"))
	query := h.sign(authn.Signature{Container: g.Container, Blob: g.Blob, Verbs: g.Verb, Expires: h.clock.Now().Add(downloadTime)})
	return api.WriteJSON(w, http.StatusOK, map[string]any{
		"zipSasUri": api.BaseURL(r) + "/content/v2.0" + ws.Path() + "/snapshots/" + url.PathEscape(g.Blob) + "/zip?" + query,
	})
}

func zipGrant(r *http.Request) api.Grant {
	return grant(workspace.Workspace{Subscription: r.PathValue("sub"), ResourceGroup: r.PathValue("rg"), Name: r.PathValue("ws")}, r.PathValue("snapshot"))
}

func grant(ws workspace.Workspace, name string) api.Grant {
	return api.Grant{Container: "snapshots of " + ws.Path(), Blob: name, Verb: "r"}
}

func (h handlers) download(w http.ResponseWriter, r *http.Request) error {
	ws, name := api.WorkspaceOf(r), r.PathValue("snapshot")
	if err := h.snapshots.SnapshotExists(r.Context(), ws, name); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Cache-Control", "no-store")
	return h.snapshots.ZipSnapshot(r.Context(), ws, name, w)
}
