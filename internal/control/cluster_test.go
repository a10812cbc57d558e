package control

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// clusters is a fake of the kind "kubernetes": its settings are the real one's, and behind each is a fake machine.
type clusters struct {
	world *fake.World

	mu   sync.Mutex
	seen map[string]any // the settings it was opened with last
}

func newClusters(t *testing.T) *clusters {
	t.Helper()
	c := &clusters{world: fake.New(compute.Limits{})}
	t.Cleanup(c.world.Close)
	return c
}

func (*clusters) Kind() string { return "kubernetes" }

func (*clusters) Schema() json.RawMessage {
	return json.RawMessage(`{"properties":{"address":{},"kubeconfig":{"writeOnly":true},"namespace":{},"image":{},"service_account":{},"gpu_resource":{},"node_selector":{},"priority_class":{},"queue":{}}}`)
}

func (*clusters) Limits() compute.Limits { return compute.Limits{} }

func (c *clusters) Open(ctx context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = map[string]any{}
	if err := json.Unmarshal(settings, &c.seen); err != nil {
		return nil, err
	}
	address, _ := c.seen["address"].(string)
	return c.world.Driver().Open(ctx, json.RawMessage(`{"machine":"`+address+`","slots":4,"gpus":8}`), env)
}

func (c *clusters) opened() map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// twoContexts is a kubeconfig whose second context is not the current one.
const twoContexts = `{"current-context":"blue","contexts":[{"name":"blue","context":{"cluster":"b","user":"bob"}},{"name":"red","context":{"cluster":"r","user":"rob"}}],
	"clusters":[{"name":"b","cluster":{"server":"https://b:6443"}},{"name":"r","cluster":{"server":"https://r:6443"}}],
	"users":[{"name":"bob","user":{"token":"` + hush + `"}},{"name":"rob","user":{"exec":{"command":"kubelogin"}}}]}`

func quoted(text string) string {
	b, _ := json.Marshal(text) // texts always encode
	return string(b)
}

func cluster(address, settings string) func(*AttachRequest) {
	return func(req *AttachRequest) {
		req.Kind, req.Address, req.Settings = "kubernetes", address, json.RawMessage(settings)
	}
}

func TestKubeconfigIsKeptCutDownAndSealed(t *testing.T) {
	k := newClusters(t)
	r := newRig(t, k)
	c := r.attached("k8s", "", cluster("", `{"namespace":"ml","kubeconfig":`+quoted(twoContexts)+`}`))
	if c.Address != "kubeconfig://blue" || strings.Contains(string(c.Settings), "kubeconfig\"") || !strings.Contains(string(c.Settings), `"namespace":"ml"`) {
		t.Errorf("kept are %s and %s", c.Address, c.Settings)
	}
	text, _ := k.opened()["kubeconfig"].(string)
	if !strings.Contains(text, hush) || strings.Contains(text, "kubelogin") || strings.Contains(text, "https://r") {
		t.Errorf("the driver gets %s", text)
	}
	r.nowhere()
	_, err := r.UpdateCompute(t.Context(), r.admin, r.ws, "k8s", UpdateRequest{Settings: json.RawMessage(`{"kubeconfig":` + quoted(strings.ReplaceAll(twoContexts, hush, hush+"-new")) + `}`)})
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := k.opened()["kubeconfig"].(string); !strings.Contains(text, hush+"-new") {
		t.Errorf("after the update the driver gets %s", text)
	}
	again := r.attached("k8s", "", cluster("kubeconfig://", `{"kubeconfig":`+quoted(twoContexts)+`}`))
	if again.ID != c.ID {
		t.Error("attaching the same again is another attachment")
	}
	_, err = r.attach("second", "", cluster("kubeconfig://blue", `{"kubeconfig":`+quoted(twoContexts)+`}`))
	r.refused(err, "AlreadyAttached")
}

