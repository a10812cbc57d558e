package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/test/engine"
)

// kills is how often the sweep kills the server; make soak raises it.
func kills() int {
	if n, err := strconv.Atoi(os.Getenv("MOORAGE_KILLS")); err == nil && n > 0 {
		return n
	}
	return 100
}

// promised is a job that the server acknowledged, and how it must end.
type promised struct {
	name    string
	states  []string // any of these
	exit    int      // -1: none
	log     string   // whole
	outputs map[string]string
}

// script is one sort of job in the sweep. Each first tells that it was started. $PIDS is a file for numbers of processes that
// must be gone in the end.
type script struct {
	command string
	promise promised
	code    bool // with a snapshot
	cancel  bool
}

var scripts = []script{
	{command: `echo hello`, promise: promised{states: []string{"Completed"}, log: "hello\n"}},
	{command: `cat code.txt; exit 7`, promise: promised{states: []string{"Failed"}, exit: 7, log: "the code\n"}, code: true},
	{command: `seq 1 5000`, promise: promised{states: []string{"Completed"}, log: numbers(5000)}},
	{
		command: `mkdir -p outputs/deep; echo model > outputs/model.txt; seq 1 5000 > "outputs/deep/ü 1.txt"; echo done`,
		promise: promised{states: []string{"Completed"}, log: "done\n", outputs: map[string]string{"outputs/model.txt": "model\n", "outputs/deep/ü 1.txt": numbers(5000)}},
	},
	{command: `sleep 0.5; echo slept`, promise: promised{states: []string{"Completed"}, log: "slept\n"}},
	{
		command: `setsid sh -c 'echo $$ >> $PIDS; exec sleep 300' & echo $$ >> $PIDS; sleep 300`,
		promise: promised{states: []string{"Canceled"}, exit: -1}, cancel: true,
	},
}

func numbers(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		b.WriteString(strconv.Itoa(i) + "\n")
	}
	return b.String()
}

// TestEveryAcknowledgedJobEndsExactlyOnce kills the server at every point between two side effects, and at random
// moments, while jobs are submitted, prepared, run, and are cancelled and collected, and then holds every acknowledged
// job to its promise.
func TestEveryAcknowledgedJobEndsExactlyOnce(t *testing.T) {
	all := databases()
	for _, db := range all {
		t.Run(db.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			s := &sweep{t: t, env: db.fresh(t), kills: (kills() + len(all) - 1) / len(all), compute: "local"}
			s.run()
		})
	}
	t.Run("over SSH", func(t *testing.T) {
		t.Parallel()
		machine := engine.StartSSHD(t, engine.SSHDOptions{})
		s := &sweep{t: t, kills: max(kills()/5, 2*len(fault.All())), compute: "far"}
		s.prepare = func(p *program) { p.mustAttach("far", machine, machine.Addr, map[string]any{"slots": 4}) }
		s.run()
	})
}

// sweep is one run of kills and what it promised on the way.
type sweep struct {
	t       *testing.T
	env     []string
	kills   int
	compute string
	prepare func(p *program) // at the first start
	marks   marks
	reach   time.Duration // within it a round comes to the point at which the server is killed; 0: 6 s

	data string
	code string // codeId of a snapshot

	mu           sync.Mutex
	all          []*promised
	toBeCanceled []string // by name: those whose cancel nobody acknowledged yet
}

func (s *sweep) run() {
	t := s.t
	s.data = t.TempDir()
	if s.marks == nil {
		s.marks = folderOfMarks(openFolder(t))
	}
	// An ended job is released while the sweep still looks, and a killed server's leases end soon.
	s.env = append(s.env, "MOORAGE_JOBS_KEEP=300ms", "MOORAGE_JOBS_LEASE=1s", "MOORAGE_JOBS_GRACE=2s")
	p := started(t, s.data, s.env...)
	if s.prepare != nil {
		s.prepare(p)
	}
	var err error
	if s.code, err = p.upload(t.Context(), "code.txt", "the code\n"); err != nil {
		t.Fatal(err)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2)) // the same sweep each time
	points := fault.All()
	tried, hit := map[fault.Point]int{}, map[fault.Point]int{}
	random := 0
	for k := range s.kills {
		at := fault.Point("")
		if k%4 != 3 { // every fourth kill is at a random moment
			at = points[(k-k/4)%len(points)]
			tried[at]++
		}
		if s.round(k, at, rnd) {
			hit[at]++
		} else {
			random++
		}
	}
	var said strings.Builder
	for _, at := range points {
		fmt.Fprintf(&said, " %s=%d/%d", at, hit[at], tried[at])
		if tried[at] > 0 && hit[at] == 0 && s.reach == 0 { // on a busy cluster a job may take longer to run than a round lasts
			t.Errorf("none of %d kills at %s hit it", tried[at], at)
		}
	}
	lost, doubled := s.check(started(t, s.data, s.env...))
	fmt.Printf("%s: lost=%d doubled=%d of %d, %d kills (at random %d;%s)\n", t.Name(), lost, doubled, len(s.all), s.kills, random, said.String())
}

