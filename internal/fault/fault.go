// Package fault names the points between two side effects at which a crash must lose nothing, and lets tests
// end or stop the process exactly there. In production it does nothing. It is used by control, reconcile and test/e2e.
package fault

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Point is a place between two side effects.
type Point string

// The points, in the order of a job's life.
const (
	JobAccepted   Point = "job.accepted"   // the row is durable, the client has no answer yet
	HandingMarked Point = "handing.marked" // the row says that the target may know the job; it does not yet
	JobSubmitted  Point = "job.submitted"  // the target has the job, nothing is written of it
	StatusSeen    Point = "status.seen"    // the target told of a change, nothing is written of it
	CancelSent    Point = "cancel.sent"    // the target has the cancel, nothing is written of it
	ExitSeen      Point = "exit.seen"      // the job ended, nothing of it is home
	FilesHome     Point = "files.home"     // outputs and log are home, the row does not say so
	EndWritten    Point = "end.written"    // the row is terminal, the target still has the folder
	JobReleased   Point = "job.released"   // the target forgot the job, the row does not say so
)

// All lists every point.
func All() []Point {
	return []Point{JobAccepted, HandingMarked, JobSubmitted, StatusSeen, CancelSent, ExitSeen, FilesHome, EndWritten, JobReleased}
}

// Points decides where to crash. The zero value and nil crash nowhere.
type Points struct {
	at    Point
	after atomic.Int64
	stop  bool
}

// Parse reads "POINT:N": crash when POINT is passed for the Nth time. "POINT:N:stop" stops the process there until
// somebody continues it, as SIGSTOP does. Empty text crashes nowhere.
func Parse(text string) (*Points, error) {
	if text == "" {
		return nil, nil
	}
	name, count, _ := strings.Cut(text, ":")
	count, how, _ := strings.Cut(count, ":")
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || how != "" && how != "stop" || !slices.Contains(All(), Point(name)) {
		return nil, fmt.Errorf("fault: %q is not POINT:N or POINT:N:stop", text)
	}
	p := &Points{at: Point(name), stop: how == "stop"}
	p.after.Store(int64(n))
	return p, nil
}

// Pass is called at a point. If this is where to crash, the process ends as by SIGKILL: no deferred call runs. If it is
// where to stop, Pass returns when the process is continued.
func (p *Points) Pass(at Point) {
	if p == nil || p.at != at || p.after.Add(-1) != 0 {
		return
	}
	if p.stop {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
