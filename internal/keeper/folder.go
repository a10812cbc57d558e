package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// The folder, default ~/.moorage, mode 0700. Slots and GPUs are the machine's and shared by all attachments of a login:
//
//	slots/slot-N, slots/gpu-N    locked by the supervisor that has it; slots/queue/ holds those that wait, in order
//	machine-id                   where the machine has none of its own
//	SERVER/COMPUTE/              one attachment, the root:
//	  epoch, epoch.lock          the highest lease epoch seen
//	  boot                       the boot in which objects were written
//	  objects/ab/HASH            objects;  roots/HASH: last use of a tree
//	  tools/HASH, env/HASH/      programs and environments;  env/HASH.lock
//	  spare/HASH/                a placed copy of a large tree, for the next job
//	  untouched/N/               a working directory that a job without code left as it was, for the next such job
//	  ca/HASH                    a CA bundle, linked into the jobs that use it
//	  way.json                   how jobs found the name for uploads lately, see names.go
//	  agent.sock                 the newest agent
//	  supervisors.log            what supervisors said that could not write a record
//	  jobs/JOB.ATTEMPT/          one job:
//	    lock                     held by its supervisor as long as it has the job; its content is the supervisor's process
//	    spec.json                what to run, without secrets
//	    phase.json               why it waits, or what is prepared; a hint
//	    started.json             durable before the command starts: from here on it may have run
//	    exit.json                durable: how it ended
//	    canceled                 tombstone: a wish to end it, or never to start it
//	    log, prepare.log, code/, inputs/, outputs/, ca.pem, hosts
//	    container.json, contained/, home/   of a job with an image, see container.go
//
// Each record is written by rename and carries its format. A keeper reads its own format and older ones.
const format = 1

const (
	fileLockName = "lock"
	fileSpec     = "spec.json"
	filePhase    = "phase.json"
	fileStarted  = "started.json"
	fileExit     = "exit.json"
	fileCanceled = "canceled"
	fileLog      = "log"
	filePrepare  = "prepare.log"
	fileCA       = "ca.pem"
	fileSaid     = "supervisors.log"
	dirCode      = "code"
	dirInputs    = "inputs"
	dirOutputs   = "outputs"
)

type specRecord struct {
	Format   int      `json:"format"`
	Job      Job      `json:"job"`
	Boot     string   `json:"boot"`
	Slots    int      `json:"slots"`
	GPUs     []string `json:"gpus,omitempty"` // indexes of the machine's devices
	HideGPUs bool     `json:"hide_gpus,omitempty"`
	CA       string   `json:"ca,omitempty"`
	Accepted int64    `json:"accepted"` // milliseconds since the epoch
}

type phaseRecord struct {
	Format int                `json:"format"`
	Phase  Phase              `json:"phase"`
	Reason *workspace.Problem `json:"reason,omitempty"`
	Env    string             `json:"env,omitempty"`
}

type startRecord struct {
	Format  int       `json:"format"`
	Boot    string    `json:"boot"`
	Mark    string    `json:"mark"` // value of MOORAGE_PROCESS in the job's processes
	Started time.Time `json:"started"`
}

type exitRecord struct {
	Format int  `json:"format"`
	Exit   Exit `json:"exit"`
}

// holder is the content of the lock file.
type holder struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // of the process, in clock ticks since boot: tells a reused pid
}

// root is the folder of one attachment.
type root struct {
	folder string // the machine-wide one
	path   string
}

func newRoot(folder, server, compute string) (root, error) {
	if !plain(server) || !plain(compute) {
		return root{}, fault(Invalid, workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidName", Message: fmt.Sprintf("%.80q and %.80q cannot be names of folders", server, compute),
			Mend: "use letters, digits, '.', '_' and '-'",
		})
	}
	return root{folder: folder, path: filepath.Join(folder, server, compute)}, nil
}

// rootOf is the root that a job's folder belongs to.
func rootOf(job string) root {
	path := filepath.Dir(filepath.Dir(job))
	return root{folder: filepath.Dir(filepath.Dir(path)), path: path}
}

