package catalog

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// The contracts by which services are read, and the versions of them.
const (
	synapseKind    = "Microsoft.Synapse/workspaces"
	poolKind       = "Microsoft.Synapse/workspaces/bigDataPools"
	batchKind      = "Microsoft.Batch/batchAccounts"
	databricksKind = "Microsoft.Databricks/workspaces"

	synapseVersion    = "2021-06-01"
	batchVersion      = "2024-02-01"
	databricksVersion = "2024-05-01"

	// livyVersion is in the path of a Spark pool's Livy endpoint (azure-services.md §7).
	livyVersion = "2019-11-01-preview"
)

type synapseWorkspace struct {
	Properties struct {
		ConnectivityEndpoints map[string]string
		PublicNetworkAccess   string
	}
}

type bigDataPool struct {
	Location   string
	Properties struct {
		ProvisioningState, SparkVersion, NodeSize, NodeSizeFamily string
		NodeCount                                                 int
		AutoScale                                                 struct {
			Enabled                    bool
			MinNodeCount, MaxNodeCount int
		}
		AutoPause struct {
			Enabled        bool
			DelayInMinutes int
		}
	}
}

// sparkPool gives the Livy endpoint of a Synapse Spark pool: the workspace knows the host, the pool its own size.
func (a *Azure) sparkPool(ctx context.Context, id armID) (Found, error) {
	if len(id.names) < 2 {
		return Found{}, &workspace.Problem{
			Class: workspace.Invalid, Code: "MissingSparkPool", Target: "resourceId", Message: fmt.Sprintf("the id names Synapse workspace %s, and no Spark pool in it", id.name()),
			Mend: fmt.Sprintf("name the pool as well: %s/bigDataPools/POOL", id),
		}
	}
	id = id.as(poolKind)
	of := id.parent(1).as(synapseKind)
	var ws synapseWorkspace
	if err := a.ask(ctx, call{id: of, version: synapseVersion}, &ws); err != nil {
		return Found{}, err
	}
	var pool bigDataPool
	if err := a.ask(ctx, call{id: id, version: synapseVersion}, &pool); err != nil {
		return Found{}, err
	}
	p := pool.Properties
	if !ready(p.ProvisioningState) {
		return Found{}, notReady(id, p.ProvisioningState)
	}
	dev, err := url.Parse(ws.Properties.ConnectivityEndpoints["dev"])
	if err != nil || dev.Scheme != "https" || !hostName(dev.Host) {
		return Found{}, noEndpoint(of, "no development endpoint")
	}
	found := Found{
		Address: fmt.Sprintf("livy+https://%s/livyApi/versions/%s/sparkPools/%s", dev.Host, livyVersion, url.PathEscape(id.name())),
		Public:  !disabled(ws.Properties.PublicNetworkAccess),
		Details: details(map[string]string{
			"spark_version": p.SparkVersion, "node_size": p.NodeSize, "node_size_family": p.NodeSizeFamily, "node_count": positive(p.NodeCount), "location": pool.Location,
		}),
	}
	if p.AutoScale.Enabled {
		found.Details["node_count_min"], found.Details["node_count_max"] = strconv.Itoa(p.AutoScale.MinNodeCount), strconv.Itoa(p.AutoScale.MaxNodeCount)
	}
	if p.AutoPause.Enabled {
		found.Details["pause_after_minutes"] = strconv.Itoa(p.AutoPause.DelayInMinutes)
	}
	return found.private(of), nil
}

type batchAccount struct {
	Location   string
	Properties struct {
		AccountEndpoint, ProvisioningState, PoolAllocationMode, PublicNetworkAccess string
		AllowedAuthenticationModes                                                  []string
	}
}

// batchAccount gives the endpoint of an Azure Batch account.
func (a *Azure) batchAccount(ctx context.Context, id armID) (Found, error) {
	id = id.as(batchKind)
	var account batchAccount
	if err := a.ask(ctx, call{id: id, version: batchVersion}, &account); err != nil {
		return Found{}, err
	}
	p := account.Properties
	if !ready(p.ProvisioningState) {
		return Found{}, notReady(id, p.ProvisioningState)
	}
	if !hostName(p.AccountEndpoint) {
		return Found{}, noEndpoint(id, "no account endpoint")
	}
	return Found{
		Address: "https://" + p.AccountEndpoint, Public: !disabled(p.PublicNetworkAccess),
		Details: details(map[string]string{
			"location": account.Location, "pool_allocation": p.PoolAllocationMode, "authentication": strings.Join(p.AllowedAuthenticationModes, ","),
		}),
	}.private(id), nil
}

type databricksWorkspace struct {
	Location   string
	Properties struct{ WorkspaceURL, WorkspaceID, ProvisioningState, PublicNetworkAccess string }
}

// databricks gives the URL of a Databricks workspace.
func (a *Azure) databricks(ctx context.Context, id armID) (Found, error) {
	id = id.as(databricksKind)
	var ws databricksWorkspace
	if err := a.ask(ctx, call{id: id, version: databricksVersion}, &ws); err != nil {
		return Found{}, err
	}
	p := ws.Properties
	if !ready(p.ProvisioningState) {
		return Found{}, notReady(id, p.ProvisioningState)
	}
	if !hostName(p.WorkspaceURL) {
		return Found{}, noEndpoint(id, "no workspace URL")
	}
	return Found{
		Address: "https://" + p.WorkspaceURL, Public: !disabled(p.PublicNetworkAccess),
		Details: details(map[string]string{"location": ws.Location, "workspace_id": p.WorkspaceID}),
	}.private(id), nil
}

// private warns of a service that its owner has closed to the public.
func (f Found) private(id armID) Found {
	if !f.Public {
		f.Warnings = append(f.Warnings, privateService(id, "its public network access is disabled"))
	}
	return f
}

// ready tells whether a resource of that provisioning state is there to be used; the words differ by service. A failed
// state speaks of the last change to it, not of the resource.
func ready(state string) bool {
	return !slices.ContainsFunc([]string{"Invalid", "Accepted", "Creating", "Provisioning", "Deleting", "Deleted"}, func(bad string) bool { return strings.EqualFold(state, bad) })
}

func disabled(publicNetworkAccess string) bool {
	return strings.EqualFold(publicNetworkAccess, "Disabled")
}

func positive(n int) string {
	if n <= 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func noEndpoint(id armID, cause string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "NoAddress", Target: "resourceId", Message: fmt.Sprintf("Azure does not say where %s %s answers", noun(id), id.name()),
		Cause: "its answer has " + cause, Mend: tell(id),
	}
}

// noun is what people call a resource of that type.
func noun(id armID) string {
	switch strings.ToLower(id.kind()) {
	case strings.ToLower(machineKind):
		return "virtual machine"
	case strings.ToLower(nicKind):
		return "network interface"
	case strings.ToLower(publicKind):
		return "public IP address"
	case strings.ToLower(hdinsightKind):
		return "HDInsight cluster"
	case strings.ToLower(managedKind):
		return "AKS cluster"
	case strings.ToLower(connectedKind):
		return "Arc cluster"
	case strings.ToLower(synapseKind):
		return "Synapse workspace"
	case strings.ToLower(poolKind):
		return "Synapse Spark pool"
	case strings.ToLower(batchKind):
		return "Batch account"
	case strings.ToLower(databricksKind):
		return "Databricks workspace"
	}
	return "resource"
}
