package keeper

import (
	"context"
	"fmt"
	"os"
)

// Main is the keeper program: "agent --root FOLDER", "supervise JOBFOLDER", "launched JOBFOLDER", "inside FOLDER", "env MARK", "version". It returns the exit
// code. argv is how the program starts itself again, e.g. the path of an executable, or that and a word before the
// subcommand; args are the subcommand and its arguments.
func Main(argv, args []string) int {
	if len(args) == 0 {
		return usage()
	}
	switch {
	case args[0] == "agent" && len(args) == 3 && args[1] == "--root":
		if err := relax(); err != nil {
			fmt.Fprintln(os.Stderr, "keeper:", err) // it only takes more time of the processor
		}
		if exe, err := os.Executable(); err == nil && len(argv) > 0 {
			argv = append([]string{exe}, argv[1:]...) // supervisors start elsewhere than here
		}
		err := RunAgent(context.Background(), os.Stdin, os.Stdout, AgentOptions{Folder: args[2], Self: argv})
		if err != nil {
			fmt.Fprintln(os.Stderr, "keeper:", err)
			return 1
		}
		return 0
	case args[0] == "pod":
		return pod(args[1:])
	case args[0] == "pod-agent" && len(args) == 2:
		return podAgent(argv, args[1])
	case args[0] == "inside" && len(args) == 2:
		return inside(args[1])
	case args[0] == "launched" && len(args) == 2:
		return launched(args[1])
	case args[0] == "supervise" && len(args) == 2:
		return supervise(args[1], nil)
	case args[0] == "supervise" && len(args) == 3 && args[1] == "--tell":
		return supervise(args[2], os.Stdout)
	case args[0] == "env" && len(args) == 2:
		return printEnvironment(args[1])
	case args[0] == "namespaced" && len(args) >= 2:
		return namespaced(args[1], args[2:])
	case args[0] == "version":
		fmt.Println("moorage keeper, protocol", Protocol, "folder format", format)
		return 0
	}
	return usage()
}

func usage() int {
	fmt.Fprintln(os.Stderr, "usage: keeper agent --root FOLDER | supervise JOBFOLDER | version")
	return 2
}
