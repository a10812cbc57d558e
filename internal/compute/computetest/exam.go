package computetest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// patience is how long the exam waits for what should take moments.
const patience = 30 * time.Second

// exam is one case under way.
type exam struct {
	*testing.T
	open    Opener
	opts    Options
	want    Want
	env     compute.Env
	objects *Objects

	mu      sync.Mutex
	wayBack func(compute.Key, net.Conn)
}

func newExam(t *testing.T, open Opener, opts Options, w Want) *exam {
	source := clock.System()
	x := &exam{T: t, open: open, opts: opts, want: w, objects: &Objects{}}
	id := strings.ToLower(source.NewID())
	if x.want.Place == "" {
		x.want.Place = id
	}
	x.env = compute.Env{
		Server: "server-" + id, Compute: "compute-" + id, Clock: source, Objects: x.objects,
		Log:     slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		WayBack: x.serveWayBack,
	}
	return x
}

func (x *exam) serveWayBack(key compute.Key, conn net.Conn) {
	x.mu.Lock()
	serve := x.wayBack
	x.mu.Unlock()
	if serve == nil {
		_ = conn.Close()
		return
	}
	serve(key, conn)
}

func (x *exam) onWayBack(serve func(compute.Key, net.Conn)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.wayBack = serve
}

// attach opens the target. It is closed at the end; closing it before is fine.
func (x *exam) attach() compute.Target {
	x.Helper()
	return x.attachAs(x.env, x.want)
}

func (x *exam) attachAs(env compute.Env, w Want) compute.Target {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	t, err := x.open(ctx, env, w)
	if err != nil {
		x.Fatalf("open: %v", err)
	}
	closed := &onceClosed{Target: t}
	x.Cleanup(func() {
		if err := closed.Close(); err != nil {
			x.Errorf("close: %v", err)
		}
	})
	return closed
}

// onceClosed lets a case close a target that the exam closes too.
type onceClosed struct {
	compute.Target
	once sync.Once
	err  error
}

func (c *onceClosed) Close() error {
	c.once.Do(func() { c.err = c.Target.Close() })
	return c.err
}

// ability asks whether the target can do more, behind the exam's own wrapping.
func ability[A any](t compute.Target) (A, bool) {
	if c, ok := t.(*onceClosed); ok {
		t = c.Target
	}
	a, ok := t.(A)
	return a, ok
}

// job makes a job with a key of its own.
func (x *exam) job(command string) compute.Job {
	return compute.Job{
		Key:   compute.Key{Server: x.env.Server, Compute: x.env.Compute, Job: x.env.Clock.NewID(), Attempt: 1},
		Epoch: 1, Name: "exam", Command: command, Grace: 5 * time.Second,
	}
}

// submit hands a job over and sees to it that it does not outlive the case.
func (x *exam) submit(t compute.Target, j compute.Job) compute.Handle {
	x.Helper()
	ref, err := t.Submit(x.Context(), j)
	h := compute.Handle{Key: j.Key, Ref: ref}
	x.endAfterwards(t, h)
	if err != nil {
		x.Fatalf("submit: %v", err)
	}
	return h
}

func (x *exam) endAfterwards(t compute.Target, h compute.Handle) {
	x.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = t.Cancel(ctx, h, 1<<40)
	})
}

// run submits a job and waits for its end.
func (x *exam) run(t compute.Target, j compute.Job) (compute.Handle, compute.Exit) {
	x.Helper()
	h := x.submit(t, j)
	return h, x.end(t, h)
}

func (x *exam) status(t compute.Target, h compute.Handle) compute.Status {
	x.Helper()
	s, err := t.Status(x.Context(), []compute.Handle{h})
	if err != nil {
		x.Fatalf("status: %v", err)
	}
	if len(s) != 1 || s[0].Key != h.Key {
		x.Fatalf("status of %v: got %+v", h.Key, s)
	}
	return s[0]
}

