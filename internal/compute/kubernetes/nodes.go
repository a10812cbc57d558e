package kubernetes

import (
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

// progress is the order of a job's life on a node.
var progress = map[compute.Phase]int{compute.Missing: 0, compute.Waiting: 1, compute.Preparing: 2, compute.Running: 3, compute.Ended: 4}

// joined is how a job on several nodes is: as its slowest node, until all have ended. The first node that failed says how it
// ended; the others were canceled because of it.
func joined(parts []compute.Status) compute.Status {
	started := false
	for _, s := range parts {
		started = started || s.Phase == compute.Running || s.Phase == compute.Ended
	}
	slowest := parts[0]
	for i, s := range parts {
		if started && s.Phase == compute.Missing { // its pod is over, and the job cannot begin anew
			s.Phase, s.Exit = compute.Ended, &compute.Exit{Outcome: compute.Lost, Code: -1, Problem: s.Reason}
			s.Reason = nil
			parts[i] = s
		}
		if i == 0 || progress[s.Phase] < progress[slowest.Phase] {
			slowest = s
		}
	}
	out := slowest
	out.Started, out.LogSize = parts[0].Started, parts[0].LogSize
	switch {
	case slowest.Phase == compute.Ended:
		out.Exit = firstFailure(parts)
		return out
	case started && progress[slowest.Phase] < progress[compute.Running]:
		out.Phase, out.Reason = compute.Running, nil // a node that has ended or is late does not take it back
	}
	return out
}

func firstFailure(parts []compute.Status) *compute.Exit {
	x := *parts[0].Exit
	var last time.Time
	var dropped int64
	rank := func(e *compute.Exit) int {
		switch e.Outcome {
		case compute.Succeeded:
			return 0
		case compute.Canceled:
			return 1
		case compute.Failed, compute.TimedOut, compute.Lost:
		}
		return 2
	}
	peak, files := int64(0), false
	for _, s := range parts {
		e := s.Exit
		if r := rank(e) - rank(&x); r > 0 || r == 0 && r != rank(&x) && e.Ended.Before(x.Ended) {
			x = *e
		}
		if e.Ended.After(last) {
			last = e.Ended
		}
		peak, files, dropped = max(peak, e.PeakMemory), files || e.Files, dropped+e.LogDropped
	}
	first := parts[0].Exit
	x.Ended, x.PeakMemory, x.LogDropped = last, peak, dropped
	x.LogSize, x.Log = first.LogSize, first.Log
	x.Files = files || anyLog(parts[1:])
	return &x
}

// anyLog tells whether a node beside the first has printed anything, which comes home as a file.
func anyLog(parts []compute.Status) bool {
	for _, s := range parts {
		if s.Exit.LogSize > 0 {
			return true
		}
	}
	return false
}
