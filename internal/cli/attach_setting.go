package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/cli/yaml"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// settings are the driver settings that flags give. Secrets are read from files and standard input here. address is where
// the target is said to be elsewhere, if it is.
func (a *attachFlags) settings(cmd *cobra.Command, address string) (map[string]any, error) {
	s := map[string]any{}
	for key, value := range map[string]string{"address": a.address, "folder": a.folder, "host_key": a.hostKey, "namespace": a.namespace, "image": a.image} {
		if value != "" {
			s[key] = value
		}
	}
	if err := a.files(s, cmp.Or(a.address, address)); err != nil {
		return nil, err
	}
	if a.password != "" {
		show.Warning(cmd.ErrOrStderr(), workspace.Problem{
			Message: "a password on the command line can be seen by other users of this machine and stays in the shell's history", Mend: "use --password-file or --password-stdin",
		})
		s["password"] = a.password
	}
	if a.passwordStdin {
		text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 64<<10))
		if err != nil {
			return nil, fmt.Errorf("cli: standard input: %w", err)
		}
		s["password"] = strings.TrimRight(string(text), "\r\n")
	}
	if a.useAgent {
		s["use_agent"] = true
	}
	if len(a.jump) > 0 {
		s["jump"] = a.jump
	}
	for key, n := range map[string]int{"slots": a.slots, "gpus": a.gpus} {
		if n < 0 {
			return nil, usage("--%s cannot be negative", key)
		}
		if n > 0 || cmd.Flags().Changed(key) {
			s[key] = n
		}
	}
	set := &yaml.Document{Root: &yaml.Node{Kind: yaml.Map}}
	for _, assignment := range a.set {
		if err := set.Set(assignment); err != nil {
			return nil, err
		}
	}
	values, _ := set.Root.Any().(map[string]any)
	maps.Copy(s, values)
	return s, nil
}

// files adds the settings that stand in files.
func (a *attachFlags) files(s map[string]any, address string) error {
	for key, file := range map[string]string{
		"private_key": a.keyFile, "passphrase": a.passphrase, "password": a.passwordFile, "ca": a.tlsCA, "cert": a.tlsCert, "key": a.tlsKey,
	} {
		if file == "" {
			continue
		}
		text, err := readFile(file)
		if err != nil {
			return err
		}
		if key == "passphrase" || key == "password" {
			text = strings.TrimRight(text, "\r\n")
		}
		s[key] = text
	}
	if a.kubeconfigFile == "" {
		return nil
	}
	found, err := yaml.Kubeconfig(home(a.kubeconfigFile), address)
	maps.Copy(s, found)
	return err
}

// addressIn is the address in a compute's body: of its settings, of its properties, or in place of its resource id.
func addressIn(body map[string]any) string {
	outer, _ := body["properties"].(map[string]any)
	inner, _ := outer["properties"].(map[string]any)
	settings, _ := inner["settings"].(map[string]any)
	for _, place := range []any{settings["address"], inner["address"], outer["resourceId"]} {
		if address, ok := place.(string); ok && strings.Contains(address, "://") {
			return address
		}
	}
	return ""
}
