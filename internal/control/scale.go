package control

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// scale is how large a job is, in the words of its client's dialect: how many processes on how many nodes, and what each
// node shall offer.
type scale struct {
	nodes, perNode int // 0 is 1
	framework      compute.Framework
	instance       string // name of an instance type
	gpus           int    // of the job's own wish; 0: what its instance type says
	resources      workspace.ResourceSpec
	unused         []string // what was asked for and is given nowhere, in the client's words

	nodesField string // how the client names the number of nodes
}

// maxRanks is how many processes a job may have. It keeps a slip of the pen from being tried.
const maxRanks = 10_000

// enlarge puts a job's scale into its spec, with what its instance type means on the compute; what the job itself asks for
// goes first. It refuses what the compute cannot do.
func (c *Control) enlarge(ctx context.Context, ws workspace.Workspace, spec *workspace.JobSpec, on store.Compute, s scale) error {
	t, err := instanceType(on, s.instance)
	if err != nil {
		return err
	}
	if err := c.hasNodes(ctx, ws, on, s); err != nil {
		return err
	}
	spec.GPUs = orElse(s.gpus, t.GPUs)
	r := s.resources
	r.CPUs, r.CPULimit = orElse(r.CPUs, t.CPUs), orElse(r.CPULimit, t.CPULimit)
	r.Memory, r.MemoryLimit = orElse(r.Memory, t.Memory), orElse(r.MemoryLimit, t.MemoryLimit)
	r.Shm = orElse(r.Shm, t.Shm)
	if len(t.Selector) > 0 {
		all := maps.Clone(t.Selector)
		maps.Copy(all, r.Selector)
		r.Selector = all
	}
	if !asksNothing(r) {
		spec.Resources = &r
	}
	if s.nodes > 1 || s.perNode > 1 || s.framework != compute.Single {
		spec.Ranks = &workspace.RankSpec{Nodes: max(s.nodes, 1), PerNode: max(s.perNode, 1), Framework: string(s.framework)}
	}
	return nil
}

func orElse[N int | int64 | float64](n, other N) N {
	if n != 0 {
		return n
	}
	return other
}

func asksNothing(r workspace.ResourceSpec) bool {
	return r.CPUs == 0 && r.CPULimit == 0 && r.Memory == 0 && r.MemoryLimit == 0 && r.Shm == 0 && len(r.Selector) == 0 && r.Queue == "" && r.Priority == ""
}

// hasNodes refuses a job of several nodes for a compute that is one.
func (c *Control) hasNodes(ctx context.Context, ws workspace.Workspace, on store.Compute, s scale) error {
	if max(s.nodes, 1)*max(s.perNode, 1) > maxRanks {
		return invalid("TooManyProcesses", s.nodesField, fmt.Sprintf("the job wants %d processes", s.nodes*s.perNode), "", fmt.Sprintf("start %d at most", maxRanks))
	}
	if s.nodes <= 1 {
		return nil
	}
	d, err := c.Fleet.Driver(on.Kind)
	if err != nil || !d.Limits().NoNodes {
		return err
	}
	mend := "set " + s.nodesField + " to 1"
	if names := c.severalNodes(ctx, ws); len(names) > 0 {
		mend += ", or choose a compute that has several: " + strings.Join(names, ", ")
	}
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "TooManyNodes", Target: s.nodesField,
		Message: fmt.Sprintf("the job wants %d machines, and compute %q is one", s.nodes, on.Name), Cause: "a compute of kind " + on.Kind + " runs a job on one node", Mend: mend,
	}
}

// severalNodes are the workspace's computes that run a job on several nodes.
func (c *Control) severalNodes(ctx context.Context, ws workspace.Workspace) []string {
	rows, err := c.Store.Computes(ctx, ws.ID)
	if err != nil {
		return nil // it would have been a help, no more
	}
	var names []string
	for _, row := range rows {
		if d, err := c.Fleet.Driver(row.Kind); err == nil && !d.Limits().NoNodes && row.State == store.ComputeSucceeded && row.Alias == "" {
			names = append(names, row.Name)
		}
	}
	return names
}

// spread divides processes, of which a client gave the total, among the nodes.
func (s *scale) spread(total int, field string) error {
	if total <= 0 {
		return nil
	}
	nodes := max(s.nodes, 1)
	if total%nodes != 0 {
		return invalid("UnevenProcesses", field, fmt.Sprintf("%d processes cannot be spread evenly over %d nodes", total, nodes), "", "make "+field+" a multiple of "+s.nodesField)
	}
	s.perNode = total / nodes
	return nil
}

// count reads a number of processes or nodes; nil is 0.
func count(n *float64, field string) (int, error) {
	if n == nil {
		return 0, nil
	}
	if *n < 0 || *n != math.Trunc(*n) || *n > maxRanks {
		return 0, invalid("InvalidCount", field, fmt.Sprintf("%s is %g", field, *n), "", fmt.Sprintf("give a whole number, %d at most", maxRanks))
	}
	return int(*n), nil
}

// noParameterServers refuses them: only workers are started.
func noParameterServers(n int, field string) error {
	if n == 0 {
		return nil
	}
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedDistribution", Target: field, Message: fmt.Sprintf("the job wants %d parameter servers, and this server starts workers alone", n),
		Mend: "set " + field + " to 0; MultiWorkerMirroredStrategy of TensorFlow 2 needs none",
	}
}

// docker heeds those arguments of `docker run` that mean the same wherever a job runs, and notes the others.
func (s *scale) docker(words []string) error {
	for i := 0; i < len(words); i++ {
		name, value, has := strings.Cut(words[i], "=")
		take := dockerArguments[name]
		if take == nil || !has && i+1 == len(words) {
			s.unused = append(s.unused, words[i])
			continue
		}
		if !has {
			i++
			value = words[i]
		}
		if err := take(s, value); err != nil {
			return invalid("InvalidDockerArgs", "resources.dockerArgs", name+" of the arguments for Docker cannot be read", err.Error(), "correct it, or leave it out")
		}
	}
	return nil
}

var dockerArguments = map[string]func(s *scale, value string) error{
	"--shm-size": func(s *scale, value string) (err error) { s.resources.Shm, err = dockerSize(value); return err },
	"--memory":   func(s *scale, value string) (err error) { s.resources.MemoryLimit, err = dockerSize(value); return err },
	"-m":         func(s *scale, value string) (err error) { s.resources.MemoryLimit, err = dockerSize(value); return err },
	"--cpus":     func(s *scale, value string) (err error) { s.resources.CPULimit, err = parseQuantity(value); return err },
}

// note is what a job's properties say of what was asked for in vain; "" for nothing.
func (s *scale) note() string {
	if len(s.unused) == 0 {
		return ""
	}
	return "not used, because jobs are not started by `docker run`: " + strings.Join(s.unused, " ")
}

// noteProperty is the property of a job that says which of its wishes are not heeded.
const noteProperty = "moorage.note"

// note keeps what is not heeded of a scale in the job's properties.
func (j *commandJob) note(s scale) {
	text := s.note()
	if text == "" {
		return
	}
	if j.Properties == nil {
		j.Properties = textMap{}
	}
	j.Properties[noteProperty] = text
}
