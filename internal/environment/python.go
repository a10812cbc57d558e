package environment

import (
	_ "embed"
	"fmt"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Policy says which Python serves where the one that is asked for is not on a machine.
type Policy string

// The policies. With both uv may fetch the one that is asked for, where it can.
const (
	// Compatible takes the same minor version before fetching, and the nearest one where nothing can be fetched. It is the
	// default.
	Compatible Policy = "compatible"
	// Exact takes no other, and fails the job.
	Exact Policy = "exact"
)

// Check says what is wrong with the policy. "" is the default.
func (p Policy) Check() *workspace.Problem {
	switch p {
	case "", Compatible, Exact:
		return nil
	}
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidPolicy", Target: "python", Message: fmt.Sprintf("%q is no policy for Python", clip(string(p))),
		Mend: "write exact or compatible",
	}
}

// venvScript finds the Python and makes the virtual environment.
//
//go:embed venv.sh
var venvScript string

// pythonScript makes "python" mean one that the machine has.
//
//go:embed python.sh
var pythonScript string

// ownPython is the way for packages that the user manages: nothing is installed, and "python" is the one named.
func ownPython(r recipe) *compute.Environment {
	e := python(r.Interpreter)
	e.Say = fmt.Sprintf("no packages are installed, because the environment's are managed by its user; python is the machine's %s", r.Interpreter)
	return e
}

// machinesPython is the way for an environment that names no packages: "python" is the machine's, if it has one.
func machinesPython() *compute.Environment {
	e := python("python", "optional")
	e.Say = "the job runs with the machine's own Python"
	return e
}

func python(args ...string) *compute.Environment {
	return &compute.Environment{
		Hash: hash(append([]string{"interpreter", pythonScript}, args...)...),
		Steps: []compute.Step{{
			Args: append([]string{"sh", "{{env}}/python.sh", "{{env}}"}, args...), Files: map[string]string{"python.sh": pythonScript},
		}},
		Path: []string{"bin"},
	}
}
