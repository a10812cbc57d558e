// Package kubeconfig reads the files by which kubectl knows clusters, and cuts one down to what a single context needs, so
// that no more than that leaves a person's machine or is kept. It speaks to no cluster, and opens files only by a function
// that its caller gives. The command line, control and the catalogue call it.
package kubeconfig

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"sigs.k8s.io/yaml" // kubectl's own: what it takes for one value is none other here

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Scheme begins the address of a cluster that a context of a kubeconfig names: "kubeconfig://CONTEXT".
const Scheme = "kubeconfig://"

// most is how large a kubeconfig may be, in bytes.
const most = 1 << 20

// Address is the address of a context.
func Address(context string) string { return Scheme + url.PathEscape(context) }

// ContextOf is the context that an address names; "" is the file's current one. Names hold any character, and may stand
// in an address as they are or escaped: an EKS cluster's is "arn:aws:eks:…:cluster/NAME". False for another kind of address.
func ContextOf(address string) (context string, ok bool) {
	rest, ok := strings.CutPrefix(address, Scheme)
	if !ok {
		return "", false
	}
	if plain, err := url.PathUnescape(rest); err == nil {
		rest = plain
	}
	return rest, true
}

// File is a kubeconfig that was read.
type File struct {
	Current  string // the current context's name; may be empty
	contexts map[string]contextEntry
	clusters map[string]map[string]any
	users    map[string]map[string]any
}

type contextEntry struct {
	Cluster   string `json:"cluster"`
	User      string `json:"user"`
	Namespace string `json:"namespace"`
}

// Read reads the text of a kubeconfig: YAML or JSON. What is wrong with it is a Problem that quotes nothing of it.
func Read(text []byte) (*File, error) {
	if len(text) > most {
		return nil, problem("the kubeconfig is too large", fmt.Sprintf("it has %d bytes", len(text)), "kubectl config view --raw --minify --flatten shows what one context needs")
	}
	var doc struct {
		Current  string `json:"current-context"`
		Contexts []struct {
			Name    string       `json:"name"`
			Context contextEntry `json:"context"`
		} `json:"contexts"`
		Clusters []struct {
			Name    string         `json:"name"`
			Cluster map[string]any `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			Name string         `json:"name"`
			User map[string]any `json:"user"`
		} `json:"users"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, problem("the kubeconfig cannot be read", "it is not YAML of that form", "kubectl config view --kubeconfig FILE tells what is wrong") // err quotes the text
	}
	f := &File{Current: doc.Current, contexts: map[string]contextEntry{}, clusters: map[string]map[string]any{}, users: map[string]map[string]any{}}
	for _, c := range doc.Contexts {
		if _, there := f.contexts[c.Name]; !there { // as kubectl does, the first counts
			f.contexts[c.Name] = c.Context
		}
	}
	for _, c := range doc.Clusters {
		if f.clusters[c.Name] == nil {
			f.clusters[c.Name] = c.Cluster
		}
	}
	for _, u := range doc.Users {
		if f.users[u.Name] == nil {
			f.users[u.Name] = u.User
		}
	}
	return f, nil
}

// Minimal is a kubeconfig of one context, with its cluster and user and no reference to any file. Its text is a secret.
type Minimal struct {
	Context   string
	Server    string // of its cluster
	Namespace string // that the context names; may be empty
	Text      workspace.Secret
}

// Minimise cuts the file down to a context; "" is the current one. Files that it refers to are read by read and taken in;
// read nil refuses them. A user who gets its token from a program is refused: such a program would have to run wherever
// the kubeconfig is used.
func (f *File) Minimise(context string, read func(path string) ([]byte, error)) (Minimal, error) {
	if context == "" {
		context = f.Current
	}
	entry, known := f.contexts[context]
	if !known {
		return Minimal{}, f.noContext(context)
	}
	cluster, user := maps.Clone(f.clusters[entry.Cluster]), maps.Clone(f.users[entry.User])
	server, _ := cluster["server"].(string)
	if server == "" {
		return Minimal{}, problem(fmt.Sprintf("context %q of the kubeconfig leads to no server", clip(context)), fmt.Sprintf("there is no cluster %q with a server in it", clip(entry.Cluster)), "kubectl --context "+context+" cluster-info tells whether the file works")
	}
	if program := f.Program(context); program != "" {
		return Minimal{}, NeedsProgram(context, program)
	}
	for field, data := range inlined {
		for _, part := range []map[string]any{cluster, user} {
			if err := takeIn(part, field, data, read); err != nil {
				return Minimal{}, err
			}
		}
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": context,
		"contexts": []any{map[string]any{"name": context, "context": named(entry)}},
		"clusters": []any{map[string]any{"name": entry.Cluster, "cluster": only(cluster, clusterFields)}},
		"users":    []any{map[string]any{"name": entry.User, "user": only(user, userFields)}},
	})
	if err != nil {
		return Minimal{}, problem("the kubeconfig cannot be written", "it holds values that JSON does not have", "look at its cluster and user")
	}
	return Minimal{Context: context, Server: server, Namespace: entry.Namespace, Text: workspace.NewSecret(string(text))}, nil
}

