package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/server"
)

func gcCommand() *cobra.Command {
	var data string
	var dry bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Take away what the server no longer needs",
		Long: `Take away what a running server no longer needs: jobs and entries of the audit log whose time is over (--jobs-retention and
--audit-retention of serve), the objects of snapshots that no job and no code needs, and
images that no tag, job or environment names. The server does the same every hour.`,
		Example: `  moorage gc --dry-run
  moorage gc --data /srv/moorage`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" {
				data = os.Getenv("MOORAGE_DATA")
			}
			if data == "" {
				var err error
				if data, err = server.DefaultData(); err != nil {
					return err
				}
			}
			return collect(cmd.Context(), data, dry, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data folder of the server (default ~/.local/share/moorage)")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only tell how much there is")
	return cmd
}

// collect asks the server of a data folder to collect, and tells what it did.
func collect(ctx context.Context, data string, dry bool, out io.Writer) error {
	path := "/native/v1/gc"
	if dry {
		path += "?dry=1"
	}
	var found control.Garbage
	if err := ask(ctx, data, http.MethodPost, path, &found); err != nil {
		return err
	}
	verb := "took away"
	if dry {
		verb = "would take away"
	}
	_, err := fmt.Fprintf(out, "%s %d jobs, %d entries of the audit log, and %d of %d objects of snapshots, %d images (%.1f MB)\n", verb, found.Jobs, found.Audit, found.Removed, found.Objects, found.Images, float64(found.Bytes)/1e6)
	return err
}
