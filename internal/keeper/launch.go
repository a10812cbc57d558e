package keeper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Launcher has supervisors started by a queueing system, on machines that share the folder with the agent's. Locks and
// processes are then not the agent's to see: a job that was launched is under way until its supervisor, or the client by
// Bury, records its end. In arguments {{key}}, {{name}}, {{comment}} and {{log}} are filled in.
type Launcher struct {
	// Start reads a script on its standard input, queues it, and prints by what name the queue knows it.
	Start []string `json:"start"`
	// Comment is what {{comment}} begins with; the key follows. It tells this attachment's jobs from others in the queue.
	Comment string `json:"comment"`
	// Seal reads on its standard input what the supervisor is to be given, and prints it so that only this login can read
	// it by Unseal, on the queue's machines too. Empty: there is no such program, and a job with secrets is refused.
	Seal   []string `json:"seal,omitempty"`
	Unseal []string `json:"unseal,omitempty"`
	// Path is a folder of the queueing system's programs, looked into before PATH.
	Path string `json:"path,omitempty"`
}

// Beside the records of folder.go, a job that was launched has:
//
//	launch.json      how its supervisor opens what it is given; from here on the queue may know it
//	launched.json    by what name the queue knows it
//	given            sealed
//	claim/           made by the first supervisor that comes; another one ends at once
const (
	fileLaunch   = "launch.json"
	fileLaunched = "launched.json"
	fileGiven    = "given"
	dirClaim     = "claim"
)

type launchRecord struct {
	Format int      `json:"format"`
	Unseal []string `json:"unseal,omitempty"`
	Path   string   `json:"path,omitempty"`
	Ref    string   `json:"ref,omitempty"`
}

// launchLimit bounds each program of the queueing system.
const launchLimit = time.Minute

// launch hands the supervisor's start to the queue. The caller holds the job's lock.
func (a *agent) launch(dir, key string, spec specRecord, secrets map[string]string) (Status, error) {
	l := a.scope.Launcher
	if err := a.seal(dir, l, secrets); err != nil {
		return Status{}, err
	}
	if err := writeRecord(dir, fileLaunch, launchRecord{Format: format, Unseal: l.Unseal, Path: l.Path}, true); err != nil {
		return Status{}, err
	}
	fill := strings.NewReplacer("{{key}}", key, "{{name}}", oneLine(spec.Job.Name), "{{comment}}", l.Comment+key, "{{log}}", filepath.Join(dir, "supervisor.log"))
	args := make([]string, len(l.Start))
	for i, arg := range l.Start {
		args[i] = fill.Replace(arg)
	}
	var script strings.Builder
	script.WriteString("#!/bin/sh\nexec")
	for _, word := range append(append([]string{}, a.opts.Self...), "launched", dir) {
		script.WriteString(" '" + strings.ReplaceAll(word, "'", `'\''`) + "'")
	}
	script.WriteString("\n")
	out, err := a.program(l.Path, args, strings.NewReader(script.String()))
	if err != nil {
		return Status{}, err
	}
	ref, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err := writeRecord(dir, fileLaunched, launchRecord{Format: format, Ref: ref}, true); err != nil {
		return Status{}, err
	}
	return statusOf(dir, key)
}

// oneLine makes a name fit for an argument that other programs print in tables.
func oneLine(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, name)
	if name = strings.TrimLeft(name, " -"); name == "" {
		return "moorage"
	}
	return name
}

// seal writes what the supervisor is given, readable only by this login's own processes.
func (a *agent) seal(dir string, l *Launcher, secrets map[string]string) error {
	if len(l.Seal) == 0 {
		if len(secrets) > 0 {
			return fault(Invalid, workspace.Problem{
				Class: workspace.Unsupported, Code: "NoSecrets", Message: "the job has secrets, and the target has no way to bring them to its nodes unseen",
				Cause: "the compute's settings say that there is no munge", Mend: "allow munge in the compute's settings, or submit the job without secrets",
			})
		}
		return nil
	}
	login := a.login()
	b, err := json.Marshal(given{Secrets: secrets, Login: login.env, Say: login.say})
	if err != nil {
		return err
	}
	sealed, err := a.program(l.Path, l.Seal, bytes.NewReader(b))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fileGiven), sealed, 0o600)
}

// program runs a program of the target with the login's environment and gives what it prints.
func (a *agent) program(path string, args []string, in io.Reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), launchLimit)
	defer cancel()
	out, err := runProgram(ctx, a.login().env, path, args, in)
	if err != nil {
		return nil, &Fault{Cause: Internal, Err: err, Problem: workspace.Problem{
			Class: workspace.Unavailable, Code: "ProgramFailed", Message: args[0] + " failed on the target", Cause: err.Error(),
			Mend: "run it there by hand; if it is not found, name its folder in the compute's settings",
		}}
	}
	return out, nil
}

