package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Probe is the pre-flight: who the cluster is, which rights the credentials have, and what a job would meet there. What may
// not be read is not known and no finding.
func (t *Target) Probe(ctx context.Context) (compute.Facts, error) {
	if err := t.open(); err != nil {
		return compute.Facts{}, err
	}
	f := compute.Facts{Details: map[string]string{
		"os": "linux", "namespace": t.cluster.namespace, "address": t.cluster.base, "containers": "kubernetes", "gpu_resource": t.settings.GPUResource,
	}}
	if t.settings.Image != "" {
		f.Details["image"] = t.settings.Image
	}
	var version struct {
		Git      string `json:"gitVersion"`
		Platform string `json:"platform"`
	}
	if err := t.cluster.get(ctx, "/version", nil, &version); err != nil {
		return f, t.failed(ctx, err)
	}
	f.Details["version"] = version.Git
	for _, look := range []func(context.Context, *compute.Facts) error{
		t.findIdentity, t.findRights, t.findNamespace, t.findNodes, t.findQueues, t.findNames, t.findBounds, t.tryJob,
	} {
		if err := look(ctx, &f); err != nil {
			return f, t.failed(ctx, err)
		}
	}
	return f, nil
}

// unless passes an error on, but for those that say that something may not be read or is not there.
func unless(err error) error {
	if c := code(err); c == http.StatusForbidden || c == http.StatusNotFound {
		return nil
	}
	return err
}

// findIdentity takes the uid of a namespace that every cluster has, and none another's.
func (t *Target) findIdentity(ctx context.Context, f *compute.Facts) error {
	var ns struct {
		Meta meta `json:"metadata"`
	}
	err := t.cluster.get(ctx, "/api/v1/namespaces/kube-system", nil, &ns)
	if err == nil {
		f.Identity = []string{ns.Meta.UID, t.cluster.namespace}
		return nil
	}
	if unless(err) != nil {
		return err
	}
	f.Identity = []string{"ca-" + hash(string(t.cluster.config.CAData), t.cluster.base), t.cluster.namespace}
	f.Problems = append(f.Problems, workspace.Problem{
		Class: workspace.Denied, Code: "NoClusterID", Message: "the cluster is known by its address and certificate authority only", Cause: err.Error(), Warning: true,
		Mend: "let the credentials get the namespace kube-system, so that the same cluster under another address is recognised",
	})
	return nil
}

// findNamespace looks whether the namespace is there, as far as that may be seen.
func (t *Target) findNamespace(ctx context.Context, f *compute.Facts) error {
	err := t.cluster.get(ctx, "/api/v1/namespaces/"+url.PathEscape(t.cluster.namespace), nil, nil)
	if gone(err) {
		f.Problems = append(f.Problems, t.noNamespace(err))
	}
	return unless(err)
}

func (t *Target) noNamespace(err error) workspace.Problem {
	return workspace.Problem{
		Class: workspace.NotFound, Code: "NamespaceMissing", Message: "the cluster has no namespace " + t.cluster.namespace, Cause: err.Error(),
		Mend: "kubectl create namespace " + t.cluster.namespace + ", or correct the compute's settings",
	}
}

