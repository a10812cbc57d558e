package cli

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/cli/yaml"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// attachFlags describe a target; attach, check and update share most of them.
type attachFlags struct {
	file, kind, address, resourceID, description string
	keyFile, passwordFile, password, passphrase  string
	passwordStdin, useAgent, distinct            bool
	jump, set                                    []string
	slots, gpus                                  int
	folder, hostKey, alias                       string
	namespace, image, kubeconfigFile             string
	tlsCA, tlsCert, tlsKey                       string
}

// register adds the flags that name a target, which are for one that is not attached yet, and its settings.
func (a *attachFlags) register(cmd *cobra.Command, n *connection) {
	f := cmd.Flags()
	f.StringVar(&a.kind, "kind", "", "kind of compute: ssh, local, docker, kubernetes, batch, … (moorage kind list)")
	f.BoolVar(&a.distinct, "distinct", false, "attach although another compute looks like the same machine (cloned machines)")
	_ = cmd.RegisterFlagCompletionFunc("kind", n.completeKinds)
	a.registerSettings(cmd)
}

// registerSettings adds the flags of what can change while a compute is attached.
func (a *attachFlags) registerSettings(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&a.file, "file", "f", "", "YAML of the compute, in the form of Azure ML v2; - is standard input")
	f.StringVar(&a.address, "address", "", "where it is, for example ssh://bob@10.0.0.5:22")
	f.StringVar(&a.resourceID, "resource-id", "", "ARM id by which Azure's clients name it")
	f.StringVar(&a.description, "description", "", "words for people")
	f.StringVar(&a.keyFile, "private-key-file", "", "file with the private key")
	f.StringVar(&a.passphrase, "passphrase-file", "", "file with the private key's passphrase")
	f.StringVar(&a.passwordFile, "password-file", "", "file with the password")
	f.BoolVar(&a.passwordStdin, "password-stdin", false, "read the password from standard input")
	f.StringVar(&a.password, "password", "", "the password; others on this machine can see it, so prefer --password-file")
	f.BoolVar(&a.useAgent, "use-agent", false, "take keys from the ssh-agent of the server")
	f.StringSliceVar(&a.jump, "jump", nil, "host to go through, ssh://user@host:22; may be repeated")
	f.StringVar(&a.hostKey, "host-key", "", `host key to expect, "ssh-ed25519 AAAA…"; without it the first one seen is pinned`)
	f.IntVar(&a.slots, "slots", 0, "jobs that run at the same time; 0 is the number of processors")
	f.IntVar(&a.gpus, "gpus", 0, "graphics processors to allot; 0 is all that are found")
	f.StringVar(&a.namespace, "namespace", "", "namespace of a Kubernetes cluster")
	f.StringVar(&a.kubeconfigFile, "kubeconfig-file", "", "kubeconfig with the cluster; only the context of --address, or the current one, is sent")
	f.StringVar(&a.image, "image", "", "image of jobs that name none, where jobs run in containers")
	f.StringVar(&a.tlsCA, "tls-ca-file", "", "certificate authority of a Docker engine at docker+tcp://")
	f.StringVar(&a.tlsCert, "tls-cert-file", "", "certificate to show to it")
	f.StringVar(&a.tlsKey, "tls-key-file", "", "private key of that certificate")
	f.StringVar(&a.folder, "folder", "", "folder on the target for what Moorage places there (~/.moorage)")
	f.StringArrayVar(&a.set, "set", nil, "another setting of the kind, key=value; may be repeated")
	_ = cmd.MarkFlagFilename("file", "yml", "yaml")
}

// describing are the flags that say what a target is.
var describing = []string{
	"file", "kind", "address", "resource-id", "private-key-file", "passphrase-file", "password-file", "password-stdin", "password", "use-agent", "jump",
	"host-key", "slots", "gpus", "folder", "alias", "set", "description", "distinct",
	"namespace", "kubeconfig-file", "image", "tls-ca-file", "tls-cert-file", "tls-key-file",
}

