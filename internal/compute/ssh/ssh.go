// Package ssh runs jobs on a machine that is reached by SSH, by the keeper that it places there. One connection with one
// session is all that it needs; nothing listens on the machine's network, and jobs outlive every connection.
package ssh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/compute/internal/sshx"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Driver is the kind "ssh". The zero value works.
type Driver struct{}

// Settings are the attach settings. Password, PrivateKey and Passphrase are secrets.
type Settings struct {
	Address      string   `json:"address"`
	Username     string   `json:"username"`
	Password     string   `json:"password"`
	PrivateKey   string   `json:"private_key"`
	Passphrase   string   `json:"passphrase"`
	UseAgent     bool     `json:"use_agent"`
	Jump         []string `json:"jump"`
	HostKey      string   `json:"host_key"`
	JumpHostKeys []string `json:"jump_host_keys"`
	ConfigFile   string   `json:"config_file"`
	Folder       string   `json:"folder"`
	Slots        int      `json:"slots"`
	GPUs         int      `json:"gpus"`
	HideGPUs     bool     `json:"hide_gpus"`
	Containers   string   `json:"containers"`
}

const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "ssh",
  "description": "A Linux machine that is reached by SSH",
  "type": "object",
  "additionalProperties": false,
  "required": ["address"],
  "properties": {
    "address": {"type": "string", "description": "ssh://user@host:22, or a name in ~/.ssh/config of the server's user"},
    "username": {"type": "string", "description": "who logs in; goes before the user in the address"},
    "password": {"type": "string", "writeOnly": true, "description": "also answers keyboard-interactive logins"},
    "private_key": {"type": "string", "writeOnly": true, "description": "PEM, as ssh-keygen writes it"},
    "passphrase": {"type": "string", "writeOnly": true, "description": "opens an encrypted private key"},
    "use_agent": {"type": "boolean", "description": "log in with the keys of the server's ssh-agent"},
    "jump": {"type": "array", "items": {"type": "string"}, "description": "machines to go through, in order: ssh://user@jump:22; the same credentials serve there"},
    "host_key": {"type": "string", "description": "the machine's host key, e.g. \"ssh-ed25519 AAAA…\"; learnt when attaching"},
    "jump_host_keys": {"type": "array", "items": {"type": "string"}, "description": "host keys of the jump hosts, in order"},
    "config_file": {"type": "string", "description": "an ssh_config on the server's machine in which the address is looked up"},
    "folder": {"type": "string", "description": "where jobs live on the machine; default: ~/.moorage"},
    "slots": {"type": "integer", "minimum": 0, "description": "jobs that run at once; 0: one per CPU"},
    "gpus": {"type": "integer", "minimum": 0, "description": "GPUs that jobs may ask for; 0: those that nvidia-smi finds"},
    "hide_gpus": {"type": "boolean", "description": "a job that asks for no GPU sees none"},
    "containers": {"type": "string", "enum": ["auto", "never"], "description": "auto: a job whose environment names an image runs in a container, where the machine has Docker or Podman; never: it runs without"}
  }
}`

// Kind is "ssh".
func (Driver) Kind() string { return "ssh" }

// Schema is the JSON Schema of Settings.
func (Driver) Schema() json.RawMessage { return json.RawMessage(schema) }

// Limits are one: a machine is one node.
func (Driver) Limits() compute.Limits { return compute.Limits{NoNodes: true} }

// Open reads the settings, logs in and starts an agent. Without host_key any machine is taken; Probe tells the key that it
// showed, and the open target holds on to it. Whoever attaches pins it.
func (Driver) Open(ctx context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	s, err := read(settings)
	if err != nil {
		return nil, err
	}
	if env.Keeper == nil {
		return nil, invalid("", "this server has no keeper program to place on machines", "", "install a build of the server that holds it")
	}
	l := newLink(s, env)
	t := kept.New(env, kept.Options{
		Dial: l.dial, Slots: s.Slots, GPUs: s.GPUs, HideGPUs: s.HideGPUs, Containers: s.Containers, Facts: l.facts, CloseTransport: l.line.Close,
	})
	if err := t.Connect(ctx); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

// read decodes and checks the settings.
func read(settings json.RawMessage) (Settings, error) {
	s := Settings{}
	d := json.NewDecoder(bytes.NewReader(settings))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		// The error of a wrong type may quote a secret; the field's name is enough.
		cause := "they are not JSON of the right form"
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			cause = fmt.Sprintf("%s cannot be a %s", e.Field, strings.Fields(e.Value)[0])
		} else if strings.Contains(err.Error(), "unknown field") {
			cause = strings.TrimPrefix(err.Error(), "json: ")
		}
		return s, invalid("", "the settings of an ssh compute are not valid", cause, "moorage kind list names them")
	}
	if s.Address == "" {
		return s, invalid("address", "an ssh compute needs an address", "", "write it as ssh://user@host:22")
	}
	if s.Slots < 0 || s.GPUs < 0 {
		return s, invalid("slots", "slots and gpus cannot be negative", "", "0 means what the machine has")
	}
	var ok bool
	if s.Containers, ok = kept.Containers(s.Containers); !ok {
		return s, invalid("containers", "containers is neither auto nor never", "", "write auto or never")
	}
	if s.Folder == "" {
		s.Folder = "~/.moorage"
	}
	if !strings.HasPrefix(s.Folder, "/") && !strings.HasPrefix(s.Folder, "~/") {
		return s, invalid("folder", fmt.Sprintf("folder %q is neither absolute nor below ~/", s.Folder), "", "write it as /path or ~/path")
	}
	if i := strings.IndexAny(s.Folder, "'\\!\n\r\x00"); i >= 0 {
		return s, invalid("folder", fmt.Sprintf("folder %q holds %q, which the shells of some machines would misread", s.Folder, s.Folder[i]), "", "choose a plainer name")
	}
	s.Folder = strings.TrimRight(s.Folder, "/")
	return s, sshx.Check(s.config(nil))
}

func invalid(setting, message, cause, mend string) error {
	return &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidSettings", Target: setting, Message: message, Cause: cause, Mend: mend,
	}}
}

var _ compute.Driver = Driver{}
