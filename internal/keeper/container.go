package keeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// A job with an image runs in containers of the machine's own engine: one for each step of its environment, and one for its
// command. The supervisor stays the owner of the job's life. What it shares with a container is mounted at the same paths, so
// that paths mean the same inside; the network is the machine's, so that the way back is where it is; and the user is the
// login, so that files are the login's. See inside.go for the other side.

// Beside the records of folder.go, a job that had containers has:
//
//	container.json   their names, so that what a killed supervisor left is found
//	contained/N/     where the supervisor and the Nth container meet;  engine.log: what the engine's program said
//	home/            the home of a login that the image does not know
const (
	fileContainer = "container.json"
	dirContained  = "contained"
	dirHome       = "home"
	fileEngineLog = "engine.log"
)

type containerRecord struct {
	Format int      `json:"format"`
	Engine engine   `json:"engine"`
	Env    []string `json:"env"` // of the engine's program, as far as it finds its engine by that
	Names  []string `json:"names"`
}

// engineVariables are those by which the engine's programs find what they need. None is secret.
var engineVariables = []string{
	"PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF",
}

func engineEnv(login []string) []string {
	return slices.DeleteFunc(slices.Clone(login), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains(engineVariables, name)
	})
}

// keeperInside is where the keeper is mounted in a container.
const keeperInside = "/.moorage-keeper"

// box is a container under way.
type box struct {
	engine engine
	login  []string
	name   string
	dir    string // where it and the supervisor meet
	mark   string // of its processes
	tree   *tree  // of the engine's program
	in     *os.File
}

// contain is what a container is made for.
type contain struct {
	inside insideSpec
	mounts []mount
	mark   string
	gpus   []string
	bounds bool // those of the job
}

// newBox starts a container. A name is used once: what a killed supervisor left under it was removed before.
func (s *supervisor) newBox(c contain) (*box, error) {
	e := s.given.Engine
	if e == nil {
		return nil, noEngine()
	}
	var record containerRecord
	if err := readRecord(s.dir, fileContainer, &record); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	n := strconv.Itoa(len(record.Names) + 1)
	b := &box{engine: *e, login: s.given.Login, name: containerName(s.root, s.key, n), dir: filepath.Join(s.dir, dirContained, n), mark: c.mark}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return nil, err
	}
	record = containerRecord{Format: format, Engine: *e, Env: engineEnv(s.given.Login), Names: append(record.Names, b.name)}
	if err := writeRecord(s.dir, fileContainer, record, false); err != nil {
		return nil, err
	}
	c.inside.Home, c.inside.Lock = filepath.Join(s.dir, dirHome), filepath.Join(s.dir, fileLockName)
	give, err := json.Marshal(c.inside)
	if err != nil {
		return nil, err
	}
	return b, b.start(s.containerArgs(b, c), give)
}

// containerName is legal for both engines, and no other job's on this machine.
func containerName(r root, key, n string) string {
	sum := sha256.Sum256([]byte(r.path))
	return "moorage." + key + "." + hex.EncodeToString(sum[:6]) + "." + n
}

