package keeper

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestWayBackCarriesAndWaitsWhileTheServerIsAway(t *testing.T) {
	r := newRig(t)
	var served atomic.Int32
	r.opts.WayBack = func(key string, conn net.Conn) {
		defer func() { _ = conn.Close() }()
		served.Add(1)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil {
			_, _ = fmt.Fprintf(conn, "%s says %s", key, line)
		}
	}
	r.opts.CA = []byte("-----CA-----\n")
	c, a := r.dialAgent()
	gate := filepath.Join(t.TempDir(), "gate")
	job := Job{
		Env:     map[string]string{"ADDR": "http://" + WayBackAddress + "/x", "CA": CAFile},
		Command: "exec 2>&1; echo begun; until test -e " + gate + "; do sleep 0.02; done; bash -c 'a=${ADDR#http://}; a=${a%/x}; exec 3<>/dev/tcp/${a%:*}/${a#*:}; echo hello >&3; echo asked; cat <&3'; tail -1 $CA",
	}
	submit(t, c, "J1.1", job)
	untilLog(t, r, "J1.1", "begun")
	check(t, a.cmd.Process.Kill())
	<-c.Done()
	check(t, os.WriteFile(gate, nil, 0o600))
	until(t, "the job asks, and there is nobody", func() bool {
		b, err := os.ReadFile(filepath.Join(r.dir("J1.1"), "log"))
		return err == nil && bytes.Contains(b, []byte("asked"))
	})
	c = r.dial()
	x := wait(t, c, "J1.1")
	if string(x.Log) != "begun\nasked\nJ1.1 says hello\n-----CA-----\n" || served.Load() != 1 {
		t.Errorf("%+v %s, served %d", x.Problem, x.Log, served.Load())
	}
}

func TestDialReachesAPortOfARunningJobOnly(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer func() { _ = ln.Close() }()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	port := ln.Addr().(*net.TCPAddr).Port
	c := newRig(t).dial()
	if _, err := c.Dial(t.Context(), "J1.1", port); faultCode(err) != "JobNotRunning" {
		t.Errorf("%v", err)
	}
	submit(t, c, "J1.1", Job{Command: "sleep 300"})
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	conn, err := c.Dial(t.Context(), "J1.1", port)
	check(t, err)
	_, err = conn.Write([]byte("echo"))
	check(t, err)
	_ = conn.Close() // half: the answer still comes
	b, err := io.ReadAll(conn)
	if string(b) != "echo" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	wait(t, c, "J1.1")
}

type firstByte struct {
	at  chan time.Time
	buf bytes.Buffer
}

func (f *firstByte) Write(b []byte) (int, error) {
	select {
	case f.at <- time.Now():
	default:
	}
	return f.buf.Write(b)
}

func TestFollowIsPushed(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	gate := filepath.Join(t.TempDir(), "gate")
	submit(t, c, "J1.1", Job{Command: "mkfifo " + gate + "; echo begun; read x < " + gate + "; echo now; echo later"})
	until(t, "it runs", func() bool { return exists(gate) })
	w := &firstByte{at: make(chan time.Time, 1)}
	done := make(chan error, 1)
	go func() {
		next, err := c.Logs(t.Context(), "J1.1", "", 0, true, w)
		if err == nil && next != int64(w.buf.Len()) {
			err = fmt.Errorf("next is %d", next)
		}
		done <- err
	}()
	<-w.at // it follows
	f, err := os.OpenFile(gate, os.O_WRONLY, 0)
	check(t, err)
	began := time.Now()
	_, err = f.WriteString("go\n")
	check(t, err)
	_ = f.Close()
	if d := (<-w.at).Sub(began); d > 200*time.Millisecond {
		t.Errorf("the first byte came after %s", d)
	}
	check(t, <-done)
	if w.buf.String() != "begun\nnow\nlater\n" {
		t.Errorf("%q", w.buf.String())
	}
}

func TestLogFromAnOffsetAndALargeOne(t *testing.T) {
	c := newRig(t).dial()
	x, log := run(t, c, "J1.1", Job{Command: "seq 1000000"})
	if x.LogSize != int64(len(log)) || x.Log != nil || !strings.HasSuffix(log, "999999\n1000000\n") {
		t.Errorf("%d of %d bytes", len(log), x.LogSize)
	}
	var b bytes.Buffer
	next, err := c.Logs(t.Context(), "J1.1", "", x.LogSize-8, false, &b)
	check(t, err)
	if b.String() != "1000000\n" || next != x.LogSize {
		t.Errorf("%q, next %d", b.String(), next)
	}
}

func TestEndOfContextEndsACallAndNotTheConnection(t *testing.T) {
	c := newRig(t).dial()
	submit(t, c, "J1.1", Job{Command: "sleep 300"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Logs(ctx, "J1.1", "", 0, true, io.Discard); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	until(t, "it runs", func() bool { return status(t, c, "J1.1").Phase == Running })
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	wait(t, c, "J1.1")
}
