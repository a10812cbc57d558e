package registry

import (
	"context"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// maxName is the longest name of a repository in bytes, the workspace's part included; clients allow 255 with the host.
const maxName = 230

// Find gives the repository that a name means: WORKSPACE/NAME, where NAME may have slashes. The workspace is named by
// its name in small letters, when that is the only one of its kind, or by its id. Problems are NameInvalid and
// NameUnknown; that the repository holds nothing yet is none.
func (g *Registry) Find(ctx context.Context, name string) (store.Repository, error) {
	first, rest, _ := strings.Cut(name, "/")
	if len(name) > maxName || !isName(first) || !isName(rest) {
		return store.Repository{}, &workspace.Problem{
			Class: workspace.Invalid, Code: "NameInvalid", Target: "name", Message: fmt.Sprintf("%.300q cannot be the name of a repository", name),
			Mend: "use WORKSPACE/NAME of small letters, digits and single '.', '_' or '-' between them",
		}
	}
	all, err := g.cfg.Store.Workspaces(ctx)
	if err != nil {
		return store.Repository{}, err
	}
	for _, ws := range all {
		if first == ws.ID || first == Prefix(ws, all) {
			return store.Repository{WorkspaceID: ws.ID, Name: rest}, nil
		}
	}
	p := &workspace.Problem{
		Class: workspace.NotFound, Code: "NameUnknown", Target: "name", Message: fmt.Sprintf("the first part of %.300q is not a workspace of this server", name),
		Mend: "name repositories WORKSPACE/NAME; moorage registry login prints the first part",
	}
	for _, ws := range all {
		if strings.EqualFold(first, ws.Name) {
			p.Cause = "several workspaces have a name that is " + first + " in small letters"
		}
	}
	return store.Repository{}, p
}

// Prefix is the first part of the names of a workspace's repositories: its own name in small letters, unless another of
// all has the same or it cannot be part of an image's name; then its id.
func Prefix(ws workspace.Workspace, all []workspace.Workspace) string {
	short := strings.ToLower(ws.Name)
	if !isPart(short) {
		return ws.ID
	}
	for _, other := range all {
		if other.ID != ws.ID && strings.EqualFold(other.Name, ws.Name) {
			return ws.ID
		}
	}
	return short
}

// isName tells whether text is one or more parts with slashes between them.
func isName(text string) bool {
	for part := range strings.SplitSeq(text, "/") {
		if !isPart(part) {
			return false
		}
	}
	return true
}

// isPart is the specification's rule: small letters and digits, with one '.', one or two '_', or any number of '-'
// between them.
func isPart(text string) bool {
	between := ""
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			if between != "" && between != "." && between != "_" && between != "__" && strings.Trim(between, "-") != "" {
				return false
			}
			between = ""
		case i > 0 && (c == '.' || c == '_' || c == '-'):
			between += string(c)
		default:
			return false
		}
	}
	return text != "" && between == ""
}

// IsTag tells whether a manifest may have a tag: 1 to 128 letters, digits, '_', '.' and '-', neither of the latter two first.
func IsTag(text string) bool {
	if text == "" || len(text) > 128 || text[0] == '.' || text[0] == '-' {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// PrefixOf is Prefix among all workspaces that there are.
func (g *Registry) PrefixOf(ctx context.Context, ws workspace.Workspace) (string, error) {
	all, err := g.cfg.Store.Workspaces(ctx)
	return Prefix(ws, all), err
}
