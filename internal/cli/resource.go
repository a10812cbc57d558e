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
	var flags attachFlags
	cmd := &cobra.Command{
		Use: "add ID --address ADDRESS", Short: "Add a resource to the catalogue, or change its address", Args: cobra.ExactArgs(1),
		Long: `Add a resource to the catalogue, or change its address.

Azure's clients attach a Batch or Data Lake Analytics account by its id and give nothing else. What the target needs
besides, a login, a folder, is kept in the catalogue: secrets sealed, and never shown. Computes whose attachment by the
id failed are then tried again.`,
		Example: `  moorage resource add /subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm1 --address ssh://10.0.0.5:22
  moorage resource add /subscriptions/s/resourceGroups/g/providers/Microsoft.Batch/batchAccounts/b --address slurm+ssh://bob@login:22 \
      --private-key-file ~/.ssh/id_ed25519 --set folder=/shared/bob/moorage
  moorage resource add /subscriptions/s/resourceGroups/g/providers/Microsoft.Kubernetes/connectedClusters/edge --address kubeconfig://CONTEXT \
      --kubeconfig-file ~/.kube/config`,
		RunE: func(cmd *cobra.Command, args []string) error {
			address := flags.address
			if address == "" && flags.kubeconfigFile == "" {
				return usage("--address is missing: say where the resource is, for example ssh://10.0.0.5:22")
			}
			c, err := n.open()
			if err != nil {
				return err
			}
			settings, err := flags.settings(cmd, "")
			if err != nil {
				return err
			}
			address, _ = settings["address"].(string)
			delete(settings, "address")
			if err := c.PutResource(cmd.Context(), client.Resource{ID: args[0], Address: address, Settings: settings}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is at %s\n", args[0], address)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.address, "address", "", "where it is, for example ssh://10.0.0.5:22")
	f.StringVar(&flags.keyFile, "private-key-file", "", "file with the private key to log in with")
	f.StringVar(&flags.passphrase, "passphrase-file", "", "file with the private key's passphrase")
	f.StringVar(&flags.passwordFile, "password-file", "", "file with the password")
	f.BoolVar(&flags.useAgent, "use-agent", false, "take keys from the ssh-agent of the server")
	f.StringSliceVar(&flags.jump, "jump", nil, "host to go through, ssh://user@host:22; may be repeated")
	f.StringVar(&flags.kubeconfigFile, "kubeconfig-file", "", "kubeconfig with the cluster; only the context of --address, or the current one, is sent")
	f.StringVar(&flags.namespace, "namespace", "", "namespace of a Kubernetes cluster")
	f.StringArrayVar(&flags.set, "set", nil, "another setting of the kind, key=value; may be repeated")
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
