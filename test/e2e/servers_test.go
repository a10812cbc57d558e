package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/internal/store/storetest"
	"github.com/moorage-ml/moorage/test/engine"
)

// pair is what two servers share: a database, a master key, a folder of bytes, and a machine that both may hold.
type pair struct {
	t       *testing.T
	env     []string
	data    [2]string
	server  [2]*program
	machine *engine.SSHD
	shared  string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	d := &pair{t: t, machine: engine.StartSSHD(t, engine.SSHDOptions{}), shared: openFolder(t)}
	d.env = []string{
		"MOORAGE_DATABASE=" + storetest.StartPostgres(t).Fresh(t), "MOORAGE_BLOBS=" + t.TempDir(),
		"MOORAGE_JOBS_KEEP=300ms", "MOORAGE_MASTER_KEY=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "MOORAGE_JOBS_LEASE=1s", "MOORAGE_JOBS_GRACE=1s",
	}
	for i := range d.server {
		d.data[i] = t.TempDir()
		d.server[i] = started(t, d.data[i], d.env...)
	}
	d.server[0].mustAttach("far", d.machine, d.machine.Addr, map[string]any{"slots": 8})
	return d
}

func (d *pair) file(name string) string { return filepath.Join(d.shared, name) }

// command starts, says so, and ends when the gate opens.
func (d *pair) command(name, gate string) string {
	return fmt.Sprintf("echo started >> %s; echo first; until test -e %s; do sleep 0.05; done; mkdir -p outputs; echo %s > outputs/o; echo last", d.file(name), d.file(gate), name)
}

// well fails the test unless a job of command ended well, once, as any of the servers tells.
func (d *pair) well(p *program, name string) {
	d.t.Helper()
	p.mustEnd(name, "Completed")
	p.mustLog(name, "first\nlast\n")
	files, err := p.files(d.t.Context(), name)
	if err != nil || files["outputs/o"] != name+"\n" {
		d.t.Errorf("the output of %s is %q: %v", name, files["outputs/o"], err)
	}
	(&far{program: p, shared: d.shared}).once(name)
}

func (d *pair) open(gate string) { (&far{program: d.server[0], shared: d.shared}).open(gate) }

func TestTwoServersShareComputesAndJobs(t *testing.T) {
	d := newPair(t)
	var names []string
	for i := range 8 {
		name := fmt.Sprintf("job%d", i)
		d.server[i%2].mustSubmit(name, d.command(name, "gate"), on([]string{"far", "local"}[i/2%2]))
		names = append(names, name)
	}
	logs := make(chan string, 2) // of a job on the one machine that can be held by one server only, asked of both
	for _, p := range d.server {
		go func() {
			log, err := p.follow(t.Context(), "job0", 0)
			if err != nil {
				log = err.Error()
			}
			logs <- log
		}()
	}
	d.server[0].runs("job0")
	d.server[1].runs("job0")
	d.open("gate")
	for i, name := range names {
		d.well(d.server[(i+1)%2], name) // asked of the one that did not take it
	}
	for range d.server {
		if log := <-logs; log != "first\nlast\n" {
			t.Errorf("a follower saw %q", log)
		}
	}
	d.server[0].mustSubmit("unwanted", "echo first; sleep 300", on("far"))
	d.server[1].runs("unwanted")
	if err := d.server[1].cancel(t.Context(), "unwanted"); err != nil {
		t.Fatal(err)
	}
	d.server[0].mustEnd("unwanted", "Canceled")
}

func TestOtherServerTakesOverFromAKilledOne(t *testing.T) {
	d := newPair(t)
	for round := range 4 {
		dies, lives := round%2, 1-round%2
		gate := fmt.Sprintf("gate%d", round)
		var names []string
		for i := range 6 {
			name := fmt.Sprintf("job%d-%d", round, i)
			d.server[i%2].mustSubmit(name, d.command(name, gate), on([]string{"far", "local"}[i/2%2]))
			names = append(names, name)
		}
		d.server[dies].runs(names[0])
		d.server[dies].kill()
		d.open(gate)
		for _, name := range names {
			d.well(d.server[lives], name)
		}
		d.server[dies] = started(t, d.data[dies], d.env...)
	}
}

