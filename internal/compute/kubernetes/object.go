package kubernetes

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

// domain is the prefix of our labels and annotations.
const domain = "moorage-ml.github.io/"

// Labels by which objects are found again, and annotations.
const (
	labelServer   = domain + "server"
	labelCompute  = domain + "compute"
	labelJob      = domain + "job"
	labelAttempt  = domain + "attempt"
	labelCanceled = domain + "canceled" // a tombstone
	noteEpoch     = domain + "epoch"    // under which the Job was made
	noteName      = domain + "name"     // that people gave it
	noteExit      = domain + "exit"     // an end that the driver decided on, as compute.Exit
	noteNodes     = domain + "nodes"    // how many pods run the job; absent: 1
	notePerNode   = domain + "per-node" // processes in each
	noteLogin     = domain + "login"    // there is a Secret of the Job's name
	labelOwner    = "batch.kubernetes.io/job-name"
	labelIndex    = "batch.kubernetes.io/job-completion-index"
	labelQueue    = "kueue.x-k8s.io/queue-name"
)

// meta is what is looked at of every object.
type meta struct {
	Name            string            `json:"name"`
	UID             string            `json:"uid"`
	ResourceVersion string            `json:"resourceVersion"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	Created         time.Time         `json:"creationTimestamp"`
	Deleted         *time.Time        `json:"deletionTimestamp"`
	Owners          []struct {
		UID string `json:"uid"`
	} `json:"ownerReferences"`
}

// newer tells whether it is a later version than another of the same object.
func (m meta) newer(than meta) bool {
	a, err := strconv.ParseUint(m.ResourceVersion, 10, 64)
	b, err2 := strconv.ParseUint(than.ResourceVersion, 10, 64)
	return err != nil || err2 != nil || a > b
}

type condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Changed time.Time `json:"lastTransitionTime"`
}

func find(all []condition, kind string) (condition, bool) {
	for _, c := range all {
		if c.Type == kind && c.Status == "True" {
			return c, true
		}
	}
	return condition{}, false
}

// work is a Job of the cluster.
type work struct {
	Meta meta `json:"metadata"`
	Spec struct {
		Suspend bool `json:"suspend"`
	} `json:"spec"`
	Status struct {
		Active     int         `json:"active"`
		Conditions []condition `json:"conditions"`
	} `json:"status"`
}

func (w *work) meta() *meta    { return &w.Meta }
func (w *work) canceled() bool { return w.Meta.Labels[labelCanceled] != "" }

// nodes is how many pods run the job.
func (w *work) nodes() int {
	n, _ := strconv.Atoi(w.Meta.Annotations[noteNodes]) // absent: one
	return max(n, 1)
}

func (w *work) over() (condition, bool) {
	if c, ok := find(w.Status.Conditions, "Failed"); ok {
		return c, true
	}
	return find(w.Status.Conditions, "Complete")
}

// pod is a Pod of the cluster.
type pod struct {
	Meta meta `json:"metadata"`
	Spec struct {
		Node string `json:"nodeName"`
	} `json:"spec"`
	Status struct {
		Phase      string      `json:"phase"`
		Reason     string      `json:"reason"`
		Message    string      `json:"message"`
		Conditions []condition `json:"conditions"`
		Containers []container `json:"containerStatuses"`
	} `json:"status"`
}

type container struct {
	State struct {
		Waiting *struct {
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"waiting"`
		Running *struct {
			Started time.Time `json:"startedAt"`
		} `json:"running"`
		Terminated *ended `json:"terminated"`
	} `json:"state"`
}

type ended struct {
	Code     int       `json:"exitCode"`
	Signal   int       `json:"signal"`
	Reason   string    `json:"reason"`
	Message  string    `json:"message"`
	Finished time.Time `json:"finishedAt"`
}

func (p *pod) meta() *meta { return &p.Meta }

func (p *pod) container() container {
	if len(p.Status.Containers) > 0 {
		return p.Status.Containers[0]
	}
	return container{}
}

func (p *pod) running() bool {
	return p.container().State.Running != nil && p.Status.Phase == "Running"
}

// over tells that its container does not run any more and never will.
func (p *pod) over() bool { return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" }

// index is its number among the pods of a job on several nodes.
func (p *pod) index() int {
	n, _ := strconv.Atoi(p.Meta.Labels[labelIndex]) // absent: the only one
	return n
}

func (p *pod) owner() string {
	if len(p.Meta.Owners) > 0 {
		return p.Meta.Owners[0].UID
	}
	return ""
}

// labelValue is the form of a label's value, which has at most 63 characters.
var labelValue = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)

// asLabel is an id as the value of a label: itself, or its hash if it is no legal one.
func asLabel(id string) string {
	if len(id) <= 63 && labelValue.MatchString(id) {
		return id
	}
	return "sha256-" + hash(id)
}

// hash is short and still tells a few million apart.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:10])
}

func (t *Target) labels() map[string]string {
	return map[string]string{labelServer: asLabel(t.env.Server), labelCompute: asLabel(t.env.Compute)}
}

func (t *Target) selector() string {
	return labelServer + "=" + asLabel(t.env.Server) + "," + labelCompute + "=" + asLabel(t.env.Compute)
}

var legible = regexp.MustCompile(`^[a-z0-9]+$`)

// name is the Job's: the lock. It has at most 59 characters, so that pods can be named after it.
func (t *Target) name(key compute.Key) string {
	word := strings.ToLower(key.Job)
	if len(word) > 26 || !legible.MatchString(word) {
		word = hash(key.Job)
	}
	return "moorage-" + word + "-" + hash(t.env.Server, t.env.Compute, key.String())
}

// key reads a job's key from the labels of its Job.
func (t *Target) key(m meta) (compute.Key, bool) {
	n, err := strconv.Atoi(m.Labels[labelAttempt])
	return compute.Key{Server: t.env.Server, Compute: t.env.Compute, Job: m.Labels[labelJob], Attempt: n}, err == nil && m.Labels[labelJob] != ""
}