func TestKubeconfigsProgramsAndFilesStayAtTheServer(t *testing.T) {
	k := newClusters(t)
	r := newRig(t, k)
	for _, tt := range []struct{ address, text, code string }{
		{"kubeconfig://red", twoContexts, "KubeconfigNeedsProgram"},
		{"kubeconfig://green", twoContexts, "InvalidKubeconfig"},
		{"incluster://", twoContexts, "InvalidAddress"},
		{"", "contexts: " + hush, "InvalidKubeconfig"},
		{"", strings.ReplaceAll(twoContexts, `"token"`, `"tokenFile"`), "InvalidKubeconfig"},
	} {
		_, err := r.attach("k8s", "", cluster(tt.address, `{"kubeconfig":`+quoted(tt.text)+`}`))
		if p := r.refused(err, tt.code); tt.code == "KubeconfigNeedsProgram" && !strings.Contains(p.Mend, "KUBECONFIG") {
			t.Errorf("it does not say what else there is: %v", p)
		}
	}
	_, err := r.attach("k8s", "", cluster("", `{"kubeconfig":{"token":"`+hush+`"}}`))
	r.refused(err, "InvalidKubeconfig")
	if c := r.attached("server", "", cluster("kubeconfig://red", `{}`)); c.Address != "kubeconfig://red" || k.opened()["kubeconfig"] != nil {
		t.Errorf("a context of the server's own kubeconfig: %s, %v", c.Address, k.opened())
	}
	r.attached("inside", "", cluster("incluster://", `{"namespace":"ml"}`))
}

func TestCatalogueHoldsClusters(t *testing.T) {
	const id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Kubernetes/connectedClusters/edge"
	k := newClusters(t)
	r := newRig(t, k)
	put := func(address, settings string) error {
		return r.PutResource(t.Context(), r.admin, ResourceRequest{ID: id, Address: address, Settings: json.RawMessage(settings)})
	}
	byID := func(req *AttachRequest) { req.Kind, req.Address, req.ResourceID = "kubernetes", "", id }
	c, err := r.attach("arc", "", byID)
	if err != nil || c.State != store.ComputeFailed || !strings.Contains(c.HealthReason.Mend, "moorage resource add "+id+" --address kubeconfig://CONTEXT --kubeconfig-file") {
		t.Errorf("%s, %v, %v", c.State, c.HealthReason, err)
	}
	r.refused(put("kubeconfig://red", `{"kubeconfig":`+quoted(twoContexts)+`}`), "KubeconfigNeedsProgram")
	for _, address := range []string{"incluster://", "kubeconfig://arn:aws:eks:eu-1:1:cluster/green", "kubeconfig://blue"} {
		if err := put(address, ""); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := put("kubeconfig://blue", `{"namespace":"ml","default_instance_type":"","instance_types":{"big":{"memory":"8Gi"}},"kubeconfig":`+quoted(twoContexts)+`}`); err != nil {
		t.Fatal(err)
	}
	r.eventually("what failed is attached", func() bool { return r.compute("arc").State == store.ComputeSucceeded })
	if seen := k.opened(); seen["namespace"] != "ml" || !strings.Contains(seen["kubeconfig"].(string), hush) || seen["address"] != "kubeconfig://blue" {
		t.Errorf("the driver gets %v", seen)
	}
	if types, _, err := InstanceTypes(r.compute("arc")); err != nil || types["big"].Memory != 8<<30 {
		t.Errorf("%v, %v", types, err)
	}
	r.nowhere()
}

// onCluster submits a job to a cluster with instance types and gives its spec.
func (r *rig) onCluster(name string, properties ...string) (workspace.JobSpec, error) {
	r.Helper()
	job, err := r.submit(name, append([]string{`"computeId":"k8s"`}, properties...)...)
	var spec workspace.JobSpec
	if err == nil {
		err = json.Unmarshal(job.Spec, &spec)
	}
	return spec, err
}
