package computetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

func probeTells(x *exam) {
	t := x.attach()
	f, err := t.Probe(x.Context())
	if err != nil {
		x.Fatalf("probe: %v", err)
	}
	if len(f.Identity) == 0 || f.Identity[0] == "" {
		x.Errorf("no identity: %q", f.Identity)
	}
	for _, p := range f.Problems {
		if !p.Warning {
			x.Errorf("a target fit for the exam has a finding in the way: %v", &p)
		}
		if p.Code == "" || p.Message == "" || p.Mend == "" {
			x.Errorf("a finding lacks a code, a message or a mend: %+v", p)
		}
	}
	again, err := x.attach().Probe(x.Context())
	if err != nil {
		x.Fatalf("probe: %v", err)
	}
	if strings.Join(again.Identity, "|") != strings.Join(f.Identity, "|") {
		x.Errorf("two looks at one target give %q and %q", f.Identity, again.Identity)
	}
}

func jobSucceeds(x *exam) {
	t := x.attach()
	h := x.submit(t, x.job("echo one\necho two"))
	s := x.until(t, h, compute.Ended)
	e := s.Exit
	if e.Outcome != compute.Succeeded || e.Code != 0 || e.Signal != "" || e.Problem != nil {
		x.Errorf("exit: %+v", e)
	}
	const want = "one\ntwo\n"
	if got := x.log(t, h); got != want {
		x.Errorf("log %q, wanted %q", got, want)
	}
	if e.Log != nil && string(e.Log) != want {
		x.Errorf("the log that came along is %q", e.Log)
	}
	if e.LogSize != int64(len(want)) || s.LogSize != e.LogSize || e.LogDropped != 0 {
		x.Errorf("sizes of the log: status %d, exit %d, dropped %d", s.LogSize, e.LogSize, e.LogDropped)
	}
	if s.Started.IsZero() || e.Ended.Before(s.Started) || time.Since(e.Ended).Abs() > time.Hour {
		x.Errorf("it began %s and ended %s", s.Started, e.Ended)
	}
	if !x.opts.Limits.NoPeakMemory && x.opts.NoShell == "" && e.PeakMemory <= 0 {
		x.Errorf("peak memory is %d", e.PeakMemory)
	}
}

func stderrIsLogged(x *exam) {
	t := x.attach()
	h, e := x.run(t, x.job("echo out; echo err >&2; echo out2"))
	if got := x.log(t, h); e.Outcome != compute.Succeeded || got != "out\nerr\nout2\n" {
		x.Errorf("%s with log %q", e.Outcome, got)
	}
}

func logFromOffset(x *exam) {
	t := x.attach()
	h, _ := x.run(t, x.job("echo 0123456789"))
	if x.opts.Limits.NoLogOffsets {
		_, err := t.Logs(x.Context(), h, compute.LogQuery{From: 4}, io.Discard)
		x.notSupported(err)
		return
	}
	if got := x.logOf(t, h, compute.LogQuery{From: 4}); got != "456789\n" {
		x.Errorf("from 4: %q", got)
	}
	if got := x.logOf(t, h, compute.LogQuery{From: 11}); got != "" {
		x.Errorf("from the end: %q", got)
	}
	if got := x.logOf(t, h, compute.LogQuery{From: 11, Follow: true}); got != "" {
		x.Errorf("following from the end: %q", got)
	}
}

// growing is a log that another goroutine writes.
type growing struct {
	mu   sync.Mutex
	b    bytes.Buffer
	told chan struct{}
}

func newGrowing() *growing { return &growing{told: make(chan struct{}, 1)} }

func (g *growing) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case g.told <- struct{}{}:
	default:
	}
	return g.b.Write(b)
}

func (g *growing) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.b.String()
}

func logFollowed(x *exam) {
	t := x.attach()
	h := x.submit(t, x.job("echo first\nsleep 5\necho second\nsleep 0.5\necho third"))
	x.begun(t, h)
	g := newGrowing()
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan error, 1)
	wg.Go(func() {
		_, err := t.Logs(x.Context(), h, compute.LogQuery{Follow: true}, g)
		done <- err
	})
	x.eventually("the first line", func() bool { return strings.HasPrefix(g.String(), "first\n") })
	if s := x.status(t, h); s.Phase == compute.Ended {
		x.Error("the first line came only after the end")
	}
	select {
	case err := <-done:
		if err != nil {
			x.Errorf("follow: %v", err)
		}
	case <-time.After(patience):
		x.Fatal("following does not return after the end")
	}
	if got := g.String(); got != "first\nsecond\nthird\n" {
		x.Errorf("followed: %q", got)
	}
	x.succeed(t, h)
}

