package environment

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const azureBase = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:20240101.v1"

var (
	machine  = map[string]string{"containers": "machine", "engine": "/usr/bin/podman", "podman": "/usr/bin/podman", "micromamba": "/x/micromamba"}
	everyJob = map[string]string{"containers": "docker", "image": "python:3.12-slim"}
)

// planned plans, and gives the image's name and the environment's hash and say line too.
func planned(t *testing.T, s Spec, facts map[string]string, c Curated) (p Planned, image, hash, say string) {
	t.Helper()
	p, err := Plan(t.Context(), s, facts, Tools{Uv: withUv}, c)
	if err != nil {
		t.Fatal(err)
	}
	if p.Image != nil {
		image = p.Image.Name
	}
	if p.Environment != nil {
		hash, say = p.Environment.Hash, p.Environment.Say
	}
	return p, image, hash, say
}

func TestWhereAnImageIsUsedAndWhatIsSaidOfIt(t *testing.T) {
	for name, c := range map[string]struct {
		spec  Spec
		facts map[string]string
		image string
		say   string // "": there is no environment
	}{
		"nothing, on an engine":            {Spec{}, everyJob, "python:3.12-slim", ""},
		"nothing, on a machine":            {Spec{}, machine, "", ""},
		"an image, on an engine":           {Spec{Image: "a/b:1"}, everyJob, "a/b:1", "image a/b:1, which the environment names"},
		"an image, on a machine":           {Spec{Image: "a/b:1"}, machine, "a/b:1", "image a/b:1, which the environment names, by /usr/bin/podman"},
		"packages, on an engine":           {Spec{Pip: []string{"six"}}, everyJob, "python:3.12-slim", "python:3.12-slim, the compute's own, because the environment names none; environment by uv, because it is made inside"},
		"packages, on a machine":           {Spec{Pip: []string{"six"}}, machine, "", "environment by uv, because all its packages are on PyPI"},
		"a base of Azure's, on an engine":  {Spec{Image: azureBase}, everyJob, "python:3.12-slim", "one of Azure's bases"},
		"a base of Azure's, on a machine":  {Spec{Image: azureBase}, machine, "", "one of Azure's bases"},
		"a base for GPUs, on a machine":    {Spec{Image: "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.8-cudnn8-ubuntu22.04"}, machine, "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.8-cudnn8-ubuntu22.04", "by /usr/bin/podman"},
		"switched off":                     {Spec{Image: "a/b:1"}, map[string]string{"containers": "never", "docker": "/d"}, "", "warning: image a/b:1 is not used, because the compute's setting containers is never"},
		"no engine":                        {Spec{Image: "a/b:1"}, map[string]string{"containers": "none"}, "", "because the machine has neither docker nor podman"},
		"an engine that cannot be used":    {Spec{Image: "a/b:1"}, map[string]string{"containers": "none", "engine_problem": "docker lets nobody in"}, "", "because docker lets nobody in"},
		"a kind without containers":        {Spec{Image: "a/b:1"}, nil, "", "because this kind of compute runs no containers"},
		"a Dockerfile, on a machine":       {Spec{Dockerfile: true}, machine, "", "no image is built of the environment's Dockerfile"},
		"a user's own Python, in an image": {Spec{Image: "a/b:1", Interpreter: "python"}, machine, "a/b:1", "no packages are installed"},
	} {
		_, image, _, say := planned(t, c.spec, c.facts, table(t))
		if image != c.image || !strings.Contains(say, c.say) || c.say == "" && say != "" {
			t.Errorf("%s: image %q, say %q", name, image, say)
		}
	}
}

func TestPackagesInAnImageAreOfThatImage(t *testing.T) {
	spec := func(image string) Spec { return Spec{Image: image, CondaFile: condaAndPip} }
	p, _, a, _ := planned(t, spec("a:1"), machine, table(t))
	_, _, b, _ := planned(t, spec("b:1"), machine, table(t))
	_, _, again, _ := planned(t, spec("a:1"), machine, table(t))
	_, _, outside, _ := planned(t, spec(""), machine, table(t))
	if a == b || a != again || a == outside || a == "" {
		t.Errorf("hashes: %q %q %q %q", a, b, again, outside)
	}
	if first := p.Environment.Steps[0].Args; strings.Contains(strings.Join(first, " "), "micromamba") || p.Environment.Tools[0].Object != uvHash {
		t.Errorf("inside a container the machine's programs are not there: %v", first)
	}
	if p, _, _, _ := planned(t, Spec{Image: "a:1"}, machine, table(t)); len(p.Environment.Steps) != 0 || p.Environment.Hash != "" {
		t.Errorf("an image alone makes something: %+v", p.Environment)
	}
}

func TestOperatorsTableGivesImages(t *testing.T) {
	file := filepath.Join(t.TempDir(), "curated.yaml")
	text := "environments:\n  - names: [sklearn-1.5]\n    image: own/sklearn:1\n    pip: [scikit-learn]\n" +
		"  - images: [\"mcr.microsoft.com/azureml/openmpi*\"]\n    image: own/base:2\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCurated(file)
	if err != nil {
		t.Fatal(err)
	}
	p, image, _, say := planned(t, Spec{Curated: "AzureML-sklearn-1.5"}, everyJob, c)
	if image != "own/sklearn:1" || len(p.Environment.Steps) != 0 || !strings.Contains(say, "as image own/sklearn:1") {
		t.Errorf("curated name in a container: %q %q", image, say)
	}
	if _, image, _, say = planned(t, Spec{Curated: "AzureML-sklearn-1.5"}, nil, c); image != "" || !strings.Contains(say, "as packages") {
		t.Errorf("curated name without containers: %q %q", image, say)
	}
	if _, image, _, say = planned(t, Spec{Image: azureBase}, machine, c); image != "own/base:2" || !strings.Contains(say, "in place of "+azureBase) {
		t.Errorf("a base of Azure's: %q %q", image, say)
	}
}