// findNodes counts what the nodes have, if they may be seen.
func (t *Target) findNodes(ctx context.Context, f *compute.Facts) error {
	var all struct {
		Items []struct {
			Meta   meta `json:"metadata"`
			Status struct {
				Allocatable map[string]string `json:"allocatable"`
				Info        struct {
					Arch string `json:"architecture"`
				} `json:"nodeInfo"`
			} `json:"status"`
		} `json:"items"`
	}
	err := t.cluster.get(ctx, "/api/v1/nodes", url.Values{"limit": {strconv.Itoa(pageSize)}}, &all)
	if err != nil {
		return unless(err)
	}
	gpus, fits := 0, 0
	var arches []string
	for _, n := range all.Items {
		matches := true
		for k, v := range t.settings.NodeSelector {
			matches = matches && n.Meta.Labels[k] == v
		}
		if !matches {
			continue
		}
		fits++
		count, _ := strconv.Atoi(n.Status.Allocatable[t.settings.GPUResource]) // absent: none
		gpus += count
		if a := n.Status.Info.Arch; a != "" && !slices.Contains(arches, a) {
			arches = append(arches, a)
		}
	}
	slices.Sort(arches)
	f.Details["nodes"], f.Details["gpus"] = strconv.Itoa(fits), strconv.Itoa(gpus)
	if len(arches) == 1 {
		f.Details["arch"] = arches[0]
	} else {
		f.Details["arches"] = strings.Join(arches, " ")
	}
	if fits == 0 && len(all.Items) > 0 {
		f.Problems = append(f.Problems, workspace.Problem{
			Class: workspace.Invalid, Code: "NoNodeMatches", Message: "no node of the cluster has the labels of the compute's node selector", Cause: fmt.Sprint(t.settings.NodeSelector), Warning: true,
			Mend: "correct node_selector: kubectl get nodes --show-labels",
		})
	}
	return nil
}

// findQueues tells of the queueing systems that the cluster has, and looks for the queue of the settings.
func (t *Target) findQueues(ctx context.Context, f *compute.Facts) error {
	var groups struct {
		Groups []struct {
			Name      string `json:"name"`
			Preferred struct {
				GroupVersion string `json:"groupVersion"`
			} `json:"preferredVersion"`
		} `json:"groups"`
	}
	if err := t.cluster.get(ctx, "/apis", nil, &groups); err != nil {
		return unless(err)
	}
	var have []string
	kueue := ""
	for _, g := range groups.Groups {
		switch g.Name {
		case "kueue.x-k8s.io":
			have, kueue = append(have, "kueue"), g.Preferred.GroupVersion
		case "jobset.x-k8s.io":
			have = append(have, "jobset")
		case "batch.volcano.sh":
			have = append(have, "volcano")
		}
	}
	if len(have) > 0 {
		f.Details["extensions"] = strings.Join(have, " ")
	}
	switch {
	case kueue == "" && t.settings.Queue != "":
		f.Problems = append(f.Problems, workspace.Problem{
			Class: workspace.Invalid, Code: "NoKueue", Message: "the settings name a queue, and the cluster has no Kueue", Warning: true, Mend: "install Kueue there, or remove the setting queue",
		})
		return nil
	case kueue == "":
		return nil
	}
	var queues struct {
		Items []struct {
			Meta meta `json:"metadata"`
		} `json:"items"`
	}
	err := t.cluster.get(ctx, t.cluster.path(resource{"apis/" + kueue, "localqueues"}), nil, &queues)
	if err != nil {
		return unless(err)
	}
	var names []string
	for _, q := range queues.Items {
		names = append(names, q.Meta.Name)
	}
	f.Details["queues"] = strings.Join(names, " ")
	if q := t.settings.Queue; q != "" && !slices.Contains(names, q) {
		f.Problems = append(f.Problems, workspace.Problem{
			Class: workspace.Invalid, Code: "NoSuchQueue", Message: "the namespace has no queue " + q, Cause: "its queues are: " + f.Details["queues"], Mend: "correct the setting queue",
		})
	}
	return nil
}

