package computetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

func queueOrder(x *exam) {
	t := x.attach()
	first := x.submit(t, x.job("sleep 60"))
	x.until(t, first, compute.Running)
	var queue []compute.Handle
	for i := range 4 {
		h := x.submit(t, x.job(fmt.Sprintf("echo %d\nsleep 0.1", i)))
		s := x.until(t, h, compute.Waiting)
		queue = append(queue, h)
		x.eventually("a reason", func() bool { s = x.status(t, h); return s.Reason != nil })
		if s.Reason.Code == "" || s.Reason.Message == "" || s.Reason.Mend == "" {
			x.Errorf("why it waits: %+v", s.Reason)
		}
	}
	x.cancel(t, first)
	x.canceled(t, first)
	var before time.Time
	for i, h := range queue {
		x.succeed(t, h)
		s := x.status(t, h)
		if s.Started.Before(before) {
			x.Errorf("job %d began at %s, and the one before it ended at %s", i, s.Started, before)
		}
		before = s.Exit.Ended
	}
}

func gpusAllotted(x *exam) {
	t := x.attach()
	if x.opts.Limits.NoGPUs {
		j := x.job("exit 0")
		j.GPUs = 1
		_, err := t.Submit(x.Context(), j)
		x.notSupported(err)
		return
	}
	job := func(n int) compute.Job {
		j := x.job(`echo "gpus=$CUDA_VISIBLE_DEVICES."; sleep 60`)
		j.GPUs = n
		return j
	}
	device := func(h compute.Handle) string {
		x.Helper()
		x.logHas(t, h, ".")
		return strings.TrimSpace(x.log(t, h))
	}
	a, b := x.submit(t, job(1)), x.submit(t, job(1))
	got := map[string]bool{device(a): true, device(b): true}
	if !got["gpus=0."] || !got["gpus=1."] {
		x.Errorf("two jobs with a GPU each were given %v", got)
	}
	both := x.submit(t, job(2))
	s := x.until(t, both, compute.Waiting)
	x.eventually("a reason", func() bool { s = x.status(t, both); return s.Reason != nil })
	x.cancel(t, a)
	x.canceled(t, a)
	if p := x.status(t, both).Phase; p != compute.Waiting {
		x.Errorf("with one GPU free, the job that wants two is %s", p)
	}
	x.cancel(t, b)
	x.canceled(t, b)
	if d := device(both); d != "gpus=0,1." {
		x.Errorf("the job that wants two was given %q", d)
	}
	_, err := t.Submit(x.Context(), job(3))
	if err == nil {
		x.Error("a job that wants 3 GPUs of 2 was taken")
	} else if p := x.isProblem(err); p.Mend == "" {
		x.Errorf("it wants 3 of 2: %v", err)
	}
	if f, err := t.Probe(x.Context()); err != nil || f.Details["gpus"] == "" {
		x.Errorf("the probe does not tell of GPUs: %v, %v", f.Details, err)
	}
}

func twoServers(x *exam) {
	other := x.env
	other.Server = "other-" + other.Server
	a, b := x.attach(), x.attachAs(other, x.want)
	mine := x.job("echo mine; sleep 60")
	theirs := mine // the same job id, by a server that knows nothing of the first
	theirs.Key.Server = other.Server
	theirs.Command = "echo theirs; sleep 60"
	theirs.Epoch = 9
	h, g := x.submit(a, mine), compute.Handle{Key: theirs.Key}
	x.logHas(a, h, "mine")
	if p := x.status(b, g).Phase; p != compute.Missing {
		x.Errorf("the other server sees a job of its key: %s", p)
	}
	g = x.submit(b, theirs)
	x.logHas(b, g, "theirs")
	if got := x.log(a, h); got != "mine\n" {
		x.Errorf("log of the first: %q", got)
	}
	if err := b.Cancel(x.Context(), g, 9); err != nil {
		x.Errorf("cancel: %v", err)
	}
	x.canceled(b, g)
	if p := x.status(a, h).Phase; p != compute.Running {
		x.Errorf("after the other server's cancel the job is %s", p)
	}
	if err := b.Release(x.Context(), g, 9); err != nil {
		x.Errorf("release: %v", err)
	}
	x.cancel(a, h) // epoch 1: the other server's epoch is not ours
	x.canceled(a, h)
}
