package batch

import (
	"context"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// entry is a job as the queue shows it. Slurm may have been asked for it twice, when an answer of sbatch was lost.
type entry struct {
	ids   []string
	state string // PENDING, CONFIGURING, RUNNING, COMPLETING, …
	word  string // Slurm's for why it waits
}

// queue asks Slurm for all jobs of this login, in one call, and gives those of this attachment by key. Ended jobs are not in it.
func (t *Target) queue(ctx context.Context) (map[string]entry, error) {
	out, err := t.program(ctx, "squeue", "--me", "--noheader", "--format=%i|%T|%r|%k")
	if err != nil {
		return nil, t.refused(err)
	}
	return parseQueue(string(out), t.comment), nil
}

// parseQueue reads squeue's lines. The comment, of our making, comes last and holds no separator.
func parseQueue(text, comment string) map[string]entry {
	all := map[string]entry{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), "|", 4)
		if len(f) != 4 {
			continue
		}
		if key, ok := strings.CutPrefix(f[3], comment); ok {
			e := all[key]
			e.ids = append(e.ids, f[0])
			if e.state == "" || e.state == "PENDING" {
				e.state, e.word = f[1], f[2]
			}
			all[key] = e
		}
	}
	return all
}

// reasons are Slurm's words for why a job waits, in plain ones: what, and what a person may do.
var reasons = map[string][2]string{
	"Priority":                 {"other jobs have a higher priority", ""},
	"Resources":                {"the nodes are in use", ""},
	"None":                     {"Slurm has not looked at it yet", ""},
	"BeginTime":                {"it is to begin later", "look at --begin in the compute's options"},
	"Dependency":               {"it waits for another job", ""},
	"DependencyNeverSatisfied": {"it waits for a job that can never end well", "cancel it, and correct the compute's options"},
	"JobHeldUser":              {"its user holds it back", "let it go with scontrol release"},
	"JobHeldAdmin":             {"an administrator holds it back", "ask the cluster's administrator"},
	"Licenses":                 {"a licence is in use", ""},
	"NodeDown":                 {"a node that it needs is down", "ask the cluster's administrator"},
	"ReqNodeNotAvail":          {"a node that it needs is not available", "look at sinfo; maintenance is the usual reason"},
	"Reservation":              {"its reservation has not begun", ""},
	"PartitionDown":            {"the partition is down", "ask the cluster's administrator, or name another partition"},
	"PartitionInactive":        {"the partition is inactive", "ask the cluster's administrator, or name another partition"},
	"PartitionNodeLimit":       {"it wants more nodes than the partition has", "correct the compute's options"},
	"PartitionTimeLimit":       {"it wants more time than the partition gives", "lower --time in the compute's options"},
	"PartitionConfig":          {"it wants more than the partition has", "correct the compute's options"},
	"BadConstraints":           {"no node fulfils its constraints", "correct --constraint in the compute's options"},
	"Cleaning":                 {"what ran before is being cleaned up", ""},
	"Prolog":                   {"the node is being prepared", ""},
}

// reason says in plain words why a job waits.
func (e entry) reason() *workspace.Problem {
	p := &workspace.Problem{
		Class: workspace.Unavailable, Code: "WaitingInSlurm", Message: "the job waits in Slurm's queue as " + strings.Join(e.ids, " and "), Warning: true,
		Mend: "nothing needs doing; squeue --start shows when Slurm expects to begin",
	}
	word := strings.Trim(e.word, "()")
	say, known := reasons[strings.TrimRight(strings.SplitN(word, ",", 2)[0], " ")]
	switch {
	case e.state != "PENDING":
		p.Message, p.Cause = "Slurm begins the job as "+e.ids[0], "its node is being prepared"
	case known:
		p.Cause = say[0]
		if say[1] != "" {
			p.Mend = say[1]
		}
	case strings.HasPrefix(word, "QOS"), strings.HasPrefix(word, "Assoc"):
		p.Cause = "a limit of its account or quality of service is reached (" + word + ")"
		p.Mend = "nothing needs doing: it begins when others have ended; the cluster's administrator sets the limits"
	default:
		p.Cause = "Slurm says " + word
	}
	return p
}
