package environment

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// documentsDefinition is what azureml-core writes for the document's environment.
const documentsDefinition = `{"name":"myenv","version":null,"environmentVariables":{"EXAMPLE_ENV_VAR":"EXAMPLE_VALUE"},
 "python":{"userManagedDependencies":false,"interpreterPath":"python","condaDependenciesFile":null,"baseCondaEnvironment":null,
  "condaDependencies":{"name":"project_environment","dependencies":["python=3.10.18",{"pip":["--find-links https://pypi.python.org/simple/index.html",
   "--extra-index-url https://pypi.python.org/simple","azureml-defaults"]},"scikit-learn"],"channels":["anaconda","conda-forge"]}},
 "docker":{"enabled":false,"baseImage":"mcr.example/base:1","baseDockerfile":null,"buildContext":null,"arguments":[],
  "baseImageRegistry":{"address":null,"username":null,"password":null}},
 "spark":{"repositories":[],"packages":[],"precachePackages":true},"databricks":{"mavenLibraries":[]},"r":null,"inferencingStackVersion":null,"assetId":null}`

func mustRead(t *testing.T, text string) (Definition, json.RawMessage) {
	t.Helper()
	d, plain, err := ReadDefinition(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	return d, plain
}

func TestDocumentsEnvironmentIsReadAsItsPackages(t *testing.T) {
	d, _ := mustRead(t, documentsDefinition)
	s, err := d.Spec()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.normalise()
	if err != nil {
		t.Fatal(err)
	}
	want := recipe{
		Python: "3.10.18", Channels: []string{"anaconda", "conda-forge"}, Conda: []condaPackage{{Name: "scikit-learn"}},
		Pip: []string{"azureml-core>=1.35"}, Say: r.Say,
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
	if !reflect.DeepEqual(s.Variables, map[string]string{"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}) || s.Image != "" {
		t.Errorf("got %+v", s)
	}
	e := mustPlan(t, s, map[string]string{"docker": "/usr/bin/docker"}, Tools{Uv: withUv})
	if got := e.Steps[0].Files["requirements.txt"]; got != "scikit-learn\nazureml-core>=1.35\n" {
		t.Errorf("requirements %q", got)
	}
	if strings.Contains(e.Say, "image") {
		t.Errorf("an image that nobody switched on is spoken of: %q", e.Say)
	}
	for _, say := range []string{"azureml-defaults as azureml-core", "the public index by its old address means the default index", "Python 3.10.18, or the nearest", "from PyPI instead of conda: scikit-learn"} {
		if !strings.Contains(e.Say, say) {
			t.Errorf("%q does not say %q", e.Say, say)
		}
	}
	if e.Env[len(e.Env)-1] != "EXAMPLE_ENV_VAR=EXAMPLE_VALUE" {
		t.Errorf("variables %q", e.Env)
	}
}

func TestRegistrationAndRunGiveOneDefinition(t *testing.T) {
	_, whole := mustRead(t, documentsDefinition)
	_, mixed := mustRead(t, strings.NewReplacer(`"environmentVariables"`, `"EnvironmentVariables"`, `"docker"`, `"Docker"`, `"spark"`, `"Spark"`, `"name":"myenv"`, `"Name":"myenv"`).Replace(documentsDefinition))
	if string(whole) != string(mixed) {
		t.Errorf("%s\n%s", whole, mixed)
	}
	for _, absent := range []string{`"name":"myenv"`, "assetId", "inferencingStackVersion", `"r":`} {
		if strings.Contains(string(whole), absent) {
			t.Errorf("%s is kept in %s", absent, whole)
		}
	}
}

func TestReferenceHasNoDefinition(t *testing.T) {
	for _, text := range []string{`{"name":"x","version":"3"}`, `{"Name":"x"}`, `{"name":"x","version":null,"python":null}`} {
		if d, plain := mustRead(t, text); plain != nil || d.Name != "x" {
			t.Errorf("%s: got %+v, %s", text, d, plain)
		}
	}
}

func TestPasswordOfARegistryIsNotKept(t *testing.T) {
	_, plain := mustRead(t, `{"docker":{"enabled":true,"baseImage":"i","baseImageRegistry":{"address":"r.example","username":"u","password":"hunter2"}}}`)
	if strings.Contains(string(plain), "hunter2") || !strings.Contains(string(plain), "r.example") {
		t.Errorf("got %s", plain)
	}
}

func TestDefinitionThatCannotWorkIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no object":           `[]`,
		"a number as version": `{"version":1,"python":{}}`,
		"conda no object":     `{"python":{"condaDependencies":"numpy"}}`,
		"a bad package":       `{"python":{"condaDependencies":{"dependencies":["numpy; rm -rf /"]}}}`,
		"too much":            `{"python":{"condaDependencies":{"dependencies":["` + strings.Repeat("n", maxCondaFile) + `"]}}}`,
		"a bad variable":      `{"environmentVariables":{"A=B":"c"}}`,
		"an option as Python": `{"python":{"userManagedDependencies":true,"interpreterPath":"-c"}}`,
	} {
		_, _, err := ReadDefinition(json.RawMessage(text))
		var p *workspace.Problem
		if !errors.As(err, &p) || p.Class != workspace.Invalid || p.Mend == "" {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestUsersOwnPythonInstallsNothing(t *testing.T) {
	for interpreter, want := range map[string]string{"": "python", "python": "python", "/opt/py/bin/python3": "/opt/py/bin/python3", "~/venv/bin/python": "~/venv/bin/python"} {
		d, _ := mustRead(t, `{"python":{"userManagedDependencies":true,"interpreterPath":"`+interpreter+`","condaDependencies":{"dependencies":["numpy"]}}}`)
		s, err := d.Spec()
		if err != nil {
			t.Fatal(err)
		}
		e := mustPlan(t, s, map[string]string{"conda": "/c"}, Tools{})
		if diff := cmp.Diff([]string{"sh", "{{env}}/python.sh", "{{env}}", want}, e.Steps[0].Args); diff != "" || len(e.Tools) != 0 {
			t.Errorf("%q: %s", interpreter, diff)
		}
		if !strings.Contains(e.Say, "no packages are installed") || !strings.Contains(e.Say, want) {
			t.Errorf("%q: %q", interpreter, e.Say)
		}
	}
}

func TestContainerThatIsNotUsedIsSaidWithTheReason(t *testing.T) {
	image := `{"docker":{"enabled":true,"baseImage":"mcr.example/gpu:1"},"python":{"condaDependencies":{"dependencies":["python=3.11"]}}}`
	dockerfile := `{"docker":{"enabled":false,"baseDockerfile":"FROM x"},"python":{"userManagedDependencies":true}}`
	context := `{"docker":{"buildContext":{"location":"https://x.example/c","dockerfilePath":"Dockerfile"}},"python":{"userManagedDependencies":true}}`
	for name, c := range map[string]struct {
		definition string
		facts      map[string]string
		want       []string
	}{
		"image, no engine":   {image, nil, []string{"warning: image mcr.example/gpu:1 is not used", "runs no containers", "environment by uv"}},
		"image, docker":      {image, map[string]string{"docker": "/usr/bin/docker"}, []string{"mcr.example/gpu:1 is not used", "outside of containers, although the machine has /usr/bin/docker", "environment by uv"}},
		"image, podman":      {image, map[string]string{"podman": "/bin/podman"}, []string{"although the machine has /bin/podman"}},
		"image, in another":  {image, map[string]string{"image": "own:1"}, []string{"mcr.example/gpu:1 is not used", "run in containers of own:1"}},
		"Dockerfile":         {dockerfile, nil, []string{"warning: no image is built", "no packages are installed"}},
		"Dockerfile, docker": {dockerfile, map[string]string{"docker": "/d"}, []string{"warning: no image is built", "/d"}},
		"build context":      {context, nil, []string{"warning: no image is built"}},
	} {
		d, _ := mustRead(t, c.definition)
		s, err := d.Spec()
		if err != nil {
			t.Fatal(err)
		}
		e := mustPlan(t, s, c.facts, Tools{Uv: withUv})
		for _, say := range c.want {
			if !strings.Contains(e.Say, say) {
				t.Errorf("%s: %q does not say %q", name, e.Say, say)
			}
		}
	}
}

func TestV2SeesWhatV1Registered(t *testing.T) {
	d, _ := mustRead(t, documentsDefinition)
	arm, err := d.ARM()
	if err != nil {
		t.Fatal(err)
	}
	s, err := FromARM(arm)
	if err != nil {
		t.Fatal(err)
	}
	if s.Image != "mcr.example/base:1" {
		t.Errorf("image %q", s.Image)
	}
	a, err := s.normalise()
	if err != nil {
		t.Fatal(err)
	}
	own, err := d.Spec()
	if err != nil {
		t.Fatal(err)
	}
	b, err := own.normalise()
	if err != nil {
		t.Fatal(err)
	}
	if a.key() != b.key() {
		t.Errorf("%+v\n%+v", a, b)
	}
	managed, _ := mustRead(t, `{"python":{"userManagedDependencies":true,"condaDependencies":{"dependencies":["numpy"]}},"docker":{"baseDockerfile":"FROM x"}}`)
	if arm, err = managed.ARM(); err != nil || string(arm) != `{"osType":"Linux"}` {
		t.Errorf("got %s, %v", arm, err)
	}
}

func TestV1SeesWhatV2Registered(t *testing.T) {
	for name, c := range map[string]struct {
		spec Spec
		want string
	}{
		"conda file": {Spec{CondaFile: "name: n\nchannels: [c]\ndependencies: [python=3.11, {pip: [six]}]\n"}, `{"channels":["c"],"dependencies":["python=3.11",{"pip":["six"]}],"name":"n"}`},
		"curated":    {Spec{Python: "3.10", Pip: []string{"six"}}, `{"channels":["conda-forge"],"dependencies":["python=3.10",{"pip":["six"]}],"name":"project_environment"}`},
		"any Python": {Spec{Pip: []string{"six"}}, `{"channels":["conda-forge"],"dependencies":["python",{"pip":["six"]}],"name":"project_environment"}`},
		"a range":    {Spec{Python: ">=3.10,<3.12"}, `{"channels":["conda-forge"],"dependencies":["python\u003e=3.10,\u003c3.12"],"name":"project_environment"}`},
		"image":      {Spec{Image: "i:1"}, ""},
		"nothing":    {Spec{}, ""},
	} {
		text, err := DefinitionOf(c.spec)
		if err != nil {
			t.Fatal(err)
		}
		d, _ := mustRead(t, string(text))
		if string(d.Python.Conda) != c.want || d.Python.UserManaged != (c.want == "") || d.Docker.Image != c.spec.Image {
			t.Errorf("%s: got %s", name, text)
		}
		for _, section := range []string{`"spark":`, `"baseImageRegistry":`, `"interpreterPath":`} {
			if !strings.Contains(string(text), section) {
				t.Errorf("%s: %s is missing in %s", name, section, text)
			}
		}
	}
	text, err := DefinitionOf(Spec{Build: &Build{ContextURI: "https://a.blob.example/c/", DockerfilePath: "D"}})
	if err != nil || !strings.Contains(string(text), `"buildContext":{"dockerfilePath":"D","location":"https://a.blob.example/c/","locationType":"storageAccount"}`) {
		t.Errorf("got %s, %v", text, err)
	}
}

func FuzzDefinition(f *testing.F) {
	f.Add(documentsDefinition)
	f.Add(`{"python":{"condaDependencies":{"dependencies":[{"pip":["-i https://x.example"]},1,null]}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		d, plain, err := ReadDefinition(json.RawMessage(text))
		if err != nil || plain == nil {
			return
		}
		if _, again, err := ReadDefinition(plain); err != nil || string(again) != string(plain) {
			t.Fatalf("kept as %s, read again as %s, %v", plain, again, err)
		}
		if s, err := d.Spec(); err == nil {
			_, _ = s.normalise()
		}
	})
}
