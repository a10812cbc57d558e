package environment

import (
	"strings"
	"testing"
)

func TestDefaultsOfTheSDKBecomeItsCore(t *testing.T) {
	for requirement, want := range map[string]string{
		"azureml-defaults":                                "azureml-core>=1.35",
		"azureml-defaults[async]":                         "azureml-core>=1.35",
		"azureml-defaults==1.62.0":                        "azureml-core<1.63,>=1.35",
		"azureml-defaults===1.60.0":                       "azureml-core<1.61,>=1.35",
		"azureml-defaults~=1.61.0.post4":                  "azureml-core<1.62,>=1.35",
		"azureml-defaults~=1.61":                          "azureml-core>=1.35",
		"azureml-defaults>=1.62.0":                        "azureml-core>=1.35",
		"azureml-defaults!=1.50.0,<1.60":                  "azureml-core<1.60,>=1.35",
		"azureml-defaults==1.*":                           "azureml-core>=1.35",
		"azureml-defaults==1.0.45":                        "azureml-core>=1.35",
		`azureml-defaults==1.50.0 ; python_version < "4"`: `azureml-core<1.51,>=1.35 ; python_version < "4"`,
	} {
		got, say, ok := sdk(requirement)
		if !ok || got != want || !strings.Contains(say, "azureml-defaults as azureml-core") {
			t.Errorf("%s: got %q, %q, %v; want %q", requirement, got, say, ok, want)
		}
	}
	for _, other := range []string{"azureml-core", "azureml-defaults-extra", "azureml-dataset-runtime[fuse]", ""} {
		if got, _, ok := sdk(other); ok {
			t.Errorf("%s became %s", other, got)
		}
	}
	if _, say, _ := sdk("azureml-defaults==1.0.45"); !strings.Contains(say, "1.0.45 is no longer to be had") {
		t.Errorf("a release that is gone is replaced in silence: %q", say)
	}
}

func TestOldAddressOfThePublicIndexMeansTheDefaultIndex(t *testing.T) {
	for option, want := range map[string]bool{
		"--find-links https://pypi.python.org/simple/index.html": true,
		"--extra-index-url https://pypi.python.org/simple":       true,
		"--extra-index-url http://PyPI.python.org:80/pypi":       true,
		"--index-url https://pypi.python.org/simple/":            true,
		"--trusted-host pypi.python.org":                         true,
		"--trusted-host pypi.python.org:443":                     true,
		"--extra-index-url https://own.example/pypi.python.org":  false,
		"--index-url https://pypi.python.org.own.example/simple": false,
		"--no-binary pypi.python.org":                            false,
		"--pre":                                                  false,
		"":                                                       false,
	} {
		if got := meansDefaultIndex(option); got != want {
			t.Errorf("%q: got %v", option, got)
		}
	}
	r, err := Spec{CondaFile: documentsConda}.normalise()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Options) != 0 || len(r.Say) != 2 {
		t.Errorf("options %q, said %q", r.Options, r.Say)
	}
}

// documentsConda is what azureml-core makes of the document's CondaDependencies.create(conda_packages=['scikit-learn']).
const documentsConda = `name: project_environment
dependencies:
  - python=3.10.18
  - pip:
      - --find-links https://pypi.python.org/simple/index.html
      - --extra-index-url https://pypi.python.org/simple
      - azureml-defaults
  - scikit-learn
channels:
  - anaconda
  - conda-forge
`
