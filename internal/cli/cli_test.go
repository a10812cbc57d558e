package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// each calls fn for cmd and all commands below it.
func each(cmd *cobra.Command, fn func(*cobra.Command)) {
	fn(cmd)
	for _, sub := range cmd.Commands() {
		each(sub, fn)
	}
}

func TestEveryCommandSaysWhatItDoesWithAnExample(t *testing.T) {
	each(newRoot(nil), func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: its short help is %q", path, cmd.Short)
		}
		if cmd.HasSubCommands() {
			return
		}
		if !strings.Contains(cmd.Example, path) {
			t.Errorf("%s: its example does not use it: %q", path, cmd.Example)
		}
		if cmd.Args == nil {
			t.Errorf("%s: takes any arguments", path)
		}
	})
}

func TestCommandsOfTheServerStandBesideOurs(t *testing.T) {
	run := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		serve := &cobra.Command{Use: "serve", RunE: func(cmd *cobra.Command, _ []string) error {
			switch data, _ := cmd.Flags().GetString("data"); data {
			case "busy":
				return &workspace.Problem{Message: "the data folder is in use", Mend: "stop the other server"}
			case "exit":
				return Exit(7)
			case "canceled":
				return context.Canceled
			}
			return nil
		}}
		serve.Flags().StringP("data", "g", "", "a shorthand that ours use too")
		code := Main(t.Context(), args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}, serve)
		return code, errs.String()
	}
	for _, tc := range []struct {
		data, want string
		code       int
	}{{"", "", 0}, {"busy", "moorage: the data folder is in use\n    stop the other server\n", 1}, {"exit", "", 7}, {"canceled", "moorage: context canceled\n", 1}} {
		if code, errs := run("serve", "--data", tc.data); code != tc.code || errs != tc.want {
			t.Errorf("%s: %d, %q", tc.data, code, errs)
		}
	}
	if code, errs := run("serve", "--dada", "x"); code != 2 || !strings.Contains(errs, "moorage serve --help") {
		t.Errorf("%d, %q", code, errs)
	}
	if !errors.Is(Exit(3), Exit(3)) {
		t.Error("an exit is not itself")
	}
}
