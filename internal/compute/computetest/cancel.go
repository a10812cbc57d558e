package computetest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

func cancelQueued(x *exam) {
	t := x.attach()
	first := x.submit(t, x.job("sleep 60"))
	x.until(t, first, compute.Running)
	command, count := x.mark("exit 0")
	h := x.submit(t, x.job(command))
	x.until(t, h, compute.Waiting)
	x.cancel(t, h)
	x.canceled(t, h)
	if n := count(t, h); n != 0 {
		x.Errorf("a job that was ended in the queue ran %d times", n)
	}
	if p := x.status(t, first).Phase; p != compute.Running {
		x.Errorf("the other job is %s", p)
	}
	x.cancel(t, first)
	x.canceled(t, first)
}

func cancelPreparing(x *exam) {
	t := x.attach()
	command, count := x.mark("exit 0")
	j := x.job(command)
	j.Environment = &compute.Environment{Hash: "slow-" + strings.ToLower(x.env.Clock.NewID()), Steps: []compute.Step{{Args: []string{"sleep", "60"}}}}
	h := x.submit(t, j)
	x.until(t, h, compute.Preparing)
	x.cancel(t, h)
	begun := time.Now()
	x.canceled(t, h)
	if took := time.Since(begun); took > 15*time.Second {
		x.Errorf("it took %s", took)
	}
	if n := count(t, h); n != 0 {
		x.Errorf("the command ran %d times", n)
	}
}

func cancelRunning(x *exam) {
	t := x.attach()
	h := x.submit(t, x.job("echo begun\nsleep 60"))
	x.logHas(t, h, "begun")
	x.cancel(t, h)
	e := x.canceled(t, h)
	if e.Code == 0 {
		x.Errorf("exit: %+v", e)
	}
	if got := x.log(t, h); !strings.HasPrefix(got, "begun\n") {
		x.Errorf("the log of a cancelled job: %q", got)
	}
}

func cancelTwice(x *exam) {
	t := x.attach()
	h := x.submit(t, x.job("sleep 60"))
	x.until(t, h, compute.Running)
	x.cancel(t, h)
	x.cancel(t, h)
	x.canceled(t, h)
	x.cancel(t, h)
	x.canceled(t, h)
	over, e := x.run(t, x.job("exit 6"))
	x.cancel(t, over)
	if again := x.end(t, over); again.Outcome != compute.Failed || again.Code != 6 || !again.Ended.Equal(e.Ended) {
		x.Errorf("a cancel after the end changed it: %+v", again)
	}
}

// withText lists the processes of this machine whose command line has a text.
func withText(text string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(text)) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

// family is a command whose processes flee: children in sessions of their own, and grandchildren whose parents are gone.
// Each has the text in its command line.
func family(text string) string {
	one := "sh -c 'trap \"\" HUP; sleep 600; : " + text + "'"
	return "setsid " + one + " & (setsid " + one + " &) ; (" + one + " &) ; nohup " + one + " >/dev/null 2>&1 &\n"
}

func cancelEndsTree(x *exam) {
	t := x.attach()
	text := "family-" + x.env.Clock.NewID()
	h := x.submit(t, x.job(family(text)+"echo begun; wait; sleep 600"))
	x.logHas(t, h, "begun")
	x.eventually("the family", func() bool { return len(withText(text)) >= 4 })
	x.cancel(t, h)
	x.canceled(t, h)
	if left := withText(text); len(left) > 0 {
		x.Errorf("after the end there are still the processes %v", left)
	}
}

func endEndsRest(x *exam) {
	t := x.attach()
	text := "family-" + x.env.Clock.NewID()
	h, e := x.run(t, x.job(family(text)+"exit 3"))
	if e.Outcome != compute.Failed || e.Code != 3 {
		x.Errorf("exit: %s", x.describe(t, h, e))
	}
	if left := withText(text); len(left) > 0 {
		x.Errorf("after the end there are still the processes %v", left)
	}
}

func graceIsGiven(x *exam) {
	t := x.attach()
	j := x.job("trap 'echo tidied; exit 9' TERM\necho begun\nwhile :; do sleep 0.05; done")
	j.Grace = 20 * time.Second
	h := x.submit(t, j)
	x.logHas(t, h, "begun")
	begun := time.Now()
	x.cancel(t, h)
	x.canceled(t, h)
	if took := time.Since(begun); took > 10*time.Second {
		x.Errorf("a job that ends when asked took %s", took)
	}
	if got := x.log(t, h); !strings.Contains(got, "tidied") {
		x.Errorf("the job was not asked: %q", got)
	}
}

func graceEnds(x *exam) {
	t := x.attach()
	j := x.job("trap '' TERM INT HUP\necho begun\nwhile :; do sleep 0.05; done")
	j.Grace = 500 * time.Millisecond
	h := x.submit(t, j)
	x.logHas(t, h, "begun")
	begun := time.Now()
	x.cancel(t, h)
	x.canceled(t, h)
	if took := time.Since(begun); took < j.Grace || took > 10*time.Second {
		x.Errorf("with a grace of %s it took %s", j.Grace, took)
	}
}

func timeoutEnds(x *exam) {
	t := x.attach()
	j := x.job("echo begun\nsleep 60")
	j.Timeout = time.Second
	h := x.submit(t, j)
	s := x.until(t, h, compute.Ended)
	e := s.Exit
	if e.Outcome != compute.TimedOut || e.Problem == nil || e.Problem.Mend == "" {
		x.Errorf("exit: %s", x.describe(t, h, *e))
	}
	if ran := e.Ended.Sub(s.Started); ran < j.Timeout || ran > j.Timeout+15*time.Second {
		x.Errorf("with a timeout of %s it ran %s", j.Timeout, ran)
	}
	quick := x.job("exit 0")
	quick.Timeout = time.Minute
	x.succeed(t, x.submit(t, quick))
}
