package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/show"
)

func newKind() *cobra.Command {
	cmd := group("kind", "See which kinds of compute can be attached", "The kinds of compute that the server can attach, with their settings and limits.")
	n := &connection{}
	n.register(cmd.PersistentFlags())
	cmd.AddCommand(newKindList(n))
	return cmd
}

func newKindList(n *connection) *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use: "list", Short: "List the kinds with their settings and limits", Args: cobra.NoArgs,
		Example: `  moorage kind list
  moorage kind list -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			kinds, raw, err := c.Kinds(cmd.Context())
			if err != nil {
				return err
			}
			return f.print(cmd, raw, func() error {
				rows := make([][]string, len(kinds))
				for i, k := range kinds {
					rows[i] = []string{k.Kind, strings.Join(limitsOf(k.Limits), ", "), strings.Join(settingsOf(k.Schema), " ")}
				}
				return show.Table(cmd.OutOrStdout(), []string{"KIND", "LIMITS", "SETTINGS"}, rows)
			})
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// limitsOf names the limits that are set.
func limitsOf(limits map[string]any) []string {
	var names []string
	for name, value := range limits {
		if value == true {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// settingsOf names the settings of a kind; a secret has a star.
func settingsOf(schema json.RawMessage) []string {
	var s struct {
		Properties map[string]struct {
			WriteOnly bool `json:"writeOnly"`
		} `json:"properties"`
	}
	if json.Unmarshal(schema, &s) != nil {
		return nil
	}
	var names []string
	for _, name := range sorted(s.Properties) {
		if s.Properties[name].WriteOnly {
			name += "*"
		}
		names = append(names, name)
	}
	return names
}

// Version is the command that prints the program's version: what a build stamped on it, or what Go knows where that is
// nothing or "dev".
func Version(stamped string) *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: cobra.NoArgs, Example: `  moorage version -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := struct {
				Version  string `json:"version"`
				Commit   string `json:"commit,omitempty"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{"(unknown)", "", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				v.Version = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						v.Commit = s.Value
					}
				}
			}
			if stamped != "" && stamped != "dev" {
				v.Version = stamped
			}
			return f.print(cmd, v, func() error {
				fmt.Fprintf(cmd.OutOrStdout(), "moorage %s %s %s\n", v.Version, v.Go, v.Platform)
				return nil
			})
		},
	}
	f.register(cmd.Flags())
	return cmd
}
