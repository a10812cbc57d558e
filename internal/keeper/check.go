package keeper

import (
	"fmt"
	"net/url"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// checkJob refuses what could never run, before anything is made for it.
func checkJob(j Job) error {
	names := map[string]bool{}
	for _, in := range j.Inputs {
		if !plainOutput(in.Name) || names[in.Name] {
			return fault(Invalid, *badName("input", in.Name))
		}
		names[in.Name] = true
		given := 0
		for _, set := range []bool{in.Tree != "", in.URL != "", in.Path != ""} {
			if set {
				given++
			}
		}
		if given != 1 {
			return fault(Invalid, workspace.Problem{
				Class: workspace.Invalid, Code: "InvalidInput", Message: "input " + in.Name + " does not say where it comes from", Target: in.Name,
				Mend: "give it exactly one of a snapshot, an https address and a path on the target",
			})
		}
		if in.Tree != "" && !in.Tree.Valid() {
			return fault(Invalid, *badHash(string(in.Tree)))
		}
		if in.URL != "" {
			if u, err := url.Parse(in.URL); err != nil || u.Scheme != "https" || u.Host == "" {
				return fault(Invalid, *badAddress(in.Name))
			}
		}
	}
	names = map[string]bool{"outputs": true, "logs": true} // come home under these names anyway
	for _, out := range j.Outputs {
		if !plainOutput(out.Name) || names[out.Name] {
			return fault(Invalid, *badName("output", out.Name))
		}
		names[out.Name] = true
	}
	if j.Code != "" && !j.Code.Valid() {
		return fault(Invalid, *badHash(string(j.Code)))
	}
	if j.GPUs < 0 || j.Timeout < 0 || j.LogLimit < 0 {
		return fault(Invalid, workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidJob", Message: "a job's GPUs, timeout and log limit cannot be negative", Mend: "correct the job",
		})
	}
	if err := checkImage(j.Image); err != nil {
		return err
	}
	if err := j.Ranks.check(); err != nil {
		return fault(Invalid, workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidRanks", Message: "the job's processes cannot be counted", Cause: err.Error(), Mend: "correct the job's distribution",
		})
	}
	if b := j.Bounds; b != nil && (b.CPUs < 0 || b.Memory < 0 || b.Shm < 0) {
		return fault(Invalid, workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidResources", Message: "a job's processors, memory and shared memory cannot be negative", Mend: "correct the job's resources",
		})
	}
	if e := j.Environment; e != nil {
		if len(e.Steps) > 0 && !plain(e.Hash) {
			return fault(Invalid, *badName("environment", e.Hash))
		}
		for _, t := range e.Tools {
			if !t.Object.Valid() {
				return fault(Invalid, *badHash(string(t.Object)))
			}
		}
	}
	return nil
}

func badName(what, name string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidName", Message: fmt.Sprintf("%.80q cannot be the name of an %s, or is there twice", name, what),
		Mend: "use letters, digits and '_', and each name once",
	}
}

func badHash(hash string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidHash", Message: fmt.Sprintf("%.80q is not the hash of an object", hash), Mend: "submit the job again from its folder",
	}
}

func badAddress(input string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidInputURL", Message: "the address of input " + input + " is not an https URL", Target: input,
		Mend: "give an address that begins with https://",
	}
}
