package yaml

import (
	"errors"
	"maps"

	"github.com/moorage-ml/moorage/internal/kubeconfig"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// k8s is the inner properties of a Kubernetes cluster as v2 sends them (azureml-v2.md §5). Fields of ours beside them travel in
// settings.
func k8s(o object) map[string]any {
	inner := map[string]any{}
	if v := o.get("properties"); v != nil && v.Kind == Map {
		for _, f := range v.Fields {
			inner[f.Key] = f.Value.Any()
		}
	}
	if v := o.text("namespace"); v != "" {
		inner["namespace"] = v
	}
	settings := ownSettings(o)
	if v := o.text("image"); v != "" {
		settings["image"] = v
	}
	maps.Copy(settings, kubeconfigOf(o, settings))
	if inner["namespace"] == nil && settings["namespace"] == nil && settings["kubeconfig"] == nil {
		inner["namespace"] = "default" // as Azure's client has it; a context may name another
	}
	if len(settings) > 0 {
		inner["settings"] = settings
	}
	return inner
}

// kubeconfigOf are the settings by the file that the document names, if it names one. The context is that of the address, which
// may stand in place of the resource id.
func kubeconfigOf(o object, settings map[string]any) map[string]any {
	file := o.text("kubeconfig_file")
	if file == "" {
		return nil
	}
	address, _ := settings["address"].(string)
	if id := o.text("resource_id"); address == "" {
		if _, ok := kubeconfig.ContextOf(id); ok {
			address = id
		}
	}
	found, err := Kubeconfig(o.r.doc.Path(file), address)
	if p, ok := errors.AsType[*workspace.Problem](err); ok {
		message := p.Message
		if p.Cause != "" {
			message += ": " + p.Cause
		}
		o.r.fail(o.get("kubeconfig_file"), p.Code, message, p.Mend)
	}
	return found
}

// engine is what the driver of a Docker engine takes: beside what it shares with other kinds, an image, and the certificates by
// which an engine at docker+tcp:// is reached.
func engine(o object) map[string]any {
	s := driverSettings(o)
	if v := o.text("image"); v != "" {
		s["image"] = v
	}
	tls := o.child("tls", "ca_file", "cert_file", "key_file")
	for field, setting := range map[string]string{"ca_file": "ca", "cert_file": "cert", "key_file": "key"} {
		if v := o.r.secretFile(tls, field); v != "" {
			s[setting] = v
		}
	}
	return s
}
