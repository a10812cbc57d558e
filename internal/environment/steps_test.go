package environment

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/test/engine"
)

// realUv places a real uv, kept between runs in the tests' cache folder.
func realUv(t *testing.T) (tools Tools, paths map[string]string) {
	t.Helper()
	engine.Need(t, "python3", "apt-get install python3")
	k := &kept{}
	u, err := NewUvTool(UvConfig{Dir: filepath.Join(testCache(t), "uv"), Objects: k})
	if err != nil {
		t.Fatal(err)
	}
	tool, err := u.Get(t.Context(), runtime.GOOS, runtime.GOARCH)
	if err != nil {
		engine.Absent(t, "uv cannot be fetched here: "+err.Error())
	}
	path := filepath.Join(t.TempDir(), "uv")
	if err := os.WriteFile(path, k.objects[tool.Object], 0o700); err != nil {
		t.Fatal(err)
	}
	return Tools{Uv: u.Get}, map[string]string{"uv": path}
}

// testCache is a folder that stays between runs.
func testCache(t *testing.T) string {
	t.Helper()
	if cache := os.Getenv("MOORAGE_CACHE"); cache != "" {
		return cache
	}
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "moorage-test")
}

// make carries out a plan as a keeper does, and returns the environment's folder and what the steps printed.
func makeEnvironment(t *testing.T, e *compute.Environment, tools map[string]string) (dir, output string, err error) {
	t.Helper()
	dir = t.TempDir()
	replace := []string{"{{env}}", dir}
	for name, path := range tools {
		replace = append(replace, "{{tool."+name+"}}", path)
	}
	r := strings.NewReplacer(replace...)
	var out bytes.Buffer
	for _, s := range e.Steps {
		for name, content := range s.Files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		args := make([]string, len(s.Args))
		for i, a := range s.Args {
			args[i] = r.Replace(a)
		}
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return dir, out.String(), err
		}
	}
	return dir, out.String(), nil
}

func TestPlanMakesAnEnvironmentWithRealUv(t *testing.T) {
	tools, paths := realUv(t)
	e := mustPlan(t, Spec{CondaFile: "dependencies:\n  - six=1.16\n  - pip:\n    - iniconfig>=1\n"}, map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH}, tools)
	dir, output, err := makeEnvironment(t, e, paths)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	python := filepath.Join(dir, e.Path[0], "python")
	got, err := exec.CommandContext(t.Context(), python, "-c", "import six, iniconfig; print(six.__version__)").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(got), "1.16.") {
		t.Errorf("got %q, %v", got, err)
	}
	if !strings.Contains(output, "six==1.16.") {
		t.Errorf("the log does not name what was installed:\n%s", output)
	}
}

func TestPackageThatDoesNotExistFailsInTheResolversWords(t *testing.T) {
	tools, paths := realUv(t)
	e := mustPlan(t, Spec{Pip: []string{"six==999.1"}}, map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH}, tools)
	_, output, err := makeEnvironment(t, e, paths)
	if err == nil || !strings.Contains(output, "six==999.1") || !strings.Contains(output, "No solution found") {
		t.Errorf("got %v:\n%s", err, output)
	}
}

func TestPythonThatCannotBeHadFailsInTheResolversWords(t *testing.T) {
	tools, paths := realUv(t)
	t.Setenv("UV_OFFLINE", "1")
	tools.Python = Exact
	e := mustPlan(t, Spec{Python: "3.99", Pip: []string{"six"}}, map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH}, tools)
	_, output, err := makeEnvironment(t, e, paths)
	if err == nil || !strings.Contains(output, "3.99") {
		t.Errorf("got %v:\n%s", err, output)
	}
}

// The cache of uv stands beside the environment, inside what detaching removes, and begins anew when it is old.
func TestUvsCacheStaysInTheComputesFolderAndIsBounded(t *testing.T) {
	tools, paths := realUv(t)
	e := mustPlan(t, Spec{Pip: []string{"six"}}, map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH}, tools)
	home := t.TempDir()
	t.Setenv("HOME", home)
	dir, output, err := makeEnvironment(t, e, paths)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) != 0 {
		t.Errorf("left in the home folder: %v, %v", left, err)
	}
	cache := filepath.Join(filepath.Dir(dir), ".uv-cache")
	mark, old := filepath.Join(cache, ".since"), time.Now().Add(-40*24*time.Hour)
	if err := os.Chtimes(mark, old, old); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(cache, "stale")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "uv.sh"), dir, paths["uv"], "--version").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Error("an old cache was kept")
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error(err)
	}
	if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, e.Path[0], "python"), "-c", "import six").CombinedOutput(); err != nil {
		t.Errorf("the environment lost its files with the cache: %s", out)
	}
}
