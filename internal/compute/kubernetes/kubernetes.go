// Package kubernetes runs jobs on a Kubernetes cluster, one plain batch/v1 Job a job. Nothing is installed there: no add-on,
// no cluster role, no agent on nodes.
//
// What stands for what:
//
//	the key's lock       the Job's name: a second creation conflicts
//	the job's records    files in an emptyDir of its pod, as the keeper's folder.go says, read by an agent in the pod;
//	                     how it ended also stands in the container's termination message
//	its supervisor       started by an agent beside the container's first process, both the keeper, which the driver
//	                     streams in by exec. Code and secrets come by the same stream and are in no object of the cluster
//	the tombstone        a Job of that name which is suspended and labelled canceled
//	the highest epoch    a ConfigMap, changed by compare-and-swap on its resourceVersion
//	what happened        a list and a watch of Jobs and of Pods with the attachment's labels, kept in memory
//
// A pod that runs and was not given its job is Missing with the reason NotStarted: the server submits the job again, and the
// driver, which kept nothing on disk, has it to hand over. Only package fleet opens it.
package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Driver is the kind "kubernetes". The zero value works.
type Driver struct{}

// Settings are the attach settings.
type Settings struct {
	Address        string            `json:"address"`
	Kubeconfig     string            `json:"kubeconfig"`
	Token          string            `json:"token"`
	CA             string            `json:"ca"`
	Namespace      string            `json:"namespace"`
	Image          string            `json:"image"`
	ServiceAccount string            `json:"service_account"`
	GPUResource    string            `json:"gpu_resource"`
	NodeSelector   map[string]string `json:"node_selector"`
	Tolerations    []Toleration      `json:"tolerations"`
	PriorityClass  string            `json:"priority_class"`
	Queue          string            `json:"queue"`
	PullSecrets    []string          `json:"pull_secrets"`
	PullTimeout    int               `json:"pull_timeout"` // seconds
}

// Toleration is as in a pod's specification.
type Toleration struct {
	Key      string `json:"key,omitempty"`
	Operator string `json:"operator,omitempty"`
	Value    string `json:"value,omitempty"`
	Effect   string `json:"effect,omitempty"`
}

const schema = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "kubernetes",
  "description": "A namespace of a Kubernetes cluster; each job is a Job there",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "address": {"type": "string", "description": "kubeconfig://CONTEXT, a context of the kubeconfig; kubeconfig:// alone is its current one; incluster://, the service account of the server's own pod; or https://HOST:PORT with a token. Default: kubeconfig://", "pattern": "^(kubeconfig|incluster|https)://"},
    "kubeconfig": {"type": "string", "writeOnly": true, "description": "text of a kubeconfig file; default: the one of the server's user"},
    "token": {"type": "string", "writeOnly": true, "description": "bearer token for an https:// address"},
    "ca": {"type": "string", "description": "certificate authority of an https:// address, PEM; default: the system's"},
    "namespace": {"type": "string", "description": "where Jobs are made; default: the context's, else default", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
    "image": {"type": "string", "description": "image of jobs that name none; it has /bin/sh"},
    "service_account": {"type": "string", "description": "of pods; default: the namespace's default, without its token"},
    "gpu_resource": {"type": "string", "description": "resource that stands for one GPU; default: nvidia.com/gpu"},
    "node_selector": {"type": "object", "additionalProperties": {"type": "string"}, "description": "labels of the nodes that pods may run on"},
    "tolerations": {"type": "array", "description": "taints of nodes that pods put up with, as in a pod's specification", "items": {"type": "object", "additionalProperties": false, "properties": {"key": {"type": "string"}, "operator": {"type": "string"}, "value": {"type": "string"}, "effect": {"type": "string"}}}},
    "priority_class": {"type": "string", "description": "PriorityClass of jobs that name none"},
    "queue": {"type": "string", "description": "Kueue's LocalQueue of jobs that name none"},
    "pull_secrets": {"type": "array", "items": {"type": "string"}, "description": "Secrets of the namespace by which images are pulled"},
    "pull_timeout": {"type": "integer", "minimum": 0, "description": "seconds for which an image is tried whose registry does not answer; 0: 20. What a registry refuses is not tried again"}
  }
}`

const defaultGPU = "nvidia.com/gpu"

// Kind is "kubernetes".
func (Driver) Kind() string { return "kubernetes" }

// Schema is the JSON Schema of Settings.
func (Driver) Schema() json.RawMessage { return json.RawMessage(schema) }

// Limits are none that the exam asks about.
func (Driver) Limits() compute.Limits { return compute.Limits{} }

// Open reads the settings. The cluster is asked when the target is first used.
func (Driver) Open(_ context.Context, settings json.RawMessage, env compute.Env) (compute.Target, error) {
	var s Settings
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &s); err != nil {
			return nil, invalid("the settings of a kubernetes compute are not valid", err)
		}
	}
	if s.GPUResource == "" {
		s.GPUResource = defaultGPU
	}
	if s.Token != "" && !strings.HasPrefix(s.Address, "https://") {
		return nil, invalid("a token goes with an https:// address", errors.New("the address is "+s.Address))
	}
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	return newTarget(c, s, env), nil
}

func invalid(message string, err error) error {
	p := workspace.Problem{Class: workspace.Invalid, Code: "InvalidSettings", Message: message, Mend: "correct the compute's settings"}
	if err != nil {
		p.Cause = err.Error()
	}
	return &compute.Error{Kind: compute.ErrInvalid, Problem: p, Err: err}
}

var _ compute.Driver = Driver{}
