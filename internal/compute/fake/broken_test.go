package fake

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
)

// broken is a target that breaks one promise.
type broken struct {
	*Target
	how string
}

func (b *broken) Submit(ctx context.Context, j compute.Job) (compute.Ref, error) {
	switch b.how {
	case "starts twice":
		b.m.Forget(j.Key)
	case "takes stale epochs":
		j.Epoch = 1 << 30
	}
	return b.Target.Submit(ctx, j)
}

func (b *broken) Status(ctx context.Context, jobs []compute.Handle) ([]compute.Status, error) {
	all, err := b.Target.Status(ctx, jobs)
	for i := range all {
		if b.how == "loses the exit code" && all[i].Exit != nil {
			all[i].Exit.Code = min(all[i].Exit.Code, 1)
		}
		if b.how == "guesses that jobs ended" && all[i].Phase == compute.Missing {
			all[i].Phase, all[i].Exit = compute.Ended, &compute.Exit{Outcome: compute.Lost}
		}
	}
	return all, err
}

func (b *broken) Logs(ctx context.Context, h compute.Handle, q compute.LogQuery, w io.Writer) (int64, error) {
	if b.how == "ignores offsets" {
		q.From = 0
	}
	if b.how == "stops following" {
		q.Follow = false
	}
	return b.Target.Logs(ctx, h, q, w)
}

func (b *broken) Cancel(ctx context.Context, h compute.Handle, epoch int64) error {
	if b.how == "forgets to fence" {
		b.m.mu.Lock()
		known := b.m.jobs[h.Key] != nil
		b.m.mu.Unlock()
		if !known {
			return nil
		}
	}
	return b.Target.Cancel(ctx, h, epoch)
}

func (b *broken) Release(ctx context.Context, h compute.Handle, epoch int64) error {
	if b.how == "keeps what is released" {
		return nil
	}
	return b.Target.Release(ctx, h, epoch)
}

// TestBrokenTarget is run by TestExamFindsBrokenPromises in a process of its own, where it is to fail.
func TestBrokenTarget(t *testing.T) {
	how := os.Getenv("FAKE_BROKEN")
	if how == "" {
		t.Skip("it fails by design; TestExamFindsBrokenPromises runs it")
	}
	w := New(compute.Limits{})
	t.Cleanup(w.Close)
	open := func(ctx context.Context, env compute.Env, want computetest.Want) (compute.Target, error) {
		b, err := json.Marshal(Settings{Machine: want.Place, Slots: want.Slots})
		if err != nil {
			return nil, err
		}
		target, err := w.Driver().Open(ctx, b, env)
		if err != nil {
			return nil, err
		}
		return &broken{Target: target.(*Target), how: how}, nil
	}
	computetest.Run(t, open, computetest.Options{NoShell: "a fake", Skip: map[string]string{"unreachable": "not asked here"}})
}

func TestExamFindsBrokenPromises(t *testing.T) {
	for how, name := range map[string]string{
		"starts twice":            "SubmitAfterEndStartsNothing",
		"takes stale epochs":      "SubmitByAStaleServerStartsNothing",
		"loses the exit code":     "ExitCodeIsKept",
		"guesses that jobs ended": "UnknownJobIsMissing",
		"ignores offsets":         "LogIsReadFromAnOffset",
		"stops following":         "LogIsFollowedToTheEnd",
		"forgets to fence":        "CancelBeforeSubmitStartsNothing",
		"keeps what is released":  "ReleasedJobIsMissing",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBrokenTarget$/^Exam$/^"+name+"$")
			cmd.Env = append(os.Environ(), "FAKE_BROKEN="+how)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("the exam passes a target that %s:\n%s", how, out)
			}
			if !strings.Contains(string(out), "--- FAIL: TestBrokenTarget/Exam/"+name) {
				t.Errorf("a target that %s passes %s:\n%s", how, name, out)
			}
		})
	}
}
