package arm

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/attach"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// computeView is the document with what the server knows laid over: state and times outside, address, health and facts
// inside.
func (h handlers) computeView(r *http.Request, row store.Compute) api.Object {
	place := api.WorkspaceOf(r)
	doc := api.AsObject(row.Doc)
	outer := doc.Child("properties")
	inner := outer.Child("properties")
	outer.Fill("computeType", attach.ComputeType(row.Kind))
	outer.Fill("computeLocation", place.Location)
	outer.Fill("resourceId", row.ResourceID)
	if row.Alias != "" {
		if outer.Text("description") == "" {
			outer.Set("description", "stands for compute "+row.Alias+"; it provisions nothing")
		}
		outer.Set("isAttachedCompute", false)
		inner.Set("alias", row.Alias)
		steady(inner)
	} else {
		outer.Set("isAttachedCompute", true)
		if row.Address != "" && !inner.Has("address") {
			inner.Set("address", row.Address)
		}
	}
	outer.Set("createdOn", api.FormatTime(row.Created))
	outer.Set("modifiedOn", api.FormatTime(row.Modified))
	outer.Set("provisioningState", string(row.State))
	outer.Set("provisioningErrors", nil)
	if row.State == store.ComputeFailed && row.HealthReason != nil {
		outer.Set("provisioningErrors", []map[string]verdict{{"error": verdictOf(row.HealthReason)}})
	}
	present(outer, "description")
	outer.Fill("disableLocalAuth", false)
	present(inner, needed[outer.Text("computeType")]...)
	h.known(inner, row)
	if same(outer.Text("computeType"), "Kubernetes") && row.State == store.ComputeSucceeded {
		cluster(inner, row)
	}
	outer.Set("properties", inner)
	doc.Set("properties", outer)
	doc.Fill("location", place.Location)
	doc.Fill("tags", map[string]string{})
	doc.Set("systemData", systemData(row.Created, row.Modified, row.CreatedBy, ""))
	return envelope(doc, place.Path()+"/computes/"+row.Name, row.Name, "/computes")
}

// steady shows an AmlCompute with as many nodes as its least, because azureml-core waits for them; there is always one.
func steady(inner api.Object) {
	nodes := 1
	var scale struct {
		Min int `json:"minNodeCount"`
	}
	if json.Unmarshal(inner["scaleSettings"], &scale) == nil {
		nodes = max(nodes, scale.Min)
	}
	inner.Set("allocationState", "Steady")
	inner.Set("currentNodeCount", nodes)
	inner.Set("targetNodeCount", nodes)
}

// needed are the inner properties of a type without which azureml-core cannot read a compute, not even in a list; null
// is good enough (azureml-v1.md §4.2).
var needed = map[string][]string{
	"AKS":        {"agentVmSize", "agentCount", "clusterPurpose", "clusterFqdn", "systemServices", "loadBalancerType", "loadBalancerSubnet", "sslConfiguration"},
	"AmlCompute": {"vmSize", "vmPriority", "scaleSettings", "subnet"},
}

// present sees to it that fields are there; null when nothing is known of them.
func present(o api.Object, fields ...string) {
	for _, f := range fields {
		if len(o[f]) == 0 {
			o[f] = json.RawMessage("null")
		}
	}
}

// known lays what was seen of the target over the inner properties.
func (h handlers) known(inner api.Object, row store.Compute) {
	inner.Set("kind", row.Kind)
	inner.Set("health", string(row.Health))
	if row.Slots > 0 {
		inner.Set("slots", row.Slots)
	}
	if row.HealthReason != nil && row.State == store.ComputeSucceeded {
		inner.Set("healthReason", row.HealthReason)
	}
	if len(row.Facts) > 0 {
		var facts struct {
			Details  map[string]string
			Problems []workspace.Problem
		}
		if json.Unmarshal(row.Facts, &facts) == nil {
			inner.Set("details", facts.Details)
			if len(facts.Problems) > 0 {
				inner.Set("problems", facts.Problems)
			}
		}
	}
	if settings := api.AsObject(row.Settings); len(settings) > 0 {
		inner.Set("settings", settings)
	}
}

// cluster shows of a Kubernetes cluster what Azure's clients look for: the namespace, and what instance types mean
// (azureml-v2.md §5). What the settings say is what counts, whoever wrote the document.
func cluster(inner api.Object, row store.Compute) {
	if namespace := api.AsObject(row.Settings).Text("namespace"); namespace != "" {
		inner.Set("namespace", namespace)
	}
	types, usual, err := control.InstanceTypes(row)
	if err != nil || len(types) == 0 { // what cannot be read has no meaning for jobs either
		delete(inner, "instanceTypes")
		return
	}
	shown := map[string]any{}
	for name, t := range types {
		shown[name] = instanceView(t)
	}
	inner.Set("instanceTypes", shown)
	if usual != "" {
		inner.Set("defaultInstanceType", usual)
	}
}

// instanceView is an instance type in Azure's words. Its quantities are texts there.
func instanceView(t control.InstanceType) map[string]any {
	quantities := func(cpus float64, memory int64) map[string]string {
		q := map[string]string{}
		if cpus > 0 {
			q["cpu"] = strconv.FormatFloat(cpus, 'f', -1, 64)
		}
		if memory > 0 {
			q["memory"] = strconv.FormatInt(memory, 10)
		}
		return q
	}
	requests, limits := quantities(t.CPUs, t.Memory), quantities(t.CPULimit, t.MemoryLimit)
	if t.GPUs > 0 {
		limits["nvidia.com/gpu"] = strconv.Itoa(t.GPUs)
	}
	view := map[string]any{"resources": map[string]any{"requests": requests, "limits": limits}}
	if len(t.Selector) > 0 {
		view["nodeSelector"] = t.Selector
	}
	return view
}
