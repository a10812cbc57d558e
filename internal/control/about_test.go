package control

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsSaidOfAWorkspaceIsKept(t *testing.T) {
	r := newRig(t)
	for _, change := range []About{
		{FriendlyName: "Ours", Tags: map[string]string{"team": "a", "cost": "low"}},
		{Description: "for vision", Tags: map[string]string{"team": "b"}},
		{},
	} {
		if err := r.DescribeWorkspace(t.Context(), r.admin, r.ws, change); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.AboutWorkspace(t.Context(), r.ws)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(About{FriendlyName: "Ours", Description: "for vision", Tags: map[string]string{"team": "b", "cost": "low"}}, got); d != "" {
		t.Error(d)
	}
}
