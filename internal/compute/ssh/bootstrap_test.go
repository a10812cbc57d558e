package ssh

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestScriptIsSafeInEveryShellsQuotes(t *testing.T) {
	if i := strings.IndexAny(script, forbidden); i >= 0 {
		t.Errorf("the script holds %q at %q", script[i], script[max(0, i-10):min(len(script), i+10)])
	}
	if len(script) > 1000 {
		t.Errorf("the script has %d characters; a word of an old csh has at most 1024", len(script))
	}
}

func TestEveryLoginShellStartsTheAgent(t *testing.T) {
	shells := map[string]string{"bash": "/bin/bash", "sh": "/bin/sh", "dash": "dash", "zsh": "zsh", "fish": "fish", "tcsh": "tcsh"}
	for name, shell := range shells {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := engine.StartSSHD(t, engine.SSHDOptions{Shell: engine.Need(t, shell, "apt-get install "+name)})
			s.WriteHome(t, ".tcshrc", "echo noise of tcsh\n", 0o644)
			s.WriteHome(t, ".zshenv", "echo noise of zsh\n", 0o644)
			s.WriteHome(t, ".config/fish/config.fish", "echo noise of fish\n", 0o644)
			target := mustOpen(t, withFolder(settingsFor(t, s), "~/a folder/$HOME & (more)"))
			if e, log := run(t, target, "echo it runs"); e.Outcome != compute.Succeeded || log != "it runs\n" {
				t.Errorf("%s, log %q", e.Outcome, log)
			}
			if _, err := os.Stat(filepath.Join(s.Home, "a folder/$HOME & (more)", "bin")); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("busybox", func(t *testing.T) {
		t.Parallel()
		dir, err := os.MkdirTemp("", "ash-") //nolint:usetesting // open to another user
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		if err := errors.Join(os.Chmod(dir, 0o755), os.Symlink(engine.Need(t, "busybox", "apt-get install busybox"), dir+"/ash")); err != nil {
			t.Fatal(err)
		}
		s := engine.StartSSHD(t, engine.SSHDOptions{Shell: dir + "/ash"})
		if e, log := run(t, mustOpen(t, settingsFor(t, s)), "echo it runs"); e.Outcome != compute.Succeeded || log != "it runs\n" {
			t.Errorf("%s, log %q", e.Outcome, log)
		}
	})
}

// TestScriptRunsInEverySh runs the script by other programs than /bin/sh, and with the tools that they bring.
func TestScriptRunsInEverySh(t *testing.T) {
	for name, sh := range map[string][]string{"dash": {"dash"}, "bash": {"bash", "--posix"}, "busybox": {"busybox", "sh"}, "zsh": {"zsh", "--emulate", "sh"}} {
		t.Run(name, func(t *testing.T) {
			sh[0] = engine.Need(t, sh[0], "apt-get install "+name)
			fake := []byte("#!/bin/sh\n[ \"$1\" = version ] && exit\necho \"agent $*\"; umask; cat\n")
			b := &bootstrap{mark: "moorage-test"}
			folder := filepath.Join(t.TempDir(), "with space")
			for round := range 2 {
				cmd := exec.CommandContext(t.Context(), sh[0], append(sh[1:], "-c", script, "moorage", b.mark, folder, "hash", fmt.Sprint(len(fake)), "hash", fmt.Sprint(len(fake)))...)
				in, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				pipe, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				var said bytes.Buffer
				cmd.Stderr = &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				out := bufio.NewReader(pipe)
				verdict := func() string {
					v, noise, err := readVerdict(out, b.mark)
					if err != nil {
						t.Fatalf("%v: %s %s", err, noise, said.String())
					}
					return v
				}
				v := verdict()
				if round == 0 {
					if !strings.HasPrefix(v, "NEED Linux ") {
						t.Fatalf("verdict %q %s", v, said.String())
					}
					if _, err := in.Write(fake); err != nil {
						t.Fatal(err)
					}
					v = verdict()
				}
				if v != "RUN" {
					t.Fatalf("verdict %q %s", v, said.String())
				}
				if _, err := in.Write([]byte("hello \x00\xff\n")); err != nil {
					t.Fatal(err)
				}
				_ = in.Close()
				rest, _ := io.ReadAll(out)
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
				want := "agent agent --root " + folder + "\n"
				if got := string(rest); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "hello \x00\xff\n") || strings.Contains(got, "\n0077\n") {
					t.Errorf("the agent's output: %q %s", got, said.String())
				}
				if left, _ := filepath.Glob(folder + "/bin/*"); len(left) != 1 {
					t.Errorf("in bin: %q", left)
				}
			}
		})
	}
}

