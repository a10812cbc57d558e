package batch

import (
	"context"
	"errors"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Probe looks at the login node and asks Slurm who it is. The cluster is the target; login nodes are doors to it.
func (t *Target) Probe(ctx context.Context) (compute.Facts, error) {
	f, err := t.kept.Probe(ctx)
	if err != nil {
		return f, err
	}
	door := f.Identity
	if len(door) > 0 {
		f.Details["login_machine"] = door[0]
	}
	delete(f.Details, "slots")
	config, err := t.program(ctx, "scontrol", "show", "config")
	if err != nil {
		f.Problems = append(f.Problems, t.noSlurm(err))
		return f, nil
	}
	values := parseConfig(string(config))
	host, _, _ := strings.Cut(values["SlurmctldHost[0]"], "(") // an address may follow
	f.Identity = []string{"slurm:" + values["ClusterName"] + "@" + host}
	f.Details["cluster"], f.Details["slurm"] = values["ClusterName"], values["SLURM_VERSION"]
	if track := values["ProctrackType"]; track != "" && track != "proctrack/cgroup" {
		f.Problems = append(f.Problems, workspace.Problem{
			Code: "LooseProcesses", Warning: true, Message: "Slurm does not hold on to all processes of a job", Cause: "the cluster is configured with " + track,
			Mend: "ask the cluster's administrator for proctrack/cgroup; without it, what a job detaches may outlive it when its supervisor is killed",
		})
	}
	if out, err := t.program(ctx, "sinfo", "--noheader", "--format=%R|%a|%D|%C"); err == nil {
		t.partitions(&f, string(out))
	}
	if !t.settings.NoMunge {
		if _, err := t.program(ctx, "munge", "--no-input"); err != nil {
			f.Problems = append(f.Problems, workspace.Problem{
				Code: "NoMunge", Message: "munge does not work on the login node, so jobs with secrets cannot be run", Cause: causeOf(err),
				Mend: "ask the cluster's administrator; or give --set no_munge=true (setting no_munge), and jobs with secrets are refused",
			})
		}
	}
	return f, nil
}

func (t *Target) noSlurm(err error) workspace.Problem {
	return workspace.Problem{
		Class: workspace.Unavailable, Code: "NoSlurm", Message: "Slurm cannot be asked on the login node", Cause: causeOf(t.refused(err)),
		Mend: "check that scontrol show config works there; if the programs are not on PATH, name their folder with --set programs=DIR (setting programs)",
	}
}

func causeOf(err error) string {
	if p, ok := errors.AsType[*workspace.Problem](err); ok && p.Cause != "" {
		return p.Cause
	}
	return err.Error()
}

// parseConfig reads the lines NAME = VALUE of scontrol show config.
func parseConfig(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, "="); ok {
			values[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return values
}

// partitions reads sinfo's lines NAME|AVAILABLE|NODES|ALLOCATED/IDLE/OTHER/TOTAL.
func (t *Target) partitions(f *compute.Facts, text string) {
	var names []string
	for line := range strings.Lines(text) {
		p := strings.Split(strings.TrimSpace(line), "|")
		if len(p) != 4 {
			continue
		}
		names = append(names, p[0])
		if p[0] != t.settings.Partition && t.settings.Partition != "" {
			continue
		}
		if cpus := strings.Split(p[3], "/"); len(cpus) == 4 {
			f.Details["cpus"] = cpus[3]
		}
		f.Details["nodes"] = p[2]
		if p[1] != "up" {
			f.Problems = append(f.Problems, workspace.Problem{
				Code: "PartitionDown", Message: "partition " + p[0] + " is " + p[1], Warning: true, Mend: "ask the cluster's administrator, or name another partition",
			})
		}
	}
	f.Details["partitions"] = strings.Join(names, " ")
	if want := t.settings.Partition; want != "" && !strings.Contains(" "+f.Details["partitions"]+" ", " "+want+" ") {
		f.Problems = append(f.Problems, workspace.Problem{
			Class: workspace.Invalid, Code: "NoPartition", Target: "partition", Message: "the cluster has no partition " + want, Cause: "it has " + f.Details["partitions"],
			Mend: "name one of these with --set partition=NAME (setting partition)",
		})
	}
}
