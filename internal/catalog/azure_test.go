package catalog

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/contract"
)

// object is JSON written in Go.
type object = map[string]any

const (
	vmID     = testScope + "Microsoft.Compute/virtualMachines/vm1"
	nicID    = testScope + "Microsoft.Network/networkInterfaces/nic1"
	publicID = testScope + "Microsoft.Network/publicIPAddresses/ip1"
)

// aMachine is a virtual machine as Azure shows it; changes are laid over its properties.
func aMachine(changes object, nics ...object) object {
	p := object{
		"vmId": "0f47b100-583c-48e3-a4c0-aefc2c9bbcc1", "provisioningState": "Succeeded", "hardwareProfile": object{"vmSize": "Standard_NC6s_v3"},
		"storageProfile": object{
			"imageReference": object{"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"},
			"osDisk":         object{"osType": "Linux", "name": "disk", "createOption": "FromImage", "caching": "ReadWrite"},
		},
		"osProfile": object{"computerName": "vm1", "adminUsername": "azureuser", "linuxConfiguration": object{"disablePasswordAuthentication": true}},
		"instanceView": object{
			"osName": "ubuntu", "osVersion": "24.04",
			"statuses": []object{{"code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Provisioning succeeded"}, {"code": "PowerState/running", "level": "Info", "displayStatus": "VM running"}},
		},
		"networkProfile": object{"networkInterfaces": append([]object{}, nics...)},
	}
	maps.Copy(p, changes)
	return object{"id": vmID, "name": "vm1", "type": "Microsoft.Compute/virtualMachines", "location": "westeurope", "properties": p}
}

func ref(id string, primary bool) object {
	return object{"id": id, "properties": object{"primary": primary}}
}

func aNIC(configurations ...object) object {
	list := []object{}
	for _, c := range configurations {
		list = append(list, object{"name": "ipconfig", "properties": c})
	}
	return object{"name": "nic1", "type": "Microsoft.Network/networkInterfaces", "location": "westeurope", "properties": object{"provisioningState": "Succeeded", "ipConfigurations": list}}
}

func aPublic(ip string, more object) object {
	p := object{"provisioningState": "Succeeded", "publicIPAllocationMethod": "Static"}
	if ip != "" {
		p["ipAddress"] = ip
	}
	maps.Copy(p, more)
	return object{"name": "ip1", "type": "Microsoft.Network/publicIPAddresses", "location": "westeurope", "properties": p}
}

func power(state string) object {
	return object{"instanceView": object{"statuses": []object{{"code": "PowerState/" + state}}}}
}

func TestMachineBecomesItsPublicAddress(t *testing.T) {
	l := startLoopback(t)
	other := testScope + "Microsoft.Network/networkInterfaces/nic2"
	l.knows(vmID, aMachine(nil, ref(other, false), ref(nicID, true)))
	l.knows(nicID, aNIC(
		object{"privateIPAddress": "10.0.0.9"},
		object{"primary": true, "privateIPAddress": "10.0.0.4", "publicIPAddress": object{"id": publicID}},
	))
	l.knows(publicID, aPublic("203.0.113.7", object{"dnsSettings": object{"domainNameLabel": "vm1", "fqdn": "vm1.westeurope.cloudapp.azure.com"}}))
	a := l.source(t)
	found, err := a.Address(t.Context(), vmID)
	if err != nil {
		t.Fatal(err)
	}
	want := Found{Address: "ssh://203.0.113.7", Public: true, Details: map[string]string{
		"os": "linux", "os_name": "ubuntu", "os_version": "24.04", "image": "canonical:ubuntu-24_04-lts:server", "vm_size": "Standard_NC6s_v3", "location": "westeurope",
		"private_ip": "10.0.0.4", "public_ip": "203.0.113.7", "fqdn": "vm1.westeurope.cloudapp.azure.com",
	}}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
	if want := []string{"GET " + vmID, "GET " + nicID, "GET " + publicID}; !slices.Equal(l.asked, want) {
		t.Errorf("asked %v", l.asked)
	}
	if form := l.tokens[0]; len(l.tokens) != 1 || form.Get("client_id") != testClient || form.Get("client_secret") != testSecret || !strings.HasPrefix(form.Get("scope"), l.URL+"//.default") {
		t.Errorf("tokens %v", l.tokens)
	}
}