// runProgram gives what a program printed. The error of one that failed is its own words.
func runProgram(ctx context.Context, env []string, path string, args []string, in io.Reader) ([]byte, error) {
	if len(args) == 0 {
		return nil, errors.New("no program is named")
	}
	search := lookup(env, "PATH")
	if path != "" {
		search = path + string(os.PathListSeparator) + search
	}
	env = append(append([]string{}, env...), "PATH="+search)
	program := args[0]
	if !strings.Contains(program, "/") {
		program = lookPath(env[len(env)-1:], program)
	}
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = "/", env, in, &out, &said, time.Second
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(strings.ToValidUTF8(said.String(), "�")); text != "" {
			return out.Bytes(), fmt.Errorf("%s (%w)", text, err)
		}
		return out.Bytes(), err
	}
	return out.Bytes(), nil
}

// launched is a supervisor that the queue started. A folder that is gone, or was claimed before, ends it with nothing done:
// the queue may have been asked twice.
func launched(dir string) int {
	if err := os.Mkdir(filepath.Join(dir, dirClaim), 0o700); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			return 0
		}
		fmt.Fprintln(os.Stderr, "keeper: launched:", err)
		return 1
	}
	in, err := openGiven(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "keeper: launched:", err)
		return 1
	}
	lock, err := takeLock(filepath.Join(dir, fileLockName), exclusive, true) // the agent lets go of it in a moment
	if err != nil {
		fmt.Fprintln(os.Stderr, "keeper: launched:", err)
		return 1
	}
	return superviseWith(dir, lock, in, nil)
}

// openGiven opens what the supervisor is given and adds the queue's own variables to it.
func openGiven(dir string) (io.Reader, error) {
	var l launchRecord
	if err := readRecord(dir, fileLaunch, &l); err != nil {
		return nil, err
	}
	var g given
	if len(l.Unseal) > 0 {
		sealed, err := os.Open(filepath.Join(dir, fileGiven))
		if err != nil {
			return nil, err
		}
		defer func() { _ = sealed.Close() }()
		ctx, cancel := context.WithTimeout(context.Background(), launchLimit)
		defer cancel()
		env := append([]string{"PATH=/usr/local/bin:/usr/bin:/bin"}, os.Environ()...)
		// What was sealed long ago is said to be expired, and opened all the same.
		out, err := runProgram(ctx, env, l.Path, l.Unseal, sealed)
		if jsonErr := json.Unmarshal(out, &g); jsonErr != nil {
			return nil, errors.Join(err, jsonErr)
		}
	}
	if g.Login == nil {
		g.Login = os.Environ()
	} else {
		for _, v := range os.Environ() {
			for _, prefix := range []string{"SLURM", "CUDA_", "GPU_", "ROCR_", "HIP_", "OMP_", "TMPDIR="} {
				if strings.HasPrefix(v, prefix) {
					g.Login = append(g.Login, v)
				}
			}
		}
	}
	b, err := json.Marshal(g)
	return bytes.NewReader(b), err
}

// wasLaunched tells whether the queue may know a job.
func wasLaunched(dir string) bool { return exists(filepath.Join(dir, fileLaunch)) }

// launchedStatus is how a launched job is, as far as its folder tells. One that was cancelled before it was claimed never
// starts: its supervisor finds the tombstone.
func launchedStatus(dir string, s Status) (Status, error) {
	switch {
	case exists(filepath.Join(dir, dirClaim)):
	case exists(filepath.Join(dir, fileCanceled)):
		return ended(dir, s, exitRecord{Exit: Exit{Outcome: Canceled, Code: -1, Ended: modified(filepath.Join(dir, fileCanceled))}}), nil
	case !exists(filepath.Join(dir, fileLaunched)):
		return s, nil // asked of the queue, and not known to have been taken: a submit asks again
	}
	return underWay(dir, s)
}

// buryLaunched records the end of a launched job of which the queue says that it is over.
func (a *agent) buryLaunched(key string, p *workspace.Problem) error {
	if err := checkKey(key); err != nil {
		return err
	}
	dir := a.root.job(key)
	if !wasLaunched(dir) || exists(filepath.Join(dir, fileExit)) {
		return nil
	}
	var st startRecord
	if err := readRecord(dir, fileStarted, &st); err == nil && st.Boot == bootID() {
		// It ran on this very machine. On another, ending what a killed supervisor left is the queue's to do.
		if err := endMarked(st.Mark); err != nil {
			return err
		}
	}
	x := Exit{Outcome: Lost, Code: -1, Problem: p, Ended: time.Now().UTC(), LogSize: logSize(dir), Files: hasFiles(dir)}
	if exists(filepath.Join(dir, fileCanceled)) {
		x.Outcome = Canceled
	}
	if err := writeRecord(dir, fileExit, exitRecord{Format: format, Exit: x}, true); err != nil {
		return err
	}
	a.changed(key)
	return nil
}

// Bury records that a launched job is lost, or canceled if that was wished, unless a record of its end is there. The
// caller has it from the queue that the job is over.
func (c *Client) Bury(ctx context.Context, key string, why workspace.Problem) error {
	_, err := c.ask(ctx, request{Op: opBury, Key: key, Why: &why})
	return err
}

// Run runs a program on the target with the login's environment and gives what it prints. path is a folder looked into
// before PATH. A program that fails is a Fault ProgramFailed with its own words as the cause.
func (c *Client) Run(ctx context.Context, path string, args ...string) ([]byte, error) {
	a, err := c.ask(ctx, request{Op: opRun, Path: path, Args: args})
	return a.Out, err
}
