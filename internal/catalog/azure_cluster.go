package catalog

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/kubeconfig"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The contracts by which clusters are read, and the versions of them.
const (
	hdinsightKind = "Microsoft.HDInsight/clusters"
	managedKind   = "Microsoft.ContainerService/managedClusters"
	connectedKind = "Microsoft.Kubernetes/connectedClusters"

	hdinsightVersion = "2021-06-01"
	managedVersion   = "2024-05-01"
	connectedVersion = "2024-01-01"
)

type hdinsightCluster struct {
	Location   string
	Properties struct {
		OSType, ClusterVersion, ClusterState string
		ClusterDefinition                    struct{ Kind string }
		ConnectivityEndpoints                []connectivityEndpoint
	}
}

type connectivityEndpoint struct {
	Name, Location, PrivateIPAddress string
	Port                             int
}

// hdinsight reads the cluster's own list of endpoints: the names in it differ between clouds and private clusters, so
// none is made up (azure-services.md §7). The address is SSH's; HTTPS, behind which Livy is, is the detail "https".
func (a *Azure) hdinsight(ctx context.Context, id armID) (Found, error) {
	id = id.as(hdinsightKind)
	var cluster hdinsightCluster
	if err := a.ask(ctx, call{id: id, version: hdinsightVersion}, &cluster); err != nil {
		return Found{}, err
	}
	p := cluster.Properties
	if strings.EqualFold(p.OSType, "Windows") {
		return Found{}, windows(id)
	}
	if p.ClusterState != "" && !strings.EqualFold(p.ClusterState, "Running") {
		return Found{}, notReady(id, p.ClusterState)
	}
	ssh, found := endpoint(p.ConnectivityEndpoints, "SSH")
	if !found {
		return Found{}, &workspace.Problem{
			Class: workspace.Unsupported, Code: "NoAddress", Target: "resourceId", Message: fmt.Sprintf("HDInsight cluster %s has no SSH endpoint", id.name()),
			Cause: "Azure lists none for it", Mend: tell(id),
		}
	}
	out := Found{
		Address: "ssh://" + ssh.address(), Public: ssh.public(),
		Details: details(map[string]string{"cluster_kind": strings.ToLower(p.ClusterDefinition.Kind), "cluster_version": p.ClusterVersion, "private_ip": ssh.PrivateIPAddress, "location": cluster.Location}),
	}
	if https, found := endpoint(p.ConnectivityEndpoints, "HTTPS"); found {
		out.Details["https"] = "https://" + https.address()
	}
	if !out.Public {
		out.Warnings = append(out.Warnings, privateService(id, "its SSH endpoint is in a private network"))
	}
	return out, nil
}

// endpoint gives the endpoint of a name, a public one rather than a private one.
func endpoint(list []connectivityEndpoint, name string) (connectivityEndpoint, bool) {
	var best connectivityEndpoint
	for _, e := range list {
		if strings.EqualFold(e.Name, name) && hostName(e.Location) && e.Port > 0 && e.Port < 1<<16 && (best.Location == "" || !best.public() && e.public()) {
			best = e
		}
	}
	return best, best.Location != ""
}

func (e connectivityEndpoint) public() bool { return e.PrivateIPAddress == "" }

func (e connectivityEndpoint) address() string { return e.Location + ":" + strconv.Itoa(e.Port) }

type managedCluster struct {
	Location   string
	Properties struct {
		ProvisioningState, KubernetesVersion, CurrentKubernetesVersion string
		PowerState                                                     struct{ Code string }
		APIServerAccessProfile                                         struct {
			EnablePrivateCluster bool
			AuthorizedIPRanges   []string
		}
	}
}

// managedCluster gives an AKS cluster's kubeconfig as a secret, and as address the name of its context.
func (a *Azure) managedCluster(ctx context.Context, id armID) (Found, error) {
	id = id.as(managedKind)
	var cluster managedCluster
	if err := a.ask(ctx, call{id: id, version: managedVersion}, &cluster); err != nil {
		return Found{}, err
	}
	p := cluster.Properties
	if strings.EqualFold(p.PowerState.Code, "Stopped") {
		return Found{}, stopped(id, "its power state is Stopped", "az aks start --ids "+shellWord(id.String()))
	}
	if strings.EqualFold(p.ProvisioningState, "Deleting") {
		return Found{}, notReady(id, p.ProvisioningState)
	}
	var credentials struct {
		Kubeconfigs []struct{ Name, Value string }
	}
	err := a.ask(ctx, call{id: id, action: "listClusterUserCredential", version: managedVersion, role: "Azure Kubernetes Service Cluster User Role"}, &credentials)
	if err != nil {
		return Found{}, err
	}
	config, err := usable(id, credentials.Kubeconfigs)
	if err != nil {
		return Found{}, err
	}
	found := Found{
		Address: kubeconfig.Address(config.Context), Public: !p.APIServerAccessProfile.EnablePrivateCluster,
		Details: details(map[string]string{
			"kubernetes_version": cmp.Or(p.CurrentKubernetesVersion, p.KubernetesVersion), "server": config.Server, "location": cluster.Location,
		}),
		Secrets: map[string]workspace.Secret{"kubeconfig": config.Text},
	}
	if !found.Public {
		found.Warnings = append(found.Warnings, privateService(id, "it is a private cluster: only its virtual network reaches "+config.Server))
	}
	if ranges := p.APIServerAccessProfile.AuthorizedIPRanges; len(ranges) > 0 {
		found.Warnings = append(found.Warnings, workspace.Problem{
			Class: workspace.Denied, Code: "AddressRangesOnly", Target: "resourceId", Warning: true, Message: fmt.Sprintf("AKS cluster %s answers some addresses only", id.name()),
			Cause: "its API server is open to " + clip(strings.Join(ranges, ", ")), Mend: "see that this server's public address is among them",
		})
	}
	return found, nil
}

