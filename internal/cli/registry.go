package cli

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/show"
)

func newRegistry() *cobra.Command {
	cmd := group("registry", "Keep container images in the server",
		`Keep container images in the server: it is a registry for Docker, Podman, clusters, and every other client of OCI's
distribution protocol. Images are named SERVER/WORKSPACE/NAME:TAG.`)
	n := &connection{}
	n.register(cmd.PersistentFlags())
	cmd.AddCommand(newRegistryLogin(n), newRegistryList(n), newRegistryDelete(n))
	return cmd
}

func newRegistryLogin(n *connection) *cobra.Command {
	var push, password bool
	var days int
	cmd := &cobra.Command{
		Use: "login", Short: "Print how to log in", Args: cobra.NoArgs,
		Long: `Print how an engine logs in to the server's registry.

With --password it prints a token and nothing else, to be read by the engine's own login. The token reaches the images of the
workspace and nothing else: without --push it may only pull. It cannot be taken back before its days are over.`,
		Example: `  moorage registry login
  moorage registry login --password --push | docker login -u moorage --password-stdin localhost:8443
  moorage registry login --password --days 7 | ssh gpu-box podman login -u moorage --password-stdin moorage.lan:8443`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			l, err := c.RegistryLogin(cmd.Context(), push, days)
			if err != nil {
				return err
			}
			if password {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), l.Password)
				return err
			}
			return sayLogin(cmd.OutOrStdout(), l.Server, l.Prefix)
		},
	}
	cmd.Flags().BoolVar(&password, "password", false, "print a token, and nothing else")
	cmd.Flags().BoolVar(&push, "push", false, "let it push and delete too")
	cmd.Flags().IntVar(&days, "days", 30, "for how long it is good")
	return cmd
}

// sayLogin prints the commands of Docker's, and what it must be told of the server's certificate where it asks.
func sayLogin(out io.Writer, server, prefix string) error {
	text := fmt.Sprintf(`moorage registry login --password --push | docker login -u moorage --password-stdin %[1]s
docker tag IMAGE %[1]s/%[2]s/IMAGE
docker push %[1]s/%[2]s/IMAGE
`, server, prefix)
	if !trusting(server) {
		text += fmt.Sprintf(`
# once, on the machine of the engine: the server's own authority, $MOORAGE_CA
# docker: /etc/docker/certs.d/%[1]s/ca.crt    podman: /etc/containers/certs.d/%[1]s/ca.crt
`, server)
	}
	_, err := io.WriteString(out, text)
	return err
}

// trusting tells whether engines take a registry at this address without knowing its authority.
func trusting(server string) bool {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		host = server
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func newRegistryList(n *connection) *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use: "list", Short: "List repositories and their tags", Args: cobra.NoArgs, Example: `  moorage registry list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			names, err := c.Repositories(cmd.Context())
			if err != nil {
				return err
			}
			type repository struct {
				Name string   `json:"name"`
				Tags []string `json:"tags"`
			}
			all, rows := []repository{}, [][]string{}
			for _, name := range names {
				tags, err := c.ImageTags(cmd.Context(), name)
				if err != nil {
					return err
				}
				all = append(all, repository{name, append([]string{}, tags...)})
				rows = append(rows, []string{name, strings.Join(tags, " ")})
			}
			return f.print(cmd, all, func() error { return show.Table(cmd.OutOrStdout(), []string{"REPOSITORY", "TAGS"}, rows) })
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func newRegistryDelete(n *connection) *cobra.Command {
	return &cobra.Command{
		Use: "delete REPOSITORY:TAG | REPOSITORY@DIGEST", Short: "Delete a tag, or an image with all its tags", Args: cobra.ExactArgs(1),
		Long: `Delete a tag, or by its digest an image with all its tags. The bytes of images that no tag, job or environment names are
taken away about a day later, or by moorage gc after that.`,
		Example: `  moorage registry delete main/train:v1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, reference, ok := strings.Cut(args[0], "@")
			if i := strings.LastIndexByte(args[0], ':'); !ok && i > strings.LastIndexByte(args[0], '/') {
				name, reference, ok = args[0][:i], args[0][i+1:], true
			}
			if !ok || name == "" || reference == "" {
				return usage("%q names no tag and no digest: write REPOSITORY:TAG or REPOSITORY@DIGEST", args[0])
			}
			c, err := n.open()
			if err != nil {
				return err
			}
			if err := c.DeleteImage(cmd.Context(), name, reference); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "deleted "+args[0])
			return err
		},
	}
}