// round starts the server, uses it, and kills it: at a point, or at a random moment. It tells whether the point was hit.
func (s *sweep) round(k int, at fault.Point, rnd *rand.Rand) bool {
	env := s.env
	moment := time.Duration(100+rnd.IntN(1900)) * time.Millisecond // the first second of a job included
	if at != "" {
		env = append(env[:len(env):len(env)], fmt.Sprintf("MOORAGE_FAULT=%s:%d", at, 1+rnd.IntN(2)))
		if at == fault.CancelSent { // there is one in a round
			env[len(env)-1] = "MOORAGE_FAULT=" + string(at) + ":1"
		}
		moment = cmp.Or(s.reach, 6*time.Second)
	}
	p := start(s.t, s.data, env...)
	if p.url == "" {
		if !p.crashed() {
			s.t.Fatalf("the server does not start:\n%s", p.output)
		}
		return true
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), moment+4*time.Second)
	defer cancel()
	var clients sync.WaitGroup
	left := slices.Clone(s.toBeCanceled)
	clients.Go(func() { s.cancel(ctx, p, left) })
	for c := range 3 {
		clients.Go(func() { s.client(ctx, p, k, c, at == fault.CancelSent || k%2 == 0) })
	}
	select {
	case <-p.ended:
	case <-time.After(moment):
	}
	p.kill()
	cancel()
	clients.Wait()
	return p.crashed()
}

// client submits jobs and cancels some, late when they have begun, until the server is gone. What is acknowledged is
// promised.
func (s *sweep) client(ctx context.Context, p *program, k, c int, late bool) {
	for i := range 2 {
		sort := scripts[(2*k+c+3*i)%len(scripts)]
		name := fmt.Sprintf("j%d-%d-%d", k, c, i)
		more := on(s.compute)
		more["environmentVariables"] = s.marks.variables(name)
		if sort.code {
			more["codeId"] = s.code
		}
		if p.submit(ctx, name, s.marks.command()+"; "+sort.command, more) != nil { // not acknowledged: nothing is promised
			if sort.cancel { // but it may be there, and hold a slot
				s.mu.Lock()
				s.toBeCanceled = append(s.toBeCanceled, name)
				s.mu.Unlock()
			}
			return
		}
		promise := sort.promise
		promise.name = name
		s.mu.Lock()
		s.all = append(s.all, &promise)
		if sort.cancel {
			s.toBeCanceled = append(s.toBeCanceled, name)
		}
		s.mu.Unlock()
		if !sort.cancel {
			continue
		}
		for late && ctx.Err() == nil && !p.gone() {
			if v, err := p.show(ctx, name); err == nil && (v.State == "Running" || v.terminal()) {
				break
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		s.cancel(ctx, p, []string{name})
	}
}

// cancel cancels jobs until that is acknowledged or the server is gone.
func (s *sweep) cancel(ctx context.Context, p *program, names []string) {
	for _, name := range names {
		for {
			err := p.cancel(ctx, name)
			if r, ok := errors.AsType[*refusal](err); err == nil || ok && r.status == 404 {
				break
			}
			if ctx.Err() != nil || p.gone() {
				return
			}
		}
		s.mu.Lock()
		s.toBeCanceled = slices.DeleteFunc(s.toBeCanceled, func(n string) bool { return n == name })
		s.mu.Unlock()
	}
}

// check holds every acknowledged job to its promise and counts those that were lost or started twice.
func (s *sweep) check(p *program) (lost, doubled int) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	s.cancel(ctx, p, slices.Clone(s.toBeCanceled))
	for _, want := range s.all {
		v, err := p.wait(ctx, want.name)
		if err != nil {
			s.t.Errorf("lost %s: %v", want.name, err)
			lost++
			continue
		}
		n := s.marks.starts(want.name)
		if n > 1 {
			s.t.Errorf("doubled %s: it started %d times", want.name, n)
			doubled++
		}
		if bad := s.broken(ctx, p, want, v, n); bad != "" {
			s.t.Errorf("lost %s: %s", want.name, bad)
			lost++
		}
	}
	return lost, doubled
}

func (s *sweep) broken(ctx context.Context, p *program, want *promised, v view, starts int) string {
	ok := false
	for _, state := range want.states {
		ok = ok || state == v.State
	}
	if !ok {
		return fmt.Sprintf("ended %s, wanted %v: %v", v.State, want.states, v.Error)
	}
	if want.exit >= 0 && (v.ExitCode == nil || *v.ExitCode != want.exit || starts != 1) {
		return fmt.Sprintf("exit code %v after %d starts, wanted %d after one", v.ExitCode, starts, want.exit)
	}
	got, err := p.log(ctx, want.name)
	if err != nil {
		return err.Error()
	}
	if got != want.log {
		return fmt.Sprintf("log has %d bytes, wanted %d", len(got), len(want.log))
	}
	if want.outputs != nil {
		files, err := p.files(ctx, want.name)
		if err != nil {
			return err.Error()
		}
		for name, content := range want.outputs {
			if files[name] != content {
				return fmt.Sprintf("output %s has %d bytes at home, wanted %d", name, len(files[name]), len(content))
			}
		}
		if len(files) != len(want.outputs) {
			return fmt.Sprintf("%d files are home, wanted %d", len(files), len(want.outputs))
		}
	}
	return s.marks.left(want.name)
}

// marks are where jobs of a sweep tell that they were started.
type marks interface {
	command() string                         // tells it
	variables(name string) map[string]string // of the job
	starts(name string) int
	left(name string) string // what of the job is still there, in words
}

// folderOfMarks is for jobs on this machine: a file to which each start of a job adds a line.
type folderOfMarks string

func (f folderOfMarks) command() string { return `echo started >> "$MARK"` }

func (f folderOfMarks) variables(name string) map[string]string {
	mark := filepath.Join(string(f), name)
	return map[string]string{"MARK": mark, "PIDS": mark + ".pids"}
}

func (f folderOfMarks) starts(name string) int {
	b, _ := os.ReadFile(filepath.Join(string(f), name)) // a job that never started has none
	return strings.Count(string(b), "started")
}

func (f folderOfMarks) left(name string) string {
	mark := filepath.Join(string(f), name)
	for _, pid := range pidsIn(mark + ".pids") {
		if aliveWith(pid, mark) {
			return fmt.Sprintf("its process %d is alive", pid)
		}
	}
	return ""
}
