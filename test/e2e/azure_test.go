package e2e

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/test/engine"
)

const azureSecret = "the-secret-of-an-application-in-azure"

// startAzure starts a simulator of Azure that knows two virtual machines: vm1, whose public address is ours, and vm2,
// which is stopped. It takes the one secret. The answers are as Microsoft's contracts have them; package catalog's tests
// hold such ones against the contracts themselves.
func startAzure(t *testing.T) *httptest.Server {
	t.Helper()
	const tenant = "/tenant.example"
	group := "/subscriptions/s/resourceGroups/lab/providers/"
	vm := func(power string) string {
		return fmt.Sprintf(`{"properties":{"storageProfile":{"osDisk":{"osType":"Linux"}},"instanceView":{"statuses":[{"code":"PowerState/%s"}]},
			"networkProfile":{"networkInterfaces":[{"id":"%sMicrosoft.Network/networkInterfaces/nic"}]}}}`, power, group)
	}
	answers := map[string]string{
		group + "Microsoft.Compute/virtualMachines/vm1":   vm("running"),
		group + "Microsoft.Compute/virtualMachines/vm2":   vm("deallocated"),
		group + "Microsoft.Network/networkInterfaces/nic": `{"properties":{"ipConfigurations":[{"properties":{"primary":true,"privateIPAddress":"10.9.9.9","publicIPAddress":{"id":"` + group + `Microsoft.Network/publicIPAddresses/ip"}}}]}}`,
		group + "Microsoft.Network/publicIPAddresses/ip":  `{"properties":{"ipAddress":"127.0.0.1"}}`,
	}
	mux := http.NewServeMux()
	mux.HandleFunc(tenant+"/v2.0/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		base := "https://" + r.Host + tenant
		fmt.Fprintf(w, `{"token_endpoint":"%s/oauth2/v2.0/token","authorization_endpoint":"%s/oauth2/v2.0/authorize","issuer":"%s/v2.0"}`, base, base, base)
	})
	mux.HandleFunc(tenant+"/oauth2/v2.0/token", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("client_secret") != azureSecret {
			http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"access_token":"token-for-azure","expires_in":3600,"token_type":"Bearer"}`)
	})
	mux.HandleFunc("/subscriptions/", func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok || r.Header.Get("Authorization") != "Bearer token-for-azure" {
			http.Error(w, `{"error":{"code":"ResourceNotFound","message":"not there"}}`, http.StatusNotFound)
			return
		}
		fmt.Fprint(w, answer)
	})
	azure := httptest.NewTLSServer(mux)
	t.Cleanup(azure.Close)
	return azure
}

// TestMachineIsAttachedByItsAzureID: the server logs in to Azure, follows the id to the public address, and trains there.
// The login's secret goes nowhere else.
func TestMachineIsAttachedByItsAzureID(t *testing.T) {
	azure := startAzure(t)
	machine := engine.StartSSHD(t, engine.SSHDOptions{})
	dir := t.TempDir()
	config, ca := filepath.Join(dir, "moorage.yml"), filepath.Join(dir, "ca.pem")
	text := fmt.Sprintf("azure: {tenant_id: tenant.example, client_id: an-application, authority: %q, resource_manager: %q}\n", azure.URL, azure.URL)
	for file, content := range map[string]string{config: text, ca: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: azure.Certificate().Raw}))} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data := t.TempDir()
	p := started(t, data, "MOORAGE_CONFIG="+config, "MOORAGE_AZURE_CLIENT_SECRET="+azureSecret, "SSL_CERT_FILE="+ca, "MOORAGE_LOG_LEVEL=debug")
	attach := func(name, vm string) string {
		port, _ := strconv.Atoi(machine.Port)
		body := sshCompute(t, machine, "", nil)
		properties := body["properties"].(map[string]any)
		properties["resourceId"] = "/subscriptions/s/resourceGroups/lab/providers/Microsoft.Compute/virtualMachines/" + vm
		inner := properties["properties"].(map[string]any)
		delete(inner, "address")
		delete(inner, "settings")
		inner["sshPort"] = port
		_, err := p.call(t.Context(), "PUT", workspacePath+"/computes/"+name+apiVersion, body, nil)
		var kept json.RawMessage
		_, _ = p.call(t.Context(), "GET", workspacePath+"/computes/"+name+apiVersion, nil, &kept) // it may not be there
		return fmt.Sprint(err, string(kept))
	}

	if said := attach("gpu", "vm1"); !strings.Contains(said, `"Succeeded"`) {
		t.Fatalf("attaching by id: %s", said)
	}
	p.mustSubmit("far", "echo here; env", on("gpu"))
	p.mustSubmit("near", "echo here; env", on("local"))
	for _, job := range []string{"far", "near"} {
		p.mustEnd(job, "Completed")
		if log, err := p.log(t.Context(), job); err != nil || !strings.Contains(log, "here") || strings.Contains(log, azureSecret) {
			t.Errorf("the log of %s: %v\n%s", job, err, log)
		}
	}
	if said := attach("stopped", "vm2"); !strings.Contains(said, "az vm start --ids /subscriptions/s/resourceGroups/lab/providers/Microsoft.Compute/virtualMachines/vm2") {
		t.Errorf("a stopped machine: %s", said)
	}
	if said := attach("missing", "vm3"); !strings.Contains(said, "Azure knows no virtual machine vm3") || !strings.Contains(said, "moorage resource add") {
		t.Errorf("a machine that is not there: %s", said)
	}

	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if log := p.output.String(); !strings.Contains(log, "asked Azure for an address") || strings.Contains(log, azureSecret) || strings.Contains(log, "token-for-azure") {
		t.Errorf("the server's log:\n%s", log)
	}
	err := filepath.WalkDir(data, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(file)
		if strings.Contains(string(b), azureSecret) {
			t.Errorf("%s holds the secret", file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