func withFolder(s Settings, folder string) Settings {
	s.Folder = folder
	return s
}

const noise = `printf 'welcome, no newline'
printf '\033[31m moorage-0000 RUN \377\376\n'
seq 1 3000
echo 'noise on stderr' >&2
sleep 0.5
trap '' HUP
alias echo='echo not this'
set -o noclobber
umask 002
printf 'last noise without a newline'
`

func TestNoisySlowStartUpFilesDoNoHarm(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	s.WriteHome(t, ".bashrc", noise, 0o644)
	s.WriteHome(t, ".profile", noise+"export FROM_PROFILE='was read'\n", 0o644)
	target := mustOpen(t, settingsFor(t, s))
	e, log := run(t, target, `echo "$FROM_PROFILE"; printf '\377\000\n'`)
	if e.Outcome != compute.Succeeded || log != "was read\n\xff\x00\n" {
		t.Errorf("%s, log %q", e.Outcome, log)
	}
}

func TestKeeperIsPlacedOnceAndMendedWhenCut(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	var sent atomic.Int32
	env := environment(t)
	env.Keeper = func(goos, goarch string) (compute.Program, error) {
		p, err := keeper(goos, goarch)
		inner := p.Open
		p.Open = func() (io.ReadCloser, error) { sent.Add(1); return inner() }
		return p, err
	}
	use := func() {
		t.Helper()
		target, err := Driver{}.Open(t.Context(), encode(t, settingsFor(t, s)), env)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		if _, err := target.Probe(t.Context()); err != nil {
			t.Errorf("probe: %v", err)
		}
		if err := target.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	use()
	use()
	if n := sent.Load(); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
	placed, err := filepath.Glob(filepath.Join(s.Home, ".moorage/bin/keeper-*"))
	if err != nil || len(placed) != 1 {
		t.Fatalf("placed: %q, %v", placed, err)
	}
	if info, err := os.Stat(placed[0]); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
	if err := os.Truncate(placed[0], 1000); err != nil { // as a power failure leaves it
		t.Fatal(err)
	}
	use()
	if n := sent.Load(); n != 2 {
		t.Errorf("it was sent %d times", n)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Home, ".moorage/bin/*")); len(left) != 1 {
		t.Errorf("in bin: %q", left)
	}
}

// problem checks an error's kind and code and gives its problem.
func problem(t testing.TB, err, kind error, code string) workspace.Problem {
	t.Helper()
	p, ok := errors.AsType[*workspace.Problem](err)
	if !errors.Is(err, kind) || !ok || p.Code != code {
		t.Fatalf("wanted %v with the code %s, got %v", kind, code, err)
	}
	if p.Message == "" || p.Cause == "" || p.Mend == "" {
		t.Errorf("it lacks a message, a cause or a mend: %+v", *p)
	}
	return *p
}

func TestFolderThatCannotBeUsedIsSaid(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	s.WriteHome(t, "in the way", "", 0o644)
	_, err := open(t, withFolder(settingsFor(t, s), "/proc/here"))
	problem(t, err, compute.ErrDenied, "FolderUnusable")
	_, err = open(t, withFolder(settingsFor(t, s), "~/in the way/here"))
	if p := problem(t, err, compute.ErrDenied, "FolderUnusable"); p.Target != "folder" || !strings.Contains(p.Cause, "Not a directory") {
		t.Errorf("problem: %v", err)
	}
	_, err = open(t, withFolder(settingsFor(t, s), "/for-root-only"))
	if p := problem(t, err, compute.ErrDenied, "FolderUnusable"); !strings.Contains(p.Cause, "ermission denied") {
		t.Errorf("problem: %v", err)
	}
}

