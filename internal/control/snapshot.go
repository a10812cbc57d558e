package control

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Azure's v1 client names snapshots by a GUID and describes them by a tree of its own, with hashes of its own
// (azureml-v1.md §6.1). Such a name stands for a snapshot like any other: the files lie once, whoever sent them.

// snapshotCollection is where the names are kept. The documents are never removed: clients submit by names that they
// remember for ever (azureml-v1.md §1.5).
const snapshotCollection = "snapshots"

// NoSnapshot is the name of the empty snapshot, which is there without being put.
const NoSnapshot = "00000000-0000-0000-0000-000000000000"

// EmptySnapshot is the tree of NoSnapshot.
func EmptySnapshot() *SnapshotNode {
	return &SnapshotNode{Type: "Directory", Children: map[string]*SnapshotNode{}}
}

// SnapshotNode is a file or folder in the client's tree.
type SnapshotNode struct {
	Name      string                   `json:"name"`
	Type      string                   `json:"type"` // "File" or "Directory"
	Hash      string                   `json:"hash"` // of content, name and type
	Timestamp string                   `json:"timestamp"`
	Children  map[string]*SnapshotNode `json:"children"`
}

// SnapshotFile is a file that was uploaded for a snapshot.
type SnapshotFile struct {
	Name string // the path in the snapshot
	Blob string // container and name, as the upload was asked for with NewUpload
	Size int64
}

// NewSnapshot is what a client says of a snapshot: Root is all of it, Files are those that Parent lacks.
type NewSnapshot struct {
	Parent string
	Root   *SnapshotNode
	Files  []SnapshotFile
}

// keptSnapshot is the body of a snapshot's document.
type keptSnapshot struct {
	Snapshot snapshot.Hash `json:"moorageSnapshot"` // as snapshotField says
	Root     *SnapshotNode `json:"root"`
}

// PutSnapshot keeps a snapshot under the client's name. The same name again is the same snapshot.
func (c *Control) PutSnapshot(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, s NewSnapshot) error {
	if p := workspace.CheckName("snapshot", name); p != nil {
		return p
	}
	if s.Root == nil {
		return invalid("InvalidSnapshot", "DirTreeNode", "the snapshot has no tree", "", "send the tree of the project's folder")
	}
	if err := c.room(); err != nil {
		return err
	}
	_, err := c.Store.Document(ctx, ws.ID, snapshotCollection, name, "")
	if err == nil || !errors.Is(err, store.ErrNotFound) {
		return err
	}
	parent, err := c.snapshot(ctx, ws, s.Parent)
	if err != nil {
		return err
	}
	files, err := c.uploaded(ctx, s.Files)
	if err != nil {
		return err
	}
	m := merging{cas: c.CAS, uploads: files}
	root, err := m.folder(ctx, s.Root, "", parent.Root, parent.Snapshot)
	if err != nil {
		return err
	}
	body, err := json.Marshal(keptSnapshot{root, s.Root})
	if err != nil {
		return fmt.Errorf("control: snapshot %s: %w", name, err)
	}
	now := c.Clock.Millis()
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.PutDocument(ctx, store.Document{
			WorkspaceID: ws.ID, Collection: snapshotCollection, Name: name, Body: body, Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name,
		})
		return err
	})
	if err == nil && len(s.Files) > 0 {
		container, _, _ := strings.Cut(s.Files[0].Blob, "/") // all were asked for at once
		c.dropContainer(context.WithoutCancel(ctx), container)
	}
	return err
}

// LatestSnapshot gives the tree of the snapshot that was put last, for a client that has forgotten what it sent.
func (c *Control) LatestSnapshot(ctx context.Context, ws workspace.Workspace) (name string, root *SnapshotNode, err error) {
	docs, err := c.Store.Documents(ctx, ws.ID, snapshotCollection, "", store.Page{Limit: 1})
	if err != nil || len(docs) == 0 {
		return NoSnapshot, EmptySnapshot(), err
	}
	kept, err := readSnapshot(docs[0])
	if err != nil {
		return "", nil, err
	}
	if missing, err := c.CAS.Complete(ctx, kept.Snapshot); err != nil || len(missing) > 0 {
		return NoSnapshot, EmptySnapshot(), err
	}
	return docs[0].Name, kept.Root, nil
}

