package keeper

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestSubmitTwiceAndAtOnceRunsOnce(t *testing.T) {
	r := newRig(t)
	count := filepath.Join(t.TempDir(), "count")
	var clients []*Client
	for range 3 {
		clients = append(clients, r.dial())
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if _, err := clients[i%3].Submit(t.Context(), "J1.1", 1, Job{Command: "echo x >> " + count}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wait(t, clients[0], "J1.1")
	if s := submit(t, clients[1], "J1.1", Job{Command: "echo x >> " + count}); s.Phase != Ended {
		t.Errorf("a submit after the end: %+v", s)
	}
	if b, _ := os.ReadFile(count); string(b) != "x\n" {
		t.Errorf("it ran %q", b)
	}
}

// tricky starts children that hide: one in a session of its own, one whose parent ends, one that ignores TERM.
const tricky = `setsid sh -c 'echo $$ >> pids; exec sleep 300' &
(sh -c 'echo $$ >> pids; trap "" TERM; while :; do sleep 1; done' &)
(setsid sh -c 'echo $$ >> pids; trap "" TERM; while :; do sleep 1; done' & )
while [ "$(cat pids 2>/dev/null | wc -l)" -lt 3 ]; do sleep 0.02; done
echo ready
`

func pids(t *testing.T, r *rig, key string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir(key), "code", "pids"))
	check(t, err)
	return strings.Fields(string(b))
}

func untilLog(t *testing.T, r *rig, key, text string) {
	t.Helper()
	until(t, "log has "+text, func() bool {
		b, _ := os.ReadFile(filepath.Join(r.dir(key), fileLog))
		return strings.Contains(string(b), text)
	})
}

func nonesAlive(t *testing.T, pids []string) {
	t.Helper()
	if len(pids) != 3 {
		t.Fatalf("pids %v", pids)
	}
	until(t, "the tree is gone", func() bool {
		return !slices.ContainsFunc(pids, alive)
	})
}

func TestCancelEndsTheWholeTree(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	submit(t, c, "J1.1", Job{Command: tricky + "sleep 300", Grace: 200 * time.Millisecond})
	untilLog(t, r, "J1.1", "ready")
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	x := wait(t, c, "J1.1")
	if x.Outcome != Canceled {
		t.Errorf("%+v", x)
	}
	for _, p := range pids(t, r, "J1.1") {
		if alive(p) {
			t.Errorf("process %s is alive after the end was recorded", p)
		}
	}
	check(t, c.Cancel(t.Context(), "J1.1", 1)) // over already
	if x := wait(t, c, "J1.1"); x.Outcome != Canceled {
		t.Errorf("after another cancel: %+v", x)
	}
}

func TestCommandThatEndsTakesItsChildrenAlong(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	x, _ := run(t, c, "J1.1", Job{Command: tricky + "exit 0", Grace: 100 * time.Millisecond})
	if x.Outcome != Succeeded {
		t.Errorf("%+v", x)
	}
	for _, p := range pids(t, r, "J1.1") {
		if alive(p) {
			t.Errorf("process %s is alive", p)
		}
	}
}

func TestCancelBeforeSubmitFencesTheKey(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	mark := filepath.Join(t.TempDir(), "ran")
	if s := submit(t, c, "J1.1", Job{Command: "touch " + mark}); s.Phase != Ended || s.Exit.Outcome != Canceled {
		t.Errorf("%+v", s)
	}
	if s := status(t, c, "J1.1"); s.Phase != Ended || s.Exit.Outcome != Canceled {
		t.Errorf("%+v", s)
	}
	if exists(mark) {
		t.Error("it ran")
	}
	check(t, c.Release(t.Context(), "J1.1", 1))
	if s := status(t, c, "J1.1"); s.Phase != Missing {
		t.Errorf("%+v", s)
	}
}

