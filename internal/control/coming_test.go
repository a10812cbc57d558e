package control

import (
	"errors"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const databricksID = "/subscriptions/x/resourceGroups/y/providers/Microsoft.Databricks/workspaces/w"

func TestKindWithoutADriverFailsPlainlyAndKeepsNoSecret(t *testing.T) {
	r := newRig(t)
	ofKind := func(kind string) func(*AttachRequest) {
		return func(req *AttachRequest) {
			req.Kind, req.ResourceID, req.Address = kind, databricksID, ""
			req.Settings = []byte(`{"access_token":"` + hush + `"}`)
		}
	}
	for kind, name := range foreseen {
		c, err := r.attach("later", "", ofKind(kind))
		if err != nil || c.State != store.ComputeFailed || c.HealthReason == nil || c.HealthReason.Code != "UnsupportedComputeType" {
			t.Fatalf("%s: %s, %v, %v", kind, c.State, c.HealthReason, err)
		}
		for _, word := range []string{`"later"`, "does not yet run", name} {
			if !strings.Contains(c.HealthReason.Message, word) {
				t.Errorf("%s: %q does not say %s", kind, c.HealthReason.Message, word)
			}
		}
		if _, err := r.Store.Secret(t.Context(), c.ID); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: a secret is kept: %v", kind, err)
		}
	}
	r.nowhere()
	if _, err := r.submit("job", `"computeId":"later"`); err == nil {
		t.Error("it takes jobs")
	}
	r.attached("later", "fake://m1") // the name is free
}

func TestKindWithoutADriverSaysWhichAddressItWillNeed(t *testing.T) {
	r := newRig(t)
	fails := func(change func(*AttachRequest)) *workspace.Problem {
		t.Helper()
		c, err := r.attach("later", "", func(req *AttachRequest) { req.Kind, req.Address, req.ResourceID = "databricks", "", databricksID }, change)
		if err != nil || c.HealthReason == nil {
			t.Fatalf("%s, %v", c.State, err)
		}
		return c.HealthReason
	}
	line := "moorage resource add " + databricksID + " --address https://"
	if p := fails(func(*AttachRequest) {}); !strings.Contains(p.Mend, line) {
		t.Errorf("the mend %q lacks the line %q", p.Mend, line)
	}
	if p := fails(func(req *AttachRequest) { req.Address = "https://w.example" }); strings.Contains(p.Error(), "resource add") {
		t.Errorf("asks for an address that was given: %v", p)
	}
	if err := r.PutResource(t.Context(), r.admin, ResourceRequest{ID: databricksID, Address: "https://w.example"}); err != nil {
		t.Fatal(err)
	}
	if p := fails(func(*AttachRequest) {}); strings.Contains(p.Error(), "resource add") {
		t.Errorf("asks for an address that is in the catalogue: %v", p)
	}
}

func TestUnknownResourceIsAFailedComputeWithTheLineThatMendsIt(t *testing.T) {
	r := newRig(t)
	const id = "/subscriptions/x/resourceGroups/y/providers/Microsoft.Compute/virtualMachines/vm1"
	byID := func(req *AttachRequest) { req.Address, req.ResourceID = "", id }
	c, err := r.attach("gpu", "", byID, settings(`{"password":"`+hush+`"}`))
	if err != nil || c.State != store.ComputeFailed || c.HealthReason.Code != "UnknownResource" {
		t.Fatalf("%s, %v, %v", c.State, c.HealthReason, err)
	}
	if p := c.HealthReason; !strings.Contains(p.Message, `"gpu"`) || !strings.Contains(p.Mend, "moorage resource add "+id+" --address ") {
		t.Errorf("it says %v", p)
	}
	r.nowhere()
	if _, err := r.Detach(t.Context(), r.admin, r.ws, "gpu", DetachOptions{}); err != nil {
		t.Fatalf("it cannot be detached: %v", err)
	}
	if err := r.PutResource(t.Context(), r.admin, ResourceRequest{ID: id, Address: "fake://m1"}); err != nil {
		t.Fatal(err)
	}
	r.attached("gpu", "", byID)
}

func TestFailedAttachmentDoesNotTakeTheNameOfAGoodOne(t *testing.T) {
	r := newRig(t)
	first := r.attached("gpu", "fake://m1")
	_, err := r.attach("gpu", "", func(req *AttachRequest) { req.Kind, req.ResourceID = "databricks", databricksID })
	r.refused(err, "ComputeNameTaken")
	if now := r.compute("gpu"); now.ID != first.ID || now.State != store.ComputeSucceeded {
		t.Errorf("the first is %s", now.State)
	}
}

func TestAzureBatchItselfIsStillToCome(t *testing.T) {
	p := wrongAddress(AttachRequest{Kind: "batch", Address: "https://acct.west.batch.azure.com", ResourceID: "/subscriptions/s/batchAccounts/acct"})
	if p == nil || !strings.Contains(p.Message, "does not yet") || !strings.Contains(p.Mend, "moorage resource add /subscriptions/s/batchAccounts/acct --address slurm+ssh://") {
		t.Errorf("%v", p)
	}
	for _, ok := range []AttachRequest{{Kind: "batch", Address: "slurm+ssh://login"}, {Kind: "ssh", Address: "https://x"}} {
		if p := wrongAddress(ok); p != nil {
			t.Errorf("%+v: %v", ok, p)
		}
	}
}

func TestAddressOfTheCatalogueGetsTheCallersPort(t *testing.T) {
	for address, want := range map[string]string{
		"ssh://192.0.2.7":        "ssh://192.0.2.7:2222",
		"ssh://bob@[2001:db8::]": "ssh://bob@[2001:db8::]:2222",
		"ssh://192.0.2.7:22":     "ssh://192.0.2.7:22",
		"https://192.0.2.7":      "https://192.0.2.7",
		"kubeconfig://context":   "kubeconfig://context",
	} {
		if got := withPort(address, 2222); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
		if got := withPort(address, 0); got != address {
			t.Errorf("%s without a port: %s", address, got)
		}
	}
}