// Program is what the user of a context runs for a token; "" for nothing.
func (f *File) Program(context string) string {
	if context == "" {
		context = f.Current
	}
	user := f.users[f.contexts[context].User]
	if exec, ok := user["exec"].(map[string]any); ok {
		command, _ := exec["command"].(string)
		return cmp.Or(command, "a program")
	}
	if provider, ok := user["auth-provider"].(map[string]any); ok {
		name, _ := provider["name"].(string)
		return "the auth provider " + cmp.Or(name, "of kubectl")
	}
	return ""
}

// NeedsProgram says that a context cannot be used away from where its program is.
func NeedsProgram(context, program string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "KubeconfigNeedsProgram", Target: "kubeconfig",
		Message: fmt.Sprintf("the user of context %q gets its token from a program, and the server runs no program that a kubeconfig brings along", clip(context)),
		Cause:   "it runs " + clip(program),
		Mend: "give a kubeconfig whose user has a certificate or a token (kubectl create token SERVICEACCOUNT), or put this one into the KUBECONFIG of the server, where that program is installed, " +
			"and attach by --address " + Address(context) + " alone",
	}
}

// inlined are the fields that name files, and those that hold the files' content.
var inlined = map[string]string{
	"certificate-authority": "certificate-authority-data", "client-certificate": "client-certificate-data", "client-key": "client-key-data", "tokenFile": "token",
}

// clusterFields and userFields are what is kept: all that says how a cluster is reached and who asks.
var (
	clusterFields = []string{"server", "certificate-authority-data", "insecure-skip-tls-verify", "tls-server-name", "proxy-url", "disable-compression"}
	userFields    = []string{"client-certificate-data", "client-key-data", "token", "username", "password", "as", "as-uid", "as-groups", "as-user-extra"}
)

// noContext says which contexts there are.
func (f *File) noContext(context string) *workspace.Problem {
	names := slices.Sorted(maps.Keys(f.contexts))
	if context == "" {
		return problem("the kubeconfig has no current context", "", "name one: --address "+Scheme+"CONTEXT; there are "+some(names))
	}
	return problem(fmt.Sprintf("the kubeconfig has no context %q", clip(context)), "", "name one of those there are: "+some(names))
}

func some(names []string) string {
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > 8:
		return strings.Join(names[:8], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

func named(c contextEntry) map[string]any {
	out := map[string]any{"cluster": c.Cluster, "user": c.User}
	if c.Namespace != "" {
		out["namespace"] = c.Namespace
	}
	return out
}

func only(all map[string]any, fields []string) map[string]any {
	out := map[string]any{}
	for _, name := range fields {
		if v, has := all[name]; has {
			out[name] = v
		}
	}
	return out
}

func problem(message, cause, mend string) *workspace.Problem {
	return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidKubeconfig", Target: "kubeconfig", Message: message, Cause: cause, Mend: mend}
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
