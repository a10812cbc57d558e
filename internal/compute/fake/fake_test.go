package fake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func examine(t *testing.T, limits compute.Limits) {
	w := New(limits)
	t.Cleanup(w.Close)
	open := func(ctx context.Context, env compute.Env, want computetest.Want) (compute.Target, error) {
		s := Settings{Machine: want.Place, Slots: want.Slots, GPUs: want.GPUs}
		if want.Refused {
			s.Password = "wrong"
		}
		b, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		return w.Driver().Open(ctx, b, env)
	}
	computetest.Run(t, open, computetest.Options{
		Limits: limits, NoShell: "it is a fake, which runs no shell",
		Outage: func(_ *testing.T, place string, down bool) { w.Machine(place).Down(down) },
	})
}

func TestFakePassesTheExam(t *testing.T) { examine(t, compute.Limits{}) }

func TestFakeWithLimitsPassesTheExam(t *testing.T) {
	examine(t, compute.Limits{NoEpoch: true, NoFence: true, NoLogOffsets: true, NoCollectWhileRunning: true, NoPeakMemory: true})
}

// use opens a machine in a world of the test's own.
func use(t *testing.T) (*World, *Machine, compute.Target) {
	t.Helper()
	w := New(compute.Limits{})
	t.Cleanup(w.Close)
	target, err := w.Driver().Open(t.Context(), []byte(`{"machine": "m"}`), compute.Env{Server: "s", Compute: "c"})
	if err != nil {
		t.Fatal(err)
	}
	return w, w.Machine("m"), target
}

func newJob(command string) compute.Job {
	return compute.Job{Key: compute.Key{Server: "s", Compute: "c", Job: clock.System().NewID(), Attempt: 1}, Epoch: 1, Command: command}
}

func phase(t *testing.T, target compute.Target, key compute.Key) compute.Status {
	t.Helper()
	all, err := target.Status(t.Context(), []compute.Handle{{Key: key}})
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func TestFailuresComeAsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, target := use(t)
		j := newJob("wait go\nwrite outputs/a text\nexit 3")
		submit := func() error { _, err := target.Submit(t.Context(), j); return err }

		m.Down(true)
		if err := submit(); !errors.Is(err, compute.ErrUnreachable) {
			t.Errorf("down: %v", err)
		}
		m.Down(false)
		m.Deny(true)
		if err := submit(); !errors.Is(err, compute.ErrDenied) {
			t.Errorf("denied: %v", err)
		}
		m.Deny(false)
		m.Fail(Submit, Full())
		m.Throttle(Submit, time.Minute)
		if err := submit(); !errors.Is(err, compute.ErrFull) {
			t.Errorf("full: %v", err)
		}
		var e *compute.Error
		if err := submit(); !errors.As(err, &e) || !errors.Is(err, compute.ErrThrottled) || e.After != time.Minute {
			t.Errorf("throttled: %v", err)
		}
		if n := len(m.Jobs()); n != 0 {
			t.Errorf("failed submits left %d jobs", n)
		}
		m.LoseAnswer(Submit, 1)
		m.Gap(time.Second)
		if err := submit(); !errors.Is(err, compute.ErrUnreachable) {
			t.Errorf("answer lost: %v", err)
		}
		if p := phase(t, target, j.Key).Phase; p != compute.Missing {
			t.Errorf("within the gap it is %s", p)
		}
		if err := submit(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second) //nolint:forbidigo // in a bubble: time itself is the condition
		synctest.Wait()
		if p := phase(t, target, j.Key).Phase; p != compute.Running || m.Started(j.Key) != 1 {
			t.Errorf("after the gap it is %s, started %d times", p, m.Started(j.Key))
		}
		m.Slow(time.Minute)
		begun := time.Now()
		phase(t, target, j.Key)
		if took := time.Since(begun); took != time.Minute {
			t.Errorf("slow: %s", took)
		}
		m.Slow(0)
		m.Signal("go")
		synctest.Wait()
		s := phase(t, target, j.Key)
		if s.Phase != compute.Ended || s.Exit.Code != 3 || !s.Exit.Files {
			t.Errorf("end: %+v", s.Exit)
		}
		home := &computetest.Home{}
		if err := target.Collect(t.Context(), compute.Handle{Key: j.Key}, home); err != nil {
			t.Error(err)
		}
		if text, _ := home.Text("outputs", "a"); text != "text" {
			t.Errorf("came home: %q", home.Names())
		}
		m.Forget(j.Key)
		if p := phase(t, target, j.Key).Phase; p != compute.Missing {
			t.Errorf("forgotten, it is %s", p)
		}
		m.Gap(0)
		j = newJob("sleep 1000")
		if err := submit(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		m.Lose(j.Key)
		synctest.Wait()
		if s := phase(t, target, j.Key); s.Exit == nil || s.Exit.Outcome != compute.Lost {
			t.Errorf("lost: %+v", s)
		}
	})
}

func TestHookHoldsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, target := use(t)
		j := newJob("print x")
		release := make(chan struct{})
		m.Hook(Submit, func(ctx context.Context, key compute.Key) error {
			if key != j.Key {
				t.Errorf("key %v", key)
			}
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		done := make(chan error, 1)
		go func() { _, err := target.Submit(t.Context(), j); done <- err }()
		synctest.Wait()
		if n := len(m.Jobs()); n != 0 || m.Calls(Submit) != 1 {
			t.Errorf("while held there are %d jobs after %d calls", n, m.Calls(Submit))
		}
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		var log bytes.Buffer
		if _, err := target.Logs(t.Context(), compute.Handle{Key: j.Key}, compute.LogQuery{Follow: true}, &log); err != nil || log.String() != "x\n" {
			t.Errorf("log %q, %v", log.String(), err)
		}
	})
}
