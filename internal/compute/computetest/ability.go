package computetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

func watchTells(x *exam) {
	t := x.attach()
	w, ok := ability[compute.Watcher](t)
	if !ok {
		x.Skip("the kind is no Watcher")
	}
	ctx, stop := context.WithCancel(x.Context())
	var mu sync.Mutex
	var seen []compute.Status
	var wg sync.WaitGroup
	var result error
	wg.Go(func() {
		result = w.Watch(ctx, func(s compute.Status) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, s)
		})
	})
	defer func() {
		stop()
		wg.Wait()
		if result == nil {
			x.Error("watching ended without saying why")
		}
	}()
	told := func(h compute.Handle, phase compute.Phase) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.ContainsFunc(seen, func(s compute.Status) bool { return s.Key == h.Key && s.Phase == phase })
		}
	}
	// Watching begins at some moment after it was asked for: the first job is repeated until one is told of.
	x.eventually("being told of an end", func() bool {
		h, _ := x.run(t, x.job("exit 0"))
		time.Sleep(20 * time.Millisecond)
		return told(h, compute.Ended)()
	})
	h := x.submit(t, x.job("sleep 0.2\nexit 3"))
	x.eventually("being told that it runs", told(h, compute.Running))
	x.eventually("being told that it ended", told(h, compute.Ended))
	mu.Lock()
	defer mu.Unlock()
	for _, s := range seen {
		if s.Key == h.Key && s.Phase == compute.Ended && (s.Exit == nil || s.Exit.Code != 3) {
			x.Errorf("told of the end: %+v", s)
		}
	}
}

// ask is a command that sends a line to the way back and prints the answer. The shell alone cannot connect; bash can.
const ask = `bash -c 'exec 3<>/dev/tcp/${BACK%:*}/${BACK##*:}; echo "question $1" >&3; cat <&3' ask`

// answering serves connections of jobs: one line in, one out.
func answering(x *exam) func(compute.Key, net.Conn) {
	return func(key compute.Key, conn net.Conn) {
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(patience))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			x.Errorf("way back: %v", err)
			return
		}
		_, _ = fmt.Fprintf(conn, "answer to %s: %s", key.Job, line)
	}
}

func wayBackCarries(x *exam) {
	if x.opts.Limits.NoWayBack {
		x.Skip("a limit of the kind: NoWayBack")
	}
	x.onWayBack(answering(x))
	t := x.attach()
	j := x.job(ask + " one; " + ask + " two; echo \"$URI\"")
	j.Env = map[string]string{"BACK": compute.WayBackAddress, "URI": "http://" + compute.WayBackAddress + "/x"}
	h := x.submit(t, j)
	x.succeed(t, h)
	want := fmt.Sprintf("answer to %[1]s: question one\nanswer to %[1]s: question two\nhttp://", h.Key.Job)
	if got := x.log(t, h); !strings.HasPrefix(got, want) || strings.Contains(got, "{{") {
		x.Errorf("log: %q", got)
	}
}

func wayBackWaits(x *exam) {
	if x.opts.Limits.NoWayBack {
		x.Skip("a limit of the kind: NoWayBack")
	}
	t := x.attach()
	j := x.job("echo begun; sleep 1; " + ask + " late")
	j.Env = map[string]string{"BACK": compute.WayBackAddress}
	h := x.submit(t, j)
	x.logHas(t, h, "begun")
	if err := t.Close(); err != nil {
		x.Errorf("close: %v", err)
	}
	// The job asks while nobody is there.
	time.Sleep(1500 * time.Millisecond)
	x.onWayBack(answering(x))
	t = x.attach()
	x.succeed(t, h)
	if got := x.log(t, h); !strings.Contains(got, "question late") {
		x.Errorf("log: %q", got)
	}
}

