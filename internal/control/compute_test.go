package control

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/fake"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestAttachKeepsWhatItFoundAndHidesSecrets(t *testing.T) {
	r := newRig(t)
	c := r.attached("gpu", "fake://m1", settings(`{"password":"`+hush+`","slots":3}`))
	if c.Slots != 3 || c.Health != store.Healthy || c.Due == nil || len(c.Identity) != 1 || c.Address != "fake://m1" {
		t.Errorf("row %+v", c)
	}
	var facts compute.Facts
	if err := json.Unmarshal(c.Facts, &facts); err != nil || facts.Details["machine"] != "m1" {
		t.Errorf("facts %s, %v", c.Facts, err)
	}
	opened, err := r.Settings(t.Context(), c.ID)
	if err != nil || !strings.Contains(string(opened.JSON), hush) {
		t.Errorf("the driver does not get the secret: %v", err)
	}
	keys, err := r.ComputeSecrets(t.Context(), r.admin, r.ws, "gpu")
	if err != nil || keys["password"].Reveal() != hush {
		t.Errorf("keys %v, %v", keys, err)
	}
	r.nowhere()
}

func TestFailedAttachmentIsShownAndTriedAgain(t *testing.T) {
	r := newRig(t)
	c, err := r.attach("gpu", "fake://m1", settings(`{"password":"wrong"}`))
	if err != nil || c.State != store.ComputeFailed || c.HealthReason == nil || c.HealthReason.Code != "LoginRefused" {
		t.Fatalf("state %s, %v, %v", c.State, c.HealthReason, err)
	}
	if _, err := r.Store.Secret(t.Context(), c.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a failed attachment keeps its secret: %v", err)
	}
	r.world.Machine("m1").Find(workspace.Problem{Code: "NoPython", Message: "there is no Python", Mend: "install it"})
	if c, err = r.attach("gpu", "fake://m1"); err != nil || c.State != store.ComputeFailed || c.HealthReason.Code != "NoPython" || len(c.Facts) == 0 {
		t.Fatalf("with a finding: %s, %v", c.State, err)
	}
	if _, err := r.submit("job"); err == nil {
		t.Error("a failed compute takes jobs")
	}
	r.world.Machine("m1").Find(workspace.Problem{Code: "LittleDisk", Message: "the disk is small", Warning: true})
	r.attached("gpu", "fake://m1")
}

func TestSecondAttachmentIsRefusedNamingTheFirst(t *testing.T) {
	r := newRig(t)
	const id = "/subscriptions/x/resourceGroups/y/providers/Microsoft.Compute/virtualMachines/vm1"
	if err := r.PutResource(t.Context(), r.admin, ResourceRequest{ID: id, Address: "fake://m1"}); err != nil {
		t.Fatal(err)
	}
	byID := func(req *AttachRequest) { req.Address, req.ResourceID = "", id }
	first := r.attached("gpu", "", byID)
	if first.Address != "fake://m1" {
		t.Errorf("address %q", first.Address)
	}
	named := func(p *workspace.Problem) {
		t.Helper()
		if !strings.Contains(p.Message, `"gpu"`) {
			t.Errorf("the first is not named: %s", p.Message)
		}
	}
	_, err := r.attach("two", "fake://M1")
	named(r.refused(err, "AlreadyAttached"))
	_, err = r.attach("two", "", func(req *AttachRequest) { req.Address, req.ResourceID = "fake://elsewhere", strings.ToUpper(id) })
	named(r.refused(err, "AlreadyAttached"))
	same := func(when string) {
		t.Helper()
		c, err := r.attach("two", "fake://m1:22")
		if err != nil || c.State != store.ComputeFailed || c.HealthReason.Code != "AlreadyAttached" {
			t.Fatalf("%s, the same machine under another address: %s, %v, %v", when, c.State, c.HealthReason, err)
		}
		named(c.HealthReason)
	}
	same("at first")
	if _, err := r.UpdateCompute(t.Context(), r.admin, r.ws, "gpu", UpdateRequest{Settings: json.RawMessage(`{"slots":4}`)}); err != nil {
		t.Fatal(err)
	}
	same("after an update of the first")
	c := r.attached("two", "fake://m1:22", distinct)
	var facts compute.Facts
	if err := json.Unmarshal(c.Facts, &facts); err != nil || len(facts.Problems) != 1 || facts.Problems[0].Code != "SimilarMachine" {
		t.Errorf("a distinct attachment is not warned of: %s", c.Facts)
	}
	if _, err := r.UpdateCompute(t.Context(), r.admin, r.ws, "two", UpdateRequest{Settings: json.RawMessage(`{"slots":1}`)}); err != nil {
		t.Errorf("the distinct one cannot be updated: %v", err)
	}
	if err := r.DeleteResource(t.Context(), r.admin, id); err != nil {
		t.Fatal(err)
	}
	_, err = r.attach("three", "", func(req *AttachRequest) { req.ResourceID = id }) // the catalogue no longer knows it
	if p := r.refused(err, "AlreadyAttached"); !strings.Contains(p.Cause, id) {
		t.Errorf("it does not say what is the same: %s", p.Cause)
	}
}

