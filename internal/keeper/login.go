package keeper

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"
	"time"
)

// login is the environment that a person who logs in on the target has: what profiles set up, such as PATH with conda.
type login struct {
	env   []string // NAME=value
	shell string
	say   string // what went wrong in reading it; the agent's own environment is used then
}

const loginLimit = 10 * time.Second

// notInherited are variables that belong to one shell or connection.
var notInherited = []string{"_", "SHLVL", "PWD", "OLDPWD", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", processMark, "MOORAGE_BOOT_ID"}

// readLogin runs the login's shell once per connection and takes the environment that it has after its profiles. What
// profiles print stands outside two marks and is ignored.
func readLogin(ctx context.Context, self []string) login {
	l := login{shell: loginShell()}
	ctx, cancel := context.WithTimeout(ctx, loginLimit)
	defer cancel()
	mark := "moorage-" + randomMark()
	words := make([]string, 0, len(self)+2)
	for _, w := range append(append(words, self...), "env", mark) {
		words = append(words, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	cmd := exec.CommandContext(ctx, l.shell, "-l", "-c", "exec "+strings.Join(words, " "))
	cmd.Dir = "/"
	if home, err := os.UserHomeDir(); err == nil {
		cmd.Dir = home
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if l.env = between(out, mark); l.env != nil {
		return l
	}
	l.env = clean(os.Environ())
	if err == nil {
		err = fmt.Errorf("its profile ended the shell")
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("its profile took longer than %s", loginLimit)
	}
	l.say = fmt.Sprintf("the environment of a login shell (%s) could not be read: %v; jobs get the keeper's own", l.shell, err)
	return l
}

// between takes the variables between the marks; nil if the marks are not there.
func between(out []byte, mark string) []string {
	_, rest, ok := bytes.Cut(out, []byte(mark+"{"))
	if !ok {
		return nil
	}
	text, _, ok := bytes.Cut(rest, []byte("}"+mark))
	if !ok {
		return nil
	}
	return clean(strings.Split(string(text), "\x00"))
}

func clean(env []string) []string {
	out := make([]string, 0, len(env))
	for _, v := range env {
		name, _, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			continue
		}
		drop := false
		for _, n := range notInherited {
			drop = drop || n == name
		}
		if !drop {
			out = append(out, v)
		}
	}
	return out
}

// printEnvironment is the keeper's subcommand that the login's shell runs.
func printEnvironment(mark string) int {
	_, err := os.Stdout.WriteString(mark + "{" + strings.Join(os.Environ(), "\x00") + "}" + mark)
	if err != nil {
		return 1
	}
	return 0
}

// loginShell is the one that the login's entry names.
func loginShell() string {
	if s := os.Getenv("SHELL"); s != "" {
		return s
	}
	if u, err := user.Current(); err == nil {
		if b, err := os.ReadFile("/etc/passwd"); err == nil {
			for line := range strings.Lines(string(b)) {
				f := strings.Split(strings.TrimSpace(line), ":")
				if len(f) == 7 && f[2] == u.Uid && f[6] != "" {
					return f[6]
				}
			}
		}
	}
	return "/bin/sh"
}
