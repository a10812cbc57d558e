// Package docker runs jobs in containers of a Docker engine, one container a job. The engine is reached by its API, over its
// socket, SSH or TLS; no file system is shared with it.
//
// What stands for what:
//
//	the key's lock       the container's name: a second creation conflicts
//	the job's records    files in the container, as the keeper's folder.go says, read through the archive API
//	its supervisor       the container's first process, out of a volume; secrets reach it on standard input
//	the tombstone        a container of that name which is never started, labelled canceled
//	preparing            a container beside that name which is never started, while the image is pulled
//	the highest epoch    a volume, named by it
//	slots                locks in a volume that all attachments of the engine share
//	objects              a volume of the attachment, which containers have to read only
//
// Commands run as the container's root. Only package fleet opens it.
package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Driver is the kind "docker". The zero value works.
type Driver struct {
	// Slots is the name of the volume that holds the locks of slots. Attachments with equal ones share their slots.
	// Empty: one for the whole engine.
	Slots string
}

// Settings are the attach settings. Password, PrivateKey, Passphrase and Key are secrets. Those from Username to ConfigFile
// are for addresses by SSH and mean what they mean for a compute of kind ssh; CA, Cert and Key are for addresses by TCP.
type Settings struct {
	Address string `json:"address,omitempty"`
	Image   string `json:"image,omitempty"`
	Network string `json:"network,omitempty"`
	Slots   int    `json:"slots,omitempty"`
	GPUs    int    `json:"gpus,omitempty"`

	Username     string   `json:"username,omitempty"`
	Password     string   `json:"password,omitempty"`
	PrivateKey   string   `json:"private_key,omitempty"`
	Passphrase   string   `json:"passphrase,omitempty"`
	UseAgent     bool     `json:"use_agent,omitempty"`
	Jump         []string `json:"jump,omitempty"`
	HostKey      string   `json:"host_key,omitempty"`
	JumpHostKeys []string `json:"jump_host_keys,omitempty"`
	ConfigFile   string   `json:"config_file,omitempty"`

	CA   string `json:"ca,omitempty"`
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "docker",
  "description": "A Docker engine; each job runs in a container of its own",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "address": {"type": "string", "description": "docker+unix:///path, docker+ssh://user@host[/path] or docker+tcp://host:port; default: docker+unix:///var/run/docker.sock", "pattern": "^docker\\+(unix:///|ssh://|tcp://)"},
    "image": {"type": "string", "description": "image of jobs that name none; it has /bin/sh and is pulled when it is not at the engine"},
    "network": {"type": "string", "description": "the engine's network that containers join; default: the engine's own"},
    "slots": {"type": "integer", "minimum": 0, "description": "jobs that run at once; 0: one per CPU of the engine"},
    "gpus": {"type": "integer", "minimum": 0, "description": "GPUs that jobs may ask for; 0: those of which the engine tells"},
    "username": {"type": "string", "description": "by SSH: who logs in; goes before the user in the address"},
    "password": {"type": "string", "writeOnly": true, "description": "by SSH: also answers keyboard-interactive logins"},
    "private_key": {"type": "string", "writeOnly": true, "description": "by SSH: PEM, as ssh-keygen writes it"},
    "passphrase": {"type": "string", "writeOnly": true, "description": "by SSH: opens an encrypted private key"},
    "use_agent": {"type": "boolean", "description": "by SSH: log in with the keys of the server's ssh-agent"},
    "jump": {"type": "array", "items": {"type": "string"}, "description": "by SSH: machines to go through, in order: ssh://user@jump:22"},
    "host_key": {"type": "string", "description": "by SSH: the machine's host key, e.g. \"ssh-ed25519 AAAA…\"; learnt when attaching"},
    "jump_host_keys": {"type": "array", "items": {"type": "string"}, "description": "by SSH: host keys of the jump hosts, in order"},
    "config_file": {"type": "string", "description": "by SSH: an ssh_config on the server's machine in which the address is looked up"},
    "ca": {"type": "string", "description": "by TCP: certificates, PEM, of which one signed the engine's; default: those that the server's machine trusts"},
    "cert": {"type": "string", "description": "by TCP: the certificate, PEM, that the server shows to the engine"},
    "key": {"type": "string", "writeOnly": true, "description": "by TCP: the private key of cert, PEM"}
  }
}`

// Kind is "docker".
func (Driver) Kind() string { return "docker" }

// Schema is the JSON Schema of Settings.
func (Driver) Schema() json.RawMessage { return json.RawMessage(schema) }

// Limits says that a job is on the engine's one machine.
func (Driver) Limits() compute.Limits { return compute.Limits{NoNodes: true} }

// Open reads the settings. The engine is asked when the target is first used.
func (d Driver) Open(_ context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	s, err := read(settings)
	if err != nil {
		return nil, err
	}
	w, err := s.way(env)
	if err != nil {
		return nil, err
	}
	t := newTarget(w, s, env)
	t.slotName = d.Slots
	return t, nil
}

// read decodes and checks the settings.
func read(settings json.RawMessage) (Settings, error) {
	var s Settings
	if len(settings) == 0 {
		return s, nil
	}
	d := json.NewDecoder(bytes.NewReader(settings))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		// The error of a wrong type may quote a secret; the field's name is enough.
		cause := errors.New("they are not JSON of the right form")
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			cause = fmt.Errorf("%s cannot be a %s", e.Field, strings.Fields(e.Value)[0])
		} else if strings.Contains(err.Error(), "unknown field") {
			cause = errors.New(strings.TrimPrefix(err.Error(), "json: "))
		}
		return s, invalid("", "the settings of a docker compute are not valid", cause)
	}
	if s.Slots < 0 || s.GPUs < 0 {
		return s, invalid("slots", "slots and gpus cannot be negative", nil)
	}
	return s, nil
}

func invalid(setting, message string, err error) error {
	p := workspace.Problem{Class: workspace.Invalid, Code: "InvalidSettings", Target: setting, Message: message, Mend: "correct the compute's settings; moorage kind list names them"}
	if err != nil {
		p.Cause = err.Error()
	}
	return &compute.Error{Kind: compute.ErrInvalid, Problem: p, Err: err}
}

var _ compute.Driver = Driver{}
