package control

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// printer is a script that shows what it was given, one value a line, so that nothing is lost in between.
const printer = `import os, sys
for a in sys.argv[1:]:
    print(repr(a))
for name in sorted(os.environ):
    if name.startswith("T_"):
        print(name, repr(os.environ[name]))
`

// shell runs a command line as a target does: with paths in place of what stands for them, in a folder that holds the script.
func shell(t *testing.T, text string, paths map[string]string) (output, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "print it.py"), []byte(printer), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range paths {
		text = strings.ReplaceAll(text, "${{"+name+"}}", path)
	}
	if strings.Contains(text, "${{") {
		t.Fatalf("the command has what no target fills in:\n%s", text)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", text)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, text, out.String())
	}
	return out.String(), dir
}

func newLine() *commandLine {
	return &commandLine{variables: map[string]string{}, values: map[string]string{}}
}

func TestArgumentsArriveAsTheyAre(t *testing.T) {
	given := []string{"plain", "", "two words", "it's", `"quoted"`, "$HOME `id` $(id)", `back\slash`, "a\nb", "--x=1", "*", "~", "grün", "${{inputs.m}}", "-"}
	out, _ := shell(t, newLine().script("print it.py", given), nil)
	want := `'plain'
''
'two words'
"it's"
'"quoted"'
'$HOME ` + "`id`" + ` $(id)'
'back\\slash'
'a\nb'
'--x=1'
'*'
'~'
'grün'
'${{inputs.m}}'
'-'
`
	if out != want {
		t.Errorf("got\n%s\nwanted\n%s", out, want)
	}
}

func TestDataStandInArgumentsAndVariables(t *testing.T) {
	data, out := t.TempDir(), t.TempDir()
	place := filepath.Join(t.TempDir(), "made", "in put")
	if err := os.WriteFile(filepath.Join(data, "a.csv"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	line := newLine()
	line.values["DatasetConsumptionConfig:m"] = placeholder("inputs", "m")
	line.values["DatasetConsumptionConfig:m2"] = line.stand(place, placeholder("inputs", "m"), false)
	line.values["DatasetOutputConfig:o"] = line.stand("sub/o", placeholder("outputs", "o"), true)
	line.values["$AZUREML_DATAREFERENCE_ab"] = placeholder("inputs", "m") + "/" + shellWord("a.csv")
	line.variables["T_M"] = line.values["DatasetConsumptionConfig:m2"]
	text := line.script("print it.py", []string{"DatasetConsumptionConfig:m", "--d=DatasetConsumptionConfig:m2", "$AZUREML_DATAREFERENCE_ab", "DatasetOutputConfig:o", "DatasetConsumptionConfig:x"})
	got, dir := shell(t, text, map[string]string{"inputs.m": data, "outputs.o": out})
	want := "'" + data + "'\n'--d=" + place + "'\n'" + data + "/a.csv'\n'" + dir + "/sub/o'\n'DatasetConsumptionConfig:x'\nT_M '" + place + "'\n"
	if got != want {
		t.Errorf("got\n%s\nwanted\n%s", got, want)
	}
	for _, at := range []string{place, filepath.Join(dir, "sub/o")} {
		if _, err := os.Lstat(at); !os.IsNotExist(err) {
			t.Errorf("%s is still there", at)
		}
	}
}

func TestPlacesThatAreThereStay(t *testing.T) {
	data, out := t.TempDir(), t.TempDir()
	mine := t.TempDir()
	for _, f := range []string{filepath.Join(data, "a.csv"), filepath.Join(mine, "own")} {
		if err := os.WriteFile(f, []byte(f), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	line := newLine()
	line.stand(mine, placeholder("inputs", "m"), false)
	line.stand("made", placeholder("outputs", "o"), true)
	shell(t, "mkdir made\n"+line.command("ls "+mine+" && echo x > made/result && python -c 1"), map[string]string{"inputs.m": data, "outputs.o": out})
	for _, f := range []string{filepath.Join(mine, "own"), filepath.Join(mine, "a.csv"), filepath.Join(out, "result")} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
}

func TestTheExitCodeIsTheScripts(t *testing.T) {
	line := newLine()
	line.stand("made", placeholder("outputs", "o"), true)
	out := t.TempDir()
	text := strings.ReplaceAll(line.command("exit_with() { return $1; }\nexit_with 7"), "${{outputs.o}}", out)
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", text)
	cmd.Dir = t.TempDir()
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("ended with %v", err)
	}
}

func TestTheHookComesBeforeThePathOfTheUser(t *testing.T) {
	hook := t.TempDir()
	if err := os.WriteFile(filepath.Join(hook, "sitecustomize.py"), flushModule, 0o600); err != nil {
		t.Fatal(err)
	}
	own := t.TempDir()
	if err := os.WriteFile(filepath.Join(own, "sitecustomize.py"), []byte("print('mine')\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PYTHONPATH", own)
	line := newLine()
	line.search = placeholder("inputs", flushName)
	out, _ := shell(t, line.script("print it.py", nil), map[string]string{"inputs." + flushName: hook})
	if out != "mine\n" {
		t.Errorf("the sitecustomize of the user's own was not run: %q", out)
	}
}

// azureml stands for the client: it holds values until somebody asks it to send them.
const azureml = `import concurrent.futures, sys, types
pool = concurrent.futures.ThreadPoolExecutor()
pool.submit(lambda: None).result()
base = types.ModuleType("azureml._run_impl.run_base")
class _RunBase:
    @staticmethod
    def _kill(timeout):
        print("sent", pool.submit(lambda: timeout).result())
base._RunBase = _RunBase
sys.modules[base.__name__] = base
`

func TestMetricsAreSentWhenTheScriptEnds(t *testing.T) {
	hook, lib := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		filepath.Join(hook, "sitecustomize.py"): string(flushModule), filepath.Join(lib, "azureml.py"): azureml, filepath.Join(lib, "train.py"): "import azureml\nprint('trained')\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "python3", "train.py")
	cmd.Dir = lib
	cmd.Env = append(os.Environ(), "PYTHONPATH="+hook, "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "trained\nsent 40\n" {
		t.Errorf("%v: %s", err, out)
	}
}