func dialReaches(x *exam) {
	t := x.attach()
	d, ok := ability[compute.Dialer](t)
	if !ok {
		x.Skip("the kind is no Dialer")
	}
	// A server in the job: whatever the machine has that listens.
	j := x.job(`exec python3 -u -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
print("port", s.getsockname()[1], "end")
c, _ = s.accept(); c.sendall(b"hello " + c.recv(100)); c.close()'`)
	h := x.submit(t, j)
	x.logHas(t, h, "end")
	var port int
	if _, err := fmt.Sscanf(x.log(t, h), "port %d end", &port); err != nil {
		x.Fatalf("log %q: %v", x.log(t, h), err)
	}
	conn, err := d.Dial(x.Context(), h, port)
	if err != nil {
		x.Fatalf("dial: %v", err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("there")); err != nil {
		x.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil || string(b) != "hello there" {
		x.Errorf("got %q, %v", b, err)
	}
	x.succeed(t, h)
	if _, err := d.Dial(x.Context(), h, port); err == nil {
		x.Error("dial to a port that nobody listens on went through")
	}
}

func environmentOnce(x *exam) {
	t := x.attach()
	e := &compute.Environment{
		Hash: "env-" + strings.ToLower(x.env.Clock.NewID()),
		Steps: []compute.Step{
			{Args: []string{"sh", "make.sh", "{{env}}", "{{tool.hello}}"}, Files: map[string]string{
				"make.sh": "set -e\necho making\nmkdir -p \"$1/bin\"\nsleep 0.3\ncp \"$2\" \"$1/bin/exam-hello\"\ndate +%s%N >\"$1/made\"\n",
			}},
		},
		Tools: []compute.Tool{{Name: "hello", Object: x.objects.AddFile([]byte("#!/bin/sh\necho hello from the environment\n"))}},
		Path:  []string{"bin"}, Env: []string{"MADE={{env}}/made"}, Say: "the exam's own way",
	}
	j := x.job("exam-hello; cat \"$MADE\"")
	j.Environment = e
	k := x.job("exam-hello; cat \"$MADE\"")
	k.Environment = e
	a, b := x.submit(t, j), x.submit(t, k)
	x.succeed(t, a)
	x.succeed(t, b)
	first := x.log(t, a)
	if !strings.HasPrefix(first, "hello from the environment\n") {
		x.Errorf("log: %q", first)
	}
	if second := x.log(t, b); second != first {
		x.Errorf("the environment was made twice: %q and %q", first, second)
	}
	prepared := x.logOf(t, a, compute.LogQuery{Stream: "prepare"}) + x.logOf(t, b, compute.LogQuery{Stream: "prepare"})
	if n := strings.Count(prepared, "making\n"); n != 1 {
		x.Errorf("the logs of preparing tell of it %d times:\n%s", n, prepared)
	}
	if !strings.Contains(prepared, e.Say) {
		x.Errorf("the log of preparing does not say which way was taken:\n%s", prepared)
	}
}

func stepFails(x *exam) {
	t := x.attach()
	command, count := x.mark("exit 0")
	j := x.job(command)
	j.Environment = &compute.Environment{
		Hash:  "bad-" + strings.ToLower(x.env.Clock.NewID()),
		Steps: []compute.Step{{Args: []string{"sh", "-c", "echo 'no version of examlib matches 99.9' >&2; exit 3"}}, {Args: []string{"touch", "{{env}}/second"}}},
	}
	h, e := x.run(t, j)
	if e.Outcome != compute.Failed || e.Problem == nil || !strings.Contains(e.Problem.Cause, "no version of examlib matches 99.9") {
		x.Errorf("exit: %s", x.describe(t, h, e))
	}
	if n := count(t, h); n != 0 {
		x.Errorf("the command ran %d times", n)
	}
	if s := x.status(t, h); !s.Started.IsZero() {
		x.Errorf("a command that never ran began at %s", s.Started)
	}
	if got := x.logOf(t, h, compute.LogQuery{Stream: "prepare"}); !strings.Contains(got, "no version of examlib matches 99.9") {
		x.Errorf("log of preparing: %q", got)
	}
}
