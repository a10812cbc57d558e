package arm

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// providerRoutes are where azureml-core reads computes and workspaces: beside the resource manager, through which it
// changes them (azureml-v1.md §4).
func (h handlers) providerRoutes() []api.Route {
	const base = "/rp/workspaces" + api.WorkspacePath
	return []api.Route{
		{Method: "GET", Pattern: base, Action: act("read"), Handler: h.getWorkspace},
		{Method: "GET", Pattern: base + "/computes", Action: act("computes/read"), Handler: h.listProviderComputes},
		{Method: "GET", Pattern: base + "/computes/{name}", Action: act("computes/read"), Handler: h.getProviderCompute},
	}
}

// reserved are names that azureml-core keeps for its own: "local" is the computer of the person who runs it.
var reserved = []string{"local", "amlcompute", "containerinstance"}

func (h handlers) listProviderComputes(w http.ResponseWriter, r *http.Request) error {
	rows, err := h.Computes.Computes(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r))
	if err != nil {
		return err
	}
	views := []api.Object{}
	for _, row := range rows {
		if !slices.Contains(reserved, row.Name) {
			views = append(views, h.providerView(r, row))
		}
	}
	return list(w, r, views, "")
}

func (h handlers) getProviderCompute(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	row, err := h.Computes.Compute(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), name)
	if err != nil {
		return err
	}
	if slices.Contains(reserved, name) {
		return &workspace.Problem{
			Class: workspace.NotFound, Code: "ResourceNotFound", Target: name, Message: "the name " + name + " is azureml-core's own, so compute " + name + " cannot be used through it",
			Mend: "attach the machine under another name",
		}
	}
	return api.WriteJSON(w, http.StatusOK, h.providerView(r, row))
}

// classes are the types that azureml-core has classes for. It takes no notice of a compute of another type.
var classes = []string{"VirtualMachine", "HDInsight", "Batch", "Databricks", "DataLakeAnalytics", "SynapseSpark", "Kubernetes", "AKS", "AmlCompute", "DataFactory"}

// providerView is a compute as azureml-core's classes read it: one of a type of ours alone is shown as a virtual machine,
// which is what can be done with it, and the address is a host with a port beside it.
func (h handlers) providerView(r *http.Request, row store.Compute) api.Object {
	view := h.computeView(r, row)
	outer := view.Child("properties")
	inner := outer.Child("properties")
	if !slices.Contains(classes, outer.Text("computeType")) {
		outer.Set("computeType", "VirtualMachine")
	}
	if u, err := url.Parse(row.Address); err == nil && u.Scheme == "ssh" {
		inner.Set("address", u.Hostname())
		if port, err := strconv.Atoi(u.Port()); err == nil {
			inner.Set("sshPort", port)
		}
	}
	outer.Set("properties", inner)
	view.Set("properties", outer)
	return view
}