func TestFixedWordsCountInAnyCase(t *testing.T) {
	l := startLoopback(t)
	l.knows(vmID, aMachine(nil, ref(nicID, true)))
	l.knows(nicID, aNIC(object{"privateIPAddress": "10.0.0.4", "publicIPAddress": object{"id": publicID}}))
	l.knows(publicID, aPublic("203.0.113.7", nil))
	written := strings.NewReplacer("resourceGroups", "resourcegroups", "Microsoft.Compute/virtualMachines", "microsoft.compute/VIRTUALMACHINES").Replace(vmID) + "/"
	if found, err := l.source(t).Address(t.Context(), written); err != nil || found.Address != "ssh://203.0.113.7" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestMachineWithoutAWayInIsExplained(t *testing.T) {
	rule := testScope + "Microsoft.Network/loadBalancers/lb1/inboundNatRules/ssh-vm1"
	pool := testScope + "Microsoft.Network/loadBalancers/lb1/backendAddressPools/pool"
	for name, tc := range map[string]struct {
		machine object
		nic     object
		public  object
		code    string // of the error, or of the warning beside the private address
		words   []string
		warned  bool
	}{
		"private":           {nic: aNIC(object{"privateIPAddress": "10.0.0.4"}), code: "PrivateAddress", words: []string{"vm1", "10.0.0.4", "moorage resource add " + vmID}, warned: true},
		"a block":           {nic: aNIC(object{"privateIPAddress": "10.0.0.4/28"}), code: "PrivateAddress", words: []string{"10.0.0.4"}, warned: true},
		"nat rule":          {nic: aNIC(object{"privateIPAddress": "10.0.0.4", "loadBalancerInboundNatRules": []object{{"id": rule}}}), code: "BehindLoadBalancer", words: []string{"ssh-vm1 of load balancer lb1", "ssh://FRONTEND:PORT"}, warned: true},
		"pool":              {nic: aNIC(object{"privateIPAddress": "10.0.0.4", "loadBalancerBackendAddressPools": []object{{"id": pool}}}), code: "BehindLoadBalancer", words: []string{"inbound NAT rule"}, warned: true},
		"unassigned":        {nic: aNIC(object{"privateIPAddress": "10.0.0.4", "publicIPAddress": object{"id": publicID}}), public: aPublic("", nil), code: "PrivateAddress", words: []string{"ip1 has no number"}, warned: true},
		"no address":        {nic: aNIC(object{}), code: "NoAddress", words: []string{"vm1"}},
		"no interface":      {machine: aMachine(nil), code: "NoAddress", words: []string{"vm1"}},
		"stopped":           {machine: aMachine(power("stopped")), code: "ResourceNotRunning", words: []string{"stopped", "az vm start --ids " + vmID}},
		"deallocated":       {machine: aMachine(power("deallocated")), code: "ResourceNotRunning", words: []string{"deallocated"}},
		"Windows":           {machine: aMachine(object{"storageProfile": object{"osDisk": object{"osType": "Windows", "createOption": "FromImage"}}}), code: "WindowsMachine", words: []string{"vm1 runs Windows", "Linux"}},
		"foreign id":        {machine: aMachine(nil, ref("/subscriptions/x/../../evil", true)), code: "AzureAnswerUnreadable", words: []string{"vm1"}},
		"another type":      {machine: aMachine(nil, ref(publicID, true)), code: "AzureAnswerUnreadable", words: []string{"networkInterfaces"}},
		"interface is away": {machine: aMachine(nil, ref(nicID+"x", true)), code: "AzureResourceNotFound", words: []string{"network interface nic1x"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLoopback(t)
			l.knows(vmID, tc.machine)
			if tc.machine == nil {
				l.knows(vmID, aMachine(nil, ref(nicID, true)))
			}
			l.knows(nicID, tc.nic)
			l.knows(publicID, tc.public)
			found, err := l.source(t).Address(t.Context(), vmID)
			if !tc.warned {
				problem(t, err, tc.code, tc.words...)
				return
			}
			if err != nil || found.Public || found.Address != "ssh://10.0.0.4" || len(found.Warnings) != 1 || !found.Warnings[0].Warning {
				t.Fatalf("%+v, %v", found, err)
			}
			problem(t, &found.Warnings[0], tc.code, tc.words...)
		})
	}
}

func TestMachineOfIPv6IsWrittenInBrackets(t *testing.T) {
	l := startLoopback(t)
	l.knows(vmID, aMachine(nil, object{"id": nicID})) // the only one need not say that it is the primary one
	l.knows(nicID, aNIC(object{"privateIPAddress": "10.0.0.4", "publicIPAddress": object{"id": publicID}}))
	l.knows(publicID, aPublic("2001:db8::7", object{"publicIPAddressVersion": "IPv6"}))
	if found, err := l.source(t).Address(t.Context(), vmID); err != nil || found.Address != "ssh://[2001:db8::7]" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestServicesBecomeTheirEndpoints(t *testing.T) {
	l := startLoopback(t)
	const (
		hdi     = testScope + "Microsoft.HDInsight/clusters/spark1"
		synapse = testScope + "Microsoft.Synapse/workspaces/syn1"
		pool    = synapse + "/bigDataPools/pool1"
		batch   = testScope + "Microsoft.Batch/batchAccounts/batch1"
		bricks  = testScope + "Microsoft.Databricks/workspaces/dbw1"
	)
	l.knows(hdi, object{"name": "spark1", "location": "westeurope", "properties": object{
		"clusterState": "Running", "osType": "Linux", "clusterVersion": "5.1", "clusterDefinition": object{"kind": "SPARK"},
		"connectivityEndpoints": []object{
			{"name": "SSH", "protocol": "TCP", "location": "spark1-int-ssh.azurehdinsight.net", "port": 22, "privateIPAddress": "10.1.0.5"},
			{"name": "SSH", "protocol": "TCP", "location": "spark1-ssh.azurehdinsight.net", "port": 22},
			{"name": "HTTPS", "protocol": "TCP", "location": "spark1.azurehdinsight.net", "port": 443},
		},
	}})
	l.knows(synapse, object{"name": "syn1", "location": "westeurope", "properties": object{
		"publicNetworkAccess": "Disabled", "connectivityEndpoints": object{"dev": "https://syn1.dev.azuresynapse.net", "sql": "syn1.sql.azuresynapse.net"},
	}})
	l.knows(pool, object{"name": "pool1", "location": "westeurope", "properties": object{
		"provisioningState": "Succeeded", "sparkVersion": "3.4", "nodeSize": "Small", "nodeSizeFamily": "MemoryOptimized", "nodeCount": 3,
		"autoScale": object{"enabled": true, "minNodeCount": 3, "maxNodeCount": 5}, "autoPause": object{"enabled": true, "delayInMinutes": 15},
	}})
	l.knows(batch, object{"name": "batch1", "location": "westeurope", "properties": object{
		"provisioningState": "Succeeded", "accountEndpoint": "batch1.westeurope.batch.azure.com", "poolAllocationMode": "BatchService", "allowedAuthenticationModes": []string{"AAD", "SharedKey"},
	}})
	l.knows(bricks, object{"location": "westeurope", "properties": object{
		"provisioningState": "Succeeded", "managedResourceGroupId": "/subscriptions/s/resourceGroups/managed", "workspaceUrl": "adb-5555555555555555.19.azuredatabricks.net", "workspaceId": "5555555555555555",
	}})
	a := l.source(t)
	for id, want := range map[string]Found{
		hdi: {Address: "ssh://spark1-ssh.azurehdinsight.net:22", Public: true, Details: map[string]string{
			"cluster_kind": "spark", "cluster_version": "5.1", "https": "https://spark1.azurehdinsight.net:443", "location": "westeurope",
		}},
		pool: {Address: "livy+https://syn1.dev.azuresynapse.net/livyApi/versions/2019-11-01-preview/sparkPools/pool1", Details: map[string]string{
			"spark_version": "3.4", "node_size": "Small", "node_size_family": "MemoryOptimized", "node_count": "3", "node_count_min": "3", "node_count_max": "5", "pause_after_minutes": "15", "location": "westeurope",
		}, Warnings: []workspace.Problem{{Code: "PrivateAddress"}}},
		batch:  {Address: "https://batch1.westeurope.batch.azure.com", Public: true, Details: map[string]string{"location": "westeurope", "pool_allocation": "BatchService", "authentication": "AAD,SharedKey"}},
		bricks: {Address: "https://adb-5555555555555555.19.azuredatabricks.net", Public: true, Details: map[string]string{"location": "westeurope", "workspace_id": "5555555555555555"}},
	} {
		found, err := a.Address(t.Context(), id)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		for i := range found.Warnings {
			found.Warnings[i] = workspace.Problem{Code: found.Warnings[i].Code}
		}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
	_, err := a.Address(t.Context(), synapse)
	problem(t, err, "MissingSparkPool", synapse+"/bigDataPools/POOL")
}

func TestServicesThatAreNotReadySaySo(t *testing.T) {
	for id, tc := range map[string]struct {
		properties object
		code       string
	}{
		"Microsoft.HDInsight/clusters/c":                      {object{"clusterState": "Accepted", "osType": "Linux", "clusterDefinition": object{}}, "ResourceNotRunning"},
		"Microsoft.HDInsight/clusters/w":                      {object{"clusterState": "Running", "osType": "Windows", "clusterDefinition": object{}}, "WindowsMachine"},
		"Microsoft.HDInsight/clusters/e":                      {object{"clusterState": "Running", "osType": "Linux", "clusterDefinition": object{}}, "NoAddress"},
		"Microsoft.Batch/batchAccounts/creating":              {object{"provisioningState": "Creating"}, "ResourceNotRunning"},
		"Microsoft.Batch/batchAccounts/empty":                 {object{"provisioningState": "Succeeded"}, "NoAddress"},
		"Microsoft.Databricks/workspaces/deleting":            {object{"provisioningState": "Deleting", "managedResourceGroupId": "g"}, "ResourceNotRunning"},
		"Microsoft.Databricks/workspaces/evil":                {object{"workspaceUrl": "host/path?query", "managedResourceGroupId": "g"}, "NoAddress"},
		"Microsoft.ContainerService/managedClusters/off":      {object{"powerState": object{"code": "Stopped"}}, "ResourceNotRunning"},
		"Microsoft.ContainerService/managedClusters/deleting": {object{"provisioningState": "Deleting"}, "ResourceNotRunning"},
	} {
		l := startLoopback(t)
		l.knows(testScope+id, object{"location": "westeurope", "properties": tc.properties})
		_, err := l.source(t).Address(t.Context(), testScope+id)
		problem(t, err, tc.code, id[strings.LastIndex(id, "/")+1:])
	}
}

const aksID = testScope + "Microsoft.ContainerService/managedClusters/aks1"

// aKubeconfig is a kubeconfig as AKS writes it.
func aKubeconfig(user string) string {
	return `apiVersion: v1
kind: Config
clusters:
- name: aks1
  cluster: {certificate-authority-data: Q0E=, server: "https://aks1-dns.hcp.westeurope.azmk8s.io:443"}
contexts:
- name: aks1
  context: {cluster: aks1, user: clusterUser_lab_aks1}
current-context: aks1
users:
- name: clusterUser_lab_aks1
  user: ` + user + "\n"
}

func (l *loopback) knowsAKS(properties object, kubeconfig string) {
	l.knows(aksID, object{"location": "westeurope", "properties": properties})
	l.will("POST "+aksID+"/listClusterUserCredential", answer{body: object{"kubeconfigs": []object{{"name": "clusterUser", "value": base64.StdEncoding.EncodeToString([]byte(kubeconfig))}}}})
}

func TestManagedClusterGivesItsKubeconfig(t *testing.T) {
	l := startLoopback(t)
	text := aKubeconfig(`{token: the-token-of-the-cluster}`)
	l.knowsAKS(object{"provisioningState": "Succeeded", "powerState": object{"code": "Running"}, "kubernetesVersion": "1.30", "currentKubernetesVersion": "1.30.3"}, text)
	a := l.source(t)
	found, err := a.Address(t.Context(), aksID)
	if err != nil {
		t.Fatal(err)
	}
	if found.Address != "kubeconfig://aks1" || !found.Public || found.Details["server"] != "https://aks1-dns.hcp.westeurope.azmk8s.io:443" || found.Details["kubernetes_version"] != "1.30.3" ||
		!strings.Contains(found.Secrets["kubeconfig"].Reveal(), "the-token-of-the-cluster") || len(found.Warnings) != 0 {
		t.Errorf("%+v", found)
	}
	if _, err := a.Address(t.Context(), aksID); err != nil || len(l.asked) != 4 {
		t.Errorf("a kubeconfig was remembered: %v, %v", l.asked, err)
	}
	if strings.Contains(l.log.String(), "the-token") {
		t.Errorf("the log holds the kubeconfig:\n%s", l.log.String())
	}
}

func TestManagedClusterWarnsOfWhatWillNotWork(t *testing.T) {
	l := startLoopback(t)
	l.knowsAKS(object{
		"provisioningState": "Succeeded", "disableLocalAccounts": true,
		"apiServerAccessProfile": object{"enablePrivateCluster": true, "authorizedIPRanges": []string{"198.51.100.0/24"}},
	}, aKubeconfig(`{token: t}`))
	found, err := l.source(t).Address(t.Context(), aksID)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, w := range found.Warnings {
		codes = append(codes, w.Code)
	}
	if found.Public || !slices.Equal(codes, []string{"PrivateAddress", "AddressRangesOnly"}) {
		t.Errorf("%+v", found)
	}
}

func TestManagedClusterWhoseUserRunsAProgramSaysWhatToDo(t *testing.T) {
	l := startLoopback(t)
	l.knowsAKS(object{"provisioningState": "Succeeded", "disableLocalAccounts": true}, aKubeconfig(`{exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: kubelogin, args: [get-token]}}`))
	_, err := l.source(t).Address(t.Context(), aksID)
	problem(t, err, "KubeconfigNeedsProgram", "aks1", "kubelogin", "--kubeconfig-file", "--address kubeconfig://aks1")
}

func TestManagedClusterWithoutAUsableKubeconfig(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "no YAML": "\t{", "no context": "current-context: none\n", "no current": aKubeconfig("{}")[:20]} {
		t.Run(name, func(t *testing.T) {
			l := startLoopback(t)
			l.knowsAKS(object{"provisioningState": "Succeeded"}, text)
			_, err := l.source(t).Address(t.Context(), aksID)
			problem(t, err, "NoKubeconfig", "aks1")
		})
	}
}

func TestArcSaysWhyAnIDIsNotEnough(t *testing.T) {
	const arc = testScope + "Microsoft.Kubernetes/connectedClusters/edge1"
	l := startLoopback(t)
	l.knows(arc, object{"location": "westeurope", "identity": object{"type": "SystemAssigned"}, "properties": object{
		"agentPublicKeyCertificate": "", "distribution": "k3s", "kubernetesVersion": "1.30.3", "connectivityStatus": "Connected",
	}})
	_, err := l.source(t).Address(t.Context(), arc)
	problem(t, err, "KubeconfigNeeded", "edge1", "k3s, 1.30.3, Connected", "relay", "moorage resource add "+arc+" --address kubeconfig://CONTEXT")
	_, err = l.source(t).Address(t.Context(), arc+"x")
	problem(t, err, "AzureResourceNotFound", "Arc cluster edge1x")
}

func TestOtherIDsAreLeftToTheCatalogue(t *testing.T) {
	a := startLoopback(t).source(t)
	for _, id := range []string{
		"", "vm1", "/subscriptions/s", testScope + "Microsoft.Storage/storageAccounts/a", testScope + "Microsoft.Compute/virtualMachines", vmID + "/extensions/e",
		"/subscriptions/../resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v", testScope + "Microsoft.Compute/virtualMachines/v?x=y", testScope + "Microsoft.Compute/virtualMachines/a b",
		testScope + "Microsoft.Compute/virtualMachines/..", testScope + "Microsoft.Compute/virtualMachines/%2e%2e",
	} {
		if _, err := a.Address(t.Context(), id); err != ErrUnknownType { //nolint:errorlint // nothing wraps it
			t.Errorf("%q: %v", id, err)
		}
	}
}

// Microsoft's own examples, read where they are at hand, are understood as well as what this project wrote.
func TestMicrosoftsExamplesAreUnderstood(t *testing.T) {
	folder := contract.Folder(t)
	for _, tc := range []struct{ kind, example, address, code string }{
		{"Microsoft.HDInsight/clusters/cluster1", "hdinsight/resource-manager/Microsoft.HDInsight/stable/2021-06-01/examples/GetLinuxSparkCluster.json", "ssh://cluster1-ssh.azurehdinsight.net:22", ""},
		{"Microsoft.Batch/batchAccounts/sampleacct", "batch/resource-manager/Microsoft.Batch/stable/2024-02-01/examples/BatchAccountGet.json", "https://sampleacct.japaneast.batch.azure.com", ""},
		{"Microsoft.Databricks/workspaces/myWorkspace", "databricks/resource-manager/Microsoft.Databricks/stable/2024-05-01/examples/WorkspaceGet.json", "https://adb-5555555555555555.19.azuredatabricks.net", ""},
		{"Microsoft.Compute/virtualMachines/myVM", "compute/resource-manager/Microsoft.Compute/ComputeRP/stable/2024-03-01/examples/virtualMachineExamples/VirtualMachine_Get.json", "", "WindowsMachine"},
		{"Microsoft.Kubernetes/connectedClusters/testCluster", "hybridkubernetes/resource-manager/Microsoft.Kubernetes/stable/2024-01-01/examples/GetClusterExample.json", "", "KubeconfigNeeded"},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(tc.example)))
			if err != nil {
				t.Fatal(err)
			}
			var example struct {
				Responses map[string]struct{ Body object }
			}
			if err := json.Unmarshal(b, &example); err != nil {
				t.Fatal(err)
			}
			l := startLoopback(t)
			l.lenient = true // some of them have nulls, which the contracts do not allow
			l.knows(testScope+tc.kind, example.Responses["200"].Body)
			found, err := l.source(t).Address(t.Context(), testScope+tc.kind)
			if tc.code != "" {
				problem(t, err, tc.code)
			} else if err != nil || found.Address != tc.address {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
}