// until waits for a job to be in a phase. An end that comes before is a failure that says how.
func (x *exam) until(t compute.Target, h compute.Handle, phase compute.Phase) compute.Status {
	x.Helper()
	var s compute.Status
	x.eventually("job "+string(phase), func() bool {
		s = x.status(t, h)
		if s.Phase == compute.Ended && phase != compute.Ended {
			x.Fatalf("wanted %s, and the job ended: %s", phase, x.describe(t, h, *s.Exit))
		}
		return s.Phase == phase
	})
	return s
}

// begun waits for a job to run or to be over already: a short one may be seen only then.
func (x *exam) begun(t compute.Target, h compute.Handle) {
	x.Helper()
	x.eventually("the job's beginning", func() bool {
		p := x.status(t, h).Phase
		return p == compute.Running || p == compute.Ended
	})
}

// end waits for a job's end.
func (x *exam) end(t compute.Target, h compute.Handle) compute.Exit {
	x.Helper()
	s := x.until(t, h, compute.Ended)
	if s.Exit == nil {
		x.Fatal("the job ended without an exit record")
	}
	return *s.Exit
}

func (x *exam) succeed(t compute.Target, h compute.Handle) {
	x.Helper()
	if e := x.end(t, h); e.Outcome != compute.Succeeded {
		x.Fatalf("the job did not succeed: %s", x.describe(t, h, e))
	}
}

// describe tells of an end with the last of both logs.
func (x *exam) describe(t compute.Target, h compute.Handle, e compute.Exit) string {
	var b strings.Builder
	b.WriteString(string(e.Outcome))
	if e.Signal != "" {
		b.WriteString(" by " + e.Signal)
	}
	if e.Problem != nil {
		b.WriteString(": " + e.Problem.Error())
	}
	for _, stream := range []string{"prepare", ""} {
		var log bytes.Buffer
		if _, err := t.Logs(x.Context(), h, compute.LogQuery{Stream: stream}, &log); err == nil && log.Len() > 0 {
			b.WriteString("\nlog " + stream + ":\n" + log.String()[max(0, log.Len()-4000):])
		}
	}
	return b.String()
}

// log reads the whole log of a job as it is now.
func (x *exam) log(t compute.Target, h compute.Handle) string {
	x.Helper()
	return x.logOf(t, h, compute.LogQuery{})
}

func (x *exam) logOf(t compute.Target, h compute.Handle, q compute.LogQuery) string {
	x.Helper()
	var b bytes.Buffer
	next, err := t.Logs(x.Context(), h, q, &b)
	if err != nil {
		x.Fatalf("logs: %v", err)
	}
	if want := q.From + int64(b.Len()); next != want {
		x.Errorf("logs from %d: next is %d, wanted %d", q.From, next, want)
	}
	return b.String()
}

// logHas waits until a job's log has a text.
func (x *exam) logHas(t compute.Target, h compute.Handle, text string) {
	x.Helper()
	x.eventually("log with "+text, func() bool { return strings.Contains(x.log(t, h), text) })
}

func (x *exam) cancel(t compute.Target, h compute.Handle) {
	x.Helper()
	if err := t.Cancel(x.Context(), h, 1); err != nil {
		x.Fatalf("cancel: %v", err)
	}
}

func (x *exam) collect(t compute.Target, h compute.Handle, home *Home) {
	x.Helper()
	if err := t.Collect(x.Context(), h, home); err != nil {
		x.Fatalf("collect: %v", err)
	}
}

// eventually polls until ok says true.
func (x *exam) eventually(what string, ok func() bool) {
	x.Helper()
	end := time.Now().Add(patience)
	for wait := 2 * time.Millisecond; !ok(); wait = min(2*wait, 100*time.Millisecond) {
		if time.Now().After(end) {
			x.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(wait)
	}
}

// isProblem checks that an error has something for a person: the thing, and a mend or a cause.
func (x *exam) isProblem(err error) workspace.Problem {
	x.Helper()
	p, ok := asProblem(err)
	if !ok {
		x.Fatalf("no workspace.Problem in %T: %v", err, err)
	}
	if p.Code == "" || p.Message == "" || p.Mend == "" {
		x.Errorf("the problem lacks a code, a message or a mend: %+v", p)
	}
	return p
}

func asProblem(err error) (workspace.Problem, bool) {
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok {
		return workspace.Problem{}, false
	}
	return *p, true
}
