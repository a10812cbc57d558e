package computetest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

// mark makes a command that leaves a trace each time that it runs, and a count of the traces.
func (x *exam) mark(rest string) (command string, count func(t compute.Target, h compute.Handle) int) {
	if x.opts.Shared == "" || x.opts.NoShell != "" {
		return "echo mark\n" + rest, func(t compute.Target, h compute.Handle) int {
			if x.status(t, h).Phase == compute.Missing {
				return 0
			}
			return strings.Count(x.log(t, h), "mark")
		}
	}
	file := filepath.Join(x.opts.Shared, "marks-"+x.env.Clock.NewID())
	return "echo mark >>'" + file + "'\n" + rest, func(compute.Target, compute.Handle) int {
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			x.Fatal(err)
		}
		return strings.Count(string(b), "mark")
	}
}

func submitTwice(x *exam) {
	t := x.attach()
	command, count := x.mark("sleep 0.2")
	j := x.job(command)
	h := x.submit(t, j)
	if again := x.submit(t, j); again != h {
		x.Errorf("the second submit gave %+v and the first %+v", again, h)
	}
	x.begun(t, h)
	x.submit(t, j)
	x.succeed(t, h)
	if n := count(t, h); n != 1 {
		x.Errorf("it ran %d times", n)
	}
}

func submitConcurrently(x *exam) {
	a, b := x.attach(), x.attach()
	command, count := x.mark("sleep 0.1")
	j := x.job(command)
	refs := make([]compute.Ref, 8)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range refs {
		t := a
		if i%2 == 1 {
			t = b
		}
		wg.Go(func() { refs[i], errs[i] = t.Submit(x.Context(), j) })
	}
	wg.Wait()
	h := compute.Handle{Key: j.Key, Ref: refs[0]}
	x.endAfterwards(a, h)
	for i := range refs {
		if errs[i] != nil || refs[i] != refs[0] {
			x.Errorf("submit %d: ref %q, %v", i, refs[i], errs[i])
		}
	}
	x.succeed(a, h)
	if n := count(a, h); n != 1 {
		x.Errorf("it ran %d times", n)
	}
}

func submitAfterEnd(x *exam) {
	t := x.attach()
	command, count := x.mark("exit 4")
	j := x.job(command)
	h, before := x.run(t, j)
	x.submit(t, j)
	s := x.status(t, h)
	if s.Phase != compute.Ended || s.Exit.Code != 4 || !s.Exit.Ended.Equal(before.Ended) {
		x.Errorf("after another submit: %+v", s)
	}
	if n := count(t, h); n != 1 {
		x.Errorf("it ran %d times", n)
	}
	// Another attempt has another key, and is another job.
	j.Key.Attempt = 2
	if h2, e := x.run(t, j); e.Code != 4 || h2 == h {
		x.Errorf("the second attempt: %+v", e)
	}
	if x.opts.Shared != "" && x.opts.NoShell == "" {
		if n := count(t, h); n != 2 {
			x.Errorf("two attempts ran %d times", n)
		}
	}
}

func submitAfterCancel(x *exam) {
	t := x.attach()
	command, count := x.mark("sleep 30")
	j := x.job(command)
	h := x.submit(t, j)
	x.until(t, h, compute.Running)
	x.cancel(t, h)
	x.canceled(t, h)
	before := count(t, h)
	if _, err := t.Submit(x.Context(), j); err != nil {
		x.Errorf("submit after cancel: %v", err)
	}
	x.canceled(t, h)
	if n := count(t, h); n != before {
		x.Errorf("it ran again: %d traces, before %d", n, before)
	}
}

func cancelBeforeSubmit(x *exam) {
	t := x.attach()
	command, count := x.mark("sleep 6")
	j := x.job(command)
	h := compute.Handle{Key: j.Key}
	x.cancel(t, h)
	if _, err := t.Submit(x.Context(), j); err != nil && !x.opts.Limits.NoFence {
		x.Errorf("submit after cancel: %v", err)
	}
	if x.opts.Limits.NoFence { // the limit, asserted: the job starts, and a second look ends it
		x.endAfterwards(t, h)
		x.until(t, h, compute.Running)
		x.cancel(t, h)
	}
	x.canceled(t, h)
	if n := count(t, h); n != 0 && !x.opts.Limits.NoFence {
		x.Errorf("it ran %d times", n)
	}
}

// canceled waits for the end of a job and checks that it was a cancel.
func (x *exam) canceled(t compute.Target, h compute.Handle) compute.Exit {
	x.Helper()
	e := x.end(t, h)
	if e.Outcome != compute.Canceled {
		x.Errorf("wanted a cancel: %s", x.describe(t, h, e))
	}
	return e
}

