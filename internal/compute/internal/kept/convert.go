package kept

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func toJob(j compute.Job) keeper.Job {
	out := keeper.Job{
		Name: j.Name, Command: j.Command, Env: j.Env, Code: j.Code, GPUs: j.GPUs,
		Timeout: j.Timeout, Grace: j.Grace, LogLimit: j.LogLimit,
	}
	if r := j.Ranks; r.PerNode > 1 || r.Nodes > 1 || r.Framework != compute.Single {
		out.Ranks = &keeper.Ranks{Framework: string(r.Framework), PerNode: r.PerNode, Nodes: r.Nodes}
	}
	for _, in := range j.Inputs {
		out.Inputs = append(out.Inputs, keeper.Input(in))
	}
	for _, o := range j.Outputs {
		out.Outputs = append(out.Outputs, keeper.Output(o))
	}
	if e := j.Environment; e != nil {
		k := &keeper.Environment{Hash: e.Hash, Path: e.Path, Env: e.Env, Say: e.Say, Keep: e.Keep}
		for _, s := range e.Steps {
			k.Steps = append(k.Steps, keeper.Step(s))
		}
		for _, tool := range e.Tools {
			k.Tools = append(k.Tools, keeper.Tool(tool))
		}
		out.Environment = k
	}
	return out
}

// contained adds what a job needs that runs in a container of the machine's own engine.
func contained(out *keeper.Job, j compute.Job) {
	if j.Image == nil {
		return
	}
	out.Image = &keeper.Image{Name: j.Image.Name}
	if l := j.Image.Login; l != nil {
		out.Image.Registry, out.Image.Username, out.Image.Password = l.Server, l.Username, l.Password
	}
	r := j.Resources
	out.Bounds = &keeper.Bounds{CPUs: r.CPULimit, Memory: r.MemoryLimit, Shm: r.Shm}
}

func fromStatus(key compute.Key, s keeper.Status) compute.Status {
	out := compute.Status{
		Key: key, Phase: compute.Phase(s.Phase), Reason: s.Reason, Env: s.Env, Started: s.Started, LogSize: s.LogSize,
	}
	if x := s.Exit; x != nil {
		out.Exit = &compute.Exit{
			Outcome: compute.Outcome(x.Outcome), Code: x.Code, Signal: x.Signal, Problem: x.Problem, Ended: x.Ended,
			PeakMemory: x.PeakMemory, LogSize: x.LogSize, LogDropped: x.LogDropped, Log: x.Log, Files: x.Files,
		}
	}
	return out
}

// key reads a job's key as the target knows it.
func (t *Target) key(text string) (compute.Key, bool) {
	job, attempt, ok := strings.Cut(text, ".")
	n, err := strconv.Atoi(attempt)
	return compute.Key{Server: t.env.Server, Compute: t.env.Compute, Job: job, Attempt: n}, ok && err == nil
}

// containers says whether jobs with an image run in containers here, in the words that planning reads.
func (t *Target) containers(out *compute.Facts) {
	switch {
	case t.opts.Containers == "":
		delete(out.Details, "engine") // the kind does not use it
		fallthrough
	case t.opts.Containers == ContainersNever:
		out.Problems = slices.DeleteFunc(out.Problems, func(p workspace.Problem) bool { return p.Code == "EngineUnusable" })
		if t.opts.Containers != "" {
			out.Details["containers"] = "never"
		}
	case out.Details["engine"] != "":
		out.Details["containers"] = "machine"
	default:
		out.Details["containers"] = "none"
	}
}

// clockSkew is how far the target's clock may be off before tokens and certificates begin to fail.
const clockSkew = 60 * time.Second

func (t *Target) facts(f keeper.Facts) compute.Facts {
	out := compute.Facts{Identity: []string{f.Machine}, Details: f.Details, Problems: f.Problems}
	if out.Details == nil {
		out.Details = map[string]string{}
	}
	t.containers(&out)
	skew := f.Now.Sub(t.env.Clock.Now()).Round(time.Second)
	out.Details["clock_skew"] = strconv.Itoa(int(skew/time.Second)) + "s"
	if skew.Abs() > clockSkew {
		out.Problems = append(out.Problems, workspace.Problem{
			Code: "ClockSkew", Message: fmt.Sprintf("the target's clock is %s off", skew.Abs()), Warning: true,
			Cause: "its clock says " + f.Now.UTC().Format(time.RFC3339),
			Mend:  "set the clock there, e.g. with timedatectl set-ntp true; certificates and tokens depend on it",
		})
	}
	return out
}
