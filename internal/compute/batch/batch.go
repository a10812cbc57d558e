// Package batch runs jobs by a batch system. Slurm is spoken so far, by its own programs on a login node; Azure Batch has
// its own issue.
//
// The keeper's agent runs on the login node and works in a folder that the cluster's nodes share with it: a job is made
// there exactly as on a single machine, with mkdir as the lock. Only its supervisor is started by sbatch. So a job's
// records, log, outputs, tombstone and epoch are files of ours, and Slurm is asked only why a job waits and whether one
// that left no record is still there. What Slurm forgets, and when, does not matter.
//
// Secrets reach the nodes sealed by MUNGE, which Slurm itself trusts. Only package fleet opens it.
package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Driver is the kind "batch".
type Driver struct {
	// Machines gives the way to a login node, by the word after "slurm+" in an address: "ssh", "local". It reads the
	// settings that are not this kind's own.
	Machines map[string]func(settings json.RawMessage, env compute.Env) (kept.Options, error)
}

// Settings are this kind's own attach settings. Beside them stand those of the login, as for the kind "ssh".
type Settings struct {
	Address   string   `json:"address"`
	Folder    string   `json:"folder"`
	Partition string   `json:"partition"`
	Account   string   `json:"account"`
	QOS       string   `json:"qos"`
	Options   []string `json:"options"`
	Programs  string   `json:"programs"`
	NoMunge   bool     `json:"no_munge"`
	Settle    int      `json:"settle"`
}

// own are the names of Settings that a login does not know.
var own = []string{"partition", "account", "qos", "options", "programs", "no_munge", "settle"}