// findNames looks for the objects that the settings name.
func (t *Target) findNames(ctx context.Context, f *compute.Facts) error {
	named := []struct{ what, setting, name, path string }{
		{"service account", "service_account", t.settings.ServiceAccount, t.cluster.path(resource{"api/v1", "serviceaccounts"}, t.settings.ServiceAccount)},
		{"priority class", "priority_class", t.settings.PriorityClass, "/apis/scheduling.k8s.io/v1/priorityclasses/" + url.PathEscape(t.settings.PriorityClass)},
	}
	for _, s := range t.settings.PullSecrets {
		named = append(named, struct{ what, setting, name, path string }{"Secret", "pull_secrets", s, t.cluster.path(secrets, s)})
	}
	for _, n := range named {
		if n.name == "" {
			continue
		}
		err := t.cluster.get(ctx, n.path, nil, nil)
		if gone(err) {
			f.Problems = append(f.Problems, workspace.Problem{
				Class: workspace.Invalid, Code: "NameMissing", Target: n.setting, Message: "the cluster has no " + n.what + " " + n.name, Cause: err.Error(), Mend: "make it, or correct the setting " + n.setting,
			})
		}
		if err := unless(err); err != nil {
			return err
		}
	}
	return nil
}

// findBounds tells of quotas and limit ranges, if they may be seen.
func (t *Target) findBounds(ctx context.Context, f *compute.Facts) error {
	var quotas struct {
		Items []struct {
			Meta   meta `json:"metadata"`
			Status struct {
				Hard map[string]string `json:"hard"`
				Used map[string]string `json:"used"`
			} `json:"status"`
		} `json:"items"`
	}
	if err := t.cluster.get(ctx, t.cluster.path(resource{"api/v1", "resourcequotas"}), nil, &quotas); err != nil {
		return unless(err)
	}
	for _, q := range quotas.Items {
		var parts []string
		for name, hard := range q.Status.Hard {
			parts = append(parts, name+" "+q.Status.Used[name]+"/"+hard)
		}
		slices.Sort(parts)
		f.Details["quota."+q.Meta.Name] = strings.Join(parts, ", ")
	}
	var ranges struct {
		Items []struct {
			Meta meta `json:"metadata"`
		} `json:"items"`
	}
	if err := t.cluster.get(ctx, t.cluster.path(resource{"api/v1", "limitranges"}), nil, &ranges); err != nil {
		return unless(err)
	}
	var names []string
	for _, r := range ranges.Items {
		names = append(names, r.Meta.Name)
	}
	if len(names) > 0 {
		f.Details["limit_ranges"] = strings.Join(names, " ")
	}
	return nil
}

// tryJob has the cluster judge a Job without making it: what policies refuse is known before anybody waits for a job. Its pod
// is judged only when it is made.
func (t *Target) tryJob(ctx context.Context, f *compute.Facts) error {
	key := compute.Key{Server: t.env.Server, Compute: t.env.Compute, Job: "preflight", Attempt: 1}
	job := compute.Job{Key: key, Name: "preflight", Grace: keeper.DefaultGrace}
	if t.settings.Image == "" {
		job.Image = &compute.Image{Name: "canceled.invalid/nothing:1"}
	}
	err := t.cluster.call(ctx, http.MethodPost, t.cluster.path(jobs), url.Values{"dryRun": {"All"}}, t.manifest(job), nil)
	r, ok := errors.AsType[*refusal](err)
	switch {
	case err == nil:
		return nil
	case !ok || r.Code == http.StatusTooManyRequests:
		return err
	case r.Code == http.StatusNotFound:
		if !slices.ContainsFunc(f.Problems, func(p workspace.Problem) bool { return p.Code == "NamespaceMissing" }) {
			f.Problems = append(f.Problems, t.noNamespace(err))
		}
	case slices.ContainsFunc(f.Problems, func(p workspace.Problem) bool { return p.Code == "RightMissing" && p.Target == "jobs" }): // said already
	case full(r):
		f.Problems = append(f.Problems, workspace.Problem{
			Class: workspace.Unavailable, Code: "QuotaExceeded", Message: "the namespace's quota is used up", Cause: r.Message, Warning: true, Mend: "wait for other jobs there to end, or have the quota raised",
		})
	default:
		f.Problems = append(f.Problems, workspace.Problem{
			Class: workspace.Invalid, Code: "JobRefused", Message: "the cluster would not take a job", Cause: r.Message, Mend: "correct the compute's settings, or ask whoever keeps the cluster's policies",
		})
	}
	return nil
}