func TestAttachingTheSameAgainIsAnUpdate(t *testing.T) {
	r := newRig(t)
	first := r.attached("gpu", "fake://m1", settings(`{"password":"one"}`))
	again := r.attached("gpu", "fake://m1", settings(`{"password":"`+hush+`","slots":5}`))
	if again.ID != first.ID || again.Slots != 5 {
		t.Errorf("again: %+v", again)
	}
	keys, err := r.ComputeSecrets(t.Context(), r.admin, r.ws, "gpu")
	if err != nil || keys["password"].Reveal() != hush {
		t.Errorf("keys %v, %v", keys, err)
	}
	_, err = r.attach("gpu", "fake://m2")
	r.refused(err, "ComputeNameTaken")
	r.nowhere()
}

func TestSettingsThatTheKindDoesNotHaveAreRefused(t *testing.T) {
	r := newRig(t)
	_, err := r.attach("gpu", "fake://m1", settings(`{"pasword":"`+hush+`"}`))
	r.refused(err, "UnknownSetting")
	_, err = r.attach("gpu", "fake://m1", settings(`["`+hush+`"]`))
	r.refused(err, "InvalidSettings")
	_, err = r.attach("gpu", "fake://m1", func(req *AttachRequest) { req.Kind = "marble" })
	r.refused(err, "UnsupportedKind")
	_, err = r.attach("-", "fake://m1")
	r.refused(err, "InvalidComputeName")
	r.attached("gpu", "fake://m1", settings(`null`))
	_, err = r.UpdateCompute(t.Context(), r.admin, r.ws, "gpu", UpdateRequest{Settings: json.RawMessage(`{"pasword":"` + hush + `"}`)})
	r.refused(err, "UnknownSetting")
	r.nowhere()
}

