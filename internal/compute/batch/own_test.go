package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const waitLimit = 20 * time.Second

// bench is one cluster for the tests of this file, reached as from its login node.
type bench struct {
	*engine.Slurm
	keeper func(goos, goarch string) (compute.Program, error)
}

// attach opens an attachment of its own, and gives its folder.
func (b bench) attach(t *testing.T, more map[string]any) (*Target, string) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "shared")
	s := map[string]any{"address": "slurm+local:", "folder": folder, "programs": b.Programs, "settle": 1}
	maps.Copy(s, more)
	target, err := driver.Open(t.Context(), encode(t, s), compute.Env{
		Server: "server", Compute: "compute", Clock: clock.System(), Objects: &computetest.Objects{}, Keeper: b.keeper,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.(*Target).RemoveAll(context.Background()); err != nil {
			t.Errorf("detaching: %v", err)
		}
		_ = target.Close()
	})
	return target.(*Target), folder
}

func job(command string) compute.Job {
	return compute.Job{
		Key:   compute.Key{Server: "server", Compute: "compute", Job: clock.System().NewID(), Attempt: 1},
		Epoch: 1, Name: "test", Command: command, Grace: time.Second,
	}
}

func submit(t *testing.T, target *Target, j compute.Job) compute.Handle {
	t.Helper()
	if _, err := target.Submit(t.Context(), j); err != nil {
		t.Fatalf("submit: %v", err)
	}
	return compute.Handle{Key: j.Key}
}

func status(t *testing.T, target *Target, h compute.Handle) compute.Status {
	t.Helper()
	all, err := target.Status(context.Background(), []compute.Handle{h})
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	return all[0]
}

func until(t *testing.T, target *Target, h compute.Handle, phase compute.Phase) compute.Status {
	t.Helper()
	var s compute.Status
	engine.Eventually(t, waitLimit, "job "+string(phase), func() bool {
		s = status(t, target, h)
		return s.Phase == phase
	})
	return s
}

func logOf(t *testing.T, target *Target, h compute.Handle) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := target.Logs(t.Context(), h, compute.LogQuery{}, &b); err != nil {
		t.Fatalf("logs: %v", err)
	}
	return b.String()
}

// slurm runs one of the cluster's programs.
func (b bench) slurm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(b.Programs, args[0]), args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// queued waits until the queue shows a job, and gives what it shows.
func queued(t *testing.T, target *Target, h compute.Handle) entry {
	t.Helper()
	var e entry
	engine.Eventually(t, waitLimit, "the job in the queue", func() bool {
		all, err := target.queue(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		e = all[h.Key.String()]
		return len(e.ids) > 0
	})
	return e
}

func TestOnOneCluster(t *testing.T) {
	b := bench{Slurm: engine.StartSlurm(t), keeper: keeperProgram(t)}
	for _, c := range []struct {
		promise string
		run     func(*testing.T, bench)
	}{
		{"ProbeNamesTheCluster", probeNames},
		{"WaitingJobSaysWhyInPlainWords", waitingSaysWhy},
		{"CancelOfAWaitingJobTakesItOutOfTheQueue", cancelLeavesQueue},
		{"AskedTwiceItRunsOnce", askedTwice},
		{"JobWhoseSupervisorWasKilledIsLost", endedIsLost},
		{"JobTakenOutOfTheQueueIsLostAndNotStartedAgain", takenOut},
		{"RefusalOfSlurmIsInItsOwnWords", refusal},
		{"SecretsAreNotKeptBySlurm", secretsAreNotKept},
		{"WithoutMungeSecretsAreRefused", noMunge},
		{"JobsGoOnWhileTheControllerIsDead", controllerDies}, // last: the others need it
	} {
		t.Run(c.promise, func(t *testing.T) { c.run(t, b) })
	}
}

func probeNames(t *testing.T, b bench) {
	target, _ := b.attach(t, map[string]any{"partition": "gone"})
	f, err := target.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Identity) != 1 || !strings.HasPrefix(f.Identity[0], "slurm:test@") || f.Details["partitions"] != "all" {
		t.Errorf("facts: %+v", f)
	}
	found := map[string]bool{}
	for _, p := range f.Problems {
		found[p.Code] = true
	}
	if !found["NoPartition"] || !found["LooseProcesses"] || found["NoSlurm"] || found["NoMunge"] {
		t.Errorf("problems: %+v", f.Problems)
	}
	lost, _ := b.attach(t, map[string]any{"programs": "/nonexistent", "options": []string{"--hold"}})
	f, err = lost.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p := f.Problems[len(f.Problems)-1]; p.Code != "NoSlurm" || !strings.Contains(p.Mend, "programs") {
		t.Errorf("problem: %+v", p)
	}
}