func (a *attachFlags) given(cmd *cobra.Command) bool {
	return slices.ContainsFunc(describing, cmd.Flags().Changed)
}

// attachRequest is a compute as it goes to the server.
type attachRequest struct {
	name, kind string
	body       map[string]any
}

// request makes the body of flags and file together; flags win.
func (a *attachFlags) request(cmd *cobra.Command, name string) (attachRequest, error) {
	r := attachRequest{name: name, kind: strings.ToLower(a.kind)}
	if r.kind == "" && a.alias != "" {
		r.kind = "amlcompute"
	}
	if a.file == "" && r.kind == "" {
		if r.kind = yaml.KindOf(a.address); a.address == "" && a.kubeconfigFile != "" {
			r.kind = "kubernetes"
		}
		if r.kind == "" {
			return r, usage("--kind is missing: name the kind of compute, or give its YAML with -f")
		}
	}
	r.body = map[string]any{"properties": map[string]any{"computeType": yaml.ComputeType(r.kind)}}
	if a.file != "" {
		doc, err := load(cmd, a.file)
		if err != nil {
			return r, err
		}
		parsed, err := yaml.ParseCompute(doc)
		if err != nil {
			return r, err
		}
		for _, w := range parsed.Warnings {
			show.Warning(cmd.ErrOrStderr(), w)
		}
		if r.name == "" {
			r.name = parsed.Name
		}
		r.kind, r.body = parsed.Kind, parsed.Body
	}
	settings, err := a.settings(cmd, addressIn(r.body))
	if err != nil {
		return r, err
	}
	outer, _ := r.body["properties"].(map[string]any)
	if a.resourceID != "" {
		outer["resourceId"] = a.resourceID
	}
	if a.description != "" {
		outer["description"] = a.description
	}
	inner, _ := outer["properties"].(map[string]any)
	if inner == nil {
		inner = map[string]any{}
	}
	if a.alias != "" {
		inner["alias"] = a.alias
	}
	if len(settings) > 0 || (a.file == "" && a.alias == "") {
		all, _ := inner["settings"].(map[string]any)
		if all == nil {
			all = map[string]any{}
		}
		maps.Copy(all, settings)
		inner["settings"] = all
	}
	if a.distinct {
		inner["distinct"] = true
	}
	if len(inner) > 0 {
		outer["properties"] = inner
	}
	return r, nil
}

// load reads a YAML file, or standard input for "-".
func load(cmd *cobra.Command, file string) (*yaml.Document, error) {
	if file != "-" {
		return yaml.Load(file)
	}
	text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 5<<20))
	if err != nil {
		return nil, fmt.Errorf("cli: standard input: %w", err)
	}
	return yaml.Parse(text, "-")
}

func readFile(path string) (string, error) {
	path = home(path)
	text, err := os.ReadFile(path)
	if err != nil {
		return "", &workspace.Problem{Class: workspace.Invalid, Code: "FileNotReadable", Target: path, Message: path + " cannot be read", Cause: short(err), Mend: "check the path and your right to read it"}
	}
	return string(text), nil
}

// home puts the person's home in place of ~, where no shell did.
func home(path string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		if dir, err := os.UserHomeDir(); err == nil {
			return dir + strings.TrimPrefix(path, "~")
		}
	}
	return path
}

