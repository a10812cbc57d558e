package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func newEnvironment() *cobra.Command {
	cmd := group("environment", "Make environments ahead of jobs, and see how their images are built",
		`Make environments ahead of jobs, and see how their images are built. A job has its environment made by itself; this is for
not waiting then. Environments are registered with Azure's clients, or by the jobs that use them.`)
	n := &connection{}
	n.register(cmd.PersistentFlags())
	cmd.AddCommand(newEnvironmentBuild(n), newEnvironmentBuilds(n), newEnvironmentLog(n), newEnvironmentCancel(n))
	return cmd
}

func newEnvironmentBuild(n *connection) *cobra.Command {
	var version, compute string
	var wait bool
	cmd := &cobra.Command{
		Use: "build NAME", Short: "Have an environment made", Args: cobra.ExactArgs(1),
		Long: `Have an environment made: its image, where it is a Dockerfile or the compute runs pods, else what it asks for on the compute.
Without --compute only an image for the server's registry is made. It prints the id of the build.

With --wait it follows the build to its end. Exit code: 0 when the environment is made, 1 when it failed.`,
		Example: `  moorage environment build train --compute gpu --wait`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			build, err := c.BuildEnvironment(cmd.Context(), args[0], version, compute)
			if err != nil {
				return err
			}
			if build == "" {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "nothing is to be made ahead; name a --compute to have it made there")
				return err
			}
			if !wait {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), build)
				return err
			}
			return followBuild(cmd, c, build)
		},
	}
	cmd.Flags().StringVar(&version, "version", "", "version of the environment (the newest)")
	cmd.Flags().StringVar(&compute, "compute", "", "compute for which it is made")
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the build to its end")
	return cmd
}

// followBuild prints a build's log as it grows, to the build's end.
func followBuild(cmd *cobra.Command, c *client.Client, build string) error {
	out := &rest{to: cmd.OutOrStdout()}
	for {
		state, err := c.EnvironmentBuild(cmd.Context(), build)
		if err != nil {
			return err
		}
		out.begin()
		if err := c.EnvironmentBuildLog(cmd.Context(), build, out); err != nil {
			return err
		}
		switch {
		case state == workspace.Completed:
			return nil
		case state.Terminal():
			return &workspace.Problem{Code: "BuildFailed", Message: "the build " + build + " ended " + string(state), Mend: "see its log: moorage environment log " + build}
		}
		if err := client.Pause(cmd.Context(), time.Second); err != nil {
			return err
		}
	}
}

func newEnvironmentBuilds(n *connection) *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use: "builds", Short: "List the builds of images", Args: cobra.NoArgs, Example: `  moorage environment builds`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			all, err := c.ImageBuilds(cmd.Context())
			if err != nil {
				return err
			}
			return f.print(cmd, append([]client.ImageBuild{}, all...), func() error {
				rows := make([][]string, len(all))
				for i, b := range all {
					says := b.Image
					if b.Problem != nil {
						says = b.Problem.Message
					}
					rows[i] = []string{b.Build, b.Phase, b.LastUsed, says}
				}
				return show.Table(cmd.OutOrStdout(), []string{"BUILD", "PHASE", "LAST USED", "IMAGE OR PROBLEM"}, rows)
			})
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func newEnvironmentLog(n *connection) *cobra.Command {
	return &cobra.Command{
		Use: "log BUILD", Short: "Print the log of a build, as far as it is there", Args: cobra.ExactArgs(1), Example: `  moorage environment log image-16a26aa4439191eed0b234b7ebd251f42c78955f`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			return c.EnvironmentBuildLog(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
}

func newEnvironmentCancel(n *connection) *cobra.Command {
	return &cobra.Command{
		Use: "cancel BUILD", Short: "End a build, and with it the jobs that wait for its image", Args: cobra.ExactArgs(1), Example: `  moorage environment cancel image-16a26aa4439191eed0b234b7ebd251f42c78955f`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			return c.CancelEnvironmentBuild(cmd.Context(), args[0])
		},
	}
}
