package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func newCompute() *cobra.Command {
	cmd := group("compute", "Attach, look at and detach computes",
		"Attach machines and clusters by name, look at them, and detach them. Detaching never deletes the machine or cluster itself.")
	n := &connection{}
	n.register(cmd.PersistentFlags())
	cmd.AddCommand(newComputeAttach(n), newComputeList(n), newComputeShow(n), newComputeCheck(n), newComputeUpdate(n), newComputeDetach(n))
	return cmd
}

func newComputeList(n *connection) *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use: "list", Short: "List the computes of the workspace", Args: cobra.NoArgs,
		Example: `  moorage compute list
  moorage compute list -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := n.open()
			if err != nil {
				return err
			}
			computes, err := c.Computes(cmd.Context())
			if err != nil {
				return err
			}
			raw := make([]json.RawMessage, len(computes))
			rows := make([][]string, len(computes))
			for i, item := range computes {
				v := viewOf(item)
				raw[i] = item.Raw
				rows[i] = []string{item.Name, v.kind, v.address, item.Properties.ProvisioningState, v.health, v.slots}
			}
			return f.print(cmd, raw, func() error {
				if len(rows) == 0 {
					fmt.Fprintln(cmd.ErrOrStderr(), "no compute is attached yet: moorage compute attach --help")
					return nil
				}
				return show.Table(cmd.OutOrStdout(), []string{"NAME", "KIND", "ADDRESS", "STATE", "HEALTH", "SLOTS"}, rows)
			})
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func newComputeShow(n *connection) *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show one compute, and the environments made there",
		Example: `  moorage compute show gpu
  moorage compute show -n gpu -o yaml`,
		ValidArgsFunction: n.completeComputes,
	}
	name := named(cmd, "compute")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := n.open()
		if err != nil {
			return err
		}
		item, err := c.Compute(cmd.Context(), *name)
		if err != nil {
			return err
		}
		environments, err := c.Environments(cmd.Context(), *name)
		if err != nil {
			return err
		}
		return f.print(cmd, withEnvironments(item, environments), func() error {
			if err := printCompute(cmd, item); err != nil || len(environments) == 0 {
				return err
			}
			return printEnvironments(cmd, environments)
		})
	}
	f.register(cmd.Flags())
	return cmd
}

// withEnvironments is a compute's document with the environments as one more field, the last.
func withEnvironments(item *client.Compute, list []*client.Environment) json.RawMessage {
	doc := bytes.TrimSuffix(bytes.TrimSpace(item.Raw), []byte("}"))
	doc = append(doc[:len(doc):len(doc)], `,"environments":[`...)
	for i, e := range list {
		if i > 0 {
			doc = append(doc, ',')
		}
		doc = append(doc, e.Raw...)
	}
	return append(doc, "]}"...)
}

func printEnvironments(cmd *cobra.Command, list []*client.Environment) error {
	fmt.Fprintln(cmd.OutOrStdout())
	rows := make([][]string, len(list))
	for i, e := range list {
		rows[i] = []string{show.Clip(e.Hash, 13), e.Phase, show.When(e.LastUsed), madeOf(e)}
	}
	return show.FittedTable(cmd.OutOrStdout(), []string{"ENVIRONMENT", "PHASE", "LAST USED", "WHAT"}, rows)
}

// madeOf is one line on what is in an environment, or on why it could not be made.
func madeOf(e *client.Environment) string {
	parts := append([]string{e.Spec.Curated, e.Spec.Image, e.Spec.Python, e.Spec.CondaFile}, e.Spec.Pip...)
	if e.Problem != nil && e.Problem.Message != "" {
		parts = []string{e.Problem.Message + ":", e.Problem.Cause}
	}
	return show.Clip(strings.TrimSuffix(strings.Join(strings.Fields(strings.Join(parts, " ")), " "), ":"), 100)
}

func newComputeCheck(n *connection) *cobra.Command {
	var f format
	var flags attachFlags
	cmd := &cobra.Command{
		Use: "check [NAME]", Short: "Try what a job would need on a compute, attached or not",
		Long: `Try what a job would need on a compute: reach, login, disk, Python, rights, clock, way back.

With a name alone it looks at an attached compute. With --kind and --address, or -f, it tries a target before it is
attached, with the same flags as attach, and changes nothing. Exit code 1 means that something stands in the way.`,
		Example: `  moorage compute check gpu
  moorage compute check --kind ssh --address ssh://bob@10.0.0.5:22 --private-key-file ~/.ssh/id_ed25519`,
		ValidArgsFunction: n.completeComputes,
	}
	name := named(cmd, "compute")
	needsName := cmd.Args
	flags.register(cmd, n)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := needsName(cmd, args); err != nil && (len(args) > 0 || !flags.given(cmd)) {
			return err
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := n.open()
		if err != nil {
			return err
		}
		var facts *client.Facts
		if flags.given(cmd) {
			request, err := flags.request(cmd, *name)
			if err != nil {
				return err
			}
			facts, err = c.CheckBody(cmd.Context(), request.body)
			if err != nil {
				return err
			}
		} else if facts, err = c.CheckCompute(cmd.Context(), *name); err != nil {
			return err
		}
		err = f.print(cmd, facts.Raw, func() error { return printFacts(cmd, nil, facts.Details, facts.Problems) })
		if err == nil && blocked(facts.Problems) {
			return Exit(exitFailed)
		}
		return err
	}
	f.register(cmd.Flags())
	return cmd
}

