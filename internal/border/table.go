// Package border keeps the borders between the project's packages as one table, from which its test and the linter's
// depguard rules are made. It is used by no other package.
package border

// Module is the path of the project.
const Module = "github.com/moorage-ml/moorage"

// Rule says which packages of ours a package may import. Paths are relative to the module; "/..." at the end means all
// below, and the package itself. The first rule that names a package counts.
type Rule struct {
	Package string
	May     []string
	// Never are packages, of ours or not, that must not be linked into it even through others: what keeps a program small.
	Never []string
	Why   string
}

// Table is the drawing of the architecture: words at the top, then the targets, the state, the use cases, the dialects,
// and the programs, which alone know all.
var Table = []Rule{
	{Package: "internal/workspace", Why: "the words, free of everything else"},
	{Package: "internal/clock", Why: "time, ids and chance"},
	{Package: "internal/snapshot", Why: "the form of folders, shared by client, server and target"},
	{Package: "internal/fault", Why: "points of the crash sweep"},
	{Package: "internal/kubeconfig", May: []string{"internal/workspace"}, Why: "kubectl's files cut down to one context, where a person is and where they are kept alike"},

	{Package: "internal/compute", May: []string{"internal/workspace", "internal/clock", "internal/snapshot"}, Why: "the driver contract"},
	{
		Package: "internal/keeper", May: []string{"internal/snapshot", "internal/workspace", "internal/clock"},
		Never: []string{"internal/keeper/dist", "internal/compute", "internal/store", "database/sql", "github.com/spf13/cobra", "github.com/goccy/go-yaml"},
		Why:   "copied to targets and started once a job: it stays small",
	},
	{Package: "internal/keeper/dist", May: []string{"internal/compute", "internal/snapshot", "internal/workspace"}, Why: "the keeper programs inside moorage; no keeper may import it, or it would hold keepers itself"},
	{Package: "internal/compute/internal/kept", May: []string{"internal/compute", "internal/keeper", "internal/snapshot", "internal/workspace", "internal/clock"}, Why: "targets that run the keeper"},
	{Package: "internal/compute/internal/...", May: []string{"internal/compute", "internal/workspace", "internal/clock"}, Why: "what drivers share"},
	{Package: "internal/compute/computetest", May: []string{"internal/compute", "internal/snapshot", "internal/workspace", "internal/clock"}, Why: "the exam knows the contract and no kind"},
	{Package: "internal/compute/all", May: []string{"internal/compute/...", "internal/workspace"}, Why: "the list of kinds"},
	{
		Package: "internal/compute/...", May: []string{"internal/compute", "internal/compute/internal/...", "internal/keeper", "internal/kubeconfig", "internal/snapshot", "internal/workspace", "internal/clock"},
		Why: "a driver knows the contract and its target, not the server",
	},

	{Package: "internal/blob", May: []string{"internal/snapshot", "internal/clock", "internal/workspace"}, Why: "bytes"},
	{Package: "internal/blob/...", May: []string{"internal/blob", "internal/snapshot", "internal/clock", "internal/workspace"}, Why: "the exam of blob"},
	{Package: "internal/store", May: []string{"internal/workspace", "internal/clock"}, Why: "rows"},
	{Package: "internal/store/...", May: []string{"internal/store", "internal/workspace", "internal/clock"}, Why: "the exam of store, and its migrations"},
	{Package: "internal/secret", May: []string{"internal/workspace"}, Why: "sealing, without knowing what is sealed or where it is kept"},
	{Package: "internal/catalog", May: []string{"internal/store", "internal/kubeconfig", "internal/workspace"}, Why: "resource ids"},
	{Package: "internal/environment", May: []string{"internal/workspace", "internal/compute", "internal/snapshot"}, Why: "plans, made without I/O"},
	{Package: "internal/image", May: []string{"internal/workspace"}, Why: "container images made and pushed without an engine"},
	{Package: "internal/registry", May: []string{"internal/blob", "internal/store", "internal/workspace", "internal/clock"}, Why: "images kept by the server, as OCI distribution has them"},
	{Package: "internal/tracking/filter", May: []string{"internal/store", "internal/workspace"}, Why: "the search grammar"},
	{Package: "internal/tracking", May: []string{"internal/tracking/filter", "internal/store", "internal/blob", "internal/workspace", "internal/clock"}, Why: "runs, metrics, artifacts"},

	{
		Package: "internal/fleet", May: []string{"internal/compute", "internal/store", "internal/secret", "internal/workspace", "internal/clock", "internal/snapshot", "internal/blob"},
		Why: "the only owner of open targets; kinds are handed to it",
	},
	{Package: "internal/control", May: []string{
		"internal/store", "internal/blob", "internal/secret", "internal/fleet", "internal/catalog", "internal/environment", "internal/tracking",
		"internal/registry", "internal/workspace", "internal/snapshot", "internal/compute", "internal/clock", "internal/authz", "internal/fault", "internal/kubeconfig",
	}, Why: "the use cases; the only writer of wishes"},
	{Package: "internal/reconcile", May: []string{
		"internal/store", "internal/blob", "internal/fleet", "internal/compute", "internal/workspace", "internal/environment", "internal/secret",
		"internal/clock", "internal/snapshot", "internal/tracking", "internal/fault", "internal/image",
	}, Why: "the loop; it serves no request, so it knows neither control nor a dialect"},

	{Package: "internal/authn", May: []string{"internal/store", "internal/secret", "internal/workspace", "internal/clock"}, Why: "tokens in, principal out"},
	{Package: "internal/authz", May: []string{"internal/workspace"}, Why: "roles as action patterns"},
	{
		Package: "internal/api", May: []string{"internal/control", "internal/tracking", "internal/authn", "internal/authz", "internal/workspace", "internal/blob", "internal/snapshot", "internal/clock"},
		Why: "the router; dialects are handed to it",
	},
	{
		Package: "internal/api/all", May: []string{"internal/api/...", "internal/control", "internal/store", "internal/tracking", "internal/registry", "internal/authn", "internal/blob", "internal/clock", "internal/workspace"},
		Why: "joins the dialects to one table",
	},
	{Package: "internal/api/attach", May: []string{"internal/api", "internal/control", "internal/store", "internal/workspace"}, Why: "reads a compute's body for the dialects that attach"},
	{
		Package: "internal/api/registry", May: []string{"internal/api", "internal/registry", "internal/store", "internal/authn", "internal/workspace", "internal/clock"},
		Why: "images over HTTP; they are no use case of control, but a store of their own",
	},
	{
		Package: "internal/api/...", May: []string{
			"internal/api", "internal/api/attach", "internal/control", "internal/tracking", "internal/tracking/filter", "internal/store", "internal/authn", "internal/authz", "internal/workspace", "internal/blob", "internal/snapshot", "internal/clock",
		},
		Why: "a dialect decodes, calls control or tracking, and encodes; of store it knows the rows' types. It knows no other dialect and no target",
	},

	{
		Package: "internal/cli/...", May: []string{"internal/cli/...", "internal/kubeconfig", "internal/workspace", "internal/snapshot", "internal/clock"},
		Never: []string{"internal/store", "internal/control", "database/sql"},
		Why:   "it speaks HTTP only",
	},

	{Package: "internal/border", Why: "this table"},
	{Package: "internal/release", Why: "packs what make builds"},
	{Package: "internal/deps", Why: "pins of libraries"},
	{Package: "internal/server", May: []string{"internal/..."}, Why: "the wiring of a server"},
	{Package: "cmd/keeper", May: []string{"internal/keeper"}, Never: []string{"database/sql", "github.com/spf13/cobra"}, Why: "small"},
	{Package: "cmd/...", May: []string{"internal/..."}, Why: "wires everything"},
	{Package: "bench/...", May: []string{"bench/...", "internal/..."}, Why: "measures everything"},
	{Package: "test/...", May: []string{"test/...", "internal/..."}, Why: "tests everything"},
}
