package all

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func vm(address string, more map[string]any) map[string]any {
	inner := map[string]any{"sshPort": 2222, "administratorAccount": map[string]any{"username": "bob", "password": "hush-password", "privateKeyData": "hush-key"}}
	maps.Copy(inner, more)
	return map[string]any{
		"location": "local", "tags": map[string]string{"team": "a"},
		"properties": map[string]any{"computeType": "VirtualMachine", "resourceId": address, "description": "d", "futureField": map[string]any{"x": 1}, "properties": inner},
	}
}

func TestAttachByAddressKeepsTheDocumentWithoutItsSecrets(t *testing.T) {
	s := newServer(t)
	put := s.call("PUT", wsPath+"/computes/vm1", vm("ssh://10.0.0.5", nil)).want(201)
	got := s.call("GET", strings.ToUpper(wsPath[:len(wsPath)-4])+"main/COMPUTES/vm1", nil).want(200)
	for _, a := range []answer{put, got} {
		a.has(map[string]any{
			"name": "vm1", "id": wsPath + "/computes/vm1", "type": "Microsoft.MachineLearningServices/workspaces/computes", "tags.team": "a",
			"properties.provisioningState": "Succeeded", "properties.computeType": "VirtualMachine", "properties.resourceId": "ssh://10.0.0.5",
			"properties.futureField.x": 1.0, "properties.properties.administratorAccount.username": "bob", "properties.properties.address": "ssh://bob@10.0.0.5:2222",
			"properties.properties.health": "healthy", "properties.properties.kind": "ssh", "properties.properties.details.os": "linux",
		})
	}
	list := s.call("GET", wsPath+"/computes?api-version=2030-01-01", nil).want(200)
	list.has(map[string]any{"value.0.name": "local", "value.1.name": "vm1", "nextLink": nil})
	for _, a := range []answer{put, got, list} {
		if strings.Contains(a.Body.String(), "hush") {
			t.Fatalf("a secret is in an answer: %s", a.Body)
		}
	}
	row, err := s.store.Compute(t.Context(), s.ws.ID, "vm1")
	must(t, err)
	if strings.Contains(string(row.Doc)+string(row.Settings), "hush") {
		t.Fatalf("a secret is in the row: %s %s", row.Doc, row.Settings)
	}
	s.call("POST", wsPath+"/computes/vm1/listKeys", nil).want(200).has(map[string]any{
		"computeType": "VirtualMachine", "administratorAccount.username": "bob", "administratorAccount.password": "hush-password", "administratorAccount.privateKeyData": "hush-key",
	})
	s.call("POST", wsPath+"/computes/vm1/listNodes", nil).want(200)
	s.call("POST", wsPath+"/computes/vm1/restart", nil).want(501)
}

func TestAttachByResourceIDAsksTheCatalogue(t *testing.T) {
	s := newServer(t)
	const id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm1"
	s.call("PUT", wsPath+"/computes/vm1", vm(id, nil)).want(400).has(map[string]any{"error.code": "UnknownResource"})
	s.call("PUT", "/native/v1/resources", map[string]string{"id": strings.ToUpper(id), "address": "ssh://10.0.0.7:22"}).want(200)
	s.call("PUT", wsPath+"/computes/vm1", vm(id, nil)).want(201).has(map[string]any{"properties.properties.address": "ssh://10.0.0.7:22"})
	s.call("GET", "/native/v1/resources", nil).want(200).has(map[string]any{"resources.0.address": "ssh://10.0.0.7:22"})
	s.call("DELETE", "/native/v1/resources?id="+id, nil).want(204)
}

