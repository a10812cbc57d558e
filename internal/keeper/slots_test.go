package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSlotsBoundWhatRunsAndKeepOrderAcrossAttachments(t *testing.T) {
	r := newRig(t)
	r.opts.Slots = 2
	c := r.dial()
	other := *r
	other.opts.Compute = "cmp2"
	c2 := other.dial()
	trace := filepath.Join(t.TempDir(), "trace")
	for i := range 8 {
		on := c
		if i%2 == 1 {
			on = c2
		}
		submit(t, on, fmt.Sprintf("J%d.1", i), Job{Command: fmt.Sprintf("echo + >> %s; sleep 0.05; echo - >> %s", trace, trace)})
	}
	for i := range 8 {
		on := c
		if i%2 == 1 {
			on = c2
		}
		if x := wait(t, on, fmt.Sprintf("J%d.1", i)); x.Outcome != Succeeded {
			t.Errorf("%+v", x)
		}
	}
	b, err := os.ReadFile(trace)
	check(t, err)
	now, most := 0, 0
	for w := range strings.FieldsSeq(string(b)) {
		if w == "+" {
			now++
		} else {
			now--
		}
		most = max(most, now)
	}
	if most != 2 {
		t.Errorf("%d ran at once", most)
	}
}

func TestWaitingJobHasAReasonAndGetsTheSlotOfAKilledSupervisor(t *testing.T) {
	r := newRig(t)
	r.opts.Slots = 1
	c := r.dial()
	submit(t, c, "J1.1", Job{Command: "sleep 300"})
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	submit(t, c, "J2.1", Job{Command: "sleep 300"})
	submit(t, c, "J3.1", Job{Command: "true"})
	for _, key := range []string{"J2.1", "J3.1"} {
		until(t, key+" waits", func() bool {
			s := status(t, c, key)
			return s.Phase == Waiting && s.Reason != nil && s.Reason.Code == "WaitingForSlot"
		})
	}
	check(t, c.Cancel(t.Context(), "J3.1", 1)) // while it queues
	if x := wait(t, c, "J3.1"); x.Outcome != Canceled {
		t.Errorf("%+v", x)
	}
	check(t, syscall.Kill(supervisorOf(t, r, "J1.1"), syscall.SIGKILL))
	until(t, "the next runs", func() bool { return status(t, c, "J2.1").Phase == Running })
	check(t, c.Cancel(t.Context(), "J2.1", 1))
	wait(t, c, "J2.1")
}

func TestGPUsAreAllottedTogetherAndNeverTwice(t *testing.T) {
	r := newRig(t)
	bin := t.TempDir()
	check(t, os.WriteFile(filepath.Join(bin, "nvidia-smi"), []byte("#!/bin/sh\nfor i in 0 1 2; do echo \"$i, GPU-$i, Test, Inc. A100, 81920 MiB\"; done\n"), 0o700))
	home := t.TempDir()
	check(t, os.WriteFile(filepath.Join(home, ".profile"), []byte("echo noise; PATH="+bin+":$PATH\n"), 0o600))
	r.env = []string{"HOME=" + home, "SHELL=/bin/sh"}
	c := r.dial()
	gate := filepath.Join(t.TempDir(), "gate")
	job := Job{Command: "echo [$CUDA_VISIBLE_DEVICES]; until test -e " + gate + "; do sleep 0.02; done", GPUs: 2}
	submit(t, c, "J1.1", job)
	untilLog(t, r, "J1.1", "]")
	job.GPUs = 1
	submit(t, c, "J2.1", job)
	untilLog(t, r, "J2.1", "]")
	submit(t, c, "J3.1", job)
	until(t, "it waits", func() bool { s := status(t, c, "J3.1"); return s.Reason != nil && s.Reason.Code == "WaitingForGPU" })
	check(t, os.WriteFile(gate, nil, 0o600))
	logs := string(wait(t, c, "J1.1").Log) + string(wait(t, c, "J2.1").Log)
	if logs != "[0,1]\n[2]\n" {
		t.Errorf("allotted %q", logs)
	}
	if x := wait(t, c, "J3.1"); x.Outcome != Succeeded {
		t.Errorf("%+v", x)
	}
	job.GPUs = 4
	if _, err := c.Submit(t.Context(), "J4.1", 1, job, nil); faultCode(err) != "NotEnoughGPUs" {
		t.Errorf("%v", err)
	}
	f, err := c.Probe(t.Context())
	check(t, err)
	if f.Details["gpus"] != "3" || !strings.Contains(f.Details["gpu_names"], "Test, Inc. A100 (81920 MiB)") {
		t.Errorf("%v", f.Details)
	}
}

func TestSlotIsHandedOnWithinMoments(t *testing.T) {
	r := newRig(t)
	r.opts.Slots = 1
	c := r.dial()
	submit(t, c, "J0.1", Job{Command: "sleep 0.5"})
	for i := 1; i <= 10; i++ {
		submit(t, c, fmt.Sprintf("J%d.1", i), Job{Command: "date +%s%N"})
	}
	began := time.Now()
	for i := range 11 {
		wait(t, c, fmt.Sprintf("J%d.1", i))
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("ten hand-overs took %s: the waiting looks slowly instead of being told", d)
	}
}

func TestQueueKeepsItsOrderAndSkipsThoseThatWereKilled(t *testing.T) {
	r := newRig(t)
	r.opts.Slots = 1
	c := r.dial()
	trace := filepath.Join(t.TempDir(), "trace")
	gate := filepath.Join(t.TempDir(), "gate")
	submit(t, c, "J0.1", Job{Command: "until test -e " + gate + "; do sleep 0.02; done"})
	until(t, "it runs", func() bool { return status(t, c, "J0.1").Phase == Running })
	var want strings.Builder
	for i := 1; i <= 9; i++ {
		key := fmt.Sprintf("J%d.1", i)
		submit(t, c, key, Job{Command: fmt.Sprintf("echo %d >> %s", i, trace)})
		until(t, key+" waits", func() bool { return status(t, c, key).Reason != nil })
		if i != 4 && i != 5 {
			fmt.Fprintln(&want, i)
		}
	}
	for _, key := range []string{"J4.1", "J5.1"} {
		check(t, syscall.Kill(supervisorOf(t, r, key), syscall.SIGKILL))
	}
	check(t, os.WriteFile(gate, nil, 0o600))
	for _, i := range []int{1, 2, 3, 6, 7, 8, 9} {
		wait(t, c, fmt.Sprintf("J%d.1", i))
	}
	if b, _ := os.ReadFile(trace); string(b) != want.String() {
		t.Errorf("they ran in the order %q", b)
	}
}