func staleSubmit(x *exam) {
	t := x.attach()
	if x.opts.Limits.NoEpoch {
		x.Skip("a limit of the kind: NoEpoch")
	}
	newer := x.job("exit 0")
	newer.Epoch = 5
	x.run(t, newer)
	command, count := x.mark("exit 0")
	j := x.job(command)
	j.Epoch = 4
	for _, t := range []compute.Target{t, x.attach()} {
		_, err := t.Submit(x.Context(), j)
		if !errors.Is(err, compute.ErrStale) {
			x.Errorf("a submit with epoch 4 after 5: %v", err)
		}
	}
	h := compute.Handle{Key: j.Key}
	if p := x.status(t, h).Phase; p != compute.Missing {
		x.Errorf("the stale job is %s", p)
	}
	j.Epoch = 5
	x.succeed(t, x.submit(t, j))
	if n := count(t, h); n != 1 {
		x.Errorf("it ran %d times", n)
	}
}

func staleSubmitAfterRelease(x *exam) {
	t := x.attach()
	command, count := x.mark("exit 0")
	j := x.job(command)
	h, _ := x.run(t, j)
	ran := count(t, h)
	if err := t.Release(x.Context(), h, 2); err != nil { // the new holder of the lease cleans up
		x.Fatalf("release: %v", err)
	}
	_, err := t.Submit(x.Context(), j)
	if x.opts.Limits.NoEpoch {
		x.endAfterwards(t, h)
		if err != nil {
			x.Errorf("the limit NoEpoch says that it starts: %v", err)
		}
		return
	}
	if !errors.Is(err, compute.ErrStale) {
		x.Errorf("a submit by the old holder after release: %v", err)
	}
	if p := x.status(t, h).Phase; p != compute.Missing {
		x.Errorf("the released job is %s", p)
	}
	if x.opts.Shared != "" && x.opts.NoShell == "" {
		if n := count(t, h); n != ran {
			x.Errorf("it ran again")
		}
	}
}

func staleCancel(x *exam) {
	if x.opts.Limits.NoEpoch {
		x.Skip("a limit of the kind: NoEpoch")
	}
	t := x.attach()
	j := x.job("sleep 30")
	j.Epoch = 3
	h := x.submit(t, j)
	x.until(t, h, compute.Running)
	if err := t.Cancel(x.Context(), h, 2); !errors.Is(err, compute.ErrStale) {
		x.Errorf("a cancel with epoch 2 after 3: %v", err)
	}
	if err := t.Release(x.Context(), h, 2); err == nil {
		x.Error("a release with epoch 2 after 3 of a running job went through")
	}
	time.Sleep(50 * time.Millisecond) // nothing is to happen, so there is nothing to wait for
	if p := x.status(t, h).Phase; p != compute.Running {
		x.Errorf("the job is %s", p)
	}
	if err := t.Cancel(x.Context(), h, 3); err != nil {
		x.Errorf("cancel: %v", err)
	}
	x.canceled(t, h)
}

func releasedIsMissing(x *exam) {
	t := x.attach()
	h, _ := x.run(t, x.job("echo x"))
	for range 2 {
		if err := t.Release(x.Context(), h, 1); err != nil {
			x.Fatalf("release: %v", err)
		}
		if p := x.status(t, h).Phase; p != compute.Missing {
			x.Errorf("after release the job is %s", p)
		}
	}
}

func unknownIsMissing(x *exam) {
	t := x.attach()
	known, _ := x.run(t, x.job("echo x"))
	h := compute.Handle{Key: x.job("").Key}
	all, err := t.Status(x.Context(), []compute.Handle{h, known, h})
	if err != nil || len(all) != 3 {
		x.Fatalf("status: %d answers, %v", len(all), err)
	}
	if all[0].Phase != compute.Missing || all[1].Phase != compute.Ended || all[2].Phase != compute.Missing {
		x.Errorf("phases: %s, %s, %s", all[0].Phase, all[1].Phase, all[2].Phase)
	}
	if _, err := t.Logs(x.Context(), h, compute.LogQuery{}, newGrowing()); !errors.Is(err, compute.ErrNotFound) {
		x.Errorf("its log: %v", err)
	}
	if err := t.Collect(x.Context(), h, &Home{}); !errors.Is(err, compute.ErrNotFound) {
		x.Errorf("its outputs: %v", err)
	}
	if err := t.Release(x.Context(), h, 1); err != nil {
		x.Errorf("its release: %v", err)
	}
	none, err := t.Status(x.Context(), nil)
	if err != nil || len(none) != 0 {
		x.Errorf("status of nothing: %v, %v", none, err)
	}
}

// notSupported checks that a limit is said as such.
func (x *exam) notSupported(err error) {
	x.Helper()
	if !errors.Is(err, compute.ErrNotSupported) {
		x.Errorf("a limit of the kind should be said with ErrNotSupported: %v", err)
	}
}