// TestPausedServerChangesNothingWhenItWakes pauses the servers in turn, for longer than a lease, while jobs are
// submitted, run and end, and are collected by the other.
func TestPausedServerChangesNothingWhenItWakes(t *testing.T) {
	d := newPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var (
		mu   sync.Mutex
		all  []string
		tell = func(p *program, name string) view { v, _ := p.show(ctx, name); return v }
	)
	submit := func(p *program, name, gate, compute string) {
		p.mustSubmit(name, d.command(name, gate), on(compute))
		mu.Lock()
		defer mu.Unlock()
		all = append(all, name)
	}
	const pauses = 4
	was := map[string]view{}
	for round := range pauses {
		sleeps, wakes := d.server[round%2], d.server[1-round%2]
		gate := fmt.Sprintf("gate%d", round)
		var names []string
		for i := range 6 {
			name := fmt.Sprintf("job%d-%d", round, i)
			takes := []*program{sleeps, wakes}[i%2]
			if i >= 3 && round%2 == 0 { // it sleeps in the midst of handing over what it took
				sleeps.pause()
				takes = wakes
			}
			submit(takes, name, gate, []string{"far", "local"}[i/3])
			names = append(names, name)
		}
		sleeps.pause()
		d.open(gate)
		for _, name := range names {
			wakes.mustEnd(name, "Completed")
			was[name] = tell(wakes, name)
		}
		sleeps.resume()
		submit(sleeps, fmt.Sprintf("woken%d", round), gate, "far") // it serves, and its jobs run
		wakes.mustEnd(fmt.Sprintf("woken%d", round), "Completed")
	}
	for name, v := range was {
		for _, p := range d.server {
			if now := tell(p, name); now.State != v.State || now.LogSize != v.LogSize || now.ExitCode == nil || *now.ExitCode != 0 {
				t.Errorf("%s was %+v and is %+v", name, v, now)
			}
		}
	}
	for i, name := range all {
		d.well(d.server[i%2], name)
	}
	fmt.Printf("%s: lost=0 doubled=0 of %d, %d pauses\n", t.Name(), len(all), pauses)
}

// TestServerThatStopsAtAnyPointChangesNothingWhenItWakes stops one server exactly between two side effects, until the
// other has ended its jobs and removed them from the machine, and then lets it go on. What it then does comes too late:
// not even a submit of a job that nothing on the machine remembers starts it again.
func TestServerThatStopsAtAnyPointChangesNothingWhenItWakes(t *testing.T) {
	d := newPair(t)
	var all []string
	for round, at := range fault.All() {
		for _, p := range d.server {
			if err := p.stop(); err != nil {
				t.Fatal(err)
			}
		}
		d.server[0] = started(t, d.data[0], append(d.env[:len(d.env):len(d.env)], "MOORAGE_FAULT="+string(at)+":1:stop")...)
		sleeper := d.server[0]
		name := fmt.Sprintf("stop%d", round)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if at == fault.CancelSent {
			sleeper.mustSubmit(name, fmt.Sprintf("echo started >> %s; sleep 300", d.file(name)), on("far"))
			sleeper.runs(name)
			_ = sleeper.cancel(ctx, name)
		} else {
			d.open(name + ".gate")
			go func() { _ = sleeper.submit(ctx, name, d.command(name, name+".gate"), on("far")) }() // its answer may never come
			all = append(all, name)
		}
		until(t, "it stops at "+string(at), func() bool { return state(sleeper.cmd.Process.Pid) == 'T' })
		d.server[1] = started(t, d.data[1], d.env...)
		wakes := d.server[1]
		want := "Completed"
		if at == fault.CancelSent {
			want = "Canceled"
		}
		wakes.mustEnd(name, want)
		folder := filepath.Join(d.machine.Home, ".moorage", "*", "*", "jobs", "*")
		until(t, "nothing is left of it on the machine", func() bool {
			left, err := filepath.Glob(folder)
			return err == nil && len(left) == 0
		})
		was, err := wakes.show(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		sleeper.resume()
		next := fmt.Sprintf("next%d", round)
		d.open(next + ".gate")
		sleeper.mustSubmit(next, d.command(next, next+".gate"), on("far"))
		all = append(all, next)
		wakes.mustEnd(next, "Completed")
		now, err := sleeper.show(ctx, name)
		if err != nil || now.State != was.State || now.LogSize != was.LogSize || now.ID != was.ID {
			t.Errorf("%s: %s was %+v and is %+v, %v", at, name, was, now, err)
		}
		(&far{program: wakes, shared: d.shared}).once(name)
		cancel()
	}
	for _, name := range all {
		d.well(d.server[1], name)
	}
}
