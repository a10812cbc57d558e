package environment

import (
	"slices"
	"strings"
)

// Packages is what a spec asks for in the two languages that package managers read, for a machine of which nothing is known
// yet: the user's own computer finds out there which of them it has.
type Packages struct {
	Python       string   // a version or PEP 440 clauses; "": any
	CondaFile    string   // of a conda environment; "": nothing is asked for
	Requirements []string // lines for pip and uv, conda's packages by the names that they have on PyPI
	Say          []string // what was replaced or left out in Requirements
	Hash         string   // equal needs have equal ones
}

// ReadPackages reads the packages of a spec. A build context and an unknown curated name are Problems, as in Plan.
func ReadPackages(s Spec, curated Curated) (Packages, error) {
	if s.Build != nil {
		return Packages{}, buildUnsupported()
	}
	s, say, err := curated.resolve(s, false)
	if err != nil {
		return Packages{}, err
	}
	r, err := s.normalise()
	if err != nil || !r.packages() {
		return Packages{}, err
	}
	p := Packages{Python: r.Python, CondaFile: r.condaFile(), Hash: r.key()}
	fromConda, warnings := onPyPI(r.Conda)
	p.Requirements = slices.Concat(r.Options, unique(append(fromConda, r.Pip...)))
	p.Say = slices.DeleteFunc(slices.Concat([]string{say}, r.Say, warnings), func(line string) bool { return strings.TrimSpace(line) == "" })
	return p, nil
}
