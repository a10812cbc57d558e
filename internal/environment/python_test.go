package environment

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// simulatedUv is a uv that finds programs named python3.N or python3.N.M in its PATH, and fetches what MAY_FETCH names.
const simulatedUv = `#!/bin/sh
case $1 in
python)
	for last; do :; done
	case $last in --*) last=3 ;; esac
	case $last in *.*.*) exact=$last last=${last%.*} ;; *) exact= ;; esac
	IFS=:
	for dir in $PATH; do
		[ -x "$dir/python$last" ] || continue
		[ -z "$exact" ] || [ "$exact" = "$("$dir/python$last" -c version)" ] || continue
		echo "$dir/python$last"
		exit
	done
	exit 1 ;;
venv)
	case $4 in
	/*) ;;
	"${MAY_FETCH:-}") [ "$UV_PYTHON_PREFERENCE" = only-managed ] || exit 3 ;;
	*) echo "simulated: $4 cannot be fetched" >&2; exit 2 ;;
	esac
	mkdir -p "$5" && echo "$4" >"$5/made" ;;
esac
`

// home is a login's home folder with what the scripts need, and Pythons by their place and full version.
func scriptHome(t *testing.T, pythons map[string]string) (home string) {
	t.Helper()
	home = t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for place, version := range pythons {
		minor := version[:strings.LastIndexByte(version, '.')]
		write(filepath.Join(home, place, "python"+minor), "#!/bin/sh\necho "+version+"\n")
	}
	write(filepath.Join(home, "env", "uv.sh"), uvScript)
	write(filepath.Join(home, "env", "venv.sh"), venvScript)
	write(filepath.Join(home, "uv"), simulatedUv)
	return home
}

func TestNearestPythonServesAsThePolicySays(t *testing.T) {
	// Versions that no machine has, so that Pythons of this one do not matter.
	for name, c := range map[string]struct {
		pythons map[string]string
		policy  Policy
		want    string
		fetch   string
		made    string // what the virtual environment is made of, below the home folder or as it is; "": it fails
		say     string
	}{
		"the very one":                 {map[string]string{".pyenv/versions/3.18.2/bin": "3.18.2"}, Compatible, "3.18.2", "", ".pyenv/versions/3.18.2/bin/python3.18", "Python 3.18.2 at "},
		"any patch release":            {map[string]string{"miniconda3/envs/x/bin": "3.18.2"}, Exact, "3.18", "", "miniconda3/envs/x/bin/python3.18", "Python 3.18.2 at "},
		"another patch release":        {map[string]string{"anaconda3/bin": "3.18.2"}, Compatible, "3.18.9", "3.18.9", "anaconda3/bin/python3.18", "because 3.18.9 is not here"},
		"another patch release, exact": {map[string]string{"anaconda3/bin": "3.18.2"}, Exact, "3.18.9", "", "", "uv is asked to fetch it"},
		"fetched":                      {map[string]string{".local/bin": "3.18.2"}, Exact, "3.18.9", "3.18.9", "3.18.9", "uv is asked to fetch it"},
		"fetched, not the nearest":     {map[string]string{".local/bin": "3.18.2"}, Compatible, "3.17.1", "3.17.1", "3.17.1", "uv is asked to fetch it"},
		"the next newer":               {map[string]string{".local/share/uv/python/a/bin": "3.19.0", ".local/bin": "3.16.0"}, Compatible, "3.17.1", "", ".local/share/uv/python/a/bin/python3.19", "warning: Python 3.17.1 cannot be had; Python 3.19.0 at "},
		"else the next older":          {map[string]string{".asdf/installs/python/a/bin": "3.18.0", ".local/bin": "3.17.0"}, Compatible, "3.19.1", "", ".asdf/installs/python/a/bin/python3.18", "warning: Python 3.19.1 cannot be had; Python 3.18.0 at "},
		"of a range":                   {map[string]string{"mambaforge/bin": "3.18.0"}, Compatible, ">=3.17,<3.18", "", "mambaforge/bin/python3.18", "warning: Python >=3.17,<3.18 cannot be had"},
		"of a range, exact":            {map[string]string{"mambaforge/bin": "3.18.0"}, Exact, ">=3.17,<3.18", "", "", "uv is asked to fetch it"},
		"behind a shim":                {map[string]string{".pyenv/shims": "3.18.1", ".pyenv/versions/3.18.2/bin": "3.18.2"}, Exact, "3.18", "", ".pyenv/versions/3.18.2/bin/python3.18", "Python 3.18.2 at "},
	} {
		t.Run(name, func(t *testing.T) {
			home := scriptHome(t, c.pythons)
			cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(home, "env/venv.sh"), filepath.Join(home, "env"), filepath.Join(home, "uv"), string(c.policy), c.want)
			cmd.Env = []string{"PATH=" + filepath.Join(home, ".pyenv/shims") + ":/usr/bin:/bin", "HOME=" + home, "MAY_FETCH=" + c.fetch}
			out, err := cmd.CombinedOutput()
			if (err == nil) != (c.made != "") || !strings.Contains(string(out), c.say) {
				t.Errorf("got %v, want %q:\n%s", err, c.say, out)
			}
			made, _ := os.ReadFile(filepath.Join(home, "env/venv/made"))
			want := c.made
			if strings.Contains(want, "/") {
				want = filepath.Join(home, want)
			}
			if got := strings.TrimSpace(string(made)); got != want {
				t.Errorf("made of %q, want %q:\n%s", got, want, out)
			}
		})
	}
}

