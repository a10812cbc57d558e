package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/show"
)

func newConnection() *cobra.Command {
	cmd := group("connection", "Log in to registries of container images for the workspace's jobs",
		`Connections: logins to registries elsewhere. A job whose image comes from such a registry is pulled with it. Passwords are
sealed and never shown. They are those of Azure ML v2's connections of category ContainerRegistry.`)
	n := &connection{}
	n.register(cmd.PersistentFlags())
	cmd.AddCommand(newConnectionCreate(n), newConnectionList(n), newConnectionDelete(n))
	return cmd
}

func newConnectionCreate(n *connection) *cobra.Command {
	var f format
	var registry, username, passwordFile string
	var stdin bool
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Keep a login to a registry, or change it",
		Example: `  moorage connection create ours --registry registry.example:5000 --username bob --password-file token.txt
  pass show hub | moorage connection create hub --registry docker.io --username bob --password-stdin`,
	}
	name := named(cmd, "connection")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if registry == "" || username == "" {
			return usage("--registry and --username are needed: say where the images are and as whom they are pulled")
		}
		password, err := passwordOf(cmd, passwordFile, stdin)
		if err != nil {
			return err
		}
		c, err := n.open()
		if err != nil {
			return err
		}
		made, err := c.PutConnection(cmd.Context(), *name, registry, username, password)
		if err != nil {
			return err
		}
		return f.print(cmd, made.Raw, func() error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "images of %s are pulled as %s\n", made.Properties.Target, made.Properties.Credentials.Username)
			return err
		})
	}
	flags := cmd.Flags()
	flags.StringVar(&registry, "registry", "", "host of the registry, with its port if it has one")
	flags.StringVar(&username, "username", "", "user name at the registry")
	flags.StringVar(&passwordFile, "password-file", "", "file with the password, or a token")
	flags.BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	f.register(flags)
	return cmd
}

// passwordOf reads a password from the one place that was named.
func passwordOf(cmd *cobra.Command, file string, stdin bool) (string, error) {
	switch {
	case stdin && file != "" || !stdin && file == "":
		return "", usage("the password is missing: give --password-file FILE or --password-stdin")
	case stdin:
		text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 64<<10))
		if err != nil {
			return "", fmt.Errorf("cli: standard input: %w", err)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	text, err := readFile(file)
	return strings.TrimRight(text, "\r\n"), err
}

func newConnectionList(n *connection) *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use: "list", Short: "List the connections of the workspace", Args: cobra.NoArgs, Example: `  moorage connection list -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			connections, err := c.Connections(cmd.Context())
			if err != nil {
				return err
			}
			raw, rows := make([]json.RawMessage, len(connections)), make([][]string, len(connections))
			for i, item := range connections {
				raw[i], rows[i] = item.Raw, []string{item.Name, item.Properties.Category, item.Properties.Target, item.Properties.Credentials.Username}
			}
			return f.print(cmd, raw, func() error {
				return show.Table(cmd.OutOrStdout(), []string{"NAME", "CATEGORY", "REGISTRY", "USER"}, rows)
			})
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func newConnectionDelete(n *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Forget a login to a registry", Example: `  moorage connection delete ours`,
	}
	name := named(cmd, "connection")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := n.open()
		if err != nil {
			return err
		}
		if _, err := c.Connection(cmd.Context(), *name); err != nil { // deleting what is not there succeeds at the server
			return err
		}
		if err := c.DeleteConnection(cmd.Context(), *name); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "deleted %s\n", *name)
		return err
	}
	return cmd
}
