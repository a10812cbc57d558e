package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// pss is the memory of a process in bytes, shared pages in proportion.
func pss(t testing.TB, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Skip("the kernel does not tell the memory of a process")
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	t.Fatal("no Pss")
	return 0
}

// TestSlowAndIdleClientsHoldNothingUp: connections that say nothing, headers and bodies that trickle in, and answers
// that nobody reads cost little memory, are cut off, and others are served meanwhile.
func TestSlowAndIdleClientsHoldNothingUp(t *testing.T) {
	t.Parallel() // it waits a minute for the server's patience to end
	p := started(t, t.TempDir())
	p.mustSubmit("log", "seq 1 3000000", on("local"))
	p.mustEnd("log", "Completed")
	before := pss(t, p.cmd.Process.Pid)

	const idle, slow = 200, 50
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	open := func(text string) net.Conn {
		c := p.dial()
		conns = append(conns, c)
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		return c
	}
	auth := "Host: localhost\r\nAuthorization: Bearer " + p.token + "\r\n"
	for range idle {
		c := open("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("%q %v", line, err)
		}
	}
	var headers, bodies, strangers, readers []net.Conn
	for range slow {
		headers = append(headers, open("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "))
		bodies = append(bodies, open("PUT "+workspacePath+"/jobs/slow"+apiVersion+" HTTP/1.1\r\n"+auth+"Content-Type: application/json\r\nContent-Length: 60000000\r\n\r\n{\"properties\":"))
		strangers = append(strangers, open("PUT "+workspacePath+"/jobs/slow"+apiVersion+" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"))
		readers = append(readers, open("GET "+native+"/jobs/log/log HTTP/1.1\r\n"+auth+"\r\n"))
	}
	begun := time.Now()
	for i := range 20 {
		if _, err := p.call(t.Context(), "GET", native+"/jobs", nil, nil); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("meanwhile%d", i)
		p.mustSubmit(name, "true", on("local"))
		p.mustEnd(name, "Completed")
	}
	t.Logf("20 jobs beside %d slow clients took %s", idle+4*slow, time.Since(begun).Round(time.Millisecond))
	during := pss(t, p.cmd.Process.Pid)
	if grown := during - before; grown > 100<<20 {
		t.Errorf("%d slow clients cost %d MB", idle+4*slow, grown>>20)
	}
	t.Logf("memory %d MB, with %d slow clients %d MB", before>>20, idle+4*slow, during>>20)

	cut := func(what string, conns []net.Conn, within time.Duration) {
		end := time.Now().Add(within)
		for _, c := range conns {
			_ = c.SetReadDeadline(end)
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a client with %s is not cut off", what)
				return
			}
		}
	}
	cut("slow headers", headers, 20*time.Second)
	cut("a slow body and no token", strangers, 80*time.Second)
	cut("a slow body", bodies, 80*time.Second)
	cut("an unread answer", readers, 80*time.Second)
	if _, err := p.call(t.Context(), "GET", "/healthz", nil, nil); err != nil {
		t.Error(err)
	}
}

// TestLargeBodiesCostBoundedMemory: who has no token makes the server hold nothing, and who has one waits for room.
func TestLargeBodiesCostBoundedMemory(t *testing.T) {
	p := started(t, t.TempDir(), "MOORAGE_NO_LOCAL=true")
	before, highest := pss(t, p.cmd.Process.Pid), int64(0)
	attack := func(token string, want int) {
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				body := io.MultiReader(strings.NewReader(`{"a":"`), zeros(63<<20))
				status, err := p.send(t.Context(), "PUT", workspacePath+"/jobs/j"+apiVersion, token, body, nil)
				if status != want && status != 0 { // 0: the connection was closed while the body was being sent
					t.Errorf("%d %v", status, err)
				}
			})
		}
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		for {
			highest = max(highest, pss(t, p.cmd.Process.Pid))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	attack("wrong", 401)
	if highest-before > 64<<20 {
		t.Errorf("strangers cost %d MB", (highest-before)>>20)
	}
	strangers := highest
	attack(p.token, 400)
	t.Logf("memory %d MB; 16 bodies of 63 MB of strangers: %d MB; of the administrator: %d MB", before>>20, strangers>>20, highest>>20)
	if highest > 1<<30 {
		t.Errorf("16 large bodies cost %d MB", highest>>20)
	}
	if _, err := p.call(t.Context(), "GET", "/healthz", nil, nil); err != nil {
		t.Error(err)
	}
}