func TestPythonIsFoundInEveryUsualPlace(t *testing.T) {
	for _, place := range []string{
		".pyenv/versions/x/bin", ".asdf/installs/python/x/bin", ".local/share/mise/installs/python/x/bin", ".local/bin", ".local/share/uv/python/x/bin",
		"micromamba/envs/x/bin", "miniconda3/bin", "anaconda3/envs/x/bin", "miniforge3/bin", "mambaforge/envs/x/bin",
	} {
		home := scriptHome(t, map[string]string{place: "3.18.2"})
		cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(home, "env/venv.sh"), filepath.Join(home, "env"), filepath.Join(home, "uv"), "exact", "3.18.2")
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + home}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), filepath.Join(home, place, "python3.18")) {
			t.Errorf("%s: %v: %s", place, err, out)
		}
	}
	home := scriptHome(t, map[string]string{"elsewhere/envs/y/bin": "3.18.2", "pyenvs/versions/x/bin": "3.19.3"})
	for variable, version := range map[string]string{"CONDA_EXE=" + home + "/elsewhere/bin/conda": "3.18.2", "PYENV_ROOT=" + home + "/pyenvs": "3.19.3"} {
		cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(home, "env/venv.sh"), filepath.Join(home, "env"), filepath.Join(home, "uv"), "exact", version)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + home, variable}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", variable, err, out)
		}
	}
}

func TestPythonOfTheUserIsTheOneNamed(t *testing.T) {
	home := t.TempDir()
	beside := filepath.Join(home, "it's a venv", "bin")
	if err := os.MkdirAll(beside, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"python": "#!/bin/sh\ncase $1 in -c) echo 3.18.2;; *) echo \"own $1\"; helper;; esac\n", "helper": "#!/bin/sh\necho helped\n"} {
		if err := os.WriteFile(filepath.Join(beside, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(home, "python.sh")
	if err := os.WriteFile(script, []byte(pythonScript), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(path string, want ...string) (dir, out string, err error) {
		dir = t.TempDir()
		cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{script, dir}, want...)...)
		cmd.Env = []string{"PATH=" + path, "HOME=" + home}
		b, err := cmd.CombinedOutput()
		return dir, string(b), err
	}
	for _, want := range []string{filepath.Join(beside, "python"), "~/it's a venv/bin/python"} {
		dir, out, err := run("/usr/bin:/bin", want)
		if err != nil || !strings.Contains(out, "(3.18.2)") {
			t.Fatalf("%s: %v: %s", want, err, out)
		}
		if b, err := exec.CommandContext(t.Context(), filepath.Join(dir, "bin/python"), "train.py").CombinedOutput(); string(b) != "own train.py\nhelped\n" {
			t.Errorf("%s: got %q, %v", want, b, err)
		}
	}
	if dir, out, err := run(beside+":/usr/bin:/bin", "python"); err != nil || !strings.Contains(out, beside) {
		t.Errorf("by name: %v: %s in %s", err, out, dir)
	}
	if _, out, err := run("/usr/bin:/bin", "./venv/bin/python"); err != nil || !strings.Contains(out, "in the job's code") {
		t.Errorf("in the code: %v: %s", err, out)
	}
	tools := t.TempDir() // a PATH without any Python
	mkdir, err := exec.LookPath("mkdir")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(mkdir, filepath.Join(tools, "mkdir")); err != nil {
		t.Fatal(err)
	}
	if _, out, err := run(tools, "python", "optional"); err != nil || !strings.Contains(out, "finds no python") {
		t.Errorf("optional: %v: %s", err, out)
	}
	if _, out, err := run(tools, "python"); err == nil {
		t.Errorf("needed: %s", out)
	}
	for _, absent := range []string{"/nowhere/python", "python9.9"} {
		if _, out, err := run("/usr/bin:/bin", absent); err == nil || !strings.Contains(out, absent) || !strings.Contains(out, "interpreterPath") {
			t.Errorf("%s: %v: %s", absent, err, out)
		}
	}
}

func TestPolicyIsChecked(t *testing.T) {
	for policy, good := range map[Policy]bool{"": true, Exact: true, Compatible: true, "any": false} {
		if p := policy.Check(); (p == nil) != good {
			t.Errorf("%q: %v", policy, p)
		}
	}
	s := Spec{Python: "3.11", Pip: []string{"six"}}
	a, b := mustPlan(t, s, nil, Tools{Uv: withUv}), mustPlan(t, s, nil, Tools{Uv: withUv, Python: Exact})
	if a.Hash == b.Hash || b.Steps[0].Args[4] != "exact" || !strings.Contains(b.Say, "Python 3.11 and no other") {
		t.Errorf("got %+v", b)
	}
}

// The document's own environment, made by the real uv with a Python that is here.
func TestDocumentsEnvironmentIsMade(t *testing.T) {
	tools, paths := realUv(t)
	t.Setenv("UV_CACHE_DIR", filepath.Join(testCache(t), "uv-cache"))
	d, _ := mustRead(t, documentsDefinition)
	s, err := d.Spec()
	if err != nil {
		t.Fatal(err)
	}
	e := mustPlan(t, s, map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH}, tools)
	dir, output, err := makeEnvironment(t, e, paths)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if !strings.Contains(output, "Python 3.") {
		t.Errorf("the log does not name the Python:\n%s", output)
	}
	const use = "import sklearn, importlib.util as u; from azureml.core import Run; print(Run.get_context().id, u.find_spec('azureml.dataprep'))"
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, e.Path[0], "python"), "-c", use)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "OfflineRun") {
		t.Errorf("got %v:\n%s", err, out)
	}
}