func newComputeDetach(n *connection) *cobra.Command {
	var force, cancelJobs bool
	cmd := &cobra.Command{
		Use: "detach NAME", Short: "Forget a compute; the machine itself is left alone",
		Long: `Forget a compute and remove what Moorage placed on it. The machine or cluster itself is never deleted. Names that only
stand for it (attach --alias) go with it.

It refuses while jobs run there, unless --cancel-jobs ends them first. --force detaches a target that does not answer,
and then says what stayed behind on it.`,
		Example: `  moorage compute detach gpu
  moorage compute detach -n gpu --force --cancel-jobs`,
		ValidArgsFunction: n.completeComputes,
	}
	name := named(cmd, "compute")
	cmd.Flags().BoolVar(&force, "force", false, "detach also when the target does not answer")
	cmd.Flags().BoolVar(&cancelJobs, "cancel-jobs", false, "cancel the jobs that wait or run there")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := n.open()
		if err != nil {
			return err
		}
		if _, err := c.Compute(cmd.Context(), *name); err != nil {
			return err // a DELETE of what is not there succeeds in ARM, and would hide a misspelt name
		}
		left, err := c.Detach(cmd.Context(), *name, force, cancelJobs)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "detached %s; the target itself is untouched\n", *name)
		for _, what := range left {
			fmt.Fprintf(cmd.ErrOrStderr(), "  left behind: %s\n", show.Plain(what))
		}
		return nil
	}
	return cmd
}

// computeView is what people see of a compute.
type computeView struct {
	kind, address, health, slots string
	details                      map[string]string
	problems                     []workspace.Problem
}

// viewOf reads the server's fields beside those of the kind: kind, health, healthReason, details and problems.
func viewOf(c *client.Compute) computeView {
	var inner struct {
		Address      string              `json:"address"`
		Alias        string              `json:"alias"`
		Kind         string              `json:"kind"`
		Health       string              `json:"health"`
		HealthReason *workspace.Problem  `json:"healthReason"`
		Slots        int                 `json:"slots"`
		Details      map[string]string   `json:"details"`
		Problems     []workspace.Problem `json:"problems"`
		Settings     struct {
			Address string `json:"address"`
		} `json:"settings"`
	}
	_ = json.Unmarshal(c.Properties.Inner, &inner) // a kind may have no inner properties at all
	v := computeView{
		kind:    cmp.Or(inner.Kind, strings.ToLower(c.Properties.ComputeType)),
		address: cmp.Or(inner.Address, inner.Settings.Address, c.Properties.ResourceID),
		health:  inner.Health, details: inner.Details, problems: inner.Problems,
	}
	if inner.Alias != "" {
		v.address = "stands for " + inner.Alias
	}
	if inner.Slots > 0 {
		v.slots = fmt.Sprint(inner.Slots)
	}
	if v.slots == "" {
		v.slots = v.details["slots"]
	}
	for _, e := range c.Properties.ProvisioningErrors {
		v.problems = append(v.problems, e.Problem())
	}
	if inner.HealthReason != nil && inner.HealthReason.Message != "" {
		v.problems = append(v.problems, *inner.HealthReason)
	}
	return v
}

func printCompute(cmd *cobra.Command, c *client.Compute) error {
	v := viewOf(c)
	pairs := [][2]string{
		{"name", c.Name},
		{"kind", v.kind},
		{"address", v.address},
		{"state", c.Properties.ProvisioningState},
		{"health", v.health},
		{"description", c.Properties.Description},
		{"resource id", c.Properties.ResourceID},
		{"created", show.When(c.Properties.CreatedOn)},
	}
	return printFacts(cmd, pairs, v.details, v.problems)
}

// factOrder is the order in which people look at facts; the others follow by name.
var factOrder = []string{"host_key", "os", "arch", "cpus", "memory", "gpus", "slots", "disk", "disk_free", "home", "folder", "python", "conda"}

// printFacts prints pairs, then details, then findings.
func printFacts(cmd *cobra.Command, pairs [][2]string, details map[string]string, problems []workspace.Problem) error {
	rest := maps.Clone(details)
	if rest["host_key"] != "" {
		delete(rest, "host_key_fingerprint") // the same once more
	}
	delete(rest, "address") // as it was given, with the pairs
	for _, k := range append(append([]string{}, factOrder...), sorted(details)...) {
		value, ok := rest[k]
		if !ok {
			continue
		}
		delete(rest, k)
		switch k {
		case "host_key":
			value = fingerprint(value)
		case "memory", "disk_free", "disk":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				value = show.Size(n)
			}
		}
		pairs = append(pairs, [2]string{strings.ReplaceAll(k, "_", " "), value})
	}
	if err := show.Pairs(cmd.OutOrStdout(), pairs); err != nil {
		return err
	}
	for _, p := range problems {
		show.Finding(cmd.OutOrStdout(), p)
	}
	return nil
}

func blocked(problems []workspace.Problem) bool {
	for _, p := range problems {
		if !p.Warning {
			return true
		}
	}
	return false
}
