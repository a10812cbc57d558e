// Package docker runs jobs in containers of a Docker engine, one container a job. The engine is reached by its API; no
// file system is shared with it.
//
// What stands for what:
//
//	the key's lock       the container's name: a second creation conflicts
//	the job's records    files in the container, as the keeper's folder.go says, read through the archive API
//	its supervisor       the container's first process, copied in before the start; secrets reach it on standard input
//	the tombstone        a container of that name which is never started, labelled canceled
//	the highest epoch    a volume, named by it
//	slots                locks in a volume that all attachments of the engine share
//
// Commands run as the container's root. Only package fleet opens it.
package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Driver is the kind "docker". The zero value works.
type Driver struct {
	// Slots is the name of the volume that holds the locks of slots. Attachments with equal ones share their slots.
	// Empty: one for the whole engine.
	Slots string
}

// Settings are the attach settings.
type Settings struct {
	Address string `json:"address"`
	Image   string `json:"image"`
	Network string `json:"network"`
	Slots   int    `json:"slots"`
}

const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "docker",
  "description": "A Docker engine; each job runs in a container of its own",
  "type": "object",
  "additionalProperties": false,
  "required": ["image"],
  "properties": {
    "address": {"type": "string", "description": "the engine's socket; default: docker+unix:///var/run/docker.sock", "pattern": "^docker\\+unix:///"},
    "image": {"type": "string", "description": "image in which jobs run; it must be at the engine already and have /bin/sh"},
    "network": {"type": "string", "description": "the engine's network that containers join; default: the engine's own"},
    "slots": {"type": "integer", "minimum": 0, "description": "jobs that run at once; 0: one per CPU of the engine"}
  }
}`

const defaultSocket = "/var/run/docker.sock"

// Kind is "docker".
func (Driver) Kind() string { return "docker" }

// Schema is the JSON Schema of Settings.
func (Driver) Schema() json.RawMessage { return json.RawMessage(schema) }

// Limits says that devices are not allotted.
func (Driver) Limits() compute.Limits { return compute.Limits{NoGPUs: true, Experimental: true} }

// Open reads the settings. The engine is asked when the target is first used.
func (d Driver) Open(_ context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	var s Settings
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &s); err != nil {
			return nil, invalid("the settings of a docker compute are not valid", err)
		}
	}
	if s.Image == "" {
		return nil, invalid("the settings of a docker compute name no image", errors.New("its jobs run in containers of one image, e.g. --set image=python:3.12 (setting image)"))
	}
	if s.Slots < 0 {
		return nil, invalid("slots cannot be negative", nil)
	}
	socket, err := s.socket()
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.WithHost("unix://" + socket))
	if err != nil {
		return nil, invalid("the engine's address cannot be used", err)
	}
	t := newTarget(c, socket, s, env)
	t.slotName = d.Slots
	return t, nil
}

func (s Settings) socket() (string, error) {
	if s.Address == "" {
		return defaultSocket, nil
	}
	u, err := url.Parse(s.Address)
	if err != nil || u.Host != "" || !strings.HasPrefix(s.Address, "docker+unix://") || !filepath.IsAbs(u.Path) {
		return "", invalid(fmt.Sprintf("%q is not the address of a Docker engine", s.Address), errors.New("only docker+unix:///path/of/socket is spoken"))
	}
	return u.Path, nil
}

func invalid(message string, err error) error {
	p := workspace.Problem{Class: workspace.Invalid, Code: "InvalidSettings", Message: message, Mend: "correct the compute's settings"}
	if err != nil {
		p.Cause = err.Error()
	}
	return &compute.Error{Kind: compute.ErrInvalid, Problem: p, Err: err}
}

var _ compute.Driver = Driver{}
