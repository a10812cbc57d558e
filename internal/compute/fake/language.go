package fake

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The language of the fake's jobs: statements on lines of their own, or after a semicolon.
//
//	print TEXT        (or echo) a line of the log
//	sleep SECONDS
//	wait NAME         until Machine.Signal(NAME)
//	write OUTPUT/PATH TEXT
//	                  a file of an output, or of the folders outputs and logs
//	exit CODE
//
// Anything else fails the job with exit code 127. The steps of an environment are in the same words; they run once per
// hash, in phase Preparing, and "exit" other than 0 fails the job there.

// statements splits a command.
func statements(command string) []string {
	return strings.FieldsFunc(command, func(r rune) bool { return r == '\n' || r == ';' })
}

// run is the life of a job from its slot to its end.
func (m *Machine) run(j *job) {
	if problem := m.environment(j); problem != nil || j.ctx.Err() != nil {
		x := exitOf(j, context.Cause(j.ctx), 1)
		if j.ctx.Err() == nil {
			x = compute.Exit{Outcome: compute.Failed, Code: -1, Problem: problem}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.finish(j, x)
		return
	}
	m.mu.Lock()
	m.move(j, compute.Running)
	m.mu.Unlock()
	if j.Timeout > 0 {
		timer := time.AfterFunc(j.Timeout, func() { j.cancel(errTimedOut) })
		defer timer.Stop()
	}
	code := 0
	for _, s := range statements(j.Command) {
		var ended bool
		if code, ended = m.do(j, s, &j.log); ended {
			break
		}
	}
	why := context.Cause(j.ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finish(j, exitOf(j, why, code))
}

// environment makes the job's environment unless it is made.
func (m *Machine) environment(j *job) *workspace.Problem {
	e := j.Environment
	if e == nil {
		return nil
	}
	m.mu.Lock()
	made := m.made[e.Hash]
	m.mu.Unlock()
	for _, step := range e.Steps {
		if made {
			break
		}
		code, ended := m.do(j, strings.Join(step.Args, " "), &j.prepare)
		if ended && code != 0 {
			m.mu.Lock()
			cause := strings.TrimSpace(string(j.prepare))
			m.mu.Unlock()
			return &workspace.Problem{Code: "EnvironmentFailed", Message: "the environment cannot be made", Cause: cause, Mend: "correct its packages"}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made[e.Hash] = m.made[e.Hash] || j.ctx.Err() == nil
	return nil
}

// do runs one statement and tells whether the command is over with it.
func (m *Machine) do(j *job, statement string, log *[]byte) (code int, ended bool) {
	verb, rest, _ := strings.Cut(strings.TrimSpace(statement), " ")
	if j.ctx.Err() != nil {
		return 0, true
	}
	switch verb {
	case "":
	case "print", "echo":
		m.print(j, log, rest)
	case "sleep":
		seconds, err := strconv.ParseFloat(rest, 64)
		if err != nil {
			break
		}
		timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-j.ctx.Done():
			return 0, true
		}
	case "wait":
		select {
		case <-m.channel(rest):
		case <-j.ctx.Done():
			return 0, true
		}
	case "write":
		name, text, _ := strings.Cut(rest, " ")
		output, path, _ := strings.Cut(name, "/")
		m.mu.Lock()
		defer m.mu.Unlock()
		j.files = append(j.files, file{output, compute.File{
			Path: path, Size: int64(len(text)), Mode: 0o644, Modified: time.Now().UnixNano(),
		}, []byte(text)})
	case "exit":
		code, err := strconv.Atoi(rest)
		if err != nil {
			code = 2
		}
		return code, true
	default:
		m.print(j, log, fmt.Sprintf("fake: %s: not found", verb))
		return 127, true
	}
	return 0, false
}

func (m *Machine) print(j *job, log *[]byte, line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*log = append(*log, line+"\n"...)
	close(j.changed)
	j.changed = make(chan struct{})
}