func (r root) jobs() string          { return filepath.Join(r.path, "jobs") }
func (r root) job(key string) string { return filepath.Join(r.path, "jobs", key) }
func (r root) slots() string         { return filepath.Join(r.folder, "slots") }
func (r root) queue() string         { return filepath.Join(r.folder, "slots", "queue") }
func (r root) objects() store {
	return store{filepath.Join(r.path, "objects"), filepath.Join(r.path, "roots")}
}
func (r root) file(name string) string { return filepath.Join(r.path, name) }
func (r root) env(hash string) string  { return filepath.Join(r.path, "env", hash) }
func (r root) tool(hash string) string { return filepath.Join(r.path, "tools", hash) }

// plain tells whether a word from outside may be the name of a folder.
func plain(name string) bool {
	if name == "" || len(name) > 200 || name[0] == '.' || name[0] == '-' {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", rune(c)) {
			return false
		}
	}
	return true
}

// checkKey refuses a key that is not JOB.ATTEMPT.
func checkKey(key string) error {
	if plain(key) && strings.Contains(key, ".") {
		return nil
	}
	return fault(Invalid, workspace.Problem{Class: workspace.Invalid, Code: "InvalidKey", Message: fmt.Sprintf("%.80q is not the key of a job", key)})
}

// writeRecord writes a record by rename, so no reader sees a half of it. A durable one has reached the disk when it
// returns. It is flushed after the rename, which costs one commit of the file system's journal instead of two; should
// the machine lose power between the two, the record may be empty, and readRecord takes that for none.
func writeRecord(dir, name string, v any, durable bool) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := openFile(filepath.Join(dir, name+".new"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(append(b, '\n')); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	if durable {
		return errors.Join(f.Sync(), syncDir(dir))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := openFile(dir, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// openFile is os.OpenFile for regular files and folders: it does not find out whether the runtime can poll the file, which
// takes five more calls of the kernel.
func openFile(path string, flag int, mode fs.FileMode) (*os.File, error) {
	for {
		fd, err := syscall.Open(path, flag|syscall.O_CLOEXEC, uint32(mode))
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

func readFile(path string) ([]byte, error) {
	f, err := openFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(f)
}

const maxRecord = maxFrame

// readRecord reads a record into v. fs.ErrNotExist if there is none, or an empty one.
func readRecord(dir, name string, v any) error {
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRecord {
		return fmt.Errorf("keeper: %s is not a record", path)
	}
	b, err := readFile(path)
	if err != nil {
		return err
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist} // power was lost before it was flushed
	}
	return decodeRecord(b, name, v)
}

func decodeRecord(b []byte, name string, v any) error {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("keeper: record %s: %w", name, err)
	}
	if head.Format < 1 || head.Format > format {
		return &workspace.Problem{
			Class: workspace.Conflict, Code: "KeeperFormat",
			Message: fmt.Sprintf("record %s has format %d, and this keeper reads up to %d", name, head.Format, format),
			Mend:    "use the newer server that wrote it, or detach with force and remove the folder by hand",
		}
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("keeper: record %s: %w", name, err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func fileSize(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// statusOf reads how a job is from its folder. Whoever finds that its supervisor was killed ends what is left of the job
// and records that it is lost.
func statusOf(dir, key string) (Status, error) {
	s := Status{Key: key, Phase: Missing}
	// Twice, because a supervisor may write its last record and let go of the lock between two looks.
	for range 2 {
		var x exitRecord
		err := readRecord(dir, fileExit, &x)
		if err == nil {
			return ended(dir, s, x), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		held, err := lockHeld(filepath.Join(dir, fileLockName))
		if err != nil {
			return s, err
		}
		if held {
			return underWay(dir, s)
		}
	}
	switch {
	case !exists(dir):
		return s, nil
	case wasLaunched(dir):
		return launchedStatus(dir, s)
	case exists(filepath.Join(dir, fileStarted)):
		x, err := bury(dir)
		if err != nil {
			return s, err
		}
		return ended(dir, s, x), nil
	case exists(filepath.Join(dir, fileCanceled)):
		return ended(dir, s, exitRecord{Exit: Exit{Outcome: Canceled, Code: -1, Ended: modified(filepath.Join(dir, fileCanceled))}}), nil
	}
	s.Reason = &workspace.Problem{
		Class: workspace.Unavailable, Code: NotStarted, Message: "the job was accepted and never started, and nothing is left to start it",
		Cause: "its supervisor was ended, or the machine restarted, while it waited", Mend: "it is submitted again",
	}
	return s, nil
}

func underWay(dir string, s Status) (Status, error) {
	var st startRecord
	err := readRecord(dir, fileStarted, &st)
	if err == nil {
		s.Phase, s.Started = Running, st.Started
		s.LogSize = logSize(dir)
		return s, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s.Phase = Waiting
	var p phaseRecord
	if err := readRecord(dir, filePhase, &p); err == nil {
		s.Phase, s.Reason, s.Env = p.Phase, p.Reason, p.Env
	}
	return s, nil
}

func ended(dir string, s Status, x exitRecord) Status {
	s.Phase, s.Exit = Ended, &x.Exit
	s.LogSize = x.Exit.LogSize
	var st startRecord
	if err := readRecord(dir, fileStarted, &st); err == nil {
		s.Started = st.Started
	}
	if x.Exit.LogSize <= InlineLog && x.Exit.LogSize > 0 {
		log := filepath.Join(dir, fileLog)
		if int64(len(x.Exit.Log)) != x.Exit.LogSize { // a record that has none
			if b, err := os.ReadFile(log); err == nil && int64(len(b)) == x.Exit.LogSize {
				s.Exit.Log = b
			}
		} else if fileSize(log) < x.Exit.LogSize { // power was lost before it was flushed
			_ = os.WriteFile(log, x.Exit.Log, 0o600)
		}
	}
	return s
}

func modified(path string) time.Time {
	info, err := os.Lstat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime().UTC()
}

// logSize is the size of the log as readers see it: what is over the limit is about to be dropped.
func logSize(dir string) int64 {
	size := fileSize(filepath.Join(dir, fileLog))
	if size < 1<<20 {
		return size
	}
	var spec specRecord
	if err := readRecord(dir, fileSpec, &spec); err != nil {
		return size
	}
	return min(size, keptOf(spec.Job.logLimit()))
}

func (j Job) logLimit() int64 {
	if j.LogLimit > 0 {
		return j.LogLimit
	}
	return DefaultLogLimit
}

func (j Job) grace() time.Duration {
	if j.Grace > 0 {
		return j.Grace
	}
	return DefaultGrace
}

// bury ends what is left of a job whose supervisor was killed, and records it.
func bury(dir string) (exitRecord, error) {
	lock, err := takeLock(filepath.Join(dir, fileLockName), exclusive, true)
	if err != nil {
		return exitRecord{}, err
	}
	defer lock.release()
	var x exitRecord
	if err := readRecord(dir, fileExit, &x); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return x, err
	}
	var st startRecord // none if power was lost while it was written; then the boot is another
	if err := readRecord(dir, fileStarted, &st); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return x, err
	}
	x = exitRecord{Format: format, Exit: Exit{Outcome: Lost, Code: -1, Ended: time.Now().UTC(), LogSize: logSize(dir), Files: hasFiles(dir)}}
	if st.Boot != bootID() {
		x.Exit.Problem = &workspace.Problem{
			Code: "MachineRestarted", Message: "the machine restarted while the job ran", Cause: "it runs since another boot than the job",
			Mend: "submit the job again",
		}
	} else {
		if err := endMarked(st.Mark); err != nil {
			return x, err
		}
		removeContainers(dir)
		x.Exit.Problem = &workspace.Problem{
			Code: "SupervisorKilled", Message: "the job's supervisor was killed, so how the command ended is not known",
			Cause: "its process is gone and left no record; what was left of the job was ended",
			Mend:  "look for who ends processes on that machine (memory pressure, KillUserProcesses, an administrator), then submit the job again",
		}
	}
	if exists(filepath.Join(dir, fileCanceled)) {
		x.Exit.Outcome = Canceled
	}
	return x, writeRecord(dir, fileExit, x, true)
}

// hasFiles tells whether there is something to collect.
func hasFiles(dir string) bool {
	for _, sub := range []string{dirOutputs, filepath.Join(dirCode, "outputs"), filepath.Join(dirCode, "logs")} {
		found := false
		_ = filepath.WalkDir(filepath.Join(dir, sub), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && (d.Type().IsRegular() || d.Type()&fs.ModeSymlink != 0) {
				found = true
				return fs.SkipAll
			}
			return nil
		})
		if found {
			return true
		}
	}
	return false
}
