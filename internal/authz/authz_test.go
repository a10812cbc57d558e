package authz

import (
	"errors"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestRoleAllowsByPatternWithoutRegardToCase(t *testing.T) {
	reader := Role{Actions: []string{"Microsoft.MachineLearningServices/*/read", "A/listKeys/action"}, NotActions: []string{"*/secrets/read"}}
	for action, want := range map[string]bool{
		"Microsoft.MachineLearningServices/workspaces/jobs/read":    true,
		"microsoft.machinelearningservices/WORKSPACES/read":         true,
		"Microsoft.MachineLearningServices/workspaces/jobs/write":   false,
		"Microsoft.MachineLearningServices/workspaces/secrets/read": false,
		"A/listKeys/action":  true,
		"A/listKeys/action2": false,
		"":                   false,
	} {
		if got := reader.Allows(action); got != want {
			t.Errorf("Allows(%q) = %v, want %v", action, got, want)
		}
	}
}

func TestCheckGivesEachKindOfPrincipalItsRights(t *testing.T) {
	const pull, push = "Microsoft.ContainerRegistry/registries/pull/read", "Microsoft.ContainerRegistry/registries/push/write"
	const jobsRead, jobsWrite, blobRead = "Microsoft.MachineLearningServices/workspaces/jobs/read", "Microsoft.MachineLearningServices/workspaces/jobs/write", "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"
	tests := []struct {
		name   string
		p      workspace.Principal
		action string
		want   bool
	}{
		{"administrator may do anything", workspace.Principal{Kind: "administrator"}, jobsWrite, true},
		{"a job may read", workspace.Principal{Kind: "job", Job: "J"}, jobsRead, true},
		{"a job may not submit", workspace.Principal{Kind: "job", Job: "J"}, jobsWrite, false},
		{"a job without an id is nobody", workspace.Principal{Kind: "job"}, jobsRead, false},
		{"a signed URL reads blobs", workspace.Principal{Kind: "signed"}, blobRead, true},
		{"a signed URL does not submit", workspace.Principal{Kind: "signed"}, jobsWrite, false},
		{"a job pulls images", workspace.Principal{Kind: "job", Job: "J"}, pull, true},
		{"a job pushes none", workspace.Principal{Kind: "job", Job: "J"}, push, false},
		{"a puller pulls", workspace.Principal{Kind: "puller"}, pull, true},
		{"a puller does not push", workspace.Principal{Kind: "puller"}, push, false},
		{"a pusher pushes", workspace.Principal{Kind: "pusher"}, push, true},
		{"a pusher reads no jobs", workspace.Principal{Kind: "pusher"}, jobsRead, false},
		{"nobody may do nothing", workspace.Principal{}, jobsRead, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(tt.p, tt.action)
			if (err == nil) != tt.want {
				t.Fatalf("Check = %v, want allowed %v", err, tt.want)
			}
			if err != nil && !errors.Is(err, &workspace.Problem{Code: "AuthorizationFailed"}) {
				t.Fatalf("Check = %v, want AuthorizationFailed", err)
			}
		})
	}
}