func TestUpdateRotatesSecretsAndReopens(t *testing.T) {
	r := newRig(t)
	c := r.attached("gpu", "fake://m1", settings(`{"password":"one","folder":"/x"}`))
	use := func() {
		t.Helper()
		_, release, err := r.Fleet.Use(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		release()
	}
	use()
	before := r.world.Opened()
	use()
	if r.world.Opened() != before {
		t.Fatal("it is opened at each use")
	}
	_, err := r.UpdateCompute(t.Context(), r.admin, r.ws, "gpu", UpdateRequest{Settings: json.RawMessage(`{"password":"wrong"}`)})
	r.refused(err, "LoginRefused")
	keys, err := r.ComputeSecrets(t.Context(), r.admin, r.ws, "gpu")
	if err != nil || keys["password"].Reveal() != "one" {
		t.Errorf("a refused secret is kept: %v", err)
	}
	row, err := r.UpdateCompute(t.Context(), r.admin, r.ws, "gpu", UpdateRequest{Settings: json.RawMessage(`{"password":"` + hush + `","folder":null}`)})
	if err != nil || strings.Contains(string(row.Settings), "folder") || row.State != store.ComputeSucceeded || row.Version() == c.Version() {
		t.Errorf("row %+v, %v", row, err)
	}
	before = r.world.Opened()
	use()
	if r.world.Opened() != before+1 {
		t.Error("it is not opened with the new secret")
	}
	_, err = r.UpdateCompute(t.Context(), r.admin, r.ws, "gpu", UpdateRequest{Settings: json.RawMessage(`{"address":"fake://m2"}`)})
	r.refused(err, "AddressFixed")
	r.nowhere()

	// Refused after the pre-flight has been at the target: what it opened there was in the place of the open one.
	r.attached("twin", "fake://m1", func(req *AttachRequest) { req.Distinct = true })
	if _, err = r.UpdateCompute(t.Context(), r.admin, r.ws, "gpu", UpdateRequest{Settings: json.RawMessage(`{"folder":"/y"}`)}); err == nil {
		t.Fatal("a second attachment is updated")
	}
	before = r.world.Opened()
	use()
	if r.world.Opened() != before+1 {
		t.Error("it is not opened again after a refused update")
	}
}

func TestInstanceTypesAreTheServersOwnSetting(t *testing.T) {
	r := newRig(t)
	c := r.attached("gpu", "fake://m1", settings(`{"instance_types":{"big":{"gpus":2}}}`))
	if opened, err := r.Settings(t.Context(), c.ID); err != nil || strings.Contains(string(opened.JSON), "instance_types") {
		t.Errorf("the driver gets %s, %v", opened.JSON, err)
	}
	if job := r.submitted("job", `"resources":{"instanceType":"big"}`); job.GPUs != 2 {
		t.Errorf("%d GPUs", job.GPUs)
	}
}

func TestAliasIsOnlyAName(t *testing.T) {
	r := newRig(t)
	c := r.attached("gpu", "fake://m1")
	if _, err := r.attach("cpu-cluster", "", func(req *AttachRequest) { req.Alias = "nothing" }); err == nil {
		t.Error("an alias of nothing")
	}
	r.attached("cpu-cluster", "", func(req *AttachRequest) { req.Alias = "gpu" })
	r.attached("cpu-cluster", "", func(req *AttachRequest) { req.Alias = "gpu" })
	if job := r.submitted("job", `"computeId":"azureml:cpu-cluster"`); job.ComputeID != c.ID {
		t.Errorf("the job went to %s", job.ComputeID)
	}
	r.attached("other", "", func(req *AttachRequest) { req.Alias = "cpu-cluster" })
	if job := r.submitted("job-of-an-alias-of-an-alias", `"computeId":"azureml:other"`); job.ComputeID != c.ID {
		t.Errorf("the job went to %s", job.ComputeID)
	}
	if facts, err := r.Recheck(t.Context(), r.admin, r.ws, "cpu-cluster"); err != nil || facts.Details["machine"] != "m1" {
		t.Errorf("recheck: %v, %v", facts, err)
	}
	if _, err := r.attach("gpu", "", func(req *AttachRequest) { req.Alias = "cpu-cluster" }); err == nil {
		t.Error("an alias took the name of a compute")
	}
	for _, name := range []string{"job", "job-of-an-alias-of-an-alias"} {
		if err := r.CancelJob(t.Context(), r.admin, r.ws, name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Detach(t.Context(), r.admin, r.ws, "gpu", DetachOptions{}); err != nil {
		t.Fatal(err)
	}
	if left, err := r.Computes(t.Context(), r.admin, r.ws); err != nil || len(left) != 0 {
		t.Errorf("names of nothing are left: %v, %v", left, err)
	}
}

func TestAttachmentInterruptedByARestartIsFailed(t *testing.T) {
	r := newRig(t)
	old := r.Clock.Millis() - 2*attachLimit.Milliseconds()
	row := store.Compute{ID: "old", WorkspaceID: r.ws.ID, Name: "gpu", Kind: "fake", Address: "fake://m1", State: store.ComputeCreating, Created: old, Modified: old}
	err := r.Store.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertCompute(t.Context(), row) })
	if err != nil {
		t.Fatal(err)
	}
	if err := r.failInterrupted(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := r.Compute(t.Context(), r.admin, r.ws, "gpu")
	if err != nil || c.State != store.ComputeFailed || c.HealthReason.Code != "AttachInterrupted" {
		t.Errorf("state %s, %v, %v", c.State, c.HealthReason, err)
	}
	r.attached("gpu", "fake://m1")
}

func TestAttachmentThatIsDetachedMeanwhileLeavesNothing(t *testing.T) {
	r := newRig(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	r.world.Machine("m1").Hook(fake.Probe, func(context.Context, compute.Key) error { close(entered); <-leave; return nil })
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = r.attach("gpu", "fake://m1", settings(`{"password":"`+hush+`"}`))
	}()
	<-entered
	row, err := r.Compute(t.Context(), r.admin, r.ws, "gpu")
	if err != nil || row.State != store.ComputeCreating {
		t.Fatalf("state %s, %v", row.State, err)
	}
	if _, err := r.Detach(t.Context(), r.admin, r.ws, "gpu", DetachOptions{}); err != nil {
		t.Fatal(err)
	}
	close(leave)
	<-done
	if _, err := r.Store.Secret(t.Context(), row.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its secret is kept: %v", err)
	}
	if list, err := r.Computes(t.Context(), r.admin, r.ws); err != nil || len(list) != 0 {
		t.Errorf("computes %v, %v", list, err)
	}
}

func TestCheckKeepsNothing(t *testing.T) {
	r := newRig(t)
	r.world.Machine("m1").Find(workspace.Problem{Code: "NoPython", Message: "there is no Python", Mend: "install it"})
	facts, err := r.CheckCompute(t.Context(), r.admin, r.ws, AttachRequest{Kind: "fake", Address: "fake://m1"})
	if err != nil || len(facts.Problems) != 1 {
		t.Errorf("facts %v, %v", facts, err)
	}
	_, err = r.CheckCompute(t.Context(), r.admin, r.ws, AttachRequest{Kind: "fake", Address: "fake://m1", Settings: json.RawMessage(`{"password":"wrong"}`)})
	r.refused(err, "LoginRefused")
	if list, err := r.Computes(t.Context(), r.admin, r.ws); err != nil || len(list) != 0 {
		t.Errorf("computes %v, %v", list, err)
	}
}

func TestEnvironmentsOfAComputeAreListedUnderEachOfItsNames(t *testing.T) {
	r := newRig(t)
	c := r.attached("gpu", "fake://m1")
	if _, err := r.attach("cluster", "", func(req *AttachRequest) { req.Alias = "gpu" }); err != nil {
		t.Fatal(err)
	}
	err := r.Store.Write(t.Context(), func(tx *store.Tx) error {
		return errors.Join(
			tx.PutPreparedEnvironment(t.Context(), store.PreparedEnvironment{ComputeID: c.ID, Hash: "old", Phase: "ready", LastUsed: 1}),
			tx.PutPreparedEnvironment(t.Context(), store.PreparedEnvironment{ComputeID: c.ID, Hash: "new", Phase: "preparing", LastUsed: 2}),
			tx.PutPreparedEnvironment(t.Context(), store.PreparedEnvironment{ComputeID: "another", Hash: "new", Phase: "ready", LastUsed: 3}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gpu", "cluster"} {
		list, err := r.Environments(t.Context(), r.admin, r.ws, name)
		if err != nil || len(list) != 2 || list[0].Hash != "new" || list[0].Phase != "preparing" || list[1].Hash != "old" {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
	}
	_, err = r.Environments(t.Context(), r.admin, r.ws, "none")
	r.refused(err, "ResourceNotFound")
}
