// Package cli is the command line of Moorage as a person or a script meets it: it reads YAML in the form of Azure ML's
// v2 client, talks HTTP to a server, and prints tables, JSON, logs and progress. It imports nothing of the server, and
// only cmd/moorage calls it, handing in the commands of the server's own side.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/cli/show"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Streams are where a command reads and writes. Progress bars are drawn only where Err is a terminal.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// System is the process's own streams.
func System() Streams { return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

// Exit is an error that ends the process with this code and prints nothing more.
type Exit int

// Error names the code.
func (e Exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Exit codes of commands. Those that wait for a job's end give the job's own code instead (see outcomeHelp).
const (
	exitFailed   = 1
	exitUsage    = 2
	exitCanceled = 130
)

// Main runs one command line, args without the program's name, and returns the exit code: 0, 1 for a failure, 2 for a
// command line that is not understood, or what an Exit holds. extra are commands of the server's own side (serve, gc,
// …); they stand beside the ones of this package, and their errors are printed like all others.
func Main(ctx context.Context, args []string, streams Streams, extra ...*cobra.Command) int {
	root := newRoot(extra)
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[Exit](err); ok {
		return int(exit)
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return exitCanceled
	}
	show.Error(streams.Err, err)
	if errors.Is(err, &workspace.Problem{Code: usageCode}) {
		return exitUsage
	}
	return exitFailed
}

const usageCode = "Usage"

// usage is a command line that is not understood.
func usage(format string, args ...any) error {
	return &workspace.Problem{Class: workspace.Invalid, Code: usageCode, Message: fmt.Sprintf(format, args...)}
}

// understand turns cobra's own complaints about arguments, which have no type, into usage problems, in cmd and all below it.
func understand(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if _, ours := errors.AsType[*workspace.Problem](err); err == nil || ours {
				return err
			}
			return &workspace.Problem{Class: workspace.Invalid, Code: usageCode, Message: strings.ReplaceAll(err.Error(), "\n", " "), Mend: cmd.CommandPath() + " --help"}
		}
	}
	for _, sub := range cmd.Commands() {
		understand(sub)
	}
}

func newRoot(extra []*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "moorage",
		Short: "Train on your own machines with Azure ML's clients, MLflow and this command line",
		Long: `Moorage runs jobs on machines and clusters that you attach by name.

Begin with:
  moorage serve --data ~/moorage                 start a server on this machine
  eval "$(moorage env --data ~/moorage)"         point this shell at it
  moorage job create -f job.yml --stream         run a job and watch it

Every command has its own --help with an example.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &workspace.Problem{Class: workspace.Invalid, Code: usageCode, Message: err.Error(), Mend: cmd.CommandPath() + " --help"}
	})
	root.AddCommand(newEnv(), newConfig(), newCompute(), newJob(clock.System()), newEnvironment(), newResource(), newConnection(), newRegistry(), newKind(), newDoctor(clock.System()))
	root.AddCommand(extra...)
	understand(root)
	return root
}

// group is a command that only holds others.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// named adds -n NAME to a command that also takes the name as its only argument.
func named(cmd *cobra.Command, what string) *string {
	name := cmd.Flags().StringP("name", "n", "", "name of the "+what)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 1:
			return usage("one %s at a time: %q is one name too many", what, args[1])
		case len(args) == 1 && *name != "" && *name != args[0]:
			return usage("two names are given, %q and %q", args[0], *name)
		case len(args) == 1:
			*name = args[0]
		case *name == "":
			p := &workspace.Problem{Class: workspace.Invalid, Code: usageCode, Message: "the name of the " + what + " is missing", Mend: cmd.CommandPath() + " NAME"}
			return p
		}
		return nil
	}
	return name
}
