package environment

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestReferencesAsClientsSendThem(t *testing.T) {
	for ref, want := range map[string]string{
		"azureml:AzureML-sklearn-1.5@latest":                                                "AzureML-sklearn-1.5",
		"azureml:AzureML-sklearn-1.5:7":                                                     "AzureML-sklearn-1.5",
		"AzureML-sklearn-1.5@latest":                                                        "AzureML-sklearn-1.5",
		"azureml://registries/azureml/environments/sklearn-1.5/versions/5":                  "sklearn-1.5",
		"azureml://registries/azureml/environments/acpt-pytorch-2.2-cuda12.1/labels/latest": "acpt-pytorch-2.2-cuda12.1",
		"azureml:my-env:1":                                                                  "",
		"/subscriptions/s/environments/e/versions/1":                                        "",
		"azureml://registries/azureml/models/x/versions/1":                                  "",
		"azureml://locations/x/workspaces/y/environments/z/versions/1":                      "",
	} {
		s, ok := FromReference(ref)
		if ok != (want != "") || s.Curated != want {
			t.Errorf("%s: got %q, %v; want %q", ref, s.Curated, ok, want)
		}
	}
}

func TestCuratedNameBecomesPackages(t *testing.T) {
	for _, s := range []Spec{{Curated: "AzureML-sklearn-1.5"}, {Curated: "SKLEARN-1.5"}, {Image: "mcr.microsoft.com/azureml/curated/sklearn-1.5:12"}} {
		e := mustPlan(t, s, nil, Tools{Uv: withUv})
		if !strings.Contains(e.Steps[0].Files["requirements.txt"], "scikit-learn~=1.5.0\n") || !strings.Contains(e.Say, "curated environment") {
			t.Errorf("%+v: got %+v", s, e)
		}
	}
}

func TestUnknownCuratedNameListsTheNearest(t *testing.T) {
	_, err := Plan(t.Context(), Spec{Curated: "AzureML-sklern-1.5"}, nil, Tools{}, table(t))
	var p *workspace.Problem
	if !errors.As(err, &p) || p.Code != "UnknownCuratedEnvironment" || !strings.Contains(p.Cause, "sklearn-1.5") {
		t.Errorf("got %v", err)
	}
	if err := Check(Spec{Curated: "nothing-like-it"}, table(t)); !errors.Is(err, &workspace.Problem{Code: "UnknownCuratedEnvironment"}) {
		t.Errorf("got %v", err)
	}
}

func TestOperatorsTableWins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "curated.yaml")
	text := "environments:\n  - names: [sklearn-1.5, house-*]\n    python: '3.12'\n    channels: [conda-forge]\n    conda: [numpy=2]\n    pip: [our-own]\n    note: ours\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCurated(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AzureML-sklearn-1.5", "house-2"} {
		p, err := Plan(t.Context(), Spec{Curated: name}, nil, Tools{Uv: withUv}, c)
		if err != nil {
			t.Fatal(err)
		}
		e := p.Environment
		if got := e.Steps[0].Files["requirements.txt"]; got != "numpy==2.*\nour-own\n" || !strings.Contains(e.Say, "(ours)") {
			t.Errorf("%s: got %q, %q", name, got, e.Say)
		}
	}
	if _, ok := c.Find("lightgbm-3.3"); !ok {
		t.Error("the default table is gone")
	}
}

func TestBadTableNamesTheEntry(t *testing.T) {
	for text, say := range map[string]string{
		"environments:\n  - name: [x]\n":                     "line 2",
		"environments:\n  - pip: [x]\n":                      "no names",
		"environments:\n  - names: [x]\n    pip: ['-r y']\n": "entry x",
		"environments:\n  - names: [x]\n    conda: ['--']\n": "entry x",
		"environments:\n  - names: ['[x']\n":                 "pattern",
	} {
		_, err := parseCurated([]byte(text), "t")
		if !errors.Is(err, &workspace.Problem{Code: "InvalidCuratedTable"}) || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: got %v, want %q", text, err, say)
		}
	}
}