func newComputeAttach(n *connection) *cobra.Command {
	var f format
	var flags attachFlags
	cmd := &cobra.Command{
		Use: "attach [NAME]", Short: "Attach a machine or cluster by name",
		Long: `Attach a machine or cluster under a name, by flags or by a YAML file of Azure ML v2 (virtualmachine, kubernetes,
amlcompute, …, and in the same style ssh, local, docker, batch, …).

A pre-flight tries what a job will need and says what it found. The host key that is seen is pinned and shown: compare
its fingerprint. A second attachment of the same machine is refused, naming the first.`,
		Example: `  moorage compute attach gpu --kind ssh --address ssh://bob@10.0.0.5:22 --private-key-file ~/.ssh/id_ed25519
  moorage compute attach gpu --kind ssh --address ssh://bob@10.0.0.5 --password-file pw.txt --jump ssh://bob@gateway
  moorage compute attach -f vm.yml
  moorage compute attach box --kind docker --image python:3.12
  moorage compute attach box --kind docker --address docker+ssh://bob@10.0.0.5 --image python:3.12
  moorage compute attach k8s --kind kubernetes --address kubeconfig://CONTEXT --namespace ml --kubeconfig-file ~/.kube/config
  moorage compute attach cpu-cluster --alias gpu`,
	}
	name := named(cmd, "compute")
	needsName := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := needsName(cmd, args); err != nil && (len(args) > 0 || flags.file == "") {
			return err
		}
		return nil
	}
	flags.register(cmd, n)
	cmd.Flags().StringVar(&flags.alias, "alias", "", "make a second name (AmlCompute) of this attached compute")
	_ = cmd.RegisterFlagCompletionFunc("alias", n.completeFlag(n.completeComputes))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := flags.request(cmd, *name)
		if err != nil {
			return err
		}
		if bad := workspace.CheckComputeName(r.name); bad != nil {
			return bad
		}
		c, err := n.open()
		if err != nil {
			return err
		}
		if show.Terminal(cmd.ErrOrStderr()) {
			fmt.Fprintf(cmd.ErrOrStderr(), "looking at %s …\r", r.name)
		}
		putErr := c.PutCompute(cmd.Context(), r.name, r.body)
		if show.Terminal(cmd.ErrOrStderr()) {
			fmt.Fprint(cmd.ErrOrStderr(), "\x1b[K")
		}
		if putErr != nil {
			return putErr
		}
		item, err := c.Compute(cmd.Context(), r.name)
		if err != nil {
			return err
		}
		return attached(cmd, &f, item)
	}
	f.register(cmd.Flags())
	return cmd
}

// attached prints a compute after attach or update, and fails when the server could not attach it.
func attached(cmd *cobra.Command, f *format, item *client.Compute) error {
	err := f.print(cmd, item.Raw, func() error { return printCompute(cmd, item) })
	if err == nil && item.Properties.ProvisioningState == "Failed" {
		return Exit(exitFailed)
	}
	return err
}

func newComputeUpdate(n *connection) *cobra.Command {
	var f format
	var flags attachFlags
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change a compute's settings or secrets without detaching it",
		Long: "Change settings or secrets of an attached compute. What is not named stays as it is; jobs that run there go on.",
		Example: `  moorage compute update gpu --private-key-file ~/.ssh/new_key
  moorage compute update -n gpu --slots 4`,
		ValidArgsFunction: n.completeComputes,
	}
	name := named(cmd, "compute")
	flags.registerSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !flags.given(cmd) {
			return usage("nothing to change is named: give a flag like --slots 4")
		}
		c, err := n.open()
		if err != nil {
			return err
		}
		now, err := c.Compute(cmd.Context(), *name)
		if err != nil {
			return err
		}
		if flags.kind == "" && flags.file == "" {
			flags.kind = now.Properties.ComputeType
		}
		if flags.kubeconfigFile != "" && flags.address == "" {
			flags.address = now.Address() // its context is the one that is meant
		}
		r, err := flags.request(cmd, *name)
		if err != nil {
			return err
		}
		if err := c.PatchCompute(cmd.Context(), *name, r.body); err != nil {
			return err
		}
		item, err := c.Compute(cmd.Context(), *name)
		if err != nil {
			return err
		}
		return attached(cmd, &f, item)
	}
	f.register(cmd.Flags())
	return cmd
}

// fingerprint renders a host key "ssh-ed25519 AAAA…" as ssh-keygen does; what is not one stays as it is.
func fingerprint(key string) string {
	parts := strings.Fields(key)
	if len(parts) < 2 {
		return key
	}
	blob, err := base64.StdEncoding.DecodeString(parts[1])
	if err != nil {
		return key
	}
	sum := sha256.Sum256(blob)
	return parts[0] + " SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
