package cli

import (
	"bytes"
	"cmp"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func newEnv() *cobra.Command {
	var data, url, shell string
	var proxy, archive bool
	cmd := &cobra.Command{
		Use:   "env --data DIR",
		Short: "Print the variables that point Azure ML, MLflow and this command line at a server",
		Long: `Print the variables that point azure-ai-ml, azureml-core, MLflow and this command line at a server, as commands for a shell.

It reads the data folder of a server on this machine, and writes a file there with the system's certificate authorities
and the server's own, so that other https calls of the same process go on working. The output holds the administrator's
secret: do not log it.

azureml-core uploads files to a name that must lead to the server, moorage.blob.localhost by default. Where the machine does
not know it, this says so with the line that the hosts file lacks. --proxy is for those who may not change that file: the
server becomes the shell's proxy for https, for that one name. Most other hosts are excepted; one that is not is refused.

--archive is for clients on another machine: it prints a tar that serves as --data there, beside --url. It holds the
administrator's secret as well.`,
		Example: `  eval "$(moorage env --data ~/moorage)"
  moorage env --data ~/moorage --shell fish | source
  moorage env --data ~/moorage --url https://gpu-box.lan:8443
  eval "$(moorage env --data ~/moorage --proxy)"
  ssh gpu-box moorage env --data moorage --archive | tar -x -C ~/gpu-box`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			quote, ok := shells[shell]
			if !ok {
				return usage("--shell %q is not known: use sh, fish or powershell", shell)
			}
			if archive {
				return writeArchive(cmd.OutOrStdout(), data)
			}
			vars, blobHost, err := environment(data, url)
			if err != nil {
				return err
			}
			if proxy {
				if vars, err = proxied(vars, blobHost); err != nil {
					return err
				}
				blobHost = "" // nobody need know it
			}
			for _, v := range vars {
				if _, err := io.WriteString(cmd.OutOrStdout(), quote(v[0], v[1])+"\n"); err != nil {
					return err
				}
			}
			server := valueOf(vars, "MOORAGE_URL")
			for _, hint := range []string{blobHostHint(cmd.Context(), server, blobHost, net.DefaultResolver.LookupHost), cloudCacheHint(server)} {
				if hint != "" {
					cmd.PrintErrln(hint)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "the server's data folder (MOORAGE_DATA)")
	cmd.Flags().StringVar(&url, "url", "", "another address by which the server is reached from here")
	cmd.Flags().StringVar(&shell, "shell", "sh", "sh, fish or powershell")
	cmd.Flags().BoolVar(&proxy, "proxy", false, "let the server be the proxy by which azureml-core's uploads find it")
	cmd.Flags().BoolVar(&archive, "archive", false, "print a tar of what clients on another machine need")
	_ = cmd.RegisterFlagCompletionFunc("shell", cobra.FixedCompletions([]string{"sh", "fish", "powershell"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// shells render one assignment each.
var shells = map[string]func(name, value string) string{
	"sh": func(name, value string) string {
		return "export " + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'"
	},
	"fish": func(name, value string) string {
		return "set -gx " + name + " '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "';"
	},
	"powershell": func(name, value string) string {
		return "$env:" + name + " = '" + strings.ReplaceAll(value, "'", "''") + "'"
	},
}

// cloud is what the server calls itself in its description of the cloud. azureml-core and azure-ai-ml both look for the
// cloud of AZUREML_CURRENT_CLOUD there; of one called AzureCloud the latter has its own idea.
const cloud = "MoorageCloud"

// anybody is the id of a service principal, of which the server looks at the password alone.
const anybody = "00000000-0000-0000-0000-000000000000"

// environment is the variables in their order (azureml-v2.md §1.1, azureml-v1.md §1.1), and the name under which
// azureml-core uploads.
func environment(data, url string) (vars [][2]string, blobHost string, err error) {
	data, s, err := dataFolder(data)
	if err != nil {
		return nil, "", err
	}
	url = strings.TrimRight(cmp.Or(url, s.URL), "/")
	secret, err := readSecret(secretFile(data))
	if err != nil {
		return nil, "", err
	}
	bundle, err := writeBundle(data)
	if err != nil {
		return nil, "", err
	}
	return [][2]string{
		{"ARM_CLOUD_METADATA_URL", url + "/metadata/endpoints?api-version=2019-05-01"},
		{"REQUESTS_CA_BUNDLE", bundle},
		{"SSL_CERT_FILE", bundle},
		{"IDENTITY_ENDPOINT", url + "/msi/token"},
		{"IDENTITY_HEADER", secret.Reveal()},
		{"AZUREML_CURRENT_CLOUD", cloud},
		{"AZUREML_SERVICE_PRINCIPAL_TENANT_ID", "adfs"}, // the one tenant of which MSAL asks nobody at Microsoft
		{"AZUREML_SERVICE_PRINCIPAL_ID", anybody},
		{"AZUREML_SERVICE_PRINCIPAL_PASSWORD", secret.Reveal()},
		{"MLFLOW_TRACKING_URI", url + "/mlflow"},
		{"MLFLOW_TRACKING_TOKEN", secret.Reveal()},
		{"MLFLOW_TRACKING_SERVER_CERT_PATH", bundle},
		{"MOORAGE_URL", url},
		{"MOORAGE_CA", caFile(data)},
		{"MOORAGE_TOKEN_FILE", secretFile(data)},
		{"MOORAGE_SUBSCRIPTION", s.Subscription},
		{"MOORAGE_RESOURCE_GROUP", s.ResourceGroup},
		{"MOORAGE_WORKSPACE", s.Workspace},
	}, s.BlobHost, nil
}

// dataFolder is the folder that --data or MOORAGE_DATA names, absolute, and what it says of its server.
func dataFolder(data string) (string, server, error) {
	data = cmp.Or(data, os.Getenv("MOORAGE_DATA"))
	if data == "" {
		return "", server{}, usage("--data is missing: name the data folder of the server")
	}
	data, err := filepath.Abs(data)
	if err != nil {
		return "", server{}, fmt.Errorf("cli: %w", err)
	}
	s, err := readServer(data)
	return data, s, err
}

// systemRoots are the places where Linux distributions and macOS keep their bundle.
var systemRoots = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// writeBundle makes the file with the system's authorities, or Mozilla's where the system has none, and the server's own.
func writeBundle(data string) (string, error) {
	own, err := os.ReadFile(caFile(data))
	if err != nil {
		return "", &workspace.Problem{
			Class: workspace.Invalid, Code: "CANotReadable", Target: caFile(data), Message: "the server's certificate authority " + caFile(data) + " cannot be read", Cause: short(err),
			Mend: "moorage serve --data " + data + " makes it at its start",
		}
	}
	var b bytes.Buffer
	for _, path := range systemRoots {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte("BEGIN CERTIFICATE")) {
			b.Write(text)
			break
		}
	}
	if b.Len() == 0 {
		for root := range bundle.Roots() {
			if root.Constraint != nil {
				continue // trusted only in part, which a bundle file cannot say
			}
			if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
				return "", fmt.Errorf("cli: bundle: %w", err)
			}
		}
	}
	b.WriteString("\n# the Moorage server's own authority\n")
	b.Write(own)
	path := bundleFile(data)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b.Bytes()) {
		return path, nil
	}
	if err := replace(path, b.Bytes()); err != nil {
		return "", &workspace.Problem{
			Class: workspace.Denied, Code: "BundleNotWritable", Target: path, Message: "the bundle " + path + " cannot be written", Cause: short(err),
			Mend: "run this as the user who runs the server",
		}
	}
	return path, nil
}

// replace writes a file so that readers see the old or the new content, never a part.
func replace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func newConfig() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:     "config --data DIR",
		Short:   "Print the config.json that MLClient.from_config reads",
		Long:    "Print the config.json that MLClient.from_config() and Workspace.from_config() read: subscription, resource group and workspace.",
		Example: `  moorage config --data ~/moorage > config.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, s, err := dataFolder(data)
			if err != nil {
				return err
			}
			return show.JSON(cmd.OutOrStdout(), struct {
				SubscriptionID string `json:"subscription_id"`
				ResourceGroup  string `json:"resource_group"`
				WorkspaceName  string `json:"workspace_name"`
			}{s.Subscription, s.ResourceGroup, s.Workspace})
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "the server's data folder (MOORAGE_DATA)")
	return cmd
}
