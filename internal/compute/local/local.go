// Package local runs jobs on the machine of the server itself, by the keeper as a child process. Jobs outlive the server.
package local

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Driver is the kind "local". The zero value works.
type Driver struct {
	// Self is the command that is the keeper when Env.Keeper has none for this machine; a subcommand of the keeper
	// follows it. Empty: this very executable with the word "keeper".
	Self []string
}

// Settings are the attach settings.
type Settings struct {
	Folder     string `json:"folder"`
	Slots      int    `json:"slots"`
	GPUs       int    `json:"gpus"`
	HideGPUs   bool   `json:"hide_gpus"`
	Containers string `json:"containers"`
}

const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "local",
  "description": "The machine on which the server runs",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "folder": {"type": "string", "description": "where jobs live; default: moorage in $XDG_STATE_HOME, else ~/.moorage"},
    "slots": {"type": "integer", "minimum": 0, "description": "jobs that run at once; 0: one per CPU"},
    "gpus": {"type": "integer", "minimum": 0, "description": "GPUs that jobs may ask for; 0: those that nvidia-smi finds"},
    "hide_gpus": {"type": "boolean", "description": "a job that asks for no GPU sees none"},
    "containers": {"type": "string", "enum": ["auto", "never"], "description": "auto: a job whose environment names an image runs in a container, where the machine has Docker or Podman; never: it runs without"}
  }
}`

// Kind is "local".
func (Driver) Kind() string { return "local" }

// Schema is the JSON Schema of Settings.
func (Driver) Schema() json.RawMessage { return json.RawMessage(schema) }

// Limits are one: a machine is one node.
func (Driver) Limits() compute.Limits { return compute.Limits{NoNodes: true} }

// Open reads the settings. The agent is started when the target is first used.
func (d Driver) Open(_ context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	var s Settings
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &s); err != nil {
			return nil, invalid("the settings of a local compute are not valid", err)
		}
	}
	if s.Slots < 0 || s.GPUs < 0 {
		return nil, invalid("slots and gpus cannot be negative", nil)
	}
	containers, ok := kept.Containers(s.Containers)
	if !ok {
		return nil, invalid("containers is neither auto nor never", nil)
	}
	folder, err := s.folder()
	if err != nil {
		return nil, err
	}
	start := starter{folder: folder, self: d.Self, env: env}
	return kept.New(env, kept.Options{Dial: start.dial, Slots: s.Slots, GPUs: s.GPUs, HideGPUs: s.HideGPUs, Containers: containers}), nil
}

func (s Settings) folder() (string, error) {
	if s.Folder != "" {
		if !filepath.IsAbs(s.Folder) {
			return "", invalid(fmt.Sprintf("folder %q is not an absolute path", s.Folder), nil)
		}
		return filepath.Clean(s.Folder), nil
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "moorage", "local"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", invalid("there is no home folder, and the settings name no folder", err)
	}
	return filepath.Join(home, ".moorage"), nil
}

func invalid(message string, err error) error {
	p := workspace.Problem{Class: workspace.Invalid, Code: "InvalidSettings", Message: message, Mend: "correct the compute's settings"}
	if err != nil {
		p.Cause = err.Error()
	}
	return &compute.Error{Kind: compute.ErrInvalid, Problem: p, Err: err}
}

// platform is what Env.Keeper is asked for.
func platform() (string, string) { return runtime.GOOS, runtime.GOARCH }

var _ compute.Driver = Driver{}
