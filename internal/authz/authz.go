// Package authz says who may do what: roles as patterns of ARM actions, so that roles of Azure can be written down as
// they are. It knows no requests and no store. Package api asks it for every route.
package authz

import (
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Check refuses a principal whose role lacks the action. The Problem names both.
func Check(p workspace.Principal, action string) error {
	if roleOf(p).Allows(action) {
		return nil
	}
	who := p.Name
	if who == "" {
		who = p.Kind
	}
	return &workspace.Problem{
		Class: workspace.Denied, Code: "AuthorizationFailed", Target: action,
		Message: "the client " + quote(who) + " has no right to perform action " + quote(action),
		Mend:    "use the administrator's token: eval \"$(moorage env)\"",
	}
}

// Role is a set of ARM action patterns. '*' stands for any text, slashes included; letters' case does not count.
type Role struct {
	Name       string
	Actions    []string
	NotActions []string
}

// Allows tells whether an action is among the role's.
func (r Role) Allows(action string) bool {
	return matchAny(r.Actions, action) && !matchAny(r.NotActions, action)
}

// The built-in roles, by the kind of the principal. Which resources a job may name is the route's to say.
var (
	administrator = Role{Name: "administrator", Actions: []string{"*"}}
	job           = Role{Name: "job", Actions: []string{
		"Microsoft.MachineLearningServices/workspaces/read",
		"Microsoft.MachineLearningServices/workspaces/jobs/read",
		"Microsoft.MachineLearningServices/workspaces/experiments/*",
		"Microsoft.MachineLearningServices/workspaces/metrics/*",
		"Microsoft.MachineLearningServices/workspaces/artifacts/*",
		"Microsoft.MachineLearningServices/workspaces/models/*",
		"Microsoft.MachineLearningServices/workspaces/assets/*",
		"Microsoft.MachineLearningServices/workspaces/data/read",
		"Microsoft.MachineLearningServices/workspaces/datasets/*",
		"Microsoft.MachineLearningServices/workspaces/datastores/read",
		"Microsoft.MachineLearningServices/workspaces/datastores/listsecrets/action",
		"Microsoft.MachineLearningServices/workspaces/environments/read",
		"Microsoft.MachineLearningServices/workspaces/snapshots/*",
		"Microsoft.ContainerRegistry/registries/pull/read",
	}}
	puller = Role{Name: "AcrPull", Actions: []string{"Microsoft.ContainerRegistry/registries/pull/read"}}
	pusher = Role{Name: "AcrPush", Actions: []string{
		"Microsoft.ContainerRegistry/registries/pull/read", "Microsoft.ContainerRegistry/registries/push/write", "Microsoft.ContainerRegistry/registries/artifacts/delete",
	}}
	signed = Role{Name: "signed URL", Actions: []string{
		"Microsoft.Storage/storageAccounts/blobServices/containers/*",
		"Microsoft.MachineLearningServices/workspaces/experiments/runs/read",
		"Microsoft.MachineLearningServices/workspaces/jobs/read",
		"Microsoft.MachineLearningServices/workspaces/snapshots/read",
	}}
)

func roleOf(p workspace.Principal) Role {
	switch {
	case p.Administrator():
		return administrator
	case (p.Kind == "job" || p.Kind == "run") && p.Job != "":
		return job
	case p.Kind == "signed":
		return signed
	case p.Kind == "puller":
		return puller
	case p.Kind == "pusher":
		return pusher
	}
	return Role{}
}

func matchAny(patterns []string, action string) bool {
	for _, p := range patterns {
		if match(strings.ToLower(p), strings.ToLower(action)) {
			return true
		}
	}
	return false
}

// match compares text with a pattern in which '*' stands for any text.
func match(pattern, text string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	if !strings.HasPrefix(text, head) {
		return false
	}
	text = text[len(head):]
	for i := 0; i <= len(text); i++ {
		if match(rest, text[i:]) {
			return true
		}
	}
	return false
}

func quote(s string) string {
	if len(s) > 128 {
		s = s[:128] + "…"
	}
	return "\"" + s + "\""
}
