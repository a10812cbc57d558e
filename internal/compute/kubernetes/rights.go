package kubernetes

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// right is what the driver does with one resource of the namespace.
type right struct {
	group, resource, sub string
	verbs                []string
	without              string // what does not work without it; empty: nothing does
}

// rights are all that the driver uses. docs and the test of narrow rights are held against them.
var rights = []right{
	{"batch", "jobs", "", []string{"create", "get", "list", "watch", "patch", "delete"}, ""},
	{"", "pods", "", []string{"list", "watch"}, ""},
	{"", "pods", "exec", []string{"create", "get"}, ""}, // by which of the two a WebSocket is judged depends on the version
	{"", "configmaps", "", []string{"get", "create", "patch", "list", "delete"}, ""},
	{"", "events", "", []string{"list"}, "why the cluster makes no pod is not told"},
	{"", "services", "", []string{"create"}, "jobs on several nodes are refused"},
	{"", "secrets", "", []string{"create", "patch", "delete"}, "images behind a login are refused"},
}

func (r right) name() string {
	if r.sub != "" {
		return r.resource + "/" + r.sub
	}
	return r.resource
}

// allowed asks the cluster whether the credentials may do something in the namespace.
func (c *cluster) allowed(ctx context.Context, r right, verb string) (bool, error) {
	var out struct {
		Status struct {
			Allowed bool `json:"allowed"`
		} `json:"status"`
	}
	err := c.create(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", object{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
		"spec": object{"resourceAttributes": object{"namespace": c.namespace, "group": r.group, "resource": r.resource, "subresource": r.sub, "verb": verb}},
	}, &out)
	return out.Status.Allowed, err
}

// findRights asks about each verb and says each that is missing, with what grants it.
func (t *Target) findRights(ctx context.Context, f *compute.Facts) error {
	missing := make([][]bool, len(rights))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, r := range rights {
		missing[i] = make([]bool, len(r.verbs))
		for j, verb := range r.verbs {
			g.Go(func() error {
				ok, err := t.cluster.allowed(gctx, r, verb)
				missing[i][j] = !ok
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, r := range rights {
		for j, verb := range r.verbs {
			if missing[i][j] {
				f.Problems = append(f.Problems, t.lacks(r, verb))
			}
		}
	}
	return nil
}

func (t *Target) lacks(r right, verb string) workspace.Problem {
	p := workspace.Problem{
		Class: workspace.Denied, Code: "RightMissing", Target: r.name(), Warning: r.without != "",
		Message: fmt.Sprintf("the credentials may not %s %s in namespace %s", verb, r.name(), t.cluster.namespace), Cause: r.without,
		Mend: fmt.Sprintf("kubectl create role moorage-%s -n %s --verb=%s --resource=%s, and bind it to the account with kubectl create rolebinding",
			strings.ReplaceAll(r.name(), "/", "-"), t.cluster.namespace, strings.Join(r.verbs, ","), grouped(r)),
	}
	return p
}

// grouped is a resource as kubectl create role takes it.
func grouped(r right) string {
	name := r.resource
	if r.group != "" {
		name += "." + r.group
	}
	if r.sub != "" {
		name += "/" + r.sub
	}
	return name
}
