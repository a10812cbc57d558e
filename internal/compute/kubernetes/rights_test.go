package kubernetes

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestQuotasAndPoliciesAreSaidInTheirOwnWords(t *testing.T) {
	k := engine.StartKubernetes(t)
	t.Run("quota", func(t *testing.T) {
		r := newRig(t, k)
		k.Kubectl(t, "-n", r.namespace, "create", "quota", "none", "--hard=pods=0")
		target := r.open()
		h := r.submit(target, r.job("exit 0"))
		r.because(target, h, compute.Waiting, "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0")
		if err := target.Cancel(t.Context(), h, 1); err != nil {
			t.Fatal(err)
		}
		if x := r.end(target, h); x.Outcome != compute.Canceled {
			t.Errorf("exit: %+v", x)
		}
		f, err := target.Probe(t.Context())
		if err != nil || f.Details["quota.none"] != "pods 0/0" {
			t.Errorf("the probe tells %v, %v", f.Details, err)
		}
	})
	t.Run("quota of Jobs", func(t *testing.T) {
		r := newRig(t, k)
		k.Kubectl(t, "-n", r.namespace, "create", "quota", "none", "--hard=count/jobs.batch=0")
		_, err := r.open().Submit(t.Context(), r.job("exit 0"))
		isKind(t, err, compute.ErrFull, "exceeded quota")
	})
	t.Run("pod security", func(t *testing.T) {
		r := newRig(t, k)
		k.Kubectl(t, "label", "namespace", r.namespace, "pod-security.kubernetes.io/enforce=restricted")
		target := r.open()
		x := r.end(target, r.submit(target, r.job("exit 0")))
		if x.Outcome != compute.Failed || x.Problem == nil || x.Problem.Code != "PodSecurity" || !strings.Contains(x.Problem.Cause, "restricted") {
			t.Errorf("exit: %+v, %v", x, x.Problem)
		}
	})
	t.Run("limit range", func(t *testing.T) {
		r := newRig(t, k)
		k.Apply(t, "apiVersion: v1\nkind: LimitRange\nmetadata: {name: small}\nspec: {limits: [{type: Container, max: {memory: 100Mi}}]}\n", "-n", r.namespace)
		target := r.open()
		job := r.job("exit 0")
		job.Resources = compute.Resources{Memory: 1 << 30, MemoryLimit: 1 << 30}
		x := r.end(target, r.submit(target, job))
		if x.Outcome != compute.Failed || x.Problem == nil || x.Problem.Code != "LimitRange" || !strings.Contains(x.Problem.Cause, "100Mi") {
			t.Errorf("exit: %+v, %v", x, x.Problem)
		}
	})
	t.Run("priority class", func(t *testing.T) {
		r := newRig(t, k)
		target := r.open()
		job := r.job("exit 0")
		job.Resources.Priority = "no-such-class"
		x := r.end(target, r.submit(target, job))
		if x.Outcome != compute.Failed || x.Problem == nil || x.Problem.Code != "NoPriorityClass" {
			t.Errorf("exit: %+v, %v", x, x.Problem)
		}
	})
}

func TestRightsThatAreMissingAreSaidVerbByVerb(t *testing.T) {
	k := engine.StartKubernetes(t)
	r := newRig(t, k)
	admin := r.settings
	r.settings = Settings{
		Address: "https://" + server(t, k.Kubeconfig), Namespace: r.namespace, Image: k.Image,
		CA: k.Kubectl(t, "-n", r.namespace, "get", "configmap", "kube-root-ca.crt", "-o", `jsonpath={.data.ca\.crt}`),
	}
	account := func(name string, without func(r right, verb string) bool) string {
		var rules []object
		for _, x := range rights {
			for _, verb := range x.verbs {
				if !without(x, verb) {
					rules = append(rules, object{"apiGroups": []string{x.group}, "resources": []string{x.name()}, "verbs": []string{verb}})
				}
			}
		}
		role, err := json.Marshal(object{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": object{"name": name}, "rules": rules})
		if err != nil {
			t.Fatal(err)
		}
		k.Apply(t, string(role), "-n", r.namespace)
		k.Kubectl(t, "-n", r.namespace, "create", "serviceaccount", name)
		k.Kubectl(t, "-n", r.namespace, "create", "rolebinding", name, "--role="+name, "--serviceaccount="+r.namespace+":"+name)
		return k.Kubectl(t, "-n", r.namespace, "create", "token", name)
	}
	r.settings.Token = account("narrow", func(x right, verb string) bool {
		return x.name() == "jobs" && verb == "patch" || x.name() == "pods/exec" || x.name() == "events"
	})
	f, err := r.open().Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	for _, p := range f.Problems {
		if p.Code == "RightMissing" {
			said[strings.Fields(p.Message)[4]+" "+p.Target+fmt.Sprint(p.Warning)] = true
			if !strings.Contains(p.Mend, "--resource="+strings.ReplaceAll(p.Target, "jobs", "jobs.batch")) {
				t.Errorf("the mend of %v is %q", p.Message, p.Mend)
			}
		}
	}
	for _, want := range []string{"patch jobsfalse", "create pods/execfalse", "get pods/execfalse", "list eventstrue"} {
		if !said[want] {
			t.Errorf("%s is not said", want)
		}
	}
	if len(said) != 4 {
		t.Errorf("said are %v", said)
	}

	// What the table grants is enough for a job's whole life.
	r.settings.Token = account("enough", func(right, string) bool { return false })
	target := r.open()
	f, err = target.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Problems {
		if !p.Warning || p.Code == "RightMissing" {
			t.Errorf("with all rights: %v", &p)
		}
	}
	job := r.job("echo allowed; echo o >outputs/o")
	job.Ranks = compute.Ranks{Nodes: 2}
	h := r.submit(target, job)
	if x := r.end(target, h); x.Outcome != compute.Succeeded {
		t.Errorf("exit: %+v, %v", x, x.Problem)
	}
	if err := target.Collect(t.Context(), h, &computetest.Home{}); err != nil {
		t.Error(err)
	}
	g := r.submit(target, r.job("sleep 60"))
	if err := target.Cancel(t.Context(), g, 1); err != nil {
		t.Error(err)
	}
	if err := target.RemoveAll(t.Context()); err != nil {
		t.Error(err)
	}

	r.settings = admin
	r.settings.Namespace = "not-there"
	if f, err = r.open().Probe(t.Context()); err != nil || len(f.Problems) != 1 || f.Problems[0].Code != "NamespaceMissing" {
		t.Errorf("a namespace that is not there: %v, %v", f.Problems, err)
	}
	if _, err := r.open().Submit(t.Context(), r.job("exit 0")); err == nil {
		t.Error("a job is taken for a namespace that is not there")
	}
}
