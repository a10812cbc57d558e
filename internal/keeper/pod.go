package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// In a pod the keeper is the container's first process, "keeper pod DIR LINGER", and outlives the job's command. Agents come
// and go beside it, "keeper pod-agent FOLDER", and one of them starts the job's supervisor. What the first process adds:
//
//   - It is the parent of orphans, and passes on SIGTERM, by which the cluster ends pods.
//   - It keeps the job's status in the file that the cluster shows as the container's termination message, so that an end is
//     known when the pod is over.
//   - It stays for a while after the job, so that log and outputs can be fetched, and then ends as the command did.

// PodMessage is the file of a container's termination message, by Kubernetes' default.
const PodMessage = "/dev/termination-log"

// mostMessage is how many bytes of a termination message Kubernetes keeps.
const mostMessage = 4096

// podLook is how often the first process looks at the job's folder when nothing tells it to.
const podLook = 2 * time.Second

// farewell is how long the first process stays although nothing is left to fetch.
const farewell = 300 * time.Millisecond

// podMessage is the content of the file.
type podMessage struct {
	Format int    `json:"format"`
	Status Status `json:"status"`
}

// PodStatus reads a termination message. It is false when the message is not a keeper's: the container ended before.
func PodStatus(message string) (Status, bool) {
	var m podMessage
	if err := json.Unmarshal([]byte(message), &m); err != nil || m.Format < 1 || m.Format > format {
		return Status{}, false
	}
	return m.Status, true
}

// pod is the first process. Its exit code is the command's, 128 and the signal's number when a signal ended it, and 1 when
// there was none to take.
func pod(args []string) int {
	if len(args) != 2 {
		return usage()
	}
	seconds, err := strconv.Atoi(args[1])
	if err != nil || seconds < 0 {
		return usage()
	}
	p := &firstProcess{dir: args[0], key: filepath.Base(args[0]), message: PodMessage, linger: time.Duration(seconds) * time.Second}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	return p.run(signals)
}

// podAgent is an agent whose jobs get the container's environment: profiles of a login shell would undo what the image sets.
func podAgent(argv []string, folder string) int {
	if err := relax(); err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
	}
	if exe, err := os.Executable(); err == nil && len(argv) > 0 {
		argv = append([]string{exe}, argv[1:]...)
	}
	err := RunAgent(context.Background(), os.Stdin, os.Stdout, AgentOptions{Folder: folder, Self: argv, Plain: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, "keeper:", err)
		return 1
	}
	return 0
}

type firstProcess struct {
	dir     string // of the job
	key     string
	message string // path
	linger  time.Duration

	asked bool // to end
	told  string
}

func (p *firstProcess) run(signals <-chan os.Signal) int {
	// Whoever reads the message takes silence for a container that never had the job.
	if err := p.tell(Status{Key: p.key, Phase: Waiting}); err != nil {
		fmt.Fprintln(os.Stderr, "keeper: pod: the termination message:", err)
		return 1
	}
	s, ok := p.await(signals)
	if !ok {
		return 128 + int(syscall.SIGTERM)
	}
	switch {
	case p.asked:
	case p.leaves(s):
		p.stay(signals)
	default:
		time.Sleep(farewell) // an agent that tells of the end ends with this process
	}
	return exitCode(*s.Exit)
}

// await waits for the job's end, and is false when the process is asked to end and there is no job.
func (p *firstProcess) await(signals <-chan os.Signal) (Status, bool) {
	notes := newNotifier()
	defer notes.close()
	var told <-chan struct{}
	tick := time.NewTicker(podLook)
	defer tick.Stop()
	for {
		if told == nil && exists(p.dir) {
			var stop func()
			told, stop = notes.watch(p.dir)
			defer stop()
		}
		s, err := statusOf(p.dir, p.key)
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, "keeper: pod:", err)
		case s.Phase == Ended:
			p.say(s)
			return s, true
		case s.Phase == Missing && p.asked:
			return s, false
		case s.Phase != Missing:
			p.say(s)
		}
		wait := tick.C
		if told == nil {
			wait = time.After(50 * time.Millisecond)
		}
		select {
		case sig := <-signals:
			p.hear(sig)
		case <-told:
		case <-wait:
		}
	}
}

// hear reaps orphans, and passes the wish to end on to the supervisor, which ends the command's tree with the job's grace.
func (p *firstProcess) hear(sig os.Signal) {
	if sig == syscall.SIGCHLD {
		reapAll()
		return
	}
	p.asked = true
	if err := signalSupervisor(p.dir, syscall.SIGTERM); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
		fmt.Fprintln(os.Stderr, "keeper: pod:", err)
	}
}

// reapAll takes the ends of all children that have ended.
func reapAll() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}

// stay waits until the pod is taken away or nobody came for long. When the folder is gone there is nothing to wait for.
func (p *firstProcess) stay(signals <-chan os.Signal) {
	over := time.After(p.linger)
	tick := time.NewTicker(podLook)
	defer tick.Stop()
	for exists(p.dir) {
		select {
		case sig := <-signals:
			if sig != syscall.SIGCHLD {
				return
			}
			reapAll()
		case <-tick.C:
		case <-over:
			return
		}
	}
}

// leaves tells whether there is something to fetch that the message does not hold.
func (p *firstProcess) leaves(s Status) bool {
	x := s.Exit
	return x.Files || x.LogSize > 0 || fileSize(filepath.Join(p.dir, filePrepare)) > 0
}

// say writes the message as well as can be: whoever cannot read it asks an agent.
func (p *firstProcess) say(s Status) {
	if err := p.tell(s); err != nil {
		fmt.Fprintln(os.Stderr, "keeper: pod: the termination message:", err)
	}
}

// tell writes the message, if it changed.
func (p *firstProcess) tell(s Status) error {
	s.LogSize = 0
	text := podText(s)
	if text == p.told {
		return nil
	}
	p.told = text
	return os.WriteFile(p.message, []byte(text), 0o600)
}

// podText renders a status so that it fits: without the log, and with shorter words if it must be.
func podText(s Status) string {
	if s.Exit != nil {
		x := *s.Exit
		x.Log = nil
		if x.Problem != nil {
			y := *x.Problem
			x.Problem = &y
		}
		s.Exit = &x
	}
	for most := mostMessage / 2; ; most /= 2 {
		b, err := json.Marshal(podMessage{Format: format, Status: s})
		if err != nil {
			return ""
		}
		if len(b) <= mostMessage || most == 0 {
			return string(b)
		}
		if s.Reason = nil; s.Exit != nil && s.Exit.Problem != nil {
			y := s.Exit.Problem
			y.Message, y.Cause, y.Mend = shorter(y.Message, most), shorter(y.Cause, most), shorter(y.Mend, most)
		}
	}
}

// shorter cuts a text to at most n bytes, and never inside a character.
func shorter(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}

// exitCode is the shell's rendering of an end.
func exitCode(x Exit) int {
	if x.Code >= 0 && x.Code < 256 && (x.Code > 0 || x.Outcome == Succeeded) {
		return x.Code
	}
	for n := 1; n < 65; n++ {
		if x.Signal != "" && signalName(syscall.Signal(n)) == x.Signal {
			return 128 + n
		}
	}
	return 1
}
