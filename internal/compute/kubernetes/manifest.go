package kubernetes

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/keeper"
)

// Where things are in a pod. The volume is the pod's own, so the folder below it is named after nobody.
const (
	containerName = "job"
	volume        = "/moorage"
	program       = volume + "/bin/keeper"
	folder        = volume + "/run"
	scopeServer   = "pod"
	scopeCompute  = "job"
)

const (
	// lingering is how long a pod stays after its job, for a server that is away. With the server there it is gone in seconds.
	lingering = time.Hour
	// lingeringTogether is the same for a job on several nodes: while one stays that has failed, the others are not ended.
	lingeringTogether = 10 * time.Minute
	// waitKeeper is how often, in looks of the script below, a container waits for its keeper: about half an hour.
	waitKeeper = 2050
	// notGiven is the exit code of a container that was brought no keeper: sysexits.h's EX_TEMPFAIL.
	notGiven = 75
	// endings is what a pod needs beyond the job's grace to end.
	endings = 5 * time.Second
)

// script is what a container begins with: it waits for the keeper, first in short looks and then in long ones, and becomes
// it. The first process of a container hears no signal that it does not handle.
const script = `trap 'exit 143' TERM INT
n=0
until [ -x ` + program + ` ]; do
	n=$((n + 1))
	[ $n -lt "$1" ] || exit 75
	if [ $n -lt 250 ]; then sleep 0.02 2>/dev/null || sleep 1; else sleep 1; fi
done
shift
exec ` + program + ` pod "$@"`

// starting becomes an agent. It prints "there" if the pod has its keeper, and else the node's machine, and takes the keeper for
// it from its standard input: a line with the number of blocks, and the blocks. dd takes those and nothing of what follows.
const starting = `cd ` + volume + ` || exit 1
if [ -x bin/keeper ]; then
	echo there
else
	uname -m && IFS= read -r blocks && mkdir -p bin || exit 1
	dd of=bin/.new.$$ bs=` + blockText + ` count="$blocks" iflag=fullblock 2>bin/.said.$$ || { cat bin/.said.$$ >&2; exit 1; }
	rm -f bin/.said.$$
	[ "$(wc -c <bin/.new.$$)" -eq $((blocks * ` + blockText + `)) ] || { echo "the keeper did not arrive whole" >&2; exit 1; }
	chmod 755 bin/.new.$$ && mv -f bin/.new.$$ bin/keeper || exit 1
fi
exec ` + program + ` pod-agent ` + folder

// blockSize is that of the blocks, in bytes. What the last one has beyond the program's end is no part of it.
const (
	blockSize = 65536
	blockText = "65536"
)

func layout(key compute.Key) keeper.Layout {
	return keeper.Layout{Folder: folder, Server: scopeServer, Compute: scopeCompute, Key: key.String()}
}

func (t *Target) labelled(key compute.Key) map[string]string {
	l := t.labels()
	l[labelJob], l[labelAttempt] = asLabel(key.Job), strconv.Itoa(key.Attempt)
	return l
}

// manifest is the Job of a job. No secret is in it.
func (t *Target) manifest(job compute.Job) object {
	labels := t.labelled(job.Key)
	jobLabels := maps.Clone(labels)
	if queue := cmp.Or(job.Resources.Queue, t.settings.Queue); queue != "" {
		jobLabels[labelQueue] = queue
	}
	notes := object{noteEpoch: strconv.FormatInt(job.Epoch, 10), noteName: job.Name}
	if login(job) != nil {
		notes[noteLogin] = "1"
	}
	pod := t.podSpec(job)
	spec := object{"backoffLimit": 0, "completions": 1, "parallelism": 1, "template": object{"metadata": object{"labels": labels}, "spec": pod}}
	if n := job.Ranks.Nodes; n > 1 {
		notes[noteNodes], notes[notePerNode] = strconv.Itoa(n), strconv.Itoa(job.Ranks.PerNode)
		spec["completionMode"], spec["completions"], spec["parallelism"] = "Indexed", n, n
		pod["subdomain"] = t.name(job.Key)
	}
	return object{
		"apiVersion": "batch/v1", "kind": "Job",
		"metadata": object{"name": t.name(job.Key), "labels": jobLabels, "annotations": notes},
		"spec":     spec,
	}
}

