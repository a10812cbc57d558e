package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/test/engine"
)

// far is a server, a machine that it reaches over SSH by a line that can be cut, and a folder that jobs and tests share.
type far struct {
	*program
	machine *engine.SSHD
	line    *engine.Proxy
	shared  string
}

func newFar(t *testing.T, extra string) *far {
	t.Helper()
	f := &far{machine: engine.StartSSHD(t, engine.SSHDOptions{Extra: extra}), shared: openFolder(t)}
	f.line = engine.StartProxy(t, f.machine.Addr)
	f.program = started(t, t.TempDir(), "MOORAGE_JOBS_KEEP=60s", "MOORAGE_JOBS_GRACE=1s", "MOORAGE_NO_LOCAL=true")
	f.mustAttach("far", f.machine, f.line.Addr, map[string]any{"slots": 8})
	return f
}

// folder is where the keeper has its files.
func (f *far) folder() string { return filepath.Join(f.machine.Home, ".moorage") }

func (f *far) file(name string) string { return filepath.Join(f.shared, name) }

// open lets the jobs that wait for a gate go on.
func (f *far) open(gate string) {
	f.t.Helper()
	if err := os.WriteFile(f.file(gate), nil, 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// once fails the test unless the job started exactly once.
func (f *far) once(name string) {
	f.t.Helper()
	b, _ := os.ReadFile(f.file(name))
	if n := strings.Count(string(b), "started"); n != 1 {
		f.t.Errorf("job %s started %d times", name, n)
	}
}

// gated is a command that says that it began, works until a gate opens, and leaves a log and an output that can be told.
func (f *far) gated(name, gate string) string {
	return fmt.Sprintf(`echo started >> %s; seq 1 20000; until test -e %s; do sleep 0.02; done; mkdir -p outputs; seq 1 20000 > outputs/numbers.txt; seq 20001 40000`,
		f.file(name), f.file(gate))
}

// whole fails the test unless a gated job ended well, once, with everything that it printed and made.
func (f *far) whole(name string) {
	f.t.Helper()
	f.mustEnd(name, "Completed")
	f.once(name)
	f.mustLog(name, numbers(40000))
	files, err := f.files(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	if files["outputs/numbers.txt"] != numbers(20000) {
		f.t.Errorf("the output of %s has %d bytes", name, len(files["outputs/numbers.txt"]))
	}
}

// trouble is what happens to the line, and how it ends.
type trouble struct {
	name  string
	begin func(f *far)
	end   func(f *far)
}

var troubles = []trouble{
	{"cut", func(f *far) { f.line.Cut() }, func(*far) {}},
	{"gone and back", func(f *far) { f.line.Refuse(true) }, func(f *far) { f.line.Refuse(false) }},
	{"stalled", func(f *far) { f.line.Stall(true) }, func(f *far) { f.line.Stall(false) }},
	{"dead without a sign", func(f *far) { f.line.Stall(true) }, func(f *far) { f.line.Cut(); f.line.Stall(false) }},
	{"slow", func(f *far) { f.line.Slow(100*time.Millisecond, 64<<10) }, func(f *far) { f.line.Slow(0, 0) }},
}

func TestLineThatFailsDuringSubmitLosesAndDoublesNothing(t *testing.T) {
	f := newFar(t, "")
	for i, trouble := range troubles {
		t.Run(trouble.name, func(t *testing.T) {
			names := []string{}
			for j := range 3 { // before, at the moment of, and in the trouble
				name := fmt.Sprintf("submit-%d-%d", i, j)
				if j == 1 {
					trouble.begin(f)
				}
				f.mustSubmit(name, f.gated(name, name+".gate"), on("far"))
				f.open(name + ".gate")
				names = append(names, name)
			}
			until(t, "the server tried, or knows better", func() bool {
				v, err := f.show(t.Context(), names[1])
				return err == nil && (v.State != "Queued" || v.Reason != nil && v.Reason.Code == "ComputeUnhealthy")
			})
			trouble.end(f)
			for _, name := range names {
				f.whole(name)
			}
		})
	}
}

func TestLineThatFailsWhileAJobRunsIsFollowedAndCollectedLosesNothing(t *testing.T) {
	f := newFar(t, "")
	for i, trouble := range troubles {
		t.Run(trouble.name, func(t *testing.T) {
			name := fmt.Sprintf("run-%d", i)
			f.mustSubmit(name, f.gated(name, name+".gate"), on("far"))
			type followed struct {
				log string
				err error
			}
			seen := make(chan followed, 1)
			go func() {
				log, err := f.follow(t.Context(), name, 0)
				seen <- followed{log, err}
			}()
			f.runs(name)
			trouble.begin(f)
			f.open(name + ".gate") // it prints and ends while nobody can see it
			until(t, "the job ends at the machine", func() bool {
				exits, _ := filepath.Glob(filepath.Join(f.folder(), "*", "*", "jobs", f.id(name)+".1", "exit.json"))
				return len(exits) == 1
			})
			trouble.end(f)
			f.whole(name)
			if got := <-seen; got.err != nil || got.log != numbers(40000) {
				t.Errorf("the follower saw %d bytes of %d: %v", len(got.log), len(numbers(40000)), got.err)
			}
		})
	}
}

// id is our own name of a job, which its folder on the machine has.
func (f *far) id(name string) string {
	f.t.Helper()
	v, err := f.show(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	return v.ID
}

// TestDeadLineIsNoticedAndShown: a line that dies without a sign is found out, and the job is shown as what it is until
// it answers again.
func TestDeadLineIsNoticedAndShown(t *testing.T) {
	t.Parallel() // it waits for the server's patience to end
	f := newFar(t, "")
	f.mustSubmit("job", f.gated("job", "gate"), on("far"))
	f.runs("job")
	f.line.Stall(true)
	until(t, "the job is shown as not responding, with a reason", func() bool {
		v, err := f.show(t.Context(), "job")
		return err == nil && v.State == "NotResponding" && v.Reason != nil
	})
	f.open("gate")
	f.line.Cut()
	f.line.Stall(false)
	f.whole("job")
}

func TestLineThatFailsWhileOutputsComeHomeLosesNothing(t *testing.T) {
	f := newFar(t, "")
	// 8 MB at 2 MB/s: the line is cut in the middle of it, more than once.
	f.mustSubmit("big", fmt.Sprintf("echo started >> %s; mkdir -p outputs; head -c 8000000 /dev/zero > outputs/a.bin; echo done", f.file("big")), on("far"))
	f.line.Slow(0, 2<<20)
	begun := func() bool {
		v, _ := f.show(t.Context(), "big")
		return v.State == "Finalizing" || v.terminal()
	}
	until(t, "its files come home", begun)
	f.line.Cut()
	until(t, "the server is back", func() bool { return f.line.Opened() >= 2 })
	f.line.Cut()
	f.line.Slow(0, 0)
	f.mustEnd("big", "Completed")
	f.once("big")
	files, err := f.files(t.Context(), "big")
	if err != nil {
		t.Fatal(err)
	}
	if got := files["outputs/a.bin"]; got != strings.Repeat("\x00", 8000000) {
		t.Errorf("the output has %d bytes", len(got))
	}
}

func TestCancelReachesAJobWhoseLineFailed(t *testing.T) {
	f := newFar(t, "")
	f.mustSubmit("job", fmt.Sprintf("echo started >> %s; setsid sh -c 'echo $$ >> %s; exec sleep 300' & sleep 300", f.file("job"), f.file("pids")), on("far"))
	until(t, "its child runs", func() bool { return len(pidsIn(f.file("pids"))) == 1 })
	f.line.Refuse(true)
	if err := f.cancel(t.Context(), "job"); err != nil {
		t.Fatal(err)
	}
	f.line.Refuse(false)
	f.mustEnd("job", "Canceled")
	for _, pid := range pidsIn(f.file("pids")) {
		if alive(pid) {
			t.Errorf("process %d outlived the cancel", pid)
		}
	}
}

func TestRestartOfSshdDoesNotTouchJobs(t *testing.T) {
	f := newFar(t, "")
	f.mustSubmit("job", f.gated("job", "gate"), on("far"))
	f.runs("job")
	f.machine.Stop(t)
	f.open("gate")
	f.machine.Start(t)
	f.whole("job")
}

func TestKilledAgentChangesNothing(t *testing.T) {
	f := newFar(t, "")
	f.mustSubmit("job", f.gated("job", "gate"), on("far"))
	f.runs("job")
	agents := programs("agent", "--root", f.folder())
	if len(agents) == 0 {
		t.Fatal("no agent was found")
	}
	for _, pid := range agents {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	f.open("gate")
	f.whole("job")
	f.mustSubmit("next", f.gated("next", "gate"), on("far"))
	f.whole("next")
}

func TestKilledSupervisorEndsTheTreeAndTheJobIsLostAndSaysSo(t *testing.T) {
	f := newFar(t, "")
	f.mustSubmit("job", fmt.Sprintf("echo before; setsid sh -c 'echo $$ >> %[1]s; exec sleep 300' & echo $$ >> %[1]s; sleep 300", f.file("pids")), on("far"))
	until(t, "the tree runs", func() bool { return len(pidsIn(f.file("pids"))) == 2 })
	if err := syscall.Kill(supervisor(t, f.folder(), f.id("job")), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	v := f.mustEnd("job", "Failed")
	if v.errorCode() != "SupervisorKilled" || v.Error.Message == "" || v.Error.Mend == "" {
		t.Errorf("it does not say why: %+v", v.Error)
	}
	f.mustLog("job", "before\n")
	for _, pid := range pidsIn(f.file("pids")) {
		if alive(pid) {
			t.Errorf("process %d outlived its supervisor", pid)
		}
	}
}

// TestRestartOfTheMachineLosesJobsAndSaysSo simulates a boot: every process of the user is killed, and the boot id is
// another when sshd is back.
func TestRestartOfTheMachineLosesJobsAndSaysSo(t *testing.T) {
	needRoot(t, "a user of its own for the machine")
	f := newFar(t, "SetEnv MOORAGE_BOOT_ID=first")
	f.mustSubmit("job", fmt.Sprintf("echo started >> %s; echo before; sleep 300", f.file("job")), on("far"))
	f.runs("job")
	id := f.id("job")
	f.line.Refuse(true)
	f.machine.Stop(t)
	for _, pid := range programs(f.folder()) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	_ = syscall.Kill(supervisor(t, f.folder(), id), syscall.SIGKILL)
	config := filepath.Join(filepath.Dir(filepath.Dir(f.machine.KeyFile)), "config")
	b, err := os.ReadFile(config)
	if err == nil {
		err = os.WriteFile(config, []byte(strings.ReplaceAll(string(b), "BOOT_ID=first", "BOOT_ID=second")), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.machine.Start(t)
	f.line.Refuse(false)
	if v := f.mustEnd("job", "Failed"); v.errorCode() != "MachineRestarted" {
		t.Errorf("it does not say why: %+v", v.Error)
	}
	f.mustLog("job", "before\n")
	f.once("job")
	f.mustSubmit("next", "echo works", on("far"))
	f.mustEnd("next", "Completed")
}

// TestMachineThatIsGoneIsSaidAndOtherComputesGoOn: a dead host starves nobody, and its jobs say why they wait.
func TestMachineThatIsGoneIsSaidAndOtherComputesGoOn(t *testing.T) {
	machine := engine.StartSSHD(t, engine.SSHDOptions{})
	line := engine.StartProxy(t, machine.Addr)
	p := started(t, t.TempDir())
	p.mustAttach("far", machine, line.Addr, nil)
	line.Refuse(true)
	p.mustSubmit("waits", "echo late", on("far"))
	until(t, "the job says why it waits", func() bool {
		v, err := p.show(t.Context(), "waits")
		return err == nil && v.Reason != nil && strings.Contains(v.Reason.Error(), "far")
	})
	for i := range 5 {
		name := fmt.Sprintf("near%d", i)
		p.mustSubmit(name, "echo near", on("local"))
		p.mustEnd(name, "Completed")
	}
	line.Refuse(false)
	p.mustEnd("waits", "Completed")
	p.mustLog("waits", "late\n")
}
