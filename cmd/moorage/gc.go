package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/server"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func gcCommand() *cobra.Command {
	var data string
	var dry bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Take away what the server no longer needs",
		Long: `Take away what a running server no longer needs: jobs whose time is over (--jobs-retention of serve), and the objects of
snapshots that no job and no code needs. The server does the same every hour.`,
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
	_, err := fmt.Fprintf(out, "%s %d jobs, and %d of %d objects of snapshots (%.1f MB)\n", verb, found.Jobs, found.Removed, found.Objects, float64(found.Bytes)/1e6)
	return err
}

// ask sends a request of the administrator to the server that holds a data folder.
func ask(ctx context.Context, data, method, path string, answer any) error {
	var announced server.Announcement
	b, err := os.ReadFile(filepath.Join(data, "server.json"))
	if err == nil {
		err = json.Unmarshal(b, &announced)
	}
	if err != nil {
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: "NoServer", Message: "no server is known for the data folder " + data, Cause: err.Error(),
			Mend: "start it: moorage serve --data " + data,
		}
	}
	ca, err := os.ReadFile(filepath.Join(data, "ca.pem"))
	if err != nil {
		return err
	}
	secret, err := os.ReadFile(filepath.Join(data, "keys", "admin.secret"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	req, err := http.NewRequestWithContext(ctx, method, announced.URL+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(secret)))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	res, err := client.Do(req)
	if err != nil {
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: "NoServer", Message: "the server at " + announced.URL + " does not answer", Cause: err.Error(),
			Mend: "start it: moorage serve --data " + data,
		}
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return json.NewDecoder(res.Body).Decode(answer)
	}
	var failed struct{ Error workspace.Problem }
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&failed); err != nil || failed.Error.Message == "" {
		return fmt.Errorf("gc: the server answered %s", res.Status)
	}
	return &failed.Error
}