func bigLog(x *exam) {
	const size = 100_000_000
	t := x.attach()
	h := x.submit(t, x.job("yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c 100000000"))
	sum := sha256.New()
	next, err := t.Logs(x.Context(), h, compute.LogQuery{Follow: true}, sum)
	if err != nil || next != size {
		x.Fatalf("following gave %d bytes of %d: %v", next, size, err)
	}
	want := sha256.New()
	line := []byte("0123456789abcdefghijklmnopqrstuvwxyz\n")
	chunk := bytes.Repeat(line, 1000)
	for n := 0; n < size; n += len(chunk) {
		want.Write(chunk[:min(len(chunk), size-n)])
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != hex.EncodeToString(want.Sum(nil)) {
		x.Error("the log was changed on its way")
	}
	x.succeed(t, h)
	if s := x.status(t, h); s.Exit.LogSize != size || s.Exit.LogDropped != 0 || s.Exit.Log != nil {
		x.Errorf("log size %d, dropped %d, along came %d bytes", s.Exit.LogSize, s.Exit.LogDropped, len(s.Exit.Log))
	}
	if !x.opts.Limits.NoLogOffsets {
		if got := x.logOf(t, h, compute.LogQuery{From: size - 5}); len(got) != 5 {
			x.Errorf("the last 5 bytes: %q", got)
		}
	}
}

func logLimited(x *exam) {
	const limit, size = 1 << 20, 8 << 20
	t := x.attach()
	j := x.job("yes | head -c 8388608; exit 3")
	j.LogLimit = limit
	h, e := x.run(t, j)
	if e.Code != 3 {
		x.Errorf("a full log changes the exit: %s", x.describe(t, h, e))
	}
	if e.LogSize > limit || e.LogSize+e.LogDropped < size {
		x.Errorf("limit %d: %d bytes are kept and %d were dropped, of %d", limit, e.LogSize, e.LogDropped, size)
	}
	if got := int64(len(x.log(t, h))); got != e.LogSize {
		x.Errorf("the log has %d bytes, and the exit says %d", got, e.LogSize)
	}
}

func exitCodeKept(x *exam) {
	t := x.attach()
	h, e := x.run(t, x.job("echo before\nexit 7"))
	if e.Outcome != compute.Failed || e.Code != 7 || e.Problem == nil || e.Problem.Mend == "" {
		x.Errorf("exit: %+v", e)
	}
	if got := x.log(t, h); got != "before\n" {
		x.Errorf("log: %q", got)
	}
}

func signalKept(x *exam) {
	t := x.attach()
	_, e := x.run(t, x.job("kill -9 $$"))
	if e.Outcome != compute.Failed || e.Signal != "KILL" || e.Code != -1 || e.Problem == nil {
		x.Errorf("exit: %+v", e)
	}
}

func survivesRestart(x *exam) {
	t := x.attach()
	h := x.submit(t, x.job("echo before\nsleep 4\necho after\nexit 5"))
	x.begun(t, h)
	if err := t.Close(); err != nil {
		x.Errorf("close: %v", err)
	}
	if _, err := t.Status(x.Context(), []compute.Handle{h}); err == nil {
		x.Error("a closed target answers")
	}
	t = x.attach()
	h.Ref = "" // the caller may have died before it wrote the ref down
	if p := x.status(t, h).Phase; p != compute.Running && p != compute.Ended {
		x.Errorf("after the restart the job is %s", p)
	}
	if e := x.end(t, h); e.Code != 5 {
		x.Errorf("exit: %s", x.describe(t, h, e))
	}
	if got := x.log(t, h); got != "before\nafter\n" {
		x.Errorf("log: %q", got)
	}
}

func manyJobs(x *exam) {
	t := x.attach()
	handles := make([]compute.Handle, x.opts.Many)
	var wg sync.WaitGroup
	next := make(chan int)
	begun := time.Now()
	for range 8 {
		wg.Go(func() {
			for i := range next {
				j := x.job("echo done\nexit 0")
				handles[i] = compute.Handle{Key: j.Key}
				ref, err := t.Submit(x.Context(), j)
				if err != nil {
					x.Errorf("submit: %v", err)
				}
				handles[i].Ref = ref
			}
		})
	}
	for i := range handles {
		next <- i
	}
	close(next)
	wg.Wait()
	handed := time.Since(begun)
	var slowest time.Duration
	for {
		asked := time.Now()
		all, err := t.Status(x.Context(), handles)
		slowest = max(slowest, time.Since(asked))
		if err != nil || len(all) != len(handles) {
			x.Fatalf("status of %d jobs: %d answers, %v", len(handles), len(all), err)
		}
		ended := 0
		for i, s := range all {
			if s.Key != handles[i].Key {
				x.Fatalf("answer %d is about %v and not %v", i, s.Key, handles[i].Key)
			}
			if s.Phase == compute.Ended {
				ended++
				if s.Exit.Outcome != compute.Succeeded {
					x.Fatalf("job %d: %s", i, x.describe(t, handles[i], *s.Exit))
				}
			}
		}
		if ended == len(handles) {
			break
		}
		if time.Since(begun) > time.Duration(len(handles))*time.Second/4+patience {
			x.Fatalf("%d of %d jobs ended", ended, len(handles))
		}
		time.Sleep(100 * time.Millisecond)
	}
	x.Logf("%d jobs: handed over in %s, all ended after %s, slowest status of all %s", len(handles), handed.Round(time.Millisecond),
		time.Since(begun).Round(time.Millisecond), slowest.Round(time.Millisecond))
	if limit := 5 * time.Second; slowest > limit {
		x.Errorf("one status of %d jobs took %s", len(handles), slowest)
	}
}
