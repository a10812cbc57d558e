package control

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/store"
)

const accountID = "/subscriptions/x/resourceGroups/y/providers/Microsoft.Batch/batchAccounts/acct"

// byID attaches as azureml-core does a Batch account: the id and nothing else.
func byID(req *AttachRequest) { req.Address, req.ResourceID = "", accountID }

func TestCatalogueGivesWhatAClientCannot(t *testing.T) {
	r := newRig(t)
	put := func(settings string) error {
		return r.PutResource(t.Context(), r.admin, ResourceRequest{ID: accountID, Address: "fake://m1", Settings: json.RawMessage(settings)})
	}
	r.refused(put(`{"pasword":"`+hush+`"}`), "UnknownSetting")
	r.refused(put(`{"address":"fake://m2"}`), "UnknownSetting")
	r.refused(put(`["`+hush+`"]`), "InvalidSettings")
	if err := put(`{"slots":3,"folder":"/shared","password":"` + hush + `"}`); err != nil {
		t.Fatal(err)
	}
	list, err := r.Resources(t.Context(), r.admin)
	if err != nil || len(list) != 1 || strings.Contains(string(list[0].Settings), hush) || !strings.Contains(string(list[0].Settings), "/shared") || list[0].SecretID == "" {
		t.Errorf("the catalogue shows %+v, %v", list, err)
	}
	c := r.attached("gpu", "", byID, settings(`{"slots":5}`))
	opened, err := r.Settings(t.Context(), c.ID)
	if err != nil || !strings.Contains(string(opened.JSON), hush) || !strings.Contains(string(opened.JSON), "/shared") {
		t.Errorf("the driver lacks what the catalogue has: %v", err)
	}
	if c.Slots != 5 {
		t.Errorf("%d slots: what the client says goes first", c.Slots)
	}
	if err := r.DeleteResource(t.Context(), r.admin, strings.ToUpper(accountID)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Store.Secret(t.Context(), list[0].SecretID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the line is gone and its secret is not: %v", err)
	}
	if _, err := r.Settings(t.Context(), c.ID); err != nil {
		t.Errorf("the attached compute lost its settings: %v", err)
	}
	r.nowhere()
}

func TestNewLineWithoutSecretsForgetsTheOldOnes(t *testing.T) {
	r := newRig(t)
	for _, settings := range []string{`{"password":"` + hush + `"}`, ``} {
		if err := r.PutResource(t.Context(), r.admin, ResourceRequest{ID: accountID, Address: "fake://m1", Settings: json.RawMessage(settings)}); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := r.Store.Secrets(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%d secrets are kept, %v", len(all), err)
	}
}

func TestLineThatMendsAFailedAttachmentAttachesIt(t *testing.T) {
	r := newRig(t)
	failed, err := r.attach("gpu", "", byID)
	if err != nil || failed.State != store.ComputeFailed || failed.HealthReason.Code != "UnknownResource" {
		t.Fatalf("%s, %v, %v", failed.State, failed.HealthReason, err)
	}
	put := func(settings string) {
		t.Helper()
		if err := r.PutResource(t.Context(), r.admin, ResourceRequest{ID: strings.ToUpper(accountID), Address: "fake://m1", Settings: json.RawMessage(settings)}); err != nil {
			t.Fatal(err)
		}
	}
	put(``) // the login may be what the client gave, and that was not kept
	if now := r.compute("gpu"); now.ID != failed.ID {
		t.Error("it was tried again without what it needs")
	}
	put(`{"folder":"/shared"}`)
	r.eventually("attached", func() bool { return r.compute("gpu").State == store.ComputeSucceeded })
}

func TestResourcesAreChecked(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct{ id, address, code string }{
		{"vm1", "ssh://h", "InvalidResourceID"},
		{accountID, "h", "InvalidAddress"},
		{accountID, "", "InvalidAddress"},
		{accountID, "ssh://u:" + hush + "@h", "SecretInAddress"},
	} {
		r.refused(r.PutResource(t.Context(), r.admin, ResourceRequest{ID: tt.id, Address: tt.address}), tt.code)
	}
	if err := r.PutResource(t.Context(), r.admin, ResourceRequest{ID: accountID, Address: "slurm+local:"}); err != nil {
		t.Errorf("the login node of the server's own machine is refused: %v", err)
	}
	r.refused(r.DeleteResource(t.Context(), r.admin, "/subscriptions/none"), "ResourceNotFound")
}
