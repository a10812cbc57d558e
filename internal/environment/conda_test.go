package environment

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestCondaPackageIsReadAsCondaReadsIt(t *testing.T) {
	for text, want := range map[string]condaPackage{
		"numpy":                      {Name: "numpy"},
		" NumPy ":                    {Name: "numpy"},
		"numpy=1.26":                 {Name: "numpy", Version: "=1.26"},
		"numpy==1.26.4":              {Name: "numpy", Version: "==1.26.4"},
		"numpy 1.26.4":               {Name: "numpy", Version: "==1.26.4"},
		"numpy 1.26.*":               {Name: "numpy", Version: "=1.26"},
		"numpy >=1.2, <2":            {Name: "numpy", Version: ">=1.2,<2"},
		"numpy>=1.2,<2":              {Name: "numpy", Version: ">=1.2,<2"},
		"numpy=1.26.4=py311h64a77_0": {Name: "numpy", Version: "=1.26.4", Build: "py311h64a77_0"},
		"numpy 1.26.4 py311h64a77_0": {Name: "numpy", Version: "==1.26.4", Build: "py311h64a77_0"},
		"conda-forge::numpy":         {Channel: "conda-forge", Name: "numpy"},
		"pytorch::pytorch=2.1":       {Channel: "pytorch", Name: "pytorch", Version: "=2.1"},
		"numpy[version='>=1.2,<2']":  {Name: "numpy", Version: ">=1.2,<2"},
		"python=3.8.13":              {Name: "python", Version: "=3.8.13"},
		"_libgcc_mutex":              {Name: "_libgcc_mutex"},
		"ruamel.yaml # a comment":    {Name: "ruamel.yaml"},
		"mkl=2023|2024":              {Name: "mkl", Version: "=2023|==2024"},
		"a >=1,2.*|3":                {Name: "a", Version: ">=1,=2|==3"},
	} {
		got, err := parseCondaPackage(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestBadCondaFileNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct{ text, say string }{
		"not YAML":            {"channels: [a\ndependencies:\n  - b: : c\n", "line "},
		"a list":              {"- numpy\n", "line 1"},
		"dependencies a text": {"dependencies: numpy\n", "line 1"},
		"a number":            {"dependencies:\n  - 3\n", "dependency 1"},
		"an unknown mapping":  {"dependencies:\n  - npm: [left-pad]\n", `"npm"`},
		"pip a text":          {"dependencies:\n  - pip: numpy\n", `"pip"`},
		"pip holds a number":  {"dependencies:\n  - pip: [1]\n", "pip section"},
		"a shell":             {"dependencies:\n  - 'numpy; rm -rf /'\n", "numpy; rm"},
		"an open bracket":     {"dependencies:\n  - 'numpy[version=1'\n", "bracket"},
		"an empty channel":    {"channels: ['']\n", "channel"},
		"too large":           {strings.Repeat("#", maxCondaFile+1) + "\nchannels: []", "bytes"},
	} {
		_, err := parseConda(c.text)
		var p *workspace.Problem
		if !errors.As(err, &p) || p.Class != workspace.Invalid || p.Mend == "" || !strings.Contains(p.Error(), c.say) {
			t.Errorf("%s: got %v, want a Problem that says %q", name, err, c.say)
		}
	}
}

func FuzzConda(f *testing.F) {
	f.Add("name: x\nchannels: [conda-forge]\ndependencies:\n  - python=3.10\n  - numpy>=1.2,<2\n  - pip:\n    - six==1.16.0\n    - --extra-index-url https://example.org/simple\n")
	f.Add("dependencies:\n  - conda-forge::numpy[version='>=1.2,<2',build=py3*]\n")
	f.Add("dependencies: [&a [*a]]\n")
	f.Add("dependencies:\n- pip:\n  - a @ git+https://example.org/a.git ; python_version<'3.9'\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := Spec{CondaFile: text}
		r, err := s.normalise()
		if err != nil {
			var p *workspace.Problem
			if !errors.As(err, &p) {
				t.Fatalf("not a Problem: %v", err)
			}
			return
		}
		// What was accepted can be written as a conda file again, and means the same.
		if !r.packages() {
			return
		}
		again, err := Spec{CondaFile: r.condaFile()}.normalise()
		if err != nil {
			t.Fatalf("%q became %q: %v", text, r.condaFile(), err)
		}
		if len(again.Pip) != len(r.Pip) || len(again.Conda) < len(r.Conda) || again.Python != r.Python {
			t.Fatalf("%q became %q", text, r.condaFile())
		}
	})
}

// Some short texts have endless content, or would need an endless stack. Each is refused, and in time.
func TestHostileCondaFilesAreRefusedInTime(t *testing.T) {
	var aliases strings.Builder
	aliases.WriteString("channels: []\nl0: &l0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&aliases, "l%d: &l%d [%s*l%d]\n", i, i, strings.Repeat(fmt.Sprintf("*l%d, ", i-1), 9), i-1)
	}
	const many = maxCondaFile / 2
	for name, text := range map[string]string{
		"aliases of aliases": aliases.String() + "dependencies: [*l9]\n",
		"brackets":           "dependencies: " + strings.Repeat("[", many),
		"braces":             "dependencies: " + strings.Repeat("{", many),
		"dashes":             "dependencies:\n" + strings.Repeat("- ", many),
		"question marks":     "dependencies:\n" + strings.Repeat("? ", many),
		"tags":               "dependencies: " + strings.Repeat("!a ", many/2),
		"lines of dashes":    "dependencies:\n" + stairs("- x:\n", 500),
		"a tag for a list":   "dependencies:\n !0000 ",
	} {
		start := time.Now()
		_, err := parseConda(text)
		if took := time.Since(start); err == nil || took > 10*time.Second {
			t.Errorf("%s: %v after %v", name, err, took)
		}
	}
}

func stairs(step string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + step)
	}
	return b.String()
}