func TestStaleEpochChangesNothing(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	if _, err := c.Submit(t.Context(), "J1.1", 5, Job{Command: "sleep 300"}, nil); err != nil {
		t.Fatal(err)
	}
	other := r.dial()
	_, err := other.Submit(t.Context(), "J2.1", 4, Job{Command: "true"}, nil)
	if f, ok := errors.AsType[*Fault](err); !ok || f.Cause != Stale {
		t.Errorf("submit: %v", err)
	}
	for what, err := range map[string]error{"cancel": other.Cancel(t.Context(), "J1.1", 4), "release": other.Release(t.Context(), "J1.1", 4)} {
		if f, ok := errors.AsType[*Fault](err); !ok || f.Cause != Stale {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s := status(t, c, "J2.1"); s.Phase != Missing {
		t.Errorf("%+v", s)
	}
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	check(t, other.Cancel(t.Context(), "J1.1", 6))
	if x := wait(t, c, "J1.1"); x.Outcome != Canceled {
		t.Errorf("%+v", x)
	}
}

func supervisorOf(t *testing.T, r *rig, key string) int {
	t.Helper()
	var h holder
	until(t, "a supervisor", func() bool {
		b, _ := os.ReadFile(filepath.Join(r.dir(key), fileLockName))
		return json.Unmarshal(b, &h) == nil && h.PID > 0
	})
	return h.PID
}

func TestKilledSupervisorMeansLostAndTheTreeIsEnded(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	told := make(chan Status, 16)
	go func() { _ = c.Watch(t.Context(), func(s Status) { told <- s }) }()
	submit(t, c, "J1.1", Job{Command: tricky + "sleep 300"})
	untilLog(t, r, "J1.1", "ready")
	check(t, syscall.Kill(supervisorOf(t, r, "J1.1"), syscall.SIGKILL))
	for s := range told { // nobody asks: the agent notices
		if s.Phase == Ended {
			if s.Exit.Outcome != Lost || s.Exit.Problem == nil || s.Exit.Problem.Code != "SupervisorKilled" {
				t.Errorf("%+v", s.Exit)
			}
			break
		}
	}
	nonesAlive(t, pids(t, r, "J1.1"))
	if s := submit(t, c, "J1.1", Job{Command: "echo again"}); s.Phase != Ended || s.Exit.Outcome != Lost {
		t.Errorf("submitted again: %+v", s)
	}
}

// The kernel gives numbers of processes again. Here the lock's file is made to name a bystander, as if its number had been
// the supervisor's.
func TestABystanderWithTheNumberOfASupervisorIsLeftAlone(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	bystander := exec.Command("sleep", "300")
	check(t, bystander.Start())
	over := make(chan struct{})
	go func() { // ends with the bystander
		_ = bystander.Wait()
		close(over)
	}()
	t.Cleanup(func() { _ = bystander.Process.Kill() })
	p, err := readProcess(bystander.Process.Pid)
	check(t, err)
	claim := func(key string) {
		b, err := json.Marshal(holder{PID: p.pid, Start: p.start - 1})
		check(t, err)
		check(t, os.WriteFile(filepath.Join(r.dir(key), fileLockName), b, 0o600))
	}
	for _, key := range []string{"J1.1", "J2.1"} {
		submit(t, c, key, Job{Command: "echo ready; sleep 300"})
		untilLog(t, r, key, "ready")
		supervisor := supervisorOf(t, r, key)
		claim(key)
		if key == "J2.1" {
			check(t, syscall.Kill(supervisor, syscall.SIGKILL))
		}
		check(t, c.Cancel(t.Context(), key, 1))
		if x := wait(t, c, key); x.Outcome != Canceled {
			t.Errorf("%s: %+v", key, x)
		}
		check(t, c.Release(t.Context(), key, 1))
	}
	select {
	case <-over:
		t.Error("the bystander was ended")
	default:
	}
}

func TestKilledAgentMeansNothing(t *testing.T) {
	r := newRig(t)
	c, a := r.dialAgent()
	gate := filepath.Join(t.TempDir(), "gate")
	submit(t, c, "J1.1", Job{Command: "echo one; until test -e " + gate + "; do sleep 0.02; done; echo two"})
	untilLog(t, r, "J1.1", "one")
	check(t, a.cmd.Process.Kill())
	<-c.Done()
	if _, err := c.Status(t.Context(), []string{"J1.1"}); faultCode(err) != "ConnectionLost" {
		t.Errorf("%v", err)
	}
	check(t, os.WriteFile(gate, nil, 0o600))
	c = r.dial()
	if x := wait(t, c, "J1.1"); x.Outcome != Succeeded || string(x.Log) != "one\ntwo\n" {
		t.Errorf("%+v", x)
	}
}

func TestSupervisorSpeaksToTheNextAgent(t *testing.T) {
	r := newRig(t)
	c, a := r.dialAgent()
	gate := filepath.Join(t.TempDir(), "gate")
	submit(t, c, "J1.1", Job{Command: "until test -e " + gate + "; do sleep 0.02; done"})
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	check(t, a.cmd.Process.Kill())
	<-c.Done()
	c = r.dial()
	told := make(chan Status, 16)
	go func() { _ = c.Watch(t.Context(), func(s Status) { told <- s }) }()
	// Once the supervisor holds a connection again its end is told. Before, asking would show it.
	time.AfterFunc(6*time.Second, func() { _ = os.WriteFile(gate, nil, 0o600) })
	select {
	case s := <-told:
		if s.Phase != Ended || s.Exit.Outcome != Succeeded {
			t.Errorf("%+v", s)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was told")
	}
}

func TestOlderAgentIsFoundAgainWhenANewerEnds(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	newer, _ := r.dialAgent()
	check(t, newer.Close())
	here, err := newRoot(r.folder, "srv", "cmp")
	check(t, err)
	until(t, "an agent answers", func() bool { return answers(here) })
	submit(t, c, "J1.1", Job{Command: "true"})
	if x := wait(t, c, "J1.1"); x.Outcome != Succeeded {
		t.Errorf("%+v", x)
	}
}

func TestRestartOfTheMachineMeansLost(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	submit(t, c, "J1.1", Job{Command: "sleep 300"})
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	check(t, syscall.Kill(supervisorOf(t, r, "J1.1"), syscall.SIGKILL))
	_ = c.Close()
	r.env = []string{"MOORAGE_BOOT_ID=another"}
	c = r.dial()
	x := wait(t, c, "J1.1")
	if x.Outcome != Lost || x.Problem.Code != "MachineRestarted" {
		t.Errorf("%+v", x)
	}
	check(t, endMarked(markOf(t, r, "J1.1")))
}

func markOf(t *testing.T, r *rig, key string) string {
	t.Helper()
	var st startRecord
	check(t, readRecord(r.dir(key), fileStarted, &st))
	return st.Mark
}

func TestJobThatNeverStartedIsStartedByTheNextSubmit(t *testing.T) {
	r := newRig(t)
	r.opts.Slots = 1
	c := r.dial()
	submit(t, c, "J1.1", Job{Command: "sleep 300"})
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	submit(t, c, "J2.1", Job{Command: "echo second"})
	until(t, "it waits", func() bool { s := status(t, c, "J2.1"); return s.Phase == Waiting && s.Reason != nil })
	check(t, syscall.Kill(supervisorOf(t, r, "J2.1"), syscall.SIGKILL))
	until(t, "it has no supervisor", func() bool { return status(t, c, "J2.1").Phase == Missing })
	if s := submit(t, c, "J2.1", Job{Command: "echo second"}); s.Phase != Waiting {
		t.Errorf("%+v", s)
	}
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	if x := wait(t, c, "J2.1"); string(x.Log) != "second\n" {
		t.Errorf("%+v", x)
	}
}

func TestReleaseRemovesAllAndRefusesARunningJob(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	submit(t, c, "J1.1", Job{Command: "mkdir ro; touch ro/x; chmod 500 ro; sleep 300"})
	until(t, "it runs", func() bool { return exists(filepath.Join(r.dir("J1.1"), "code/ro/x")) })
	if err := c.Release(t.Context(), "J1.1", 1); faultCode(err) != "JobRunning" {
		t.Errorf("%v", err)
	}
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	wait(t, c, "J1.1")
	check(t, c.Release(t.Context(), "J1.1", 1))
	check(t, c.Release(t.Context(), "J1.1", 1))
	left, err := os.ReadDir(filepath.Dir(r.dir("J1.1")))
	check(t, err)
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := c.Logs(t.Context(), "J1.1", "", 0, true, os.Stderr); faultCode(err) != "JobNotFound" {
		t.Errorf("%v", err)
	}
}

func TestRemoveAllLeavesNothingAndOnlyTakesItsOwn(t *testing.T) {
	r := newRig(t)
	r.folder = filepath.Join(r.folder, "moorage")
	c := r.dial()
	other := *r
	other.opts.Server = "srv2"
	c2 := other.dial()
	submit(t, c, "J1.1", Job{Command: "sleep 300", Code: r.objs.tree(map[string]string{"a": "b"})})
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	pid := supervisorOf(t, r, "J1.1")
	check(t, c.RemoveAll(t.Context()))
	until(t, "the supervisor is gone", func() bool { return !alive(strconv.Itoa(pid)) })
	if exists(filepath.Join(r.folder, "srv")) || !exists(filepath.Join(r.folder, "srv2", "cmp")) {
		t.Error("it took the wrong folder")
	}
	if x, log := run(t, c2, "J1.1", Job{Command: "echo still"}); x.Outcome != Succeeded || log != "still\n" {
		t.Errorf("the other server: %+v", x)
	}
	check(t, c2.RemoveAll(t.Context()))
	if exists(r.folder) {
		t.Error("the folder is still there")
	}
}

func TestRecordsThatALostPowerLeftEmptyAreHandled(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	for key, files := range map[string][]string{
		"J1.1": {fileLockName, fileSpec, fileStarted, fileExit}, // while the exit was written
		"J2.1": {fileLockName, fileSpec, fileStarted},           // while the start was written
	} {
		check(t, os.MkdirAll(r.dir(key), 0o700))
		for _, f := range files {
			check(t, os.WriteFile(filepath.Join(r.dir(key), f), make([]byte, 8), 0o600))
		}
		if s := status(t, c, key); s.Phase != Ended || s.Exit.Outcome != Lost || s.Exit.Problem.Code != "MachineRestarted" {
			t.Errorf("%s: %+v", key, s)
		}
	}
}