// start starts the engine's program, which stays as long as the container, and tells the process inside what to do.
func (b *box) start(args []string, give []byte) error {
	out, err := openFile(filepath.Join(b.dir, fileEngineLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	in, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	b.in = w
	b.tree, err = startTree([]program{{argv: append([]string{b.engine.Path}, args...), env: b.login, in: in, out: out}}, "/", commandAttr())
	if err != nil {
		_ = w.Close()
		return &workspace.Problem{
			Code: "ContainerNotStarted", Message: "the engine's program " + b.engine.Path + " could not be started", Cause: err.Error(), Mend: "run it there by hand",
		}
	}
	go func() { _, _ = w.Write(append(give, '\n')) }() // ends when it is read, or with the program
	return nil
}

// engineSlack is how long an engine may take to end a container whose command has had its grace.
const engineSlack = 5 * time.Second

// wait returns when the container's processes have ended.
func (b *box) wait(stop <-chan struct{}, grace time.Duration) result {
	defer func() { _ = b.in.Close() }()
	asked := false
	select {
	case <-b.tree.ended:
	case <-stop:
		asked = true
		b.end(grace)
	}
	if b.alive() { // the engine's program is gone, and the command is not: the engine went away, or somebody ended the program
		asked = b.outlast(stop, grace) || asked
	}
	b.tidy()
	r := readResult(b.dir)
	if r == nil {
		r = b.untold(asked)
	}
	if r.Asked && !asked && r.Problem == nil {
		r.Problem = stoppedInside()
	}
	return *r
}

func (b *box) alive() bool {
	held, err := lockHeld(filepath.Join(b.dir, fileAlive))
	return err == nil && held
}

// end asks the process inside to end the command, which it does within the grace, and ends the container if it does not.
func (b *box) end(grace time.Duration) {
	b.wish()
	over := time.After(grace + engineSlack)
	select {
	case <-b.tree.ended:
		return
	case <-over:
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		b.kill()
		select {
		case <-b.tree.ended:
			return
		case <-time.After(wait):
		}
	}
}

func (b *box) wish() {
	if f, err := openFile(filepath.Join(b.dir, fileEnd), os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
		_ = f.Close()
	}
	_ = b.in.Close()
}

// kill ends the container by force, by the engine and, should that not answer, by its processes.
func (b *box) kill() {
	ctx, cancel := context.WithTimeout(context.Background(), engineLimit)
	defer cancel()
	_, err := b.engine.ask(ctx, b.login, "rm", "--force", b.name)
	if err != nil && !errors.Is(err, syscall.ECHILD) { // the tree's reaper may have been the one that saw the program end
		_ = endMarked(b.mark)
		_ = b.tree.kill()
	}
}

// outlast waits for a command whose engine's program is gone. It tells whether the command was asked to end.
func (b *box) outlast(stop <-chan struct{}, grace time.Duration) (asked bool) {
	tick := time.NewTicker(insideLook)
	defer tick.Stop()
	var over <-chan time.Time
	for b.alive() {
		select {
		case <-stop:
			asked, stop = true, nil
			b.wish()
			over = time.After(grace + engineSlack)
		case <-over:
			b.kill()
			over = time.After(engineSlack)
		case <-tick.C:
		}
	}
	return asked
}

// tidy waits until the engine has put the container away. What of it is still below this process then, it ends.
func (b *box) tidy() {
	select {
	case <-b.tree.gone:
		return
	case <-time.After(engineSlack):
	}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		_ = endBelow(syscall.SIGKILL, nil)
		select {
		case <-b.tree.gone:
			return
		case <-time.After(wait):
		}
	}
}

// untold is the result of a container whose first process told nothing: it was not started, or killed itself.
func (b *box) untold(asked bool) *result {
	status, said := b.tree.status[0], tail(filepath.Join(b.dir, fileEngineLog), 0)
	r := &result{Asked: asked, Problem: &workspace.Problem{
		Code: "ContainerNotStarted", Message: "the job's container could not be started", Cause: said,
		Mend: "if the engine's words do not tell, run there: " + b.engine.Kind + " run --rm with the same image",
	}}
	if exists(filepath.Join(b.dir, fileAlive)) {
		r.Problem = &workspace.Problem{
			Code: "ContainerKilled", Message: "the job's container was killed, so how the command ended is not known", Cause: said,
			Mend: "look for who ended it: memory that ran out on the machine, the engine, an administrator; then submit the job again",
		}
		if r.Problem.Cause == "" {
			r.Problem.Cause = fmt.Sprintf("%s ended with exit code %d", b.engine.Kind, status.ExitStatus())
		}
	}
	return r
}

// removeContainers removes what is left of a job's containers. An engine that does not answer keeps them.
func removeContainers(dir string) {
	var r containerRecord
	if readRecord(dir, fileContainer, &r) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), engineLimit)
	defer cancel()
	_, _ = r.Engine.ask(ctx, r.Env, append([]string{"rm", "--force"}, r.Names...)...)
}

// startContained starts the job's command in a container.
func (s *supervisor) startContained(text string, ranks []rank) (running, error) {
	dir := filepath.Join(s.dir, dirCode)
	vars := s.variables(s.machineVariables())
	c := contain{
		inside: insideSpec{Command: text, Env: flat(vars), Dir: dir, Grace: s.spec.Job.grace()}, mark: s.mark, bounds: true,
		mounts: []mount{{path: s.dir}},
	}
	if vars["PATH"] == "" {
		c.inside.Path = s.path
	}
	for _, r := range ranks {
		c.inside.Ranks = append(c.inside.Ranks, insideRank{r.vars, r.log})
	}
	if e := s.spec.Job.Environment; e != nil && len(e.Steps) > 0 {
		c.mounts = append(c.mounts, mount{path: s.root.env(e.Hash)})
	}
	for _, in := range s.spec.Job.Inputs {
		if in.Path != "" {
			c.mounts = append(c.mounts, mount{path: in.Path})
		}
	}
	if s.slot != nil {
		c.gpus = s.slot.gpus
	}
	b, err := s.newBox(c)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// machineVariables are those of the login that hold in a container too: how the machine reaches the network, and who it is.
func (s *supervisor) machineVariables() []string {
	var out []string
	for _, v := range s.given.Login {
		name, value, _ := strings.Cut(v, "=")
		switch lower := strings.ToLower(name); {
		case strings.HasSuffix(lower, "_proxy"):
			out = append(out, v)
		case (name == "USER" || name == "LOGNAME") && os.Geteuid() != 0 && value != "":
			out = append(out, v)
		}
	}
	return out
}
