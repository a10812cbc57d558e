package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
)

func newResource() *cobra.Command {
	cmd := group("resource", "Say where the resources that Azure's clients name really are",
		`The catalogue: which address stands behind an ARM resource id. Scripts that attach a compute by resource id, as Azure's
v2 client does, then reach the machine behind it.`)
	n := &connection{}
	n.register(cmd.PersistentFlags())
	cmd.AddCommand(newResourceAdd(n), newResourceList(n), newResourceRemove(n))
	return cmd
}

func newResourceAdd(n *connection) *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use: "add ID --address ADDRESS", Short: "Add a resource to the catalogue, or change its address", Args: cobra.ExactArgs(1),
		Example: `  moorage resource add /subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm1 --address ssh://10.0.0.5:22`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if address == "" {
				return usage("--address is missing: say where the resource is, for example ssh://10.0.0.5:22")
			}
			c, err := n.open()
			if err != nil {
				return err
			}
			if err := c.PutResource(cmd.Context(), client.Resource{ID: args[0], Address: address}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is at %s\n", args[0], address)
			return nil
		},
	}
	cmd.Flags().StringVar(&address, "address", "", "where it is, for example ssh://10.0.0.5:22")
	return cmd
}

func newResourceList(n *connection) *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use: "list", Short: "List the catalogue", Args: cobra.NoArgs, Example: `  moorage resource list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			resources, raw, err := c.Resources(cmd.Context())
			if err != nil {
				return err
			}
			return f.print(cmd, raw, func() error {
				rows := make([][]string, len(resources))
				for i, r := range resources {
					rows[i] = []string{r.ID, r.Address}
				}
				return show.Table(cmd.OutOrStdout(), []string{"ID", "ADDRESS"}, rows)
			})
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func newResourceRemove(n *connection) *cobra.Command {
	return &cobra.Command{
		Use: "remove ID", Aliases: []string{"delete"}, Short: "Take a resource out of the catalogue; the resource itself is left alone", Args: cobra.ExactArgs(1),
		Example: `  moorage resource remove /subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			if err := c.DeleteResource(cmd.Context(), args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", args[0])
			return nil
		},
	}
}