func TestFullReadOnlyAndNoexecFoldersAreToldApart(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	for options, c := range map[string]struct {
		kind error
		code string
	}{
		"size=1m,mode=777": {compute.ErrUnreachable, "DiskFull"},
		"ro":               {compute.ErrDenied, "FolderReadOnly"},
		"noexec,mode=777":  {compute.ErrDenied, "FolderNoexec"},
	} {
		t.Run(options, func(t *testing.T) {
			folder := engine.Mount(t, s.Home, options)
			_, err := open(t, withFolder(settingsFor(t, s), folder+"/moorage"))
			if p := problem(t, err, c.kind, c.code); p.Target != "folder" || !strings.Contains(p.Mend, "--folder (setting folder)") {
				t.Errorf("problem: %v", err)
			}
			if left, _ := filepath.Glob(folder + "/moorage/bin/*"); len(left) != 0 {
				t.Errorf("it left %q", left)
			}
		})
	}
}

func TestLoginWithoutAShellIsSaid(t *testing.T) {
	for shell, cause := range map[string]string{"/usr/sbin/nologin": "not available", "/bin/false": "exit code 1"} {
		s := engine.StartSSHD(t, engine.SSHDOptions{Shell: shell})
		_, err := open(t, settingsFor(t, s))
		if p := problem(t, err, compute.ErrUnreachable, "NoShell"); !strings.Contains(p.Cause, cause) {
			t.Errorf("problem: %v", err)
		}
	}
	s := engine.StartSSHD(t, engine.SSHDOptions{Extra: "ForceCommand echo only this"})
	_, err := open(t, settingsFor(t, s))
	if p := problem(t, err, compute.ErrUnreachable, "NoShell"); !strings.Contains(p.Cause, "only this") {
		t.Errorf("problem: %v", err)
	}
	s = engine.StartSSHD(t, engine.SSHDOptions{Extra: "MaxSessions 0"})
	_, err = open(t, settingsFor(t, s))
	problem(t, err, compute.ErrUnreachable, "SessionRefused")
}

func TestStartUpFilesThatWaitAreGivenUp(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	s.WriteHome(t, ".bashrc", "echo 'which project? '; read project\n", 0o644)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	begun := time.Now()
	_, err := Driver{}.Open(ctx, encode(t, settingsFor(t, s)), environment(t))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
}

func TestOtherPlatformsAreRefused(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	s.WriteHome(t, "bin/uname", "#!/bin/sh\necho Linux riscv64\n", 0o755)
	s.WriteHome(t, ".bashrc", "PATH=$HOME/bin:$PATH\n", 0o644)
	_, err := open(t, settingsFor(t, s))
	if p := problem(t, err, compute.ErrInvalid, "UnsupportedPlatform"); !strings.Contains(p.Message, "Linux riscv64") || !strings.Contains(p.Cause, "linux/amd64") {
		t.Errorf("problem: %v", err)
	}
}

func TestKeeperThatDoesNotStartSaysWhy(t *testing.T) {
	s := engine.StartSSHD(t, engine.SSHDOptions{})
	env := environment(t)
	for text, word := range map[string]string{
		"#!/bin/sh\necho 'out of luck' >&2; exit 3\n":                     "out of luck",
		"#!/bin/sh\n[ $1 = version ] && exit\necho 'later' >&2; exit 4\n": "later",
	} {
		env.Keeper = func(string, string) (compute.Program, error) { return programOf([]byte(text)), nil }
		_, err := Driver{}.Open(t.Context(), encode(t, settingsFor(t, s)), env)
		if p := problem(t, err, compute.ErrUnreachable, "KeeperNotStarted"); !strings.Contains(p.Cause, word) {
			t.Errorf("problem: %v", err)
		}
	}
}

func FuzzVerdict(f *testing.F) {
	f.Add([]byte("noise\nmoorage-1 RUN\nrest"))
	f.Add([]byte("moorage-1 moorage-1 NEED Linux x86_64\r\n"))
	f.Add(bytes.Repeat([]byte("x"), 70_000))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, n, err := readVerdict(bufio.NewReaderSize(bytes.NewReader(b), 64), "moorage-1")
		if err == nil && strings.ContainsAny(v, "\n") || len(n) > 3*tailSize {
			t.Errorf("verdict %q, noise of %d bytes", v, len(n))
		}
	})
}
