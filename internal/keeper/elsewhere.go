package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Layout is a job's folder on a target where no agent can make it before the supervisor starts: a container. Whoever makes
// the container lays it out, starts "keeper supervise DIR" and gives that Given on its standard input, once. Paths are
// slash-separated and absolute.
type Layout struct {
	Folder, Server, Compute string // as of an agent
	Key                     string
	Job                     Job
	Slots                   int      // 0: the target itself allots them
	GPUs                    []string // indexes of the target's devices, all of them
	CA                      []byte   // PEM
}

func (l Layout) root() string { return path.Join(l.Folder, l.Server, l.Compute) }

// Dir is the job's folder.
func (l Layout) Dir() string { return path.Join(l.root(), "jobs", l.Key) }

// SlotFolder holds the locks of slots; targets that share it share their slots.
func (l Layout) SlotFolder() string { return path.Join(l.Folder, "slots") }

// EnvFolder holds environments; targets that share it make each once.
func (l Layout) EnvFolder() string { return path.Join(l.root(), "env") }

// Folders are to exist before the supervisor starts, each after its parent.
func (l Layout) Folders() []string {
	r := l.root()
	return []string{
		l.Folder, path.Join(l.Folder, l.Server), r, path.Join(r, "jobs"), l.Dir(), path.Join(r, "objects"), path.Join(r, "roots"), path.Join(r, "env"), path.Join(r, "tools"),
	}
}

// ObjectFolder holds objects, each at "ab/HASH" with the first two letters of its hash; it may be read-only.
func (l Layout) ObjectFolder() string { return path.Join(l.root(), "objects") }

// Object is where the supervisor looks for an object.
func (l Layout) Object(h snapshot.Hash) string {
	return path.Join(l.ObjectFolder(), string(h[:2]), string(h))
}

// Spec is the content of Dir()/spec.json. It holds no secret.
func (l Layout) Spec() ([]byte, error) {
	spec, err := l.spec()
	if err != nil {
		return nil, err
	}
	return json.Marshal(spec)
}

func (l Layout) spec() (specRecord, error) {
	if err := checkKey(l.Key); err != nil {
		return specRecord{}, err
	}
	if !plain(l.Server) || !plain(l.Compute) {
		return specRecord{}, fault(Invalid, workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidName", Message: fmt.Sprintf("%.80q and %.80q cannot be names of folders", l.Server, l.Compute),
			Mend: "use letters, digits, '.', '_' and '-'",
		})
	}
	return specRecord{Format: format, Job: l.Job, Slots: l.Slots, GPUs: l.GPUs, CA: string(l.CA)}, nil
}

// Names in a job's folder: of what Spec gives, of the record of its end, and of the empty file that ends it.
const (
	SpecFile     = fileSpec
	ExitFile     = fileExit
	CanceledFile = fileCanceled
)

// Given is what "keeper supervise --tell Dir()" reads on its standard input, once: the job and its secrets. The supervisor
// makes the folders and keeps the specification in them. The job's variables are added to those that the supervisor was
// started with.
func (l Layout) Given(secrets map[string]string) ([]byte, error) {
	spec, err := l.spec()
	if err != nil {
		return nil, err
	}
	return json.Marshal(given{Spec: &spec, Secrets: secrets})
}

// makeJob makes the folders that an agent makes elsewhere.
func makeJob(dir string) error {
	if err := makeRoot(rootOf(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// keepSpec writes down a specification that came from elsewhere. An agent has done so.
func (s *supervisor) keepSpec() error {
	if s.tell == nil {
		return nil
	}
	s.spec.Boot = bootID()
	return writeRecord(s.dir, fileSpec, s.spec, false)
}

// LostFile is what a supervisor tells instead of an end when objects are missing that whoever started it had brought. It
// then ends without having started the job.
const LostFile = "lost"

// noteLost looks whether a tree that could not be placed is whole.
func (s *supervisor) noteLost(tree snapshot.Hash) {
	if s.tell == nil {
		return
	}
	if missing, err := s.root.objects().missing(tree, map[snapshot.Hash]bool{}); err == nil && len(missing) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
}

func (s *supervisor) tellLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost && s.tell != nil {
		s.print(told{Name: LostFile, Text: []byte(s.key)})
	}
	return s.lost
}

// Reading reads how a job is from a folder that is elsewhere. read gives the content of a file in the job's folder, or
// fs.ErrNotExist; alive tells whether its supervisor runs. A job that was started, has no supervisor and left no record is
// Lost, without a problem: the caller knows why. Nothing is written.
func Reading(key string, alive bool, read func(name string) ([]byte, error)) (Status, error) {
	s := Status{Key: key, Phase: Missing}
	record := func(name string, v any) error {
		b, err := read(name)
		if err != nil {
			return err
		}
		return decodeRecord(b, name, v)
	}
	var x exitRecord
	xerr := record(fileExit, &x)
	if xerr != nil && !errors.Is(xerr, fs.ErrNotExist) {
		return s, xerr
	}
	var st startRecord
	serr := record(fileStarted, &st)
	if serr != nil && !errors.Is(serr, fs.ErrNotExist) {
		return s, serr
	}
	s.Started = st.Started
	switch {
	case xerr == nil:
		s.Phase, s.Exit, s.LogSize = Ended, &x.Exit, x.Exit.LogSize
		if x.Exit.LogSize > 0 && x.Exit.LogSize <= InlineLog && len(x.Exit.Log) == 0 {
			if b, err := read(fileLog); err == nil && int64(len(b)) == x.Exit.LogSize {
				s.Exit.Log = b
			}
		}
	case alive && serr == nil:
		s.Phase = Running
	case alive:
		s.Phase = Waiting
		var p phaseRecord
		if err := record(filePhase, &p); err == nil {
			s.Phase, s.Reason, s.Env = p.Phase, p.Reason, p.Env
		}
	default:
		_, err := read(fileCanceled)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
		if err == nil {
			s.Phase, s.Exit = Ended, &Exit{Outcome: Canceled, Code: -1, Files: serr == nil}
		} else if serr == nil {
			s.Phase, s.Exit = Ended, &Exit{Outcome: Lost, Code: -1, Files: true}
		}
	}
	return s, nil
}

// LogFile is the name in a job's folder of a stream of its log.
func LogFile(stream string) (string, error) { return logFile(request{Key: "a.1", Stream: stream}) }

// OutputFolders are the folders, relative to a job's folder, of what Collect brings home, by output.
func OutputFolders(outputs []Output) map[string]string {
	out := map[string]string{"outputs": path.Join(dirCode, "outputs"), "logs": path.Join(dirCode, "logs")}
	for _, o := range outputs {
		if plainOutput(o.Name) {
			out[o.Name] = path.Join(dirOutputs, o.Name)
		}
	}
	return out
}

// OutputsOf reads the outputs of a job from the content of its spec.json.
func OutputsOf(spec []byte) ([]Output, error) {
	var r specRecord
	if err := decodeRecord(spec, fileSpec, &r); err != nil {
		return nil, err
	}
	return r.Job.Outputs, nil
}