// usable finds the current context of the kubeconfig that Azure gives for a cluster, and refuses one whose user runs a
// program: the server runs none that came over the network.
func usable(id armID, given []struct{ Name, Value string }) (kubeconfig.Minimal, error) {
	var text []byte
	var err error
	if len(given) > 0 {
		text, err = base64.StdEncoding.DecodeString(given[0].Value)
	}
	var file *kubeconfig.File
	if err == nil {
		file, err = kubeconfig.Read(text)
	}
	if err == nil {
		if program := file.Program(""); program != "" {
			return kubeconfig.Minimal{}, needsProgram(id, file.Current, program)
		}
		var config kubeconfig.Minimal
		if config, err = file.Minimise("", nil); err == nil {
			return config, nil
		}
	}
	return kubeconfig.Minimal{}, &workspace.Problem{
		Class: workspace.Unsupported, Code: "NoKubeconfig", Target: "resourceId", Message: fmt.Sprintf("Azure gives no usable kubeconfig of AKS cluster %s", id.name()),
		Cause: "it has no current context with a server", Mend: tell(id),
	}
}

// needsProgram says what to do with a cluster that takes Entra logins only.
func needsProgram(id armID, context, program string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "KubeconfigNeedsProgram", Target: "resourceId",
		Message: fmt.Sprintf("the kubeconfig of AKS cluster %s gets its token from a program", id.name()),
		Cause:   fmt.Sprintf("its user runs %s, because the cluster takes Entra logins only, and this server runs no program that a kubeconfig brings along", clip(program)),
		Mend: fmt.Sprintf("enable local accounts on the cluster; or make a service account in it and give its kubeconfig: moorage resource add %[1]s --address %[2]s --kubeconfig-file FILE; "+
			"or install that program where this server runs, put the kubeconfig there (az aks get-credentials), and name its context: moorage resource add %[1]s --address %[2]s", shellWord(id.String()), kubeconfig.Address(context)),
	}
}

type connected struct {
	Properties struct{ ConnectivityStatus, Distribution, KubernetesVersion string }
}

// connectedCluster says why an Arc cluster's id is not enough: what Azure hands out for it speaks to Microsoft's local
// proxy alone, through a relay (azure-services.md §7). That the cluster is there and how it is goes into the answer.
func (a *Azure) connectedCluster(ctx context.Context, id armID) (Found, error) {
	id = id.as(connectedKind)
	var cluster connected
	if err := a.ask(ctx, call{id: id, version: connectedVersion}, &cluster); err != nil {
		return Found{}, err
	}
	p := cluster.Properties
	state := strings.Join(strings.Fields(p.Distribution+" "+p.KubernetesVersion+" "+p.ConnectivityStatus), ", ")
	if state != "" {
		state = " (" + clip(state) + ")"
	}
	return Found{}, &workspace.Problem{
		Class: workspace.Unsupported, Code: "KubeconfigNeeded", Target: "resourceId",
		Message: fmt.Sprintf("the id of Arc cluster %s does not say how to reach its Kubernetes API", id.name()),
		Cause:   "Azure knows the cluster" + state + ", but reaches it through a relay that only Microsoft's own proxy speaks",
		Mend:    fmt.Sprintf("give this server the cluster's own kubeconfig and name the context: moorage resource add %s --address kubeconfig://CONTEXT --kubeconfig-file FILE", shellWord(id.String())),
	}
}

func notReady(id armID, state string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Conflict, Code: "ResourceNotRunning", Target: "resourceId", Message: fmt.Sprintf("%s %s is not running", noun(id), id.name()),
		Cause: "Azure says that it is " + clip(state), Mend: "wait until Azure's portal shows it as running, and attach it again",
	}
}

func privateService(id armID, cause string) workspace.Problem {
	return workspace.Problem{
		Class: workspace.Unavailable, Code: "PrivateAddress", Target: "resourceId", Warning: true, Message: fmt.Sprintf("%s %s has no public address", noun(id), id.name()),
		Cause: cause, Mend: "see that this server reaches that network, or " + tell(id),
	}
}

// hostName tells whether a text from an answer is a host and nothing else, so that no address is made of it that means
// more.
func hostName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return !strings.Contains(s, ":")
	}
	return s != "" && len(s) < 254 && !strings.HasPrefix(s, "-") && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}
