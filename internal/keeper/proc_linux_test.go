package keeper

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestTimersOfASupervisorMayBeLateAndThoseOfItsJobMayNot(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	submit(t, c, "J1.1", Job{Command: "cat /proc/self/timerslack_ns; sleep 300"})
	untilLog(t, r, "J1.1", fmt.Sprintln(usualSlack.Nanoseconds()))
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", supervisorOf(t, r, "J1.1")))
	if err != nil {
		t.Skipf("this kernel does not tell the slack of another process: %v", err)
	}
	if got := strings.TrimSpace(string(b)); got != fmt.Sprint(keeperSlack.Nanoseconds()) {
		t.Errorf("a supervisor's slack is %s ns", got)
	}
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	wait(t, c, "J1.1")
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("12 (a) b) c) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 0 0"))
	f.Fuzz(func(_ *testing.T, in []byte) { _, _ = parseStat(1, in) })
}