// SnapshotExists refuses a name that stands for no snapshot.
func (c *Control) SnapshotExists(ctx context.Context, ws workspace.Workspace, name string) error {
	_, err := c.snapshot(ctx, ws, name)
	return err
}

// ZipSnapshot writes a snapshot as a zip file.
func (c *Control) ZipSnapshot(ctx context.Context, ws workspace.Workspace, name string, w io.Writer) error {
	kept, err := c.snapshot(ctx, ws, name)
	if err != nil {
		return err
	}
	z := zip.NewWriter(w)
	if kept.Snapshot != "" {
		if err := c.zipFolder(ctx, z, kept.Snapshot, ""); err != nil {
			return err
		}
	}
	return z.Close()
}

func (c *Control) zipFolder(ctx context.Context, z *zip.Writer, root snapshot.Hash, at string) error {
	tree, err := c.CAS.Tree(ctx, root)
	if err != nil {
		return err
	}
	for _, e := range tree {
		name := path.Join(at, e.Name)
		switch e.Kind {
		case snapshot.Folder:
			err = c.zipFolder(ctx, z, e.Hash, name)
		case snapshot.File:
			err = c.zipFile(ctx, z, e, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Control) zipFile(ctx context.Context, z *zip.Writer, e snapshot.Entry, name string) error {
	r, _, err := c.CAS.Open(ctx, e.Hash)
	if err != nil {
		return err
	}
	defer r.Close()
	header := &zip.FileHeader{Name: name, Method: zip.Deflate}
	mode := fs.FileMode(0o644)
	if e.Exec {
		mode = 0o755
	}
	header.SetMode(mode)
	w, err := z.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return err
}

// snapshot gives what a name stands for. An unknown one is refused in words that tell where the client remembers it.
func (c *Control) snapshot(ctx context.Context, ws workspace.Workspace, name string) (keptSnapshot, error) {
	if name == "" || name == NoSnapshot {
		return keptSnapshot{}, nil
	}
	doc, err := c.Store.Document(ctx, ws.ID, snapshotCollection, name, "")
	if errors.Is(err, store.ErrNotFound) {
		return keptSnapshot{}, unknownSnapshot(ws, name)
	}
	if err != nil {
		return keptSnapshot{}, err
	}
	kept, err := readSnapshot(doc)
	if err != nil {
		return kept, err
	}
	missing, err := c.CAS.Complete(ctx, kept.Snapshot)
	if err == nil && len(missing) > 0 {
		err = unknownSnapshot(ws, name)
	}
	return kept, err
}

func readSnapshot(doc store.Document) (kept keptSnapshot, err error) {
	if err := json.Unmarshal(doc.Body, &kept); err != nil {
		return kept, fmt.Errorf("control: snapshot %s: %w", doc.Name, err)
	}
	return kept, nil
}

// unknownSnapshot is of class Invalid, for azureml-core takes an answer of 404 for something else (azureml-v1.md §1.5).
func unknownSnapshot(ws workspace.Workspace, name string) error {
	sum := sha256.Sum256([]byte(ws.ID))
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "SnapshotNotFound", Target: name,
		Message: "snapshot " + quote(name) + " is not on this server",
		Cause:   "the client remembers one that it sent to another server, or before this one was set up anew",
		Mend:    "remove ~/.azureml/.projectcontent/" + hex.EncodeToString(sum[:]) + "/latestsnapshot and submit again",
	}
}

// uploaded makes objects of uploaded files, by their paths in the snapshot.
func (c *Control) uploaded(ctx context.Context, files []SnapshotFile) (map[string]snapshot.Entry, error) {
	entries := make(map[string]snapshot.Entry, len(files))
	var mu sync.Mutex
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, f := range files {
		group.Go(func() error {
			entry, err := c.uploadedFile(inner, f)
			mu.Lock()
			defer mu.Unlock()
			entries[f.Name] = entry
			if strings.ContainsRune(f.Name, '\\') { // written by a client on Windows
				entries[strings.ReplaceAll(f.Name, `\`, "/")] = entry
			}
			return err
		})
	}
	return entries, group.Wait()
}

func (c *Control) uploadedFile(ctx context.Context, f SnapshotFile) (snapshot.Entry, error) {
	if container, _, _ := strings.Cut(f.Blob, "/"); !uploadContainer.MatchString(container) {
		return snapshot.Entry{}, invalid("InvalidSnapshot", "FileRevisionList", "file "+quote(f.Name)+" lies where this server did not tell the client to upload", "", "let the client upload it anew")
	}
	info, err := c.Blob.Stat(ctx, "c/"+f.Blob)
	if errors.Is(err, fs.ErrNotExist) || err == nil && f.Size >= 0 && info.Size != f.Size {
		return snapshot.Entry{}, invalid("IncompleteSnapshot", "FileRevisionList", "file "+quote(f.Name)+" was not uploaded whole", "", "submit again")
	}
	if err != nil {
		return snapshot.Entry{}, err
	}
	hash, err := c.CAS.Import(ctx, info)
	return snapshot.Entry{Kind: snapshot.File, Size: info.Size, Hash: hash}, err
}

// merging makes a tree of ours from a client's, whose files were uploaded or are in the parent.
type merging struct {
	cas     *blob.CAS
	uploads map[string]snapshot.Entry
}

// maxSnapshotDepth is how deep folders may be nested.
const maxSnapshotDepth = 100

// folder puts a folder and gives its hash. had and root are the same folder of the parent, where it has one.
func (m merging) folder(ctx context.Context, node *SnapshotNode, at string, had *SnapshotNode, root snapshot.Hash) (snapshot.Hash, error) {
	if strings.Count(at, "/") > maxSnapshotDepth {
		return "", invalid("InvalidSnapshot", "DirTreeNode", "folder "+quote(at)+" is nested too deep", "", "submit a flatter folder")
	}
	before := map[string]snapshot.Entry{}
	if root != "" {
		tree, err := m.cas.Tree(ctx, root)
		if err != nil {
			return "", err
		}
		for _, e := range tree {
			before[e.Name] = e
		}
	}
	var tree snapshot.Tree
	for name, child := range node.Children {
		if child == nil {
			return "", invalid("InvalidSnapshot", "DirTreeNode", "the tree has nothing under the name "+quote(path.Join(at, name)), "", "send what the file or folder is")
		}
		var was *SnapshotNode
		if had != nil {
			was = had.Children[name]
		}
		entry, err := m.entry(ctx, child, path.Join(at, name), was, before[name])
		if err != nil {
			return "", err
		}
		entry.Name = name
		tree = append(tree, entry)
	}
	if _, err := snapshot.Decode(tree.Encode()); err != nil {
		return "", invalid("InvalidSnapshot", "DirTreeNode", "the snapshot holds a name that no file can have", err.Error(), "rename the file")
	}
	return m.cas.PutTree(ctx, tree)
}

func (m merging) entry(ctx context.Context, node *SnapshotNode, at string, was *SnapshotNode, before snapshot.Entry) (snapshot.Entry, error) {
	if node.Type == "Directory" {
		if before.Kind != snapshot.Folder {
			was, before = nil, snapshot.Entry{}
		}
		hash, err := m.folder(ctx, node, at, was, before.Hash)
		return snapshot.Entry{Kind: snapshot.Folder, Hash: hash}, err
	}
	if entry, sent := m.uploads[at]; sent {
		return entry, nil
	}
	if was == nil || was.Hash != node.Hash || before.Kind != snapshot.File {
		return snapshot.Entry{}, invalid("IncompleteSnapshot", "FileRevisionList", "file "+quote(at)+" was not sent, and is not the one that the parent snapshot has", "", "submit again")
	}
	return before, nil
}
