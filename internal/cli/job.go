package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// outcomeHelp is said by the commands that wait for a job's end.
const outcomeHelp = `
Exit code: 0 when the job completed; the command's own exit code, or 1 if it has none, when it failed; 130 when it was
canceled, or when you interrupted the watching (the job then goes on); 1 and 2 also for errors of this program.`

// outcome is a finished job's exit code for the shell.
func outcome(j *client.Job) int {
	switch {
	case j.State == workspace.Completed:
		return 0
	case j.State == workspace.Canceled:
		return exitCanceled
	case j.ExitCode != nil && *j.ExitCode >= 1 && *j.ExitCode <= 125:
		return *j.ExitCode
	}
	return exitFailed
}

func newJob(clk clock.Source) *cobra.Command {
	cmd := group("job", "Submit, watch and collect jobs", "Submit jobs written in Azure ML's v2 YAML, watch them, and bring home what they wrote.")
	n := &connection{clock: clk}
	n.register(cmd.PersistentFlags())
	cmd.AddCommand(newJobCreate(n), newJobList(n), newJobShow(n), newJobStream(n), newJobWait(n), newJobCancel(n), newJobDownload(n), newJobAbandon(n))
	return cmd
}

func newJobList(n *connection) *cobra.Command {
	var f format
	var state, compute, experiment string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List jobs, newest first", Args: cobra.NoArgs,
		Example: `  moorage job list
  moorage job list --state Running --compute gpu
  moorage job list --limit 0 -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if state != "" {
				s, err := knownState(state)
				if err != nil {
					return err
				}
				query.Set("state", s)
			}
			for key, value := range map[string]string{"compute": compute, "experiment": experiment} {
				if value != "" {
					query.Set(key, value)
				}
			}
			c, err := n.open()
			if err != nil {
				return err
			}
			jobs, err := c.Jobs(cmd.Context(), query, limit)
			if err != nil {
				return err
			}
			raw := make([]any, len(jobs))
			rows := make([][]string, len(jobs))
			for i, j := range jobs {
				raw[i] = j.Raw
				rows[i] = []string{j.Name, string(j.State), j.Compute, j.Experiment, show.When(j.Created), duration(j), why(j)}
			}
			return f.print(cmd, raw, func() error {
				return show.FittedTable(cmd.OutOrStdout(), []string{"NAME", "STATE", "COMPUTE", "EXPERIMENT", "CREATED", "TOOK", "WHY"}, rows, "EXPERIMENT", "CREATED")
			})
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only jobs in this state, for example Running")
	cmd.Flags().StringVar(&compute, "compute", "", "only jobs of this compute")
	cmd.Flags().StringVar(&experiment, "experiment", "", "only jobs of this experiment")
	cmd.Flags().IntVar(&limit, "limit", 50, "at most so many; 0 is all")
	_ = cmd.RegisterFlagCompletionFunc("compute", n.completeFlag(n.completeComputes))
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(stateNames(), cobra.ShellCompDirectiveNoFileComp))
	f.register(cmd.Flags())
	return cmd
}

// knownState finds a state in any spelling of case.
func knownState(text string) (string, error) {
	names := stateNames()
	for _, s := range names {
		if strings.EqualFold(s, text) {
			return s, nil
		}
	}
	return "", usage("--state %q is not a state: use one of %s", text, strings.Join(names, ", "))
}

func stateNames() []string {
	var names []string
	for _, s := range workspace.States() {
		names = append(names, string(s))
	}
	return names
}

// duration is how long the command ran, if it has ended.
func duration(j *client.Job) string {
	from, err1 := time.Parse(time.RFC3339Nano, j.Started)
	to, err2 := time.Parse(time.RFC3339Nano, j.Ended)
	if err1 != nil || err2 != nil {
		return ""
	}
	d := to.Sub(from)
	if d < 10*time.Millisecond {
		return d.Round(time.Millisecond).String()
	}
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// why is one line on why a job waits or failed, what matters most first: tables may cut it.
func why(j *client.Job) string {
	switch {
	case j.Error != nil && j.Error.Message != "":
		return j.Error.Message
	case j.State == workspace.Failed && j.ExitCode != nil:
		return "exit code " + strconv.Itoa(*j.ExitCode)
	case inLine(j) && j.Reason != nil:
		return before(j.Position) + ": " + reason(j)
	}
	return waiting(j)
}

// waiting says why a job waits, and how many are before it.
func waiting(j *client.Job) string {
	if inLine(j) {
		return strings.TrimSpace(reason(j) + " (" + before(j.Position) + ")")
	}
	return reason(j)
}

func reason(j *client.Job) string {
	if j.Reason == nil {
		return ""
	}
	if j.Reason.Cause != "" {
		return j.Reason.Message + ": " + j.Reason.Cause
	}
	return j.Reason.Message
}

func inLine(j *client.Job) bool { return j.Position > 0 && !j.State.Terminal() }

// before counts the jobs ahead of one in the queue; the first in it has position 1.
func before(position int) string {
	if position == 1 {
		return "next in line"
	}
	return strconv.Itoa(position-1) + " before it"
}

func newJobShow(n *connection) *cobra.Command {
	var f format
	var arm bool
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show one job",
		Example: `  moorage job show calm_anchor_k2f9
  moorage job show -n calm_anchor_k2f9 -o json --arm`,
		ValidArgsFunction: n.completeJobs,
	}
	name := named(cmd, "job")
	cmd.Flags().BoolVar(&arm, "arm", false, "with -o json or yaml: the whole document, as Azure's clients see it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := n.open()
		if err != nil {
			return err
		}
		if arm {
			doc, err := c.JobDocument(cmd.Context(), *name)
			if err != nil {
				return err
			}
			return f.print(cmd, doc, func() error { return show.JSON(cmd.OutOrStdout(), doc) })
		}
		j, err := c.Job(cmd.Context(), *name)
		if err != nil {
			return err
		}
		return f.print(cmd, j.Raw, func() error { return printJob(cmd, j) })
	}
	f.register(cmd.Flags())
	return cmd
}

func printJob(cmd *cobra.Command, j *client.Job) error {
	exit := ""
	if j.ExitCode != nil && (j.State.Terminal() || *j.ExitCode != 0) {
		exit = strconv.Itoa(*j.ExitCode)
	}
	display := j.DisplayName
	if display == j.Name {
		display = ""
	}
	size := ""
	if j.LogSize > 0 {
		size = show.Size(j.LogSize)
	}
	err := show.Pairs(cmd.OutOrStdout(), [][2]string{
		{"name", j.Name},
		{"display name", display},
		{"state", string(j.State)},
		{"waits for", waiting(j)},
		{"compute", j.Compute},
		{"experiment", j.Experiment},
		{"created", show.When(j.Created)},
		{"started", show.When(j.Started)},
		{"ended", show.When(j.Ended)},
		{"took", duration(j)},
		{"exit code", exit},
		{"log", size},
	})
	if err != nil {
		return err
	}
	if j.Error != nil && j.Error.Message != "" {
		show.Finding(cmd.OutOrStdout(), *j.Error)
	}
	return nil
}

func newJobWait(n *connection) *cobra.Command {
	var f format
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "wait NAME", Short: "Wait for a job's end, without its log",
		Long: "Wait for a job's end without showing its log." + outcomeHelp,
		Example: `  moorage job wait calm_anchor_k2f9
  moorage job wait -n calm_anchor_k2f9 --timeout 10m`,
		ValidArgsFunction: n.completeJobs,
	}
	name := named(cmd, "job")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up waiting after this time, with exit code 1; the job goes on")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := n.open()
		if err != nil {
			return err
		}
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		j, err := waitShowing(ctx, cmd, n, c, *name, waiter{timeout: timeout, say: cmd.ErrOrStderr()})
		if err != nil {
			return interrupted(ctx, cmd, *name, err)
		}
		if err := f.print(cmd, j.Raw, func() error { return printEnd(cmd.ErrOrStderr(), j) }); err != nil {
			return err
		}
		if !j.State.Terminal() {
			return &workspace.Problem{
				Code: "StillRunning", Target: j.Name, Message: fmt.Sprintf("job %s is not over after %s: it is %s", j.Name, timeout, j.State), Mend: "moorage job wait " + j.Name,
			}
		}
		return ended(j)
	}
	f.register(cmd.Flags())
	return cmd
}

// ended is nil for a completed job, and its exit code otherwise.
func ended(j *client.Job) error {
	if code := outcome(j); code != 0 {
		return Exit(code)
	}
	return nil
}

func newJobCancel(n *connection) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use: "cancel NAME", Short: "End a job and its whole tree of processes",
		Example: `  moorage job cancel calm_anchor_k2f9
  moorage job cancel -n calm_anchor_k2f9 --wait`,
		ValidArgsFunction: n.completeJobs,
	}
	name := named(cmd, "job")
	cmd.Flags().BoolVar(&wait, "wait", false, "return when the job is over")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := n.open()
		if err != nil {
			return err
		}
		if over, err := saidOver(cmd, c, *name); over || err != nil {
			return err
		}
		if err := c.CancelJob(cmd.Context(), *name); err != nil {
			return err
		}
		if !wait {
			fmt.Fprintf(cmd.OutOrStdout(), "%s will be canceled\n", *name)
			return nil
		}
		j, err := waitShowing(cmd.Context(), cmd, n, c, *name, waiter{known: true, say: cmd.ErrOrStderr()})
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", *name, j.State)
		return nil
	}
	return cmd
}

// saidOver tells whether a job is over already, and says so.
func saidOver(cmd *cobra.Command, c *client.Client, name string) (bool, error) {
	j, err := c.Job(cmd.Context(), name)
	if err != nil || !j.State.Terminal() {
		return false, err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s is %s already\n", name, j.State)
	return true, nil
}

func newJobAbandon(n *connection) *cobra.Command {
	cmd := &cobra.Command{
		Use: "abandon NAME", Short: "Give up a job whose compute will never answer again",
		Long: `Give up a job whose compute will never answer again. The job becomes Failed here; what may still run on the compute is
not ended. Use cancel wherever the compute can be reached.`,
		Example: `  moorage job abandon calm_anchor_k2f9`, ValidArgsFunction: n.completeJobs,
	}
	name := named(cmd, "job")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := n.open()
		if err != nil {
			return err
		}
		if over, err := saidOver(cmd, c, *name); over || err != nil {
			return err
		}
		if err := c.AbandonJob(cmd.Context(), *name); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s is given up; what may still run on its compute goes on\n", *name)
		return nil
	}
	return cmd
}