func TestAttachRefusesWhatCannotWork(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/computes/vm1", vm("ssh://10.0.0.5", nil)).want(201)
	body := func(computeType string) map[string]any {
		return map[string]any{"properties": map[string]any{"computeType": computeType, "resourceId": "/x"}}
	}
	tests := []struct {
		name, path string
		body       any
		status     int
		code       string
	}{
		{"second attachment", "/computes/vm2", vm("ssh://10.0.0.5", nil), 409, "AlreadyAttached"},
		{"target that does not answer is a verdict, not a 503", "/computes/vm3", vm("ssh://gone", nil), 400, "Unreachable"},
		{"kind that is not built", "/computes/sp1", body("SynapseSpark"), 501, "UnsupportedComputeType"},
		{"another one", "/computes/sp1", body("DataFactory"), 501, "UnsupportedComputeType"},
		{"no kind", "/computes/x1", map[string]any{"properties": map[string]any{}}, 400, "MissingComputeType"},
		{"impossible name", "/computes/a_b", vm("ssh://10.0.0.6", nil), 400, "InvalidComputeName"},
		{"no object", "/computes/vm4", `[1]`, 400, "InvalidValue"},
		{"null", "/computes/vm4", `null`, 400, "InvalidRequestContent"},
		{"broken JSON", "/computes/vm4", "{\n\"a\" 1}", 400, "InvalidJSON"},
		{"alias of nothing", "/computes/cpu", map[string]any{"tags": map[string]string{"compute": "nothing"}, "properties": map[string]any{"computeType": "AmlCompute"}}, 404, "ResourceNotFound"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.call("PUT", wsPath+tt.path, tt.body).want(tt.status).has(map[string]any{"error.code": tt.code})
		})
	}
	a := s.call("PUT", wsPath+"/computes/sp1", body("SynapseSpark"))
	if m, _ := a.get("error.message").(string); !strings.Contains(m, "SynapseSpark") || !strings.Contains(m, "ssh") {
		t.Errorf("the message names neither the kind nor those there are: %s", m)
	}
}

func TestAmlComputeStandsForAnAttachedCompute(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/computes/vm1", vm("ssh://10.0.0.5", nil)).want(201)
	aml := func(description string) map[string]any {
		return map[string]any{"properties": map[string]any{"computeType": "AmlCompute", "description": description, "properties": map[string]any{"vmSize": "STANDARD_D2", "scaleSettings": map[string]any{"maxNodeCount": 4}}}}
	}
	s.call("PUT", wsPath+"/computes/cpu-cluster", aml("")).want(201).has(map[string]any{
		"properties.computeType": "AmlCompute", "properties.properties.alias": "local", "properties.properties.scaleSettings.maxNodeCount": 4.0, "properties.isAttachedCompute": false,
		"properties.provisioningState": "Succeeded",
	})
	s.call("PUT", wsPath+"/computes/gpu-cluster", aml("an alias of vm1, for the examples")).want(201).has(map[string]any{"properties.properties.alias": "vm1"})
	if d, _ := s.call("GET", wsPath+"/computes/cpu-cluster", nil).get("properties.description").(string); !strings.Contains(d, "provisions nothing") {
		t.Errorf("it does not say what it is: %q", d)
	}
}

func TestPatchChangesASecretAndKeepsTheRest(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/computes/vm1", vm("ssh://10.0.0.5", nil)).want(201)
	change := map[string]any{"properties": map[string]any{"properties": map[string]any{"administratorAccount": map[string]any{"password": "hush-new"}}}}
	a := s.call("PATCH", wsPath+"/computes/vm1", change).want(200)
	a.has(map[string]any{"properties.description": "d", "properties.properties.sshPort": 2222.0, "properties.properties.administratorAccount.username": "bob"})
	if strings.Contains(a.Body.String(), "hush") {
		t.Fatalf("a secret is in the answer: %s", a.Body)
	}
	s.call("POST", wsPath+"/computes/vm1/listKeys", nil).want(200).has(map[string]any{"administratorAccount.password": "hush-new", "administratorAccount.privateKeyData": "hush-key"})
}

