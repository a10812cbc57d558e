package cli

import (
	"context"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/client"
)

// Completion asks the server, briefly, and stays silent when it does not answer.
const completionPatience = 2 * time.Second

func (n *connection) complete(cmd *cobra.Command, args []string, names func(context.Context, *client.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := n.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
	defer cancel()
	found, err := names(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeFlag makes the completion of an argument one of a flag, whatever arguments stand before it.
func (n *connection) completeFlag(names cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return names(cmd, nil, prefix)
	}
}

func (n *connection) completeKinds(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return n.complete(cmd, nil, func(ctx context.Context, c *client.Client) ([]string, error) {
		kinds, _, err := c.Kinds(ctx)
		names := make([]string, len(kinds))
		for i, k := range kinds {
			names[i] = k.Kind
		}
		return names, err
	})
}

func (n *connection) completeComputes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return n.complete(cmd, args, func(ctx context.Context, c *client.Client) ([]string, error) {
		computes, err := c.Computes(ctx)
		names := make([]string, len(computes))
		for i, item := range computes {
			names[i] = item.Name
		}
		return names, err
	})
}

func (n *connection) completeJobs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return n.complete(cmd, args, func(ctx context.Context, c *client.Client) ([]string, error) {
		jobs, err := c.Jobs(ctx, url.Values{}, 50)
		names := make([]string, len(jobs))
		for i, job := range jobs {
			names[i] = job.Name
		}
		return names, err
	})
}