func waitingSaysWhy(t *testing.T, b bench) {
	target, _ := b.attach(t, map[string]any{"options": []string{"--hold"}})
	h := submit(t, target, job("exit 0"))
	engine.Eventually(t, waitLimit, "the reason", func() bool {
		s := status(t, target, h)
		return s.Phase == compute.Waiting && s.Reason != nil && strings.Contains(s.Reason.Cause, "holds it back") && strings.Contains(s.Reason.Mend, "scontrol release")
	})
	b.slurm(t, "scontrol", "release", queued(t, target, h).ids[0])
	if s := until(t, target, h, compute.Ended); s.Exit.Outcome != compute.Succeeded {
		t.Errorf("exit: %+v", s.Exit)
	}
}

func cancelLeavesQueue(t *testing.T, b bench) {
	target, _ := b.attach(t, map[string]any{"options": []string{"--hold"}})
	h := submit(t, target, job("exit 0"))
	queued(t, target, h)
	if err := target.Cancel(t.Context(), h, 1); err != nil {
		t.Fatal(err)
	}
	if s := until(t, target, h, compute.Ended); s.Exit.Outcome != compute.Canceled {
		t.Errorf("exit: %+v", s.Exit)
	}
	engine.Eventually(t, waitLimit, "an empty queue", func() bool {
		all, err := target.queue(context.Background())
		return err == nil && len(all) == 0
	})
}

// askedTwice loses the answer of sbatch, as a crash at that moment does.
func askedTwice(t *testing.T, b bench) {
	target, folder := b.attach(t, map[string]any{"options": []string{"--hold"}})
	j := job("echo once; sleep 0.5")
	h := submit(t, target, j)
	if err := os.Remove(filepath.Join(folder, "server", "compute", "jobs", j.Key.String(), "launched.json")); err != nil {
		t.Fatal(err)
	}
	submit(t, target, j)
	e := queued(t, target, h)
	if len(e.ids) != 2 {
		t.Fatalf("the queue knows it as %v, and the test is about two", e.ids)
	}
	for _, id := range e.ids {
		b.slurm(t, "scontrol", "release", id)
	}
	until(t, target, h, compute.Ended)
	engine.Eventually(t, waitLimit, "an empty queue", func() bool {
		all, err := target.queue(context.Background())
		return err == nil && len(all) == 0
	})
	if s := status(t, target, h); s.Exit.Outcome != compute.Succeeded {
		t.Errorf("exit: %+v", s.Exit)
	}
	if got := logOf(t, target, h); got != "once\n" {
		t.Errorf("log: %q", got)
	}
}

