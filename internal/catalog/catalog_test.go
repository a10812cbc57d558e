package catalog

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestResourceIDsBecomeAddresses(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const vm = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm1"
	err = s.Write(t.Context(), func(tx *store.Tx) error {
		return tx.PutResource(t.Context(), store.Resource{ID: vm, Address: "ssh://host:22"})
	})
	if err != nil {
		t.Fatal(err)
	}
	c := New(s)
	for id, want := range map[string]string{vm: "ssh://host:22", strings.ToUpper(vm): "ssh://host:22", "ssh://bob@other:2222": "ssh://bob@other:2222"} {
		if got, err := c.Find(t.Context(), id); err != nil || got.Address != want {
			t.Errorf("%s: %q, %v", id, got.Address, err)
		}
	}
	for id, example := range map[string]string{
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/other":            "ssh://HOST:22",
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/cluster": "kubeconfig://CONTEXT",
		"/subscriptions/s/resourceGroups/it's <mine>/providers/Microsoft.Databricks/workspaces/w":        `add '/subscriptions/s/resourceGroups/it'\''s <mine>/providers/Microsoft.Databricks/workspaces/w' --address https://HOST`,
		"": "ssh://HOST:22",
	} {
		_, err := c.Find(t.Context(), id)
		p, ok := errors.AsType[*workspace.Problem](err)
		if !ok || p.Code != "UnknownResource" || !strings.Contains(p.Mend, example) {
			t.Errorf("%s: %v", id, err)
		}
	}
}
