package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestSupervisorThatStandsByTakesTheNextJob(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	pid := onStandby(t, r, c, func(key string) bool {
		x, log := run(t, c, key, Job{Command: "echo $MY; pwd; exit 3", Env: map[string]string{"OTHER": "two"}})
		if x.Code != 3 || log != "\n"+filepath.Join(r.dir(key), dirCode)+"\n" {
			t.Errorf("it must know nothing of the job before: %+v, %q", x, log)
		}
		return true
	})
	check(t, c.RemoveAll(t.Context()))
	until(t, "it ends with the attachment", func() bool { return !alive(strconv.Itoa(pid)) })
}

// onStandby runs a job, and then next with the key of another, until both have the same supervisor, whose process it
// gives. A supervisor that has not yet said that it stands by is not waited for, so the first try need not do. next may
// say that it shows nothing this time.
func onStandby(t *testing.T, r *rig, c *Client, next func(key string) bool) int {
	t.Helper()
	for i := range 50 {
		before, after := fmt.Sprintf("B%d.1", i), fmt.Sprintf("A%d.1", i)
		if x, log := run(t, c, before, Job{Command: "echo $MY", Env: map[string]string{"MY": "one"}}); x.Code != 0 || log != "one\n" {
			t.Fatalf("%+v, %q", x, log)
		}
		pid := supervisorOf(t, r, before)
		if next(after) && supervisorOf(t, r, after) == pid {
			return pid
		}
	}
	t.Fatal("no supervisor took a second job")
	return 0
}

func TestSupervisorOfACanceledJobDoesNotStandBy(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	submit(t, c, "J1.1", Job{Command: "sleep 300"})
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	pid := supervisorOf(t, r, "J1.1")
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	if x := wait(t, c, "J1.1"); x.Outcome != Canceled {
		t.Errorf("%+v", x)
	}
	until(t, "it ends", func() bool { return !alive(strconv.Itoa(pid)) })
}

// A wish to end a job that is over already may reach its supervisor when that has another job.
func TestLateSignalDoesNotEndTheNextJob(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	gates := t.TempDir()
	onStandby(t, r, c, func(key string) bool {
		gate := filepath.Join(gates, key)
		submit(t, c, key, Job{Command: "until test -e " + gate + "; do sleep 0.02; done; echo whole"})
		until(t, "it runs", func() bool { return status(t, c, key).Phase == Running })
		check(t, c.Cancel(t.Context(), "B"+key[1:], 1))
		check(t, syscall.Kill(supervisorOf(t, r, key), syscall.SIGHUP)) // what a wish sends
		check(t, os.WriteFile(gate, nil, 0o600))
		if x := wait(t, c, key); x.Outcome != Succeeded || string(x.Log) != "whole\n" {
			t.Errorf("%+v", x)
		}
		return true
	})
}

func TestJobOnItsWayToAKilledSupervisorNeverStarted(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for i := range 50 {
		before, key := fmt.Sprintf("B%d.1", i), fmt.Sprintf("A%d.1", i)
		run(t, c, before, Job{Command: "true"})
		pid := supervisorOf(t, r, before)
		if syscall.Kill(pid, syscall.SIGSTOP) != nil {
			continue
		}
		submit(t, c, key, Job{Command: "echo once"})
		if held, err := lockHeld(filepath.Join(r.dir(key), fileLockName)); err == nil && !held && status(t, c, key).Phase != Ended {
			t.Error("on its way its lock is not held")
		}
		check(t, syscall.Kill(pid, syscall.SIGKILL))
		var s Status
		until(t, "it is known as never started, or another supervisor had it", func() bool {
			s = status(t, c, key)
			return s.Phase == Missing || s.Phase == Ended
		})
		if s.Phase == Ended {
			continue
		}
		if s.Reason == nil || s.Reason.Code != NotStarted {
			t.Errorf("%+v", s)
		}
		submit(t, c, key, Job{Command: "echo once"})
		if x := wait(t, c, key); string(x.Log) != "once\n" {
			t.Errorf("%+v", x)
		}
		return
	}
	t.Fatal("no supervisor stood by when it was stopped")
}

func TestSupervisorsThatStandByEndWithTheirAgent(t *testing.T) {
	r := newRig(t)
	c, a := r.dialAgent()
	run(t, c, "J1.1", Job{Command: "true"})
	pid := supervisorOf(t, r, "J1.1")
	check(t, a.cmd.Process.Kill())
	until(t, "it ends", func() bool { return !alive(strconv.Itoa(pid)) })
}

func TestJobIsPreparedWhileItWaitsForItsSlot(t *testing.T) {
	r := newRig(t)
	r.opts.Slots = 1
	c := r.dial()
	gate := filepath.Join(t.TempDir(), "gate")
	submit(t, c, "J1.1", Job{Command: "until test -e " + gate + "; do sleep 0.02; done"})
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	submit(t, c, "J2.1", Job{Command: "cat a", Code: r.objs.tree(map[string]string{"a": "its own"})})
	until(t, "its code is placed", func() bool { return exists(filepath.Join(r.dir("J2.1"), dirCode, "logs")) })
	until(t, "it is shown as waiting", func() bool {
		s := status(t, c, "J2.1")
		return s.Phase == Waiting && s.Reason != nil && strings.HasPrefix(s.Reason.Code, "WaitingForSlot")
	})
	// What fails in preparing need not wait for a slot to say so.
	submit(t, c, "J3.1", Job{Command: "true", Inputs: []Input{{Name: "x", Path: "/nowhere/at/all"}}})
	if x := wait(t, c, "J3.1"); x.Outcome != Failed || x.Problem == nil || x.Problem.Code != "InputNotFound" {
		t.Errorf("%+v", x)
	}
	check(t, os.WriteFile(gate, nil, 0o600))
	if x := wait(t, c, "J2.1"); string(x.Log) != "its own" {
		t.Errorf("%+v", x)
	}
}
