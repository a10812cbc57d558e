package control

import (
	"encoding/json"
	"testing"
)

func TestLinkedServicesAreNamesOfSynapseWorkspaces(t *testing.T) {
	r := newRig(t)
	body := func(id string) json.RawMessage {
		return json.RawMessage(`{"name":"link","properties":{"linkedServiceResourceId":"` + id + `"}}`)
	}
	const id = "/subscriptions/s/resourcegroups/g/providers/Microsoft.Synapse/workspaces/w"
	if _, err := r.PutLink(t.Context(), r.admin, r.ws, "link", body(id)); err != nil {
		t.Fatal(err)
	}
	_, err := r.PutLink(t.Context(), r.admin, r.ws, "other", body("/subscriptions/s/resourceGroups/g/providers/Microsoft.Synapse/workspaces/w/bigDataPools/p"))
	r.refused(err, "InvalidLinkedService")
	_, err = r.PutLink(t.Context(), r.admin, r.ws, "a/b", body(id))
	r.refused(err, "InvalidName")
	if all, err := r.Links(t.Context(), r.ws); err != nil || len(all) != 1 || all[0].Name != "link" {
		t.Errorf("links %v, %v", all, err)
	}
	if err := r.DeleteLink(t.Context(), r.admin, r.ws, "link"); err != nil {
		t.Fatal(err)
	}
	_, err = r.Link(t.Context(), r.ws, "link")
	r.refused(err, "ResourceNotFound")
	r.refused(r.DeleteLink(t.Context(), r.admin, r.ws, "link"), "ResourceNotFound")
}
