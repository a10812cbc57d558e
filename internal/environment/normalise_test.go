package environment

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestRequirementHasOneForm(t *testing.T) {
	for line, want := range map[string]string{
		"Scikit_Learn":                          "scikit-learn",
		"zope..interface":                       "zope-interface",
		"numpy >= 1.2 , < 2":                    "numpy<2,>=1.2",
		"numpy (>=1.2)":                         "numpy>=1.2",
		"ray[Tune, default]==2.9 # why":         "ray[default,tune]==2.9",
		"six==1.16.0 ;  python_version  < '3'":  "six==1.16.0 ; python_version < '3'",
		"a @ https://example.org/a.whl":         "a @ https://example.org/a.whl",
		"git+https://example.org/a.git@main":    "git+https://example.org/a.git@main",
		"# a comment":                           "",
		"six==1.16.0 --hash=sha256:abc":         "six==1.16.0 --hash=sha256:abc",
		"azureml-defaults~=1.60":                "azureml-defaults~=1.60",
		"torch==2.1.0+cu118":                    "torch==2.1.0+cu118",
		"git+ssh://git@example.org/o/r.git#egg": "git+ssh://git@example.org/o/r.git#egg",
	} {
		_, got, err := pipLine(line)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", line, got, err, want)
		}
	}
}

func TestRequirementThatCannotBeHonouredIsRefused(t *testing.T) {
	for _, line := range []string{
		"-r requirements.txt", "--requirement=x", "-e .", "-c c.txt", "./wheel.whl", "/abs/x.whl", "file:///x.whl", "a @ file:///x",
		"--target /", "--index-url", "-i not-an-address", "numpy=1.2", "numpy>>1", "$(reboot)", "a;b\nc", "-i ftp://example.org",
	} {
		_, _, err := pipLine(line)
		var p *workspace.Problem
		if !errors.As(err, &p) || p.Mend == "" {
			t.Errorf("%q: got %v, want a Problem with a mend", line, err)
		}
	}
}

func TestVersionsMeanTheSameOnPyPI(t *testing.T) {
	for conda, want := range map[string]string{
		"":          "",
		"=1.26":     "==1.26.*",
		"==1.26.4":  "==1.26.4",
		"=1.26.*":   "==1.26.*",
		">=1.2,<2":  ">=1.2,<2",
		">=1.2.*":   ">=1.2",
		"!=1.3.*":   "!=1.3.*",
		"~=1.4":     "~=1.4",
		"=*":        "",
		"==1.2,!=3": "==1.2,!=3",
	} {
		if got, ok := toPEP440(conda); !ok || got != want {
			t.Errorf("%q: got %q, want %q", conda, got, want)
		}
	}
	if _, ok := toPEP440("=1.8|=1.9"); ok {
		t.Error("alternatives were taken, and Python's grammar has none")
	}
}

func TestPythonIsAskedForInUvsWords(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "*": "", "3.11": "3.11", "=3.11": "3.11", "3.11.*": "3.11", "==3.8.13": "3.8.13", "=3.8.13": "3.8.13",
		">=3.10,<3.13": "<3.13,>=3.10", " >= 3.10 ": ">=3.10",
	} {
		if got, err := pythonRange(in); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"three", "3.x", "--help", "=3.9|=3.10", "3.11; rm"} {
		if got, err := pythonRange(in); err == nil {
			t.Errorf("%q: got %q, want a Problem", in, got)
		}
	}
}

func TestTwoPythonsAreRefused(t *testing.T) {
	_, err := Spec{Python: "3.10", CondaFile: "dependencies: [python=3.11]"}.normalise()
	if !errors.Is(err, &workspace.Problem{Code: "InvalidEnvironment"}) {
		t.Errorf("got %v", err)
	}
}

// The same needs in another order, with other spelling of names, other spaces and repetitions are the same environment.
func TestSameNeedsHaveOneHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,4}){0,2}`)
		version := rapid.StringMatching(`(==[0-9]\.[0-9]|>=[0-9]\.[0-9],<[1-9][0-9])?`)
		type pkg struct{ name, version string }
		list := func(label string) []pkg {
			return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pkg {
				return pkg{name.Filter(func(s string) bool { return s != "python" }).Draw(t, "name"), version.Draw(t, "version")}
			}), 0, 6).Draw(t, label)
		}
		conda, pip := list("conda"), list("pip")
		write := func(conda, pip []pkg, pipName func(string) string, space string) Spec {
			var b strings.Builder
			b.WriteString("channels: [conda-forge, other]\ndependencies:\n  - python=3.11\n")
			for _, p := range conda {
				fmt.Fprintf(&b, "  - %q\n", p.name+space+p.version)
			}
			if len(pip) > 0 {
				b.WriteString("  - pip:\n")
			}
			for _, p := range pip {
				fmt.Fprintf(&b, "    - %q\n", pipName(p.name)+space+p.version)
			}
			return Spec{CondaFile: b.String()}
		}
		a, err := write(conda, pip, func(s string) string { return s }, "").normalise()
		if err != nil {
			t.Fatal(err)
		}
		shuffledPip := append(rapid.Permutation(pip).Draw(t, "pip order"), pip...)
		b, err := write(rapid.Permutation(conda).Draw(t, "conda order"), shuffledPip,
			func(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }, " ").normalise()
		if err != nil {
			t.Fatal(err)
		}
		if a.key() != b.key() {
			t.Fatalf("%+v\n%+v", a, b)
		}
	})
}

func TestOtherNeedsHaveAnotherHash(t *testing.T) {
	base := Spec{CondaFile: "channels: [a, b]\ndependencies: [python=3.11, numpy, {pip: [six, '-i https://a.example/']}]"}
	seen := map[string]string{}
	for name, s := range map[string]Spec{
		"base":     base,
		"channels": {CondaFile: strings.Replace(base.CondaFile, "a, b", "b, a", 1)},
		"python":   {CondaFile: strings.Replace(base.CondaFile, "3.11", "3.12", 1)},
		"version":  {CondaFile: strings.Replace(base.CondaFile, "numpy", "numpy=1", 1)},
		"pip":      {CondaFile: strings.Replace(base.CondaFile, "six", "six==1", 1)},
		"option":   {CondaFile: strings.Replace(base.CondaFile, "a.example", "b.example", 1)},
		"moved":    {CondaFile: "channels: [a, b]\ndependencies: [python=3.11, {pip: [numpy, six, '-i https://a.example/']}]"},
	} {
		r, err := s.normalise()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[r.key()]; ok {
			t.Errorf("%s and %s have one hash", name, other)
		}
		seen[r.key()] = name
	}
}
