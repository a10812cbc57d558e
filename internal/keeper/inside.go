package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// In a container that a supervisor starts, the first process is the keeper too, "keeper inside DIR": it is the parent and
// reaper of all that the command starts there, passes the wish to end on to it, and tells the supervisor outside how it ended.
// The two meet in DIR, a folder of the job that is mounted at the same path:
//
//	alive         locked by the process inside as long as it lives
//	end           made by the supervisor: the command is to end
//	result.json   how it ended, written before the process inside ends
//
// What the command is and what its environment holds comes on standard input, so that no secret is in the container's
// description. The end of standard input is a sign to look: for the wish, or for the end of the supervisor, whose lock on the
// job is then free. An engine that goes away closes standard input too, and alone is no reason to end.
const (
	fileAlive  = "alive"
	fileEnd    = "end"
	fileResult = "result.json"
)

// insideSpec is what the process inside reads, once.
type insideSpec struct {
	Argv    []string      `json:"argv,omitempty"`    // a program and its arguments, or
	Command string        `json:"command,omitempty"` // text for the shell
	Env     []string      `json:"env,omitempty"`     // over the image's own, NAME=value
	Path    []string      `json:"path,omitempty"`    // before the image's PATH
	Dir     string        `json:"dir"`
	Home    string        `json:"home"` // made and used where the image has no home for this login
	Lock    string        `json:"lock"` // of the supervisor
	Ranks   []insideRank  `json:"ranks"`
	Grace   time.Duration `json:"grace"`
}

type insideRank struct {
	Env []string `json:"env,omitempty"`
	Log string   `json:"log"`
}

type resultRecord struct {
	Format int    `json:"format"`
	Result result `json:"result"`
}

// insideLook is how often the process inside looks whether its supervisor is there, once it has been told to look.
const insideLook = 250 * time.Millisecond

// inside is the whole life of the first process. It ends with 0 when it could tell how the command ended.
func inside(dir string) int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	alive, err := takeLock(filepath.Join(dir, fileAlive), exclusive, false)
	if err == nil && alive == nil {
		err = errors.New("the folder is another's")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "keeper: inside:", err)
		return 1
	}
	defer alive.release()
	var x insideSpec
	if err := json.NewDecoder(os.Stdin).Decode(&x); err != nil {
		fmt.Fprintln(os.Stderr, "keeper: inside: what the supervisor gives:", err)
		return 1
	}
	if err := writeRecord(dir, fileResult, resultRecord{Format: format, Result: x.run(dir, signals)}, false); err != nil {
		fmt.Fprintln(os.Stderr, "keeper: inside:", err)
		return 1
	}
	return 0
}

func (x insideSpec) run(dir string, signals <-chan os.Signal) result {
	_ = becomeReaper() // the first process is one in any case
	t, err := x.start()
	if err != nil {
		return result{Problem: notStarted(err)}
	}
	stop, over := make(chan struct{}), make(chan struct{})
	var ears sync.WaitGroup
	ears.Go(func() { x.listen(dir, signals, stop, over) })
	r := t.wait(stop, x.Grace)
	close(over)
	ears.Wait()
	return r
}

// listen closes stop when the command is to end.
func (x insideSpec) listen(dir string, signals <-chan os.Signal, stop, over chan struct{}) {
	look := make(chan struct{})
	go func() { // ends with standard input, at the latest with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(look)
	}()
	var tick <-chan time.Time
	for {
		select {
		case <-over:
			return
		case <-signals: // by the engine, or by a person
			close(stop)
			return
		case <-look:
			timer := time.NewTicker(insideLook)
			defer timer.Stop()
			look, tick = nil, timer.C
		case <-tick:
		}
		if held, err := lockHeld(x.Lock); exists(filepath.Join(dir, fileEnd)) || err == nil && !held {
			close(stop)
			return
		}
	}
}

// start starts the command, once for each rank.
func (x insideSpec) start() (*tree, error) {
	env := os.Environ()
	if len(x.Path) > 0 {
		env = overlay(env, []string{"PATH=" + prefixed(x.Path, lookup(env, "PATH"))})
	}
	if home := lookup(env, "HOME"); home == "" || home == "/" || !writable(home) {
		if err := os.MkdirAll(x.Home, 0o700); err != nil {
			return nil, err
		}
		env = overlay(env, []string{"HOME=" + x.Home})
	}
	env = overlay(env, x.Env)
	var programs []program
	for _, r := range x.Ranks {
		out, err := openFile(r.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		defer func() { _ = out.Close() }()
		p := program{argv: slices.Clone(x.Argv), env: overlay(env, r.Env), out: out}
		if len(p.argv) == 0 {
			p.argv = commandLine(x.Command, p.env)
		} else {
			p.argv[0] = lookPath(p.env, p.argv[0])
		}
		programs = append(programs, p)
	}
	return startTree(programs, x.Dir, commandAttr())
}

func writable(dir string) bool {
	f, err := os.CreateTemp(dir, ".moorage-")
	if err != nil {
		return false
	}
	_ = f.Close()
	return os.Remove(f.Name()) == nil
}

// readResult is how the command in a container ended; nil if it did not tell.
func readResult(dir string) *result {
	var r resultRecord
	if readRecord(dir, fileResult, &r) != nil {
		return nil
	}
	return &r.Result
}

// stoppedInside is the problem of a container that was asked to end by somebody else than its supervisor.
func stoppedInside() *workspace.Problem {
	return &workspace.Problem{
		Code: "ContainerStopped", Message: "the job's container was asked to end by the engine or by somebody on the target", Cause: "it got a signal",
		Mend: "submit the job again; a restart of the engine is the usual reason",
	}
}
