package attach

import (
	"maps"

	"github.com/moorage-ml/moorage/internal/api"
)

// kubernetes is the kind of what Azure's clients attach as Kubernetes and as AKS.
const kubernetes = "kubernetes"

// clusterSettings adds what Azure's clients write of a cluster beside its settings (azureml-v2.md §5). azure-ai-ml puts what a
// person gives as properties there as it is, which may be such an object once more.
func clusterSettings(settings, inner api.Object) {
	for _, from := range []api.Object{inner, inner.Child("properties")} {
		for name, setting := range map[string]string{"namespace": "namespace", "defaultInstanceType": "default_instance_type", "instanceTypes": "instance_types"} {
			if from.Has(name) && !settings.Has(setting) {
				settings[setting] = from[name]
			}
		}
	}
}

// withoutCertificateKey gives the document without the key that an AKS cluster's certificate comes with (azureml-v1.md §4.2).
func withoutCertificateKey(doc api.Object) api.Object {
	outer := doc.Child("properties")
	inner := outer.Child("properties")
	if !inner.Has("sslConfiguration") {
		return doc
	}
	ssl := inner.Child("sslConfiguration")
	delete(ssl, "key")
	inner.Set("sslConfiguration", ssl)
	outer.Set("properties", inner)
	out := maps.Clone(doc)
	out.Set("properties", outer)
	return out
}