func endedIsLost(t *testing.T, b bench) {
	target, folder := b.attach(t, nil)
	h := submit(t, target, job("echo begun; sleep 60"))
	until(t, target, h, compute.Running)
	engine.Eventually(t, waitLimit, "the log", func() bool { return logOf(t, target, h) == "begun\n" })
	text, err := os.ReadFile(filepath.Join(folder, "server", "compute", "jobs", h.Key.String(), "lock"))
	var supervisor struct {
		PID int `json:"pid"`
	}
	if err := errors.Join(err, json.Unmarshal(text, &supervisor)); err != nil || supervisor.PID <= 1 {
		t.Fatalf("the supervisor's process: %q, %v", text, err)
	}
	if err := syscall.Kill(supervisor.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s := until(t, target, h, compute.Ended)
	if s.Exit.Outcome != compute.Lost || s.Exit.Problem == nil || s.Exit.Problem.Code != "LeftTheQueue" {
		t.Errorf("exit: %+v", s.Exit)
	}
	if got := logOf(t, target, h); got != "begun\n" {
		t.Errorf("log: %q", got)
	}
	if err := target.Release(t.Context(), h, 1); err != nil {
		t.Errorf("release: %v", err)
	}
}

func takenOut(t *testing.T, b bench) {
	target, _ := b.attach(t, map[string]any{"options": []string{"--hold"}})
	j := job("echo never")
	h := submit(t, target, j)
	b.slurm(t, "scancel", queued(t, target, h).ids[0])
	s := until(t, target, h, compute.Ended)
	if s.Exit.Outcome != compute.Lost || s.Exit.Problem == nil || !strings.Contains(s.Exit.Problem.Message, "before its command started") {
		t.Errorf("exit: %+v", s.Exit)
	}
	submit(t, target, j)
	if all, err := target.queue(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("it was queued again: %v, %v", all, err)
	}
}

func refusal(t *testing.T, b bench) {
	target, _ := b.attach(t, map[string]any{"partition": "gone"})
	_, err := target.Submit(t.Context(), job("exit 0"))
	p, ok := errors.AsType[*workspace.Problem](err)
	if !errors.Is(err, compute.ErrInvalid) || !ok || p.Code != "SlurmRefused" || !strings.Contains(p.Cause, "partition") {
		t.Errorf("submit: %v", err)
	}
}

func secretsAreNotKept(t *testing.T, b bench) {
	target, folder := b.attach(t, nil)
	const secret = "s3cr3t-value-of-a-job"
	j := job(`test "${#TOKEN}" = 21 && echo same; sleep 60`)
	j.Secrets = map[string]workspace.Secret{"TOKEN": workspace.NewSecret(secret)}
	h := submit(t, target, j)
	until(t, target, h, compute.Running)
	engine.Eventually(t, waitLimit, "the job has its secret", func() bool { return logOf(t, target, h) == "same\n" })
	seen := 0
	for _, root := range []string{filepath.Dir(b.Conf), folder} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // what ended meanwhile
			}
			text, err := os.ReadFile(path)
			if err == nil {
				seen++
			}
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s shows the secret", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 10 {
		t.Errorf("only %d files were read", seen)
	}
}

func noMunge(t *testing.T, b bench) {
	target, _ := b.attach(t, map[string]any{"no_munge": true})
	if s := until(t, target, submit(t, target, job("exit 0")), compute.Ended); s.Exit.Outcome != compute.Succeeded {
		t.Errorf("a job without secrets: %+v", s.Exit)
	}
	j := job("exit 0")
	j.Secrets = map[string]workspace.Secret{"TOKEN": workspace.NewSecret("x")}
	_, err := target.Submit(t.Context(), j)
	p, ok := errors.AsType[*workspace.Problem](err)
	if !errors.Is(err, compute.ErrInvalid) || !ok || p.Code != "NoSecrets" || p.Mend == "" {
		t.Errorf("a job with a secret: %v", err)
	}
}

func controllerDies(t *testing.T, b bench) {
	target, _ := b.attach(t, nil)
	h := submit(t, target, job("echo begun; sleep 8; echo over"))
	until(t, target, h, compute.Running)
	b.Stop(t)
	for range 2 { // the second is not to wait for the queue
		asked := time.Now()
		if s := status(t, target, h); s.Phase != compute.Running {
			t.Errorf("without a controller the job is %s", s.Phase)
		}
		if took := time.Since(asked); took > askLimit+time.Second {
			t.Errorf("without a controller a status took %s", took)
		}
	}
	_, err := target.Submit(t.Context(), job("exit 0"))
	p, ok := errors.AsType[*workspace.Problem](err)
	if !errors.Is(err, compute.ErrUnreachable) || !ok || p.Code != "SlurmUnreachable" {
		t.Errorf("submit without a controller: %v", err)
	}
	b.Start(t)
	if s := until(t, target, h, compute.Ended); s.Exit.Outcome != compute.Succeeded {
		t.Errorf("exit: %+v", s.Exit)
	}
	if got := logOf(t, target, h); got != "begun\nover\n" {
		t.Errorf("log: %q", got)
	}
}
