package yaml

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/moorage-ml/moorage/internal/kubeconfig"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Kubeconfig reads a kubeconfig file for the cluster at an address, kubeconfig://CONTEXT, or for the file's current context
// where the address is empty. It gives the settings by which that cluster is attached: the address, and a kubeconfig of that
// one context with all files that it names in it. Other contexts and their credentials do not leave this machine.
func Kubeconfig(file, address string) (map[string]any, error) {
	context, ok := kubeconfig.ContextOf(address)
	if address != "" && !ok {
		return nil, &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidAddress", Target: "address", Message: "a kubeconfig goes with an address of the form " + kubeconfig.Scheme + "CONTEXT, not with " + address,
			Mend: "name one of its contexts, or leave the address out for its current one",
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, &workspace.Problem{Class: workspace.Invalid, Code: "FileNotReadable", Target: file, Message: file + " cannot be read", Cause: reason(err), Mend: "check the path and your right to read it"}
	}
	f, err := kubeconfig.Read(text)
	if err != nil {
		return nil, err
	}
	m, err := f.Minimise(context, func(path string) ([]byte, error) {
		if !filepath.IsAbs(path) { // as kubectl does
			path = filepath.Join(filepath.Dir(file), path)
		}
		return os.ReadFile(path)
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"kubeconfig": m.Text.Reveal(), "address": kubeconfig.Address(m.Context)}, nil
}

// KindOf is the kind of compute that an address speaks of, by its scheme; "" for one that tells none.
func KindOf(address string) string {
	scheme, _, found := strings.Cut(address, "://")
	if !found {
		return ""
	}
	switch base, _, _ := strings.Cut(scheme, "+"); base {
	case "kubeconfig", "incluster":
		return "kubernetes"
	case "slurm":
		return "batch"
	case "http", "https":
		return ""
	default:
		return base
	}
}
