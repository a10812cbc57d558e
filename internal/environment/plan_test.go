package environment

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/workspace"
)

var uvHash = snapshot.Sum([]byte("uv"))

func withUv(context.Context, string, string) (compute.Tool, error) {
	return compute.Tool{Name: "uv", Object: uvHash}, nil
}

func table(t *testing.T) Curated {
	t.Helper()
	c, err := DefaultCurated()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustPlan(t *testing.T, s Spec, facts map[string]string, tools Tools) *compute.Environment {
	t.Helper()
	p, err := Plan(t.Context(), s, facts, tools, table(t))
	if err != nil {
		t.Fatal(err)
	}
	return p.Environment
}

const condaAndPip = "channels: [pytorch, conda-forge]\ndependencies:\n  - python=3.11\n  - pytorch=2.1\n  - pandas\n  - cudatoolkit=11.8\n  - openjdk\n  - pip:\n    - six==1.16.0\n    - --pre\n    - --extra-index-url https://example.org/simple\n"

func TestNothingAskedIsTheTargetsOwn(t *testing.T) {
	for name, s := range map[string]Spec{"zero": {}, "empty file": {CondaFile: "name: x\nchannels: [a]\n"}, "comment": {CondaFile: "# nothing"}} {
		if e := mustPlan(t, s, nil, Tools{}); e != nil {
			t.Errorf("%s: got %+v, want nil", name, e)
		}
	}
}

func TestImageAloneIsTheTargetsOwnAndSaysSo(t *testing.T) {
	e := mustPlan(t, Spec{Image: "example.org/base:1"}, nil, Tools{})
	if e == nil || len(e.Steps) != 1 || len(e.Tools) != 0 || e.Hash == "" {
		t.Fatalf("got %+v", e)
	}
	if diff := cmp.Diff([]string{"sh", "{{env}}/python.sh", "{{env}}", "python", "optional"}, e.Steps[0].Args); diff != "" {
		t.Error(diff)
	}
	for _, say := range []string{"warning: image example.org/base:1 is not used, because this kind of compute runs no containers", "own Python"} {
		if !strings.Contains(e.Say, say) {
			t.Errorf("%q does not say %q", e.Say, say)
		}
	}
}

func TestBuildContextIsRefusedWithAMend(t *testing.T) {
	s, err := FromARM([]byte(`{"build":{"contextUri":"https://x/","dockerfilePath":"Dockerfile"},"image":null,"osType":"Linux"}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Plan(t.Context(), s, nil, Tools{}, table(t))
	for _, err := range []error{err, Check(s, table(t))} {
		var p *workspace.Problem
		if !errors.As(err, &p) || p.Class != workspace.Unsupported || p.Mend == "" {
			t.Errorf("got %v", err)
		}
	}
}

func TestUvTakesCondaPackagesByTheirPyPINames(t *testing.T) {
	e := mustPlan(t, Spec{CondaFile: condaAndPip}, map[string]string{"os": "linux", "arch": "x86_64"}, Tools{Uv: withUv})
	want := []compute.Step{
		{Args: []string{"sh", "{{env}}/venv.sh", "{{env}}", "{{tool.uv}}", "compatible", "3.11"}, Files: map[string]string{
			"uv.sh":            uvScript,
			"venv.sh":          venvScript,
			"requirements.txt": "--extra-index-url https://example.org/simple\npandas\ntorch==2.1.*\nsix==1.16.0\n",
		}},
		{Args: []string{"sh", "{{env}}/uv.sh", "{{env}}", "{{tool.uv}}", "pip", "install", "--python", "{{env}}/venv/bin/python", "-r", "{{env}}/requirements.txt", "--prerelease", "allow"}},
	}
	if diff := cmp.Diff(want, e.Steps); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]compute.Tool{{Name: "uv", Object: uvHash}}, e.Tools); diff != "" {
		t.Error(diff)
	}
	for _, say := range []string{"by uv, because the machine has no conda tool", "pytorch as torch", "cudatoolkit", "not being on PyPI: openjdk"} {
		if !strings.Contains(e.Say, say) {
			t.Errorf("%q does not say %q", e.Say, say)
		}
	}
	if strings.Contains(e.Say, "\n") {
		t.Errorf("%q is not one line", e.Say)
	}
}

func TestCondaToolIsUsedWhereThereIsOne(t *testing.T) {
	for tool, want := range map[string][]string{
		"micromamba": {"/x/micromamba", "create", "-y", "-p", "{{env}}/conda", "-f", "{{env}}/spec.yml"},
		"conda":      {"/x/conda", "env", "create", "-p", "{{env}}/conda", "-f", "{{env}}/spec.yml"},
		"pixi":       {"/x/pixi", "init", "--import", "{{env}}/spec.yml", "{{env}}/pixi"},
	} {
		e := mustPlan(t, Spec{CondaFile: condaAndPip}, map[string]string{tool: "/x/" + tool}, Tools{Uv: withUv})
		if diff := cmp.Diff(want, e.Steps[0].Args); diff != "" {
			t.Errorf("%s: %s", tool, diff)
		}
		if len(e.Tools) != 0 {
			t.Errorf("%s: placed %v", tool, e.Tools)
		}
		if !strings.Contains(e.Say, "by "+tool+", found at /x/"+tool) {
			t.Errorf("%s: %q", tool, e.Say)
		}
		file := e.Steps[0].Files["spec.yml"]
		for _, line := range []string{`- "pytorch"`, `- "python=3.11"`, `- "pytorch=2.1"`, `- "cudatoolkit=11.8"`, "- pip:", `- "six==1.16.0"`} {
			if !strings.Contains(file, line) {
				t.Errorf("%s: spec.yml lacks %q:\n%s", tool, line, file)
			}
		}
		if !strings.HasSuffix(e.Path[0], "/bin") {
			t.Errorf("%s: path %v", tool, e.Path)
		}
	}
}

func TestBestCondaToolWins(t *testing.T) {
	e := mustPlan(t, Spec{CondaFile: condaAndPip}, map[string]string{"conda": "/c", "micromamba": "/m", "pixi": "/p"}, Tools{})
	if e.Steps[0].Args[0] != "/m" {
		t.Errorf("got %v", e.Steps[0].Args)
	}
}

func TestCondaIsLeftAloneWhenAllIsOnPyPI(t *testing.T) {
	e := mustPlan(t, Spec{CondaFile: "dependencies: [pip, {pip: [six]}]"}, map[string]string{"conda": "/c"}, Tools{Uv: withUv})
	if !strings.Contains(e.Say, "by uv, because all its packages are on PyPI") {
		t.Errorf("got %q", e.Say)
	}
}

func TestTargetsOwnUvServesWhenTheServerHasNone(t *testing.T) {
	broken := func(context.Context, string, string) (compute.Tool, error) {
		return compute.Tool{}, &workspace.Problem{Class: workspace.Unavailable, Code: "UvUnavailable", Message: "no uv", Mend: "x"}
	}
	s := Spec{Pip: []string{"six"}}
	e := mustPlan(t, s, map[string]string{"uv": "/usr/bin/uv"}, Tools{Uv: broken})
	if len(e.Tools) != 0 || !slices.Contains(e.Steps[0].Args, "/usr/bin/uv") {
		t.Errorf("got %+v", e)
	}
	if _, err := Plan(t.Context(), s, nil, Tools{Uv: broken}, Curated{}); !errors.Is(err, &workspace.Problem{Code: "UvUnavailable"}) {
		t.Errorf("got %v", err)
	}
	if _, err := Plan(t.Context(), s, nil, Tools{}, Curated{}); !errors.Is(err, &workspace.Problem{Code: "NoPackageTool"}) {
		t.Errorf("got %v", err)
	}
}

func TestUvIsAskedForTheTargetsPlatform(t *testing.T) {
	for arch, want := range map[string]string{"x86_64": "linux/amd64", "aarch64": "linux/arm64", "amd64": "linux/amd64", "arm64": "linux/arm64"} {
		var got string
		mustPlan(t, Spec{Pip: []string{"six"}}, map[string]string{"os": "Linux", "arch": arch}, Tools{Uv: func(_ context.Context, goos, goarch string) (compute.Tool, error) {
			got = goos + "/" + goarch
			return compute.Tool{Name: "uv", Object: uvHash}, nil
		}})
		if got != want {
			t.Errorf("%s: got %s, want %s", arch, got, want)
		}
	}
}

func TestOperatorsIndexReachesTheSteps(t *testing.T) {
	index := Index{URL: "https://example.org/simple", Extra: []string{"https://b.example/simple"}, CA: "PEM"}
	uv := mustPlan(t, Spec{Pip: []string{"six"}}, nil, Tools{Uv: withUv, Index: index})
	for _, s := range uv.Steps {
		if !slices.Equal(s.Args[:5], []string{"env", "UV_DEFAULT_INDEX=https://example.org/simple", "UV_INDEX=https://b.example/simple", "SSL_CERT_FILE={{env}}/ca.pem", "PIP_CERT={{env}}/ca.pem"}) {
			t.Errorf("got %v", s.Args)
		}
	}
	if uv.Steps[0].Files["ca.pem"] != "PEM" {
		t.Error("the certificates are not written")
	}
	conda := mustPlan(t, Spec{CondaFile: condaAndPip}, map[string]string{"conda": "/c"}, Tools{Index: index})
	if !slices.Contains(conda.Steps[0].Args, "PIP_INDEX_URL=https://example.org/simple") || conda.Steps[0].Files["ca.pem"] != "PEM" {
		t.Errorf("got %+v", conda.Steps[0])
	}
	plain := mustPlan(t, Spec{Pip: []string{"six"}}, nil, Tools{Uv: withUv})
	if plain.Steps[0].Args[0] != "sh" || plain.Hash == uv.Hash {
		t.Errorf("got %v", plain.Steps[0].Args)
	}
}

func TestIndexWithCredentialsIsRefused(t *testing.T) {
	p := Index{URL: "https://bob:hunter2@example.org/simple"}.Check()
	if p == nil || strings.Contains(p.Error(), "hunter2") || !strings.Contains(p.Mend, ".netrc") {
		t.Errorf("got %v", p)
	}
	if p := (Index{URL: "https://example.org/simple"}).Check(); p != nil {
		t.Errorf("got %v", p)
	}
}
