package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// connection is how the commands that talk to a server are told which. A flag wins over the environment, which
// `moorage env` sets; --data takes all from the data folder of a server on this machine.
type connection struct {
	data, url, ca, tokenFile       string
	subscription, group, workspace string

	clock clock.Source
}

func (n *connection) register(f *pflag.FlagSet) {
	f.StringVar(&n.data, "data", "", "data folder of a server on this machine, instead of the environment")
	f.StringVar(&n.url, "url", "", "address of the server (MOORAGE_URL)")
	f.StringVar(&n.ca, "ca", "", "file with the server's certificate authority (MOORAGE_CA)")
	f.StringVar(&n.tokenFile, "token-file", "", "file with the token (MOORAGE_TOKEN_FILE)")
	f.StringVar(&n.subscription, "subscription", "", "subscription id (MOORAGE_SUBSCRIPTION)")
	f.StringVarP(&n.group, "resource-group", "g", "", "resource group (MOORAGE_RESOURCE_GROUP)")
	f.StringVarP(&n.workspace, "workspace-name", "w", "", "workspace (MOORAGE_WORKSPACE)")
}

// server is what a data folder says in public about its server.
type server struct {
	URL           string `json:"url"`
	Subscription  string `json:"subscription"`
	ResourceGroup string `json:"resource_group"`
	Workspace     string `json:"workspace"`
	BlobHost      string `json:"blob_host"`
}

// Files of a data folder that the command line reads.
func serverFile(data string) string { return filepath.Join(data, "server.json") }
func caFile(data string) string     { return filepath.Join(data, "ca.pem") }
func secretFile(data string) string { return filepath.Join(data, "keys", "admin.secret") }
func bundleFile(data string) string { return filepath.Join(data, "ca-bundle.pem") }

func readServer(data string) (server, error) {
	var s server
	text, err := os.ReadFile(serverFile(data))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		p := &workspace.Problem{
			Class: workspace.Invalid, Code: "NoServer", Target: data, Message: "no server has been started with the data folder " + data, Cause: short(err),
			Mend: "moorage serve --data " + data,
		}
		if errors.Is(err, os.ErrNotExist) {
			p.Cause = serverFile(data) + " is not there"
		}
		return s, p
	}
	return s, nil
}

// short is an error without the path that the message names.
func short(err error) string {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

func readSecret(path string) (workspace.Secret, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return workspace.Secret{}, &workspace.Problem{
			Class: workspace.Denied, Code: "TokenNotReadable", Target: path, Message: "the token file " + path + " cannot be read", Cause: short(err),
			Mend: "only the user who runs the server may read it; ask that person for a token",
		}
	}
	return workspace.NewSecret(strings.TrimSpace(string(text))), nil
}

// open makes the client. It does no network I/O.
func (n *connection) open() (*client.Client, error) {
	s := server{
		URL: cmp.Or(n.url, os.Getenv("MOORAGE_URL")), Subscription: os.Getenv("MOORAGE_SUBSCRIPTION"),
		ResourceGroup: os.Getenv("MOORAGE_RESOURCE_GROUP"), Workspace: os.Getenv("MOORAGE_WORKSPACE"),
	}
	ca, tokenFile := cmp.Or(n.ca, os.Getenv("MOORAGE_CA")), cmp.Or(n.tokenFile, os.Getenv("MOORAGE_TOKEN_FILE"))
	token := workspace.NewSecret(os.Getenv("MOORAGE_TOKEN"))
	if n.data != "" {
		var err error
		if s, err = readServer(n.data); err != nil {
			return nil, err
		}
		s.URL = cmp.Or(n.url, s.URL)
		ca, tokenFile = cmp.Or(n.ca, caFile(n.data)), cmp.Or(n.tokenFile, secretFile(n.data))
	}
	if s.URL == "" {
		return nil, &workspace.Problem{
			Class: workspace.Invalid, Code: "NoServer", Message: "no server is named",
			Mend: `eval "$(moorage env --data DIR)", or use --data DIR; moorage serve --data DIR starts one`,
		}
	}
	if tokenFile != "" {
		var err error
		if token, err = readSecret(tokenFile); err != nil {
			return nil, err
		}
	}
	w := workspace.Workspace{
		Subscription: cmp.Or(n.subscription, s.Subscription), ResourceGroup: cmp.Or(n.group, s.ResourceGroup), Name: cmp.Or(n.workspace, s.Workspace),
	}
	for what, value := range map[string]string{"--subscription": w.Subscription, "--resource-group": w.ResourceGroup, "--workspace-name": w.Name} {
		if value == "" {
			return nil, &workspace.Problem{
				Class: workspace.Invalid, Code: "NoWorkspace", Target: what, Message: "no workspace is named: " + what + " is missing",
				Mend: `eval "$(moorage env --data DIR)", or give --subscription, -g and -w`,
			}
		}
	}
	return client.New(client.Config{URL: s.URL, CA: ca, Token: token, Workspace: w})
}

// format is the value of --output.
type format struct{ value string }

func (f *format) register(set *pflag.FlagSet) {
	f.value = "table"
	set.VarP(f, "output", "o", "table, json or yaml")
}

// String, Set and Type make it a flag that refuses other values.
func (f *format) String() string { return f.value }

// Type names the flag's values in help.
func (f *format) Type() string { return "format" }

// Set takes one of the formats.
func (f *format) Set(s string) error {
	if slices.Contains(show.Formats(), s) {
		f.value = s
		return nil
	}
	return fmt.Errorf("must be one of %s", strings.Join(show.Formats(), ", "))
}

// print writes v as JSON or YAML, or calls table.
func (f *format) print(cmd *cobra.Command, v any, table func() error) error {
	switch f.value {
	case "json":
		return show.JSON(cmd.OutOrStdout(), v)
	case "yaml":
		return show.YAML(cmd.OutOrStdout(), v)
	}
	return table()
}