func TestDetachAnswersAtOnceWhenItIsDone(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/computes/vm1", vm("ssh://10.0.0.5", nil)).want(201)
	s.call("PUT", wsPath+"/jobs/j1", map[string]any{"properties": map[string]any{"jobType": "Command", "command": "true", "computeId": wsPath + "/computes/vm1"}}).want(201)
	s.call("DELETE", wsPath+"/computes/vm1?underlyingResourceAction=Delete", nil).want(409).has(map[string]any{"error.code": "ComputeInUse"})
	must(t, s.control.AbandonJob(t.Context(), s.auth.Administrator(), s.ws, "j1"))
	s.call("DELETE", wsPath+"/computes/vm1?underlyingResourceAction=Detach", nil).want(200)
	s.call("GET", wsPath+"/computes/vm1", nil).want(404).has(map[string]any{"error.code": "ResourceNotFound"})
	s.call("DELETE", wsPath+"/computes/vm1", nil).want(204)
	s.call("GET", wsPath+"/operations/detach.vm1.X", nil).want(200).has(map[string]any{"status": "Succeeded"})
}

func TestPreflightAttachesNothing(t *testing.T) {
	s := newServer(t)
	base := "/native/v1" + wsPath
	s.call("POST", base+"/computes/check", vm("ssh://10.0.0.5", nil)).want(200).has(map[string]any{"details.os": "linux", "identity.0": "ssh://bob@10.0.0.5:2222", "problems.0": nil})
	s.call("POST", base+"/computes/check", vm("ssh://gone", nil)).want(200).has(map[string]any{"problems.0.code": "Unreachable"})
	s.call("GET", wsPath+"/computes", nil).want(200).has(map[string]any{"value.1": nil})
	s.call("POST", base+"/computes/local/check", nil).want(200).has(map[string]any{"details.os": "linux"})
	s.call("POST", base+"/computes/nothing/check", nil).want(404)
	s.call("GET", "/native/v1/kinds", nil).want(200)
}

func TestEnvironmentsOfAComputeAreListed(t *testing.T) {
	s := newServer(t)
	row, err := s.store.Compute(t.Context(), s.ws.ID, "local")
	must(t, err)
	must(t, s.store.Write(t.Context(), func(tx *store.Tx) error {
		return errors.Join(
			tx.PutPreparedEnvironment(t.Context(), store.PreparedEnvironment{ComputeID: row.ID, Hash: "h1", Phase: "ready", LastUsed: 1000, Spec: []byte(`{"python":"3.12"}`)}),
			tx.PutPreparedEnvironment(t.Context(), store.PreparedEnvironment{ComputeID: row.ID, Hash: "h2", Phase: "failed", LastUsed: 2000, Problem: &workspace.Problem{Code: "EnvironmentFailed", Message: "no such package"}}),
		)
	}))
	base := "/native/v1" + wsPath + "/computes/"
	s.call("GET", base+"local/environments", nil).want(200).has(map[string]any{
		"environments.0.hash": "h2", "environments.0.phase": "failed", "environments.0.problem.message": "no such package", "environments.0.last_used": "1970-01-01T00:00:02.000Z",
		"environments.1.hash": "h1", "environments.1.problem": nil, "environments.1.spec.python": "3.12", "environments.2": nil,
	})
	s.call("PUT", wsPath+"/computes/vm1", vm("ssh://10.0.0.5", nil)).want(201)
	s.call("GET", base+"vm1/environments", nil).want(200).has(map[string]any{"environments.0": nil})
	s.call("GET", base+"nothing/environments", nil).want(404)
}

func TestComputesPage(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"vm1", "vm2", "vm3"} {
		s.call("PUT", wsPath+"/computes/"+name, vm("ssh://"+name, nil)).want(201)
	}
	var names []string
	for next := wsPath + "/computes?$top=2&api-version=1"; next != ""; {
		a := s.call("GET", next, nil).want(200)
		for i := range 2 {
			if n, ok := a.get("value." + string(rune('0'+i)) + ".name").(string); ok {
				names = append(names, n)
			}
		}
		next = ""
		if link := a.get("nextLink"); link != nil {
			next = s.path(link)
		}
	}
	if got := strings.Join(names, " "); got != "local vm1 vm2 vm3" {
		t.Errorf("pages gave %s", got)
	}
}
