package environment

import (
	"cmp"
	"fmt"

	"github.com/moorage-ml/moorage/internal/compute"
)

// Planned is how a target makes what a job needs around its code.
type Planned struct {
	// Environment is nil when nothing is to be made, set or said.
	Environment *compute.Environment
	// Image is what the job runs in. It has no Login. nil: no container, or the one that the target has of itself.
	Image *compute.Image
}

// place is where a job's processes are, as a target's facts tell.
type place struct {
	always   bool   // in a container, whatever is asked for
	can      bool   // in a container, if an image is asked for
	standard string // the image of jobs that ask for none
	by       string // the engine's program, where it is the machine's
	why      string // what stands against containers, where there are none
}

// The values of facts["containers"].
const (
	// each job is in a container ("docker") or a pod ("kubernetes").
	eachDocker, eachKubernetes = "docker", "kubernetes"
	// onMachine: the machine's own engine, facts["engine"], runs jobs that ask for an image.
	onMachine = "machine"
	// noEngine: it would, and the machine has none that the login may use; facts["engine_problem"] says why, if it has one.
	noEngine = "none"
	// switchedOff: the compute's settings say that it does not.
	switchedOff = "never"
)

func placeOf(facts map[string]string) place {
	p := place{}
	switch facts["containers"] {
	case eachDocker, eachKubernetes:
		p.always, p.can, p.standard = true, true, facts["image"]
	case onMachine:
		p.can, p.by = true, facts["engine"]
	case noEngine:
		p.why = cmp.Or(facts["engine_problem"], "the machine has neither docker nor podman")
	case switchedOff:
		p.why = "the compute's setting containers is never"
	default:
		p.why = "this kind of compute runs no containers"
		if engine := cmp.Or(facts["docker"], facts["podman"]); facts["image"] != "" {
			p.why = "jobs of this compute run in containers of " + facts["image"]
		} else if engine != "" {
			p.why = "jobs of this kind of compute run outside of containers, although the machine has " + engine
		}
	}
	return p
}

// choose picks the image of a job, "" for none that is named, and says which way was taken and why.
func (p place) choose(r recipe) (image string, say []string) {
	if r.Dockerfile {
		why := p.why
		if p.can {
			why = "its text is not kept"
		}
		say = append(say, "warning: no image is built of the environment's Dockerfile, because "+why)
	}
	switch {
	case r.Image != "" && p.always:
		return r.Image, append(say, "in a container of image "+r.Image+", which the environment names")
	case r.Image != "" && p.can:
		return r.Image, append(say, fmt.Sprintf("in a container of image %s, which the environment names, by %s", r.Image, p.by))
	case r.Image != "":
		say = append(say, fmt.Sprintf("warning: image %s is not used, because %s", r.Image, p.why))
	case p.always && p.standard != "" && (r.packages() || r.Interpreter != ""):
		say = append(say, "in a container of image "+p.standard+", the compute's own, because the environment names none")
	}
	return p.standard, say
}

// insideFacts are the facts that hold in a container on the target too: none of its programs is there.
func insideFacts(facts map[string]string) map[string]string {
	return map[string]string{"os": facts["os"], "arch": facts["arch"]}
}

// within makes an environment that was planned for the target itself one of an image: what is installed with one image's
// Python is of no use in another.
func within(image string, e *compute.Environment) *compute.Environment {
	if len(e.Steps) > 0 {
		e.Hash = hash("image", image, e.Hash)
	}
	return e
}
