package environment

import (
	"cmp"
	"slices"
)

// Ingredients is what goes into an image that is made of a spec before its jobs run, for whoever makes it.
type Ingredients struct {
	Base  string // an image; "" with Build
	Build *Build // a Dockerfile, in place of Base
	// Python is the version or range that is asked for, and Exact whether another will not do.
	Python string
	Exact  bool
	// Requirements and Flags are for uv's pip install.
	Requirements []string
	Flags        []string
	// Say tells what stands for something else.
	Say []string
}

// ReadIngredients reads a spec for a compute whose jobs run in containers, of the image standard if none is named. What a plan
// would refuse is refused here, in the same words.
func ReadIngredients(s Spec, tools Tools, curated Curated, standard string) (Ingredients, error) {
	build := s.Build
	if build == nil && s.Dockerfile {
		build = s.From
	}
	s.Build = nil
	s, say, err := curated.resolve(s, true)
	if err != nil {
		return Ingredients{}, err
	}
	r, err := s.normalise()
	if err != nil {
		return Ingredients{}, err
	}
	fromConda, warnings := onPyPI(r.Conda)
	in := Ingredients{
		Build: build, Python: r.Python, Exact: tools.Python == Exact, Flags: uvFlags(r.Options),
		Say: slices.DeleteFunc(slices.Concat([]string{say}, r.Say, warnings), func(line string) bool { return line == "" }),
	}
	if build == nil {
		in.Base = cmp.Or(r.Image, standard)
	}
	if required := unique(append(fromConda, r.Pip...)); len(required) > 0 && r.Interpreter == "" {
		in.Requirements = append(uvOptions(r.Options), required...)
	}
	return in, nil
}

// Within gives the spec of a job that runs in the image that was made of in; packed tells that its packages are in it.
func (in Ingredients) Within(s Spec, image string, packed bool) Spec {
	inside := Spec{Image: image, Variables: s.Variables, Interpreter: s.Interpreter}
	if !packed {
		inside.CondaFile, inside.Python, inside.Pip = s.CondaFile, s.Python, s.Pip
		if s.Curated != "" {
			inside.Pip = slices.Concat(in.Requirements)
		}
	}
	return inside
}
