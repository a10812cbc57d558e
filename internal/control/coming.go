package control

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// foreseen are the kinds that Azure's clients can attach and a server may have no driver for, by what they are called
// there. Without one an attachment fails at once and stays listed with its reason, as any that failed: it takes no jobs, holds
// no secret, and the name is free for the next attempt.
var foreseen = map[string]string{
	"kubernetes": "Kubernetes", "synapsespark": "SynapseSpark", "hdinsight": "HDInsight", "databricks": "Databricks", "adla": "DataLakeAnalytics",
	"datafactory": "DataFactory",
}

// Foreseen tells whether a kind may have no driver and is attached, in vain, all the same.
func Foreseen(kind string) bool { return foreseen[kind] != "" }

// noDriver says that a kind cannot be used yet, and what it will need besides: whoever has only that mended would come
// back for the next.
func (c *Control) noDriver(ctx context.Context, req AttachRequest) *workspace.Problem {
	p := &workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedComputeType", Target: "properties.computeType",
		Message: fmt.Sprintf("this server does not yet run computes of type %s", foreseen[req.Kind]),
		Cause:   "its driver is still to come; nothing was connected to and no secret was kept",
		Mend:    "attach one of the kinds that are here: " + strings.Join(c.kindNames(), ", "),
	}
	if req.Kind == "datafactory" {
		p.Cause = "a data factory runs in Azure alone"
		return p
	}
	if req.Address != "" || req.ResourceID == "" {
		return p
	}
	_, err := c.Catalog.Find(ctx, req.ResourceID)
	if missing, ok := errors.AsType[*workspace.Problem](err); ok {
		p.Cause += ". It will need an address, too: " + missing.Message
		p.Mend += "; for the time when the driver is there, " + missing.Mend
	}
	return p
}

func (c *Control) kindNames() []string {
	var names []string
	for _, d := range c.Fleet.Drivers() {
		names = append(names, d.Kind())
	}
	return names
}

// notAttached names the compute in a problem that was found before anything was tried.
func notAttached(name string, p *workspace.Problem) *workspace.Problem {
	if name == "" { // only asked about
		return p
	}
	named := *p
	named.Message = fmt.Sprintf("compute %q cannot be attached: %s", name, p.Message)
	return &named
}

// wrongAddress refuses an address of a form that the kind's driver does not speak, before it is dialled.
func wrongAddress(req AttachRequest) *workspace.Problem {
	if req.Kind != "batch" || !strings.HasPrefix(req.Address, "https://") {
		return nil
	}
	id := req.ResourceID
	if id == "" {
		id = "ID"
	}
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedComputeType", Target: "properties.resourceId",
		Message: "this server does not yet run jobs on Azure Batch itself", Cause: "the account is at " + req.Address + ", and its driver is still to come; jobs of kind batch go to Slurm",
		Mend: "let the id stand for a Slurm login node: moorage resource add " + id + " --address slurm+ssh://USER@HOST:22",
	}
}
