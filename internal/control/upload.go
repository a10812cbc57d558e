package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// NewUpload gives the name of a container for one upload of code: new every time, so that two uploads never meet.
func (c *Control) NewUpload() string { return "code-" + strings.ToLower(c.Clock.NewID()) }

var uploadContainer = regexp.MustCompile(`^code-[0-9a-z]{26}$`)

// code is our view of the properties of a code version.
type code struct {
	Properties struct {
		CodeURI    string         `json:"codeUri"`
		Properties map[string]any `json:"properties"`
	} `json:"properties"`
}

// takeCode makes a snapshot of the files that a code version's codeUri names, and notes it and the client's hash in
// the document.
func (c *Control) takeCode(ctx context.Context, ws workspace.Workspace, doc *store.Document) error {
	var view code
	if err := json.Unmarshal(doc.Body, &view); err != nil {
		return invalid("InvalidCode", "properties", "the code's properties cannot be read", err.Error(), "send codeUri and properties as text")
	}
	prefix, err := c.uploadPrefix(ctx, ws, view.Properties.CodeURI)
	if err != nil {
		return err
	}
	root, err := c.snapshotBlobs(ctx, prefix)
	if err != nil {
		return err
	}
	body := map[string]json.RawMessage{}
	if err := json.Unmarshal(doc.Body, &body); err != nil {
		return invalid("InvalidCode", "properties", "the code's document is not an object", err.Error(), "send an object")
	}
	body[snapshotField], _ = json.Marshal(root) // strings always encode
	if doc.Body, err = json.Marshal(body); err != nil {
		return fmt.Errorf("control: code %s: %w", doc.Name, err)
	}
	doc.Hash, _ = view.Properties.Properties["hash_sha256"].(string) // without it the code is not found again
	return nil
}

// uploadPrefix is where the files of a codeUri lie: a container of NewUpload, or a datastore of the workspace.
func (c *Control) uploadPrefix(ctx context.Context, ws workspace.Workspace, uri string) (string, error) {
	if m := datastoreURI.FindStringSubmatch(uri); m != nil {
		return c.datastorePath(ctx, ws, m[1], m[2])
	}
	u, err := url.Parse(uri)
	if err == nil {
		if _, rest, ok := strings.Cut(u.Path, "/blob/"); ok {
			_, rest, _ = strings.Cut(rest, "/") // the account, which counts for nothing
			container, folder, _ := strings.Cut(rest, "/")
			own, err1 := Container(ws.ID, DefaultDatastore)
			artifacts, err2 := Container(ws.ID, ArtifactDatastore)
			if errors.Join(err1, err2) == nil && (uploadContainer.MatchString(container) || container == own || container == artifacts) {
				return strings.TrimSuffix("c/"+container+path.Clean("/"+folder), "/"), nil
			}
		}
	}
	return "", invalid("InvalidCode", "codeUri", quote(uri)+" is not where this server told the client to upload", "", "let the client upload the folder anew")
}

// snapshotBlobs makes a snapshot of a blob, or of all below it. Files that are executable are not known as such: blobs
// have no modes.
func (c *Control) snapshotBlobs(ctx context.Context, prefix string) (snapshot.Hash, error) {
	files, err := c.blobsBelow(ctx, prefix)
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", invalid("EmptyCode", "codeUri", "nothing was uploaded as code", "", "give a folder that holds a file, and look at its .amlignore")
	}
	return c.snapshotFiles(ctx, files)
}

// snapshotFiles makes a snapshot of blobs, by their paths in it.
func (c *Control) snapshotFiles(ctx context.Context, files map[string]blob.Info) (snapshot.Hash, error) {
	root := &folder{}
	var mu sync.Mutex
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for name, info := range files {
		group.Go(func() error {
			hash, err := c.CAS.Import(inner, info)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			return root.add(strings.Split(name, "/"), snapshot.Entry{Kind: snapshot.File, Size: info.Size, Hash: hash})
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	return root.put(ctx, c.CAS)
}

// blobsBelow lists by relative name. A single blob goes by its own base name.
func (c *Control) blobsBelow(ctx context.Context, prefix string) (map[string]blob.Info, error) {
	files := map[string]blob.Info{}
	info, err := c.Blob.Stat(ctx, prefix)
	if err == nil {
		files[path.Base(prefix)] = info
		return files, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	after := ""
	for {
		page, err := c.Blob.List(ctx, prefix+"/", "", after, 1000)
		if err != nil {
			return nil, err
		}
		for _, b := range page.Blobs {
			files[strings.TrimPrefix(b.Name, prefix+"/")] = b
		}
		if page.Next == "" {
			return files, nil
		}
		after = page.Next
	}
}

// dropUpload removes the files of an upload that became a snapshot. What cannot be removed is left: it is only bytes.
func (c *Control) dropUpload(ctx context.Context, body json.RawMessage) {
	var view code
	if json.Unmarshal(body, &view) != nil {
		return
	}
	u, err := url.Parse(view.Properties.CodeURI)
	if err != nil {
		return
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if uploadContainer.MatchString(segment) {
			c.dropContainer(ctx, segment)
			return
		}
	}
}

// dropContainer removes the files of a container of NewUpload.
func (c *Control) dropContainer(ctx context.Context, container string) {
	files, err := c.blobsBelow(ctx, "c/"+container)
	if err == nil {
		for _, b := range files {
			err = errors.Join(err, c.Blob.Delete(ctx, b.Name))
		}
	}
	if err != nil {
		c.Log.Warn("an upload could not be removed", "container", container, "error", err)
	}
}

// folder is a tree in the making.
type folder struct {
	files   []snapshot.Entry
	folders map[string]*folder
}

func (f *folder) add(names []string, e snapshot.Entry) error {
	if len(names) == 1 {
		e.Name = names[0]
		if f.folders[e.Name] != nil {
			return clash(e.Name)
		}
		f.files = append(f.files, e)
		return nil
	}
	for _, file := range f.files {
		if file.Name == names[0] {
			return clash(file.Name)
		}
	}
	if f.folders == nil {
		f.folders = map[string]*folder{}
	}
	if f.folders[names[0]] == nil {
		f.folders[names[0]] = &folder{}
	}
	return f.folders[names[0]].add(names[1:], e)
}

func clash(name string) error {
	return invalid("InvalidCode", "codeUri", "the upload has "+quote(name)+" both as a file and as a folder", "", "upload into an empty folder")
}

// put stores the tree and what is below it, and gives its hash.
func (f *folder) put(ctx context.Context, cas *blob.CAS) (snapshot.Hash, error) {
	tree := snapshot.Tree(f.files)
	for name, sub := range f.folders {
		hash, err := sub.put(ctx, cas)
		if err != nil {
			return "", err
		}
		tree = append(tree, snapshot.Entry{Name: name, Kind: snapshot.Folder, Hash: hash})
	}
	if _, err := snapshot.Decode(tree.Encode()); err != nil {
		return "", &workspace.Problem{Class: workspace.Invalid, Code: "InvalidCode", Target: "codeUri", Message: "the upload holds a name that no folder can have", Cause: err.Error(), Mend: "rename the file"}
	}
	return cas.PutTree(ctx, tree)
}

// DatastoreURI is the long azureml:// form of a place in one of the server's own datastores of the workspace, else "".
func DatastoreURI(ws workspace.Workspace, place string) string {
	for _, name := range builtIn {
		container, err := Container(ws.ID, name)
		if err != nil {
			continue
		}
		if rest, ok := strings.CutPrefix(place, "c/"+container+"/"); ok {
			return pathURI(ws, name, rest)
		}
	}
	return ""
}
