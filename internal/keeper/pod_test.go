package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// podProcess is a first process over a folder of the test's, which is not yet there.
func podProcess(t *testing.T) *firstProcess {
	t.Helper()
	root := t.TempDir()
	return &firstProcess{dir: filepath.Join(root, "pod", "job", "jobs", "j.1"), key: "j.1", message: filepath.Join(root, "message"), linger: time.Minute}
}

// spoken waits until the message says a phase.
func (p *firstProcess) spoken(t *testing.T, phase Phase) Status {
	t.Helper()
	var s Status
	until(t, "the message says "+string(phase), func() bool {
		b, _ := os.ReadFile(p.message)
		var ok bool
		s, ok = PodStatus(string(b))
		return ok && s.Phase == phase
	})
	return s
}

func (p *firstProcess) start() (signals chan os.Signal, code chan int) {
	signals, code = make(chan os.Signal, 1), make(chan int, 1)
	go func() { code <- p.run(signals) }() // ends with the test at the latest
	return signals, code
}

// ended puts the folder of a job that is over in its place, in one step.
func (p *firstProcess) ended(t *testing.T, x Exit) {
	t.Helper()
	made := filepath.Join(t.TempDir(), "made")
	err := errors.Join(
		os.MkdirAll(made, 0o700), os.MkdirAll(filepath.Dir(p.dir), 0o700),
		writeRecord(made, fileStarted, startRecord{Format: format, Boot: bootID(), Mark: "m", Started: time.Now().UTC()}, false),
		writeRecord(made, fileExit, exitRecord{Format: format, Exit: x}, false), os.Rename(made, p.dir),
	)
	if err != nil {
		t.Fatal(err)
	}
}

func ends(t *testing.T, code chan int, want int) {
	t.Helper()
	select {
	case got := <-code:
		if got != want {
			t.Errorf("it ended with %d, wanted %d", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestFirstProcessOfAPodTellsHowTheJobEndedAndStaysForWhatItLeft(t *testing.T) {
	p := podProcess(t)
	signals, code := p.start()
	p.spoken(t, Waiting)
	p.ended(t, Exit{Outcome: Failed, Code: 7, LogSize: 3, Log: []byte("abc"), Ended: time.Now().UTC()})
	s := p.spoken(t, Ended)
	if s.Exit.Code != 7 || s.Exit.Log != nil || s.Started.IsZero() {
		t.Errorf("the message says %+v", s)
	}
	select {
	case got := <-code:
		t.Fatalf("it did not stay for the log, and ended with %d", got)
	case <-time.After(100 * time.Millisecond):
	}
	signals <- syscall.SIGTERM
	ends(t, code, 7)
}

func TestFirstProcessOfAPodEndsAtOnceWhenNothingIsLeft(t *testing.T) {
	p := podProcess(t)
	_, code := p.start()
	p.ended(t, Exit{Outcome: Succeeded, Ended: time.Now().UTC()})
	ends(t, code, 0)
}

func TestFirstProcessOfAPodEndsWhenItsTimeIsOver(t *testing.T) {
	p := podProcess(t)
	p.linger = 20 * time.Millisecond
	_, code := p.start()
	p.ended(t, Exit{Outcome: Failed, Code: -1, Signal: "KILL", Files: true, Ended: time.Now().UTC()})
	ends(t, code, 137)
}

func TestFirstProcessOfAPodThatIsToldToEndBeforeItsJobSaysThatItHadNone(t *testing.T) {
	p := podProcess(t)
	signals, code := p.start()
	p.spoken(t, Waiting)
	signals <- syscall.SIGTERM
	ends(t, code, 143)
	p.spoken(t, Waiting)
}

func TestFirstProcessOfAPodThatCannotSpeakTakesNoJob(t *testing.T) {
	p := podProcess(t)
	p.message = filepath.Join(p.message, "not", "there")
	_, code := p.start()
	ends(t, code, 1)
}

func TestMessageOfAPodFitsWhateverTheProblem(t *testing.T) {
	long := strings.Repeat("ü", 3*mostMessage)
	for _, s := range []Status{
		{Key: "j.1", Phase: Preparing, Reason: &workspace.Problem{Code: "X", Message: long}},
		{Key: "j.1", Phase: Ended, Exit: &Exit{Outcome: Failed, Code: 3, Log: []byte(long), Problem: &workspace.Problem{Code: "X", Message: long, Cause: "because " + long, Mend: long}}},
	} {
		text := podText(s)
		got, ok := PodStatus(text)
		if len(text) > mostMessage || !ok || got.Phase != s.Phase {
			t.Errorf("%d bytes: %.200s", len(text), text)
		}
		if s.Exit != nil && (got.Exit.Code != 3 || !strings.HasPrefix(got.Exit.Problem.Cause, "because ü") || len(s.Exit.Log) != len(long)) {
			t.Errorf("the end is %+v", got.Exit)
		}
	}
	for _, text := range []string{"", "exec format error", `{"format":99,"status":{"phase":"ended"}}`, "{}"} {
		if _, ok := PodStatus(text); ok {
			t.Errorf("%q counts as a keeper's", text)
		}
	}
}

func TestExitCodeOfAPodIsTheCommands(t *testing.T) {
	for want, x := range map[int]Exit{
		0:   {Outcome: Succeeded},
		3:   {Outcome: Failed, Code: 3},
		1:   {Outcome: Failed, Code: -1},
		143: {Outcome: Canceled, Code: -1, Signal: "TERM"},
		9:   {Outcome: Canceled, Code: 9},
	} {
		if got := exitCode(x); got != want {
			t.Errorf("%+v gives %d, wanted %d", x, got, want)
		}
	}
	if exitCode(Exit{Outcome: Canceled, Code: 0}) == 0 {
		t.Error("a job that was ended counts as a success")
	}
}