const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "batch",
  "description": "A Slurm cluster, by its login node",
  "type": "object",
  "additionalProperties": false,
  "required": ["address", "folder"],
  "properties": {
    "address": {"type": "string", "description": "slurm+ssh://user@login:22, or slurm+local: when the server runs on the login node", "pattern": "^slurm\\+(ssh://|local:)"},
    "folder": {"type": "string", "description": "an absolute path that the login node and all nodes share"},
    "partition": {"type": "string", "description": "default: the cluster's own"},
    "account": {"type": "string", "description": "whom Slurm charges"},
    "qos": {"type": "string", "description": "quality of service"},
    "options": {"type": "array", "items": {"type": "string"}, "description": "more options of sbatch for every job, e.g. --time=8:00:00"},
    "programs": {"type": "string", "description": "folder of sbatch, squeue, scancel and munge on the login node and the nodes; default: PATH"},
    "no_munge": {"type": "boolean", "description": "there is no munge; jobs with secrets are refused"},
    "settle": {"type": "integer", "minimum": 0, "description": "seconds until a job that left Slurm's queue without a record counts as lost, while the shared folder catches up; 0: 60"},
    "username": {"type": "string", "description": "who logs in; goes before the user in the address"},
    "password": {"type": "string", "writeOnly": true, "description": "also answers keyboard-interactive logins"},
    "private_key": {"type": "string", "writeOnly": true, "description": "PEM, as ssh-keygen writes it"},
    "passphrase": {"type": "string", "writeOnly": true, "description": "opens an encrypted private key"},
    "use_agent": {"type": "boolean", "description": "log in with the keys of the server's ssh-agent"},
    "jump": {"type": "array", "items": {"type": "string"}, "description": "machines to go through, in order: ssh://user@jump:22"},
    "host_key": {"type": "string", "description": "the login node's host key; learnt when attaching"},
    "jump_host_keys": {"type": "array", "items": {"type": "string"}, "description": "host keys of the jump hosts, in order"},
    "config_file": {"type": "string", "description": "an ssh_config on the server's machine in which the address is looked up"}
  }
}`

// Kind is "batch".
func (Driver) Kind() string { return "batch" }

// Schema is the JSON Schema of the attach settings.
func (Driver) Schema() json.RawMessage { return json.RawMessage(schema) }

// Limits says that nodes cannot reach the server through the login node yet, and that devices are not asked for.
func (Driver) Limits() compute.Limits {
	return compute.Limits{NoNodes: true, NoWayBack: true, NoGPUs: true, Experimental: true}
}

const (
	prefix       = "slurm+"
	settle       = time.Minute
	connectLimit = 3 * time.Minute
)

// Open reads the settings and starts an agent on the login node.
func (d Driver) Open(ctx context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	s, login, err := read(settings)
	if err != nil {
		return nil, err
	}
	scheme, _, _ := strings.Cut(strings.TrimPrefix(s.Address, prefix), ":")
	machine, ok := d.Machines[scheme]
	if !ok || !strings.HasPrefix(s.Address, prefix) {
		known := slices.Sorted(maps.Keys(d.Machines))
		return nil, invalid("address", fmt.Sprintf("%q is not the address of a Slurm login node", s.Address), "", "write it as slurm+ssh://user@host:22; known are "+prefix+strings.Join(known, " and "+prefix))
	}
	opts, err := machine(login, env)
	if err != nil {
		return nil, err
	}
	opts.Launcher = s.launcher(env)
	t := &Target{env: env, settings: s, comment: opts.Launcher.Comment, settle: settle, gone: map[string]time.Time{}}
	if s.Settle > 0 {
		t.settle = time.Duration(s.Settle) * time.Second
	}
	t.kept = kept.New(env, opts)
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	if err := t.kept.Connect(ctx); err != nil {
		_ = t.kept.Close()
		return nil, err
	}
	return t, nil
}

// read splits the settings into this kind's own and those of the login.
func read(settings json.RawMessage) (Settings, json.RawMessage, error) {
	var s Settings
	var rest map[string]json.RawMessage
	if err := json.Unmarshal(settings, &rest); err != nil {
		return s, nil, invalid("", "the settings of a batch compute are not valid", "they are not a JSON object", "moorage kind list names them")
	}
	mine := map[string]json.RawMessage{"address": rest["address"], "folder": rest["folder"]}
	for _, name := range own {
		mine[name] = rest[name]
		delete(rest, name)
	}
	maps.DeleteFunc(mine, func(_ string, v json.RawMessage) bool { return v == nil })
	b, err := json.Marshal(mine)
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		err = dec.Decode(&s)
	}
	if err != nil {
		return s, nil, invalid("", "the settings of a batch compute are not valid", err.Error(), "moorage kind list names them")
	}
	if !path.IsAbs(s.Folder) {
		return s, nil, invalid("folder", fmt.Sprintf("folder %q is not an absolute path", s.Folder), "", "name a folder that the login node and all nodes share")
	}
	if s.Settle < 0 {
		return s, nil, invalid("settle", "settle cannot be negative", "", "0 means a minute")
	}
	rest["address"], _ = json.Marshal(strings.TrimPrefix(s.Address, prefix))
	if strings.HasPrefix(s.Address, prefix+"local:") {
		delete(rest, "address")
	}
	login, err := json.Marshal(rest)
	return s, login, err
}

// launcher queues supervisors with sbatch.
func (s Settings) launcher(env compute.Env) *keeper.Launcher {
	l := &keeper.Launcher{
		// NIL: the caller's environment does not travel, because Slurm would keep it on disk. no-requeue: a job is started once.
		Start: []string{
			"sbatch", "--parsable", "--no-requeue", "--export=NIL", "--chdir=/", "--open-mode=append", "--output={{log}}",
			"--job-name={{name}}", "--comment={{comment}}",
		},
		Comment: "moorage:" + env.Server + "/" + env.Compute + "/", Path: s.Programs,
	}
	for _, o := range [][2]string{{"--partition=", s.Partition}, {"--account=", s.Account}, {"--qos=", s.QOS}} {
		if o[1] != "" {
			l.Start = append(l.Start, o[0]+o[1])
		}
	}
	l.Start = append(l.Start, s.Options...)
	if !s.NoMunge {
		// Without a limit on who may open it, any user of the cluster could.
		l.Seal = []string{"sh", "-c", `exec munge --restrict-uid="$(id -u)"`}
		l.Unseal = []string{"unmunge", "--metadata=/dev/null"}
	}
	return l
}

func invalid(setting, message, cause, mend string) error {
	return &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidSettings", Target: setting, Message: message, Cause: cause, Mend: mend,
	}}
}

var _ compute.Driver = Driver{}
