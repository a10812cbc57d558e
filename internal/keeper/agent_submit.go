package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// submit takes objects, asks for what is missing, and starts the job.
func (a *agent) submit(st *yamux.Stream, r request) {
	in := bufio.NewReaderSize(st, 64<<10)
	for {
		err := a.receive(in) // to its end even when the job is refused: the client reads only after it has sent
		var out answer
		if err == nil {
			out, err = a.admit(r)
		}
		if err != nil {
			out = answer{Fault: asFault(err)}
		}
		if err := writeFrame(st, out); err != nil || len(out.Missing) == 0 {
			return
		}
	}
}

const smallObject = 256 << 10

// receive reads objects up to the mark of their end. Small ones are written by several at once.
func (a *agent) receive(in *bufio.Reader) error {
	objects := a.root.objects()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	fail := func(err error) {
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = err
			}
		}
	}
	type small struct {
		hash  snapshot.Hash
		bytes []byte
	}
	var work chan small
	defer wg.Wait()
	for {
		var o object
		if err := readFrame(in, &o); err != nil {
			fail(err)
			break
		}
		if o.Hash == "" {
			break
		}
		if o.Size < 0 || o.Size > smallObject {
			if err := objects.put(o.Hash, o.Size, in); err != nil {
				fail(err)
			}
			continue
		}
		b := make([]byte, o.Size)
		if _, err := io.ReadFull(in, b); err != nil {
			fail(noEOF(err))
			break
		}
		if work == nil {
			work = make(chan small, 16)
			for range min(4, runtime.NumCPU()) {
				wg.Go(func() {
					for s := range work {
						fail(objects.putBytes(s.hash, s.bytes))
					}
				})
			}
		}
		work <- small{o.Hash, b}
	}
	if work != nil {
		close(work)
	}
	wg.Wait()
	return first
}

// admit starts the job or tells what objects are missing. A job that is known is not started again.
func (a *agent) admit(r request) (answer, error) {
	if err := checkKey(r.Key); err != nil {
		return answer{}, err
	}
	if r.Job == nil {
		return answer{}, fault(Invalid, workspace.Problem{Class: workspace.Invalid, Code: "NoJob", Message: "the request holds no job"})
	}
	if err := checkJob(*r.Job); err != nil {
		return answer{}, err
	}
	gpus, err := a.allGPUs(*r.Job)
	if err != nil {
		return answer{}, err
	}
	// Held until the supervisor is there, so that objects found are not evicted in between.
	keep, err := takeLock(a.root.file("objects.lock"), shared, true)
	if err != nil {
		return answer{}, err
	}
	defer keep.release()
	lock, err := a.fence(r.Epoch)
	if err != nil {
		return answer{}, err
	}
	defer lock.release()
	dir := a.root.job(r.Key)
	if s, err := statusOf(dir, r.Key); err != nil || s.Phase != Missing {
		return answer{Status: &s}, err
	}
	missing, err := a.lacking(*r.Job)
	if err != nil || len(missing) > 0 {
		return answer{Missing: missing}, err
	}
	spec := specRecord{
		Format: format, Job: *r.Job, Boot: bootID(), Slots: a.slots(), GPUs: gpus, HideGPUs: a.scope.HideGPUs, CA: a.scope.CA,
		Accepted: time.Now().UnixMilli(),
	}
	s, err := a.start(dir, r.Key, spec, r.Secrets, r.Password)
	if err == nil && a.scope.Launcher == nil {
		a.spare(dir, r.Job.Code)
	}
	return answer{Status: &s}, err
}

func (a *agent) slots() int {
	if a.scope.Launcher != nil {
		return 0 // the queue allots them
	}
	if a.scope.Slots > 0 {
		return a.scope.Slots
	}
	return runtime.NumCPU()
}

// allGPUs lists the machine's devices if the job or its hiding needs them.
func (a *agent) allGPUs(j Job) ([]string, error) {
	if j.GPUs == 0 {
		return nil, nil
	}
	var all []string
	if n := a.scope.GPUs; n > 0 {
		for i := range n {
			all = append(all, strconv.Itoa(i))
		}
	} else {
		for _, g := range a.gpus() {
			all = append(all, g.index)
		}
	}
	if j.GPUs > len(all) {
		return nil, fault(Invalid, workspace.Problem{
			Class: workspace.Invalid, Code: "NotEnoughGPUs", Message: fmt.Sprintf("the job asks for %d GPUs and the compute has %d", j.GPUs, len(all)),
			Mend: "ask for fewer, or submit to another compute; if the machine has more, look at nvidia-smi there",
		})
	}
	return all, nil
}

