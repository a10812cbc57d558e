package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// inputSet is what an input reads: the ids of its dataset, and where its files are.
type inputSet struct {
	saved, dataset, version string
	paths                   []DataPath
}

// place is a blob, or the blobs below a folder of the blob store whose names below it match.
type place struct {
	root  string
	match *regexp.Regexp // nil: all
}

// inputSet finds what an input names: a dataset by the id of its definition or by name and version, or an address alone.
func (c *Control) inputSet(ctx context.Context, ws workspace.Workspace, field string, in runInput) (set inputSet, err error) {
	l := in.DataLocation
	var d Definition
	switch {
	case l.Dataset != nil && l.Dataset.Name != "":
		registered, err := c.Dataset(ctx, ws, l.Dataset.Name, string(l.Dataset.Version))
		if err != nil && l.Dataset.ID == "" {
			return set, err
		}
		d, set.dataset = registered.Definition, registered.ID
		if err == nil {
			set.version = strconv.Itoa(registered.Version)
		}
		if l.Dataset.ID != "" && l.Dataset.ID != d.ID { // the id says what the client saw
			d, err = c.Definition(ctx, ws, l.Dataset.ID)
		}
		if err != nil {
			return set, err
		}
	case l.Dataset != nil && l.Dataset.ID != "":
		if d, err = c.Definition(ctx, ws, l.Dataset.ID); err != nil {
			return set, err
		}
	case l.DataPath != nil && l.DataPath.DatastoreName != "":
		set.paths = []DataPath{{"folder", pathURI(ws, l.DataPath.DatastoreName, strings.TrimPrefix(l.DataPath.RelativePath, "/"))}}
		return set, nil
	case l.URI != nil && l.URI.Path != "":
		set.paths = []DataPath{{"folder", l.URI.Path}}
		return set, nil
	default:
		return set, invalid("InvalidData", field, "the input names no dataset", "", "give it one, e.g. Dataset.File.from_files(…).as_named_input(…)")
	}
	set.saved = d.ID
	if !strings.EqualFold(in.Mechanism, "direct") { // the script reads the definition itself
		set.paths, err = d.Paths()
	}
	return set, err
}

// places are where the files of an input lie in the blob store.
func (c *Control) places(ctx context.Context, ws workspace.Workspace, field string, paths []DataPath) ([]place, error) {
	var places []place
	for _, p := range paths {
		m := datastoreURI.FindStringSubmatch(p.URI)
		if m == nil {
			return nil, &workspace.Problem{
				Class: workspace.Unsupported, Code: "UnsupportedPath", Target: field,
				Message: "the dataset has the path " + quote(p.URI) + ", from which this server does not fetch", Mend: "upload the files to a datastore, and make the dataset of those",
			}
		}
		at := m[2]
		if plain, err := url.PathUnescape(at); err == nil {
			at = plain
		}
		folder, match := pattern(at)
		root, err := c.datastorePath(ctx, ws, m[1], folder)
		if err != nil {
			return nil, err
		}
		places = append(places, place{root, match})
	}
	return places, nil
}

// pattern splits a path with wildcards into the folder before the first and an expression for the names below it; nil for a
// path without any, and for all that is below a folder.
func pattern(at string) (folder string, match *regexp.Regexp) {
	star := strings.IndexAny(at, "*?[")
	if star < 0 {
		return at, nil
	}
	cut := strings.LastIndexByte(at[:star], '/') + 1
	folder, rest := at[:cut], at[cut:]
	if rest == "**" || rest == "**/*" {
		return folder, nil
	}
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		switch {
		case strings.HasPrefix(rest[i:], "**/"):
			b.WriteString("(?:.*/)?")
			i += 2
		case strings.HasPrefix(rest[i:], "**"):
			b.WriteString(".*")
			i++
		case rest[i] == '*':
			b.WriteString("[^/]*")
		case rest[i] == '?':
			b.WriteString("[^/]")
		default:
			b.WriteString(regexp.QuoteMeta(rest[i : i+1]))
		}
	}
	match, err := regexp.Compile("^(?s:" + b.String() + ")$")
	if err != nil { // bytes that are no text match nothing
		match = regexp.MustCompile(`[^\s\S]`)
	}
	return folder, match
}

// onlyFile is the name of the file when the only place is one blob: the value is then its path, and else the folder's
// (azureml-v1.md §21.3).
func (c *Control) onlyFile(ctx context.Context, places []place) (string, error) {
	if len(places) != 1 || places[0].match != nil {
		return "", nil
	}
	_, err := c.Blob.Stat(ctx, places[0].root)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return path.Base(places[0].root), err
}

// blobsOf lists the blobs of a place by their names below it.
func (c *Control) blobsOf(ctx context.Context, p place) (map[string]blob.Info, error) {
	files, err := c.blobsBelow(ctx, p.root)
	if p.match != nil {
		maps.DeleteFunc(files, func(name string, _ blob.Info) bool { return !p.match.MatchString(name) })
	}
	return files, err
}

// gather makes one snapshot of the blobs of several places.
func (c *Control) gather(ctx context.Context, name string, places []place) (snapshot.Hash, error) {
	all := map[string]blob.Info{}
	var looked []string
	for _, p := range places {
		files, err := c.blobsOf(ctx, p)
		if err != nil {
			return "", err
		}
		maps.Copy(all, files)
		looked = append(looked, strings.TrimPrefix(p.root, "c/"))
	}
	if len(all) == 0 {
		return "", invalid("MissingInput", "data."+name, fmt.Sprintf("input %q has no data", name), "nothing that fits is stored at "+strings.Join(looked, ", "), "upload it first, or correct the path")
	}
	return c.snapshotFiles(ctx, all)
}