func (t *Target) podSpec(job compute.Job) object {
	volumes := []object{{"name": "moorage", "emptyDir": object{}}}
	mounts := []object{{"name": "moorage", "mountPath": volume}}
	if job.Resources.Shm > 0 {
		volumes = append(volumes, object{"name": "shm", "emptyDir": object{"medium": "Memory", "sizeLimit": strconv.FormatInt(job.Resources.Shm, 10)}})
		mounts = append(mounts, object{"name": "shm", "mountPath": "/dev/shm"})
	}
	grace := cmp.Or(job.Grace, keeper.DefaultGrace)
	stay := lingering
	if job.Ranks.Nodes > 1 {
		stay = lingeringTogether
	}
	spec := object{
		"restartPolicy": "Never", "enableServiceLinks": false, "automountServiceAccountToken": t.settings.ServiceAccount != "",
		"terminationGracePeriodSeconds": int64(math.Ceil((grace + endings).Seconds())),
		"volumes":                       volumes,
		"containers": []object{{
			"name": containerName, "image": t.image(job), "volumeMounts": mounts, "resources": t.resources(job),
			"command":                []string{"/bin/sh", "-c", script, "moorage", strconv.Itoa(waitKeeper), layout(job.Key).Dir(), strconv.Itoa(int(stay.Seconds()))},
			"terminationMessagePath": keeper.PodMessage,
		}},
	}
	set := func(name, value string) {
		if value != "" {
			spec[name] = value
		}
	}
	set("serviceAccountName", t.settings.ServiceAccount)
	set("priorityClassName", cmp.Or(job.Resources.Priority, t.settings.PriorityClass))
	selector := maps.Clone(t.settings.NodeSelector)
	if selector == nil {
		selector = map[string]string{}
	}
	maps.Copy(selector, job.Resources.Selector)
	if len(selector) > 0 {
		spec["nodeSelector"] = selector
	}
	if len(t.settings.Tolerations) > 0 {
		spec["tolerations"] = t.settings.Tolerations
	}
	pulls := slices.Clone(t.settings.PullSecrets)
	if login(job) != nil {
		pulls = append(pulls, t.name(job.Key))
	}
	var refs []object
	for _, name := range pulls {
		refs = append(refs, object{"name": name})
	}
	if len(refs) > 0 {
		spec["imagePullSecrets"] = refs
	}
	return spec
}

func (t *Target) image(job compute.Job) string {
	if job.Image != nil && job.Image.Name != "" {
		return job.Image.Name
	}
	return t.settings.Image
}

func (t *Target) resources(job compute.Job) object {
	r := job.Resources
	requests, limits := object{}, object{}
	cpus := func(to object, n float64) {
		if n > 0 {
			to["cpu"] = strconv.FormatInt(int64(math.Ceil(n*1000)), 10) + "m"
		}
	}
	memory := func(to object, n int64) {
		if n > 0 {
			to["memory"] = strconv.FormatInt(n, 10)
		}
	}
	cpus(requests, r.CPUs)
	cpus(limits, r.CPULimit)
	memory(requests, r.Memory)
	memory(limits, r.MemoryLimit)
	if job.GPUs > 0 {
		limits[t.settings.GPUResource] = strconv.Itoa(job.GPUs)
	}
	return object{"requests": requests, "limits": limits}
}

func login(job compute.Job) *compute.Login {
	if job.Image == nil {
		return nil
	}
	return job.Image.Login
}

// pullSecret is the Secret by which the kubelet pulls the job's image. It is of the Job's name and goes with it.
func (t *Target) pullSecret(job compute.Job) (object, error) {
	l := login(job)
	entry := object{"username": l.Username, "password": l.Password.Reveal(), "auth": base64.StdEncoding.EncodeToString([]byte(l.Username + ":" + l.Password.Reveal()))}
	text, err := json.Marshal(object{"auths": object{l.Server: entry}})
	if err != nil {
		return nil, err
	}
	return object{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
		"metadata": object{"name": t.name(job.Key), "labels": t.labelled(job.Key)},
		"data":     object{".dockerconfigjson": base64.StdEncoding.EncodeToString(text)},
	}, nil
}

// service gives the pods of a job on several nodes names by which they find each other. It goes with its Job.
func (t *Target) service(w *work) object {
	return object{
		"apiVersion": "v1", "kind": "Service",
		"metadata": object{
			"name": w.Meta.Name, "labels": w.Meta.Labels, "ownerReferences": owned(w),
		},
		"spec": object{"clusterIP": "None", "publishNotReadyAddresses": true, "selector": object{labelOwner: w.Meta.Name}},
	}
}

// owned says of an object that it goes with a Job.
func owned(w *work) []object {
	return []object{{"apiVersion": "batch/v1", "kind": "Job", "name": w.Meta.Name, "uid": w.Meta.UID}}
}

// tombstone is a Job that never starts a pod.
func (t *Target) tombstone(key compute.Key, epoch int64) object {
	labels := t.labelled(key)
	labels[labelCanceled] = "1"
	return object{
		"apiVersion": "batch/v1", "kind": "Job",
		"metadata": object{"name": t.name(key), "labels": labels, "annotations": object{noteEpoch: strconv.FormatInt(epoch, 10)}},
		"spec": object{
			"suspend": true, "backoffLimit": 0,
			"template": object{"spec": object{"restartPolicy": "Never", "containers": []object{{"name": containerName, "image": "canceled.invalid/nothing:1"}}}},
		},
	}
}