// lacking lists the objects that a job needs and the target has not.
func (a *agent) lacking(j Job) ([]snapshot.Hash, error) {
	objects := a.root.objects()
	var out []snapshot.Hash
	for _, tree := range j.roots() {
		a.wholeMu.Lock()
		m, err := objects.missing(tree, a.whole)
		a.wholeMu.Unlock()
		if err != nil {
			return nil, err
		}
		out = append(out, m...)
		if err := objects.touch(tree); err != nil {
			return nil, err
		}
	}
	if j.Environment != nil {
		for _, t := range j.Environment.Tools {
			if !exists(a.root.tool(string(t.Object))) && !objects.has(t.Object) {
				out = append(out, t.Object)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// given is what a supervisor gets on its standard input, once. None of it is ever in a file.
type given struct {
	Spec    *specRecord       `json:"spec,omitempty"` // as in spec.json, from an agent of the same boot; nil: it is read
	Secrets map[string]string `json:"secrets,omitempty"`
	Login   []string          `json:"login"` // NAME=value
	Say     string            `json:"say,omitempty"`
	Self    []string          `json:"self,omitempty"` // how the keeper is started here
	// Of a job with an image: the engine that runs it, or why there is none, and the password of the image's registry.
	Engine   *engine            `json:"engine,omitempty"`
	NoEngine *workspace.Problem `json:"no_engine,omitempty"`
	Password string             `json:"password,omitempty"`

	Place int `json:"place,omitempty"` // in the queue, inherited as placeFD; 0: the supervisor takes one
}

// start makes the job's folder and its supervisor. The lock is taken here and inherited by the supervisor, so there is no
// moment at which a job that is being started looks abandoned, and two submits at once start one.
func (a *agent) start(dir, key string, spec specRecord, secrets map[string]string, password string) (Status, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return Status{}, err
	}
	lock, err := takeLock(filepath.Join(dir, fileLockName), exclusive, false)
	if err != nil {
		return Status{}, err
	}
	if lock == nil {
		return statusOf(dir, key) // another submit is a moment ahead
	}
	defer func() { _ = lock.f.Close() }() // closes, and does not unlock: the supervisor has it too
	for _, name := range []string{fileExit, fileStarted, fileCanceled, fileLaunched} {
		if exists(filepath.Join(dir, name)) {
			lock.release()
			return statusOf(dir, key)
		}
	}
	if err := writeRecord(dir, fileSpec, spec, false); err != nil {
		return Status{}, err
	}
	if a.scope.Launcher != nil {
		defer lock.release()
		return a.launch(dir, key, spec, secrets)
	}
	login := a.login()
	turn, err := lastPlace(a.root.queue())
	if err != nil {
		return Status{}, err
	}
	defer func() { _ = turn.lock.f.Close() }() // as the lock
	give := given{Spec: &spec, Secrets: secrets, Login: login.env, Say: login.say, Place: turn.number}
	if spec.Job.Image != nil {
		give.Engine, give.NoEngine = a.engineNow(context.Background()) // it has limits of its own
		give.Password = password
	}
	if a.assign(key, assignment{Dir: dir, Given: give, lock: lock.f, turn: turn.lock.f}) {
		return Status{Key: key, Phase: Waiting}, nil
	}
	b, err := json.Marshal(give)
	if err != nil {
		return Status{}, err
	}
	argv := append(slices.Clone(a.opts.Self), "supervise", dir)
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // it outlives the agent
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // halves what the start of a supervisor costs, see supervisor.place
	cmd.ExtraFiles = []*os.File{lock.f, turn.lock.f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said, err := os.OpenFile(a.root.file(fileSaid), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return Status{}, err
	}
	defer func() { _ = said.Close() }()
	cmd.Stderr = said
	in, err := cmd.StdinPipe()
	if err != nil {
		return Status{}, err
	}
	if err := cmd.Start(); err != nil {
		return Status{}, fmt.Errorf("keeper: the supervisor cannot be started: %w", err)
	}
	go func() { // ends with the supervisor
		_, _ = in.Write(b)
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			a.changed(key)
		}
	}()
	return Status{Key: key, Phase: Waiting}, nil
}
