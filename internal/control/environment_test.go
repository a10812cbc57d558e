package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// definition is an environment as azureml-core writes it, with one conda package.
func definition(name, pack string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"name":%q,"version":null,"environmentVariables":{"A":"b"},
		"python":{"userManagedDependencies":false,"interpreterPath":"python","condaDependencies":{"channels":["anaconda"],"dependencies":["python=3.10.18",{"pip":["azureml-defaults"]},%q]}},
		"docker":{"enabled":false,"baseImage":"mcr.example/base:1","arguments":[],"baseImageRegistry":{"password":null}},"spark":{"precachePackages":true}}`, name, pack))
}

func (r *rig) register(name, version string, body json.RawMessage) EnvironmentVersion {
	r.Helper()
	v, err := r.RegisterEnvironment(r.Context(), r.admin, r.ws, name, version, body)
	if err != nil {
		r.Fatal(err)
	}
	return v
}

func (r *rig) keep(body json.RawMessage) KeptEnvironment {
	r.Helper()
	k, err := r.KeepEnvironment(r.Context(), r.admin, r.ws, body)
	if err != nil {
		r.Fatal(err)
	}
	return k
}

func TestEnvironmentsAreNumberedByTheServer(t *testing.T) {
	r := newRig(t)
	for _, step := range []struct{ pack, want string }{{"numpy", "1"}, {"numpy", "1"}, {"scipy", "2"}, {"numpy", "3"}, {"numpy", "3"}} {
		if v := r.register("env", "", definition("env", step.pack)); v.Version != step.want {
			t.Errorf("%s became version %s, want %s", step.pack, v.Version, step.want)
		}
	}
	if v := r.register("env", "house-1", definition("env", "pandas")); v.Version != "house-1" {
		t.Errorf("a version of its own became %s", v.Version)
	}
	if v := r.register("env", "", definition("env", "polars")); v.Version != "4" {
		t.Errorf("after one that is no number came %s", v.Version)
	}
	if v := r.register("env", "1", definition("env", "numpy")); v.Version != "1" {
		t.Errorf("the same again became %s", v.Version)
	}
	if _, err := r.RegisterEnvironment(t.Context(), r.admin, r.ws, "env", "1", definition("env", "torch")); !errors.Is(err, &workspace.Problem{Code: "VersionExists"}) {
		t.Errorf("another content under a version that is there: %v", err)
	}
	if v, err := r.Environment(t.Context(), r.ws, "env", ""); err != nil || v.Version != "4" {
		t.Errorf("the newest is %s, %v", v.Version, err)
	}
}

func TestEnvironmentOfARunIsKeptAndNotCounted(t *testing.T) {
	r := newRig(t)
	first := r.keep(definition("env", "numpy"))
	if !strings.HasPrefix(first.Version, autosaved) || workspace.CheckName("version", first.Version) != nil || first.Name != "env" {
		t.Fatalf("kept as %s:%s", first.Name, first.Version)
	}
	if first.Spec.CondaFile == "" || first.Spec.Image != "mcr.example/base:1" || first.Spec.Variables["A"] != "b" {
		t.Errorf("the run gets %+v", first.Spec)
	}
	if again := r.keep(definition("env", "numpy")); again.Version != first.Version {
		t.Errorf("the same was kept twice: %s and %s", first.Version, again.Version)
	}
	if v, err := r.Environment(t.Context(), r.ws, "env", ""); err != nil || v.Version != first.Version {
		t.Errorf("with nothing registered the newest is %s, %v", v.Version, err)
	}
	if docs, err := r.Assets(t.Context(), r.ws, environments, "env", store.Page{}); err != nil || len(docs) != 1 {
		t.Errorf("with nothing registered %d are listed, %v", len(docs), err)
	}
	if v := r.register("env", "", definition("env", "scipy")); v.Version != "1" {
		t.Errorf("the first that is registered has the number %s", v.Version)
	}
	third := r.keep(definition("env", "pandas"))
	if third.Version == first.Version || third.Version == "1" {
		t.Errorf("another content was kept as %s", third.Version)
	}
	// What a client writes into a run's definition has more empty fields than a registration.
	more := strings.Replace(string(definition("env", "scipy")), `"version":null`, `"version":null,"r":null,"databricks":{"jarLibraries":[]},"inferencingStackVersion":null`, 1)
	if k := r.keep(json.RawMessage(more)); k.Version != "1" {
		t.Errorf("a registered environment was kept again, as %s", k.Version)
	}
	if k := r.keep(json.RawMessage(strings.Replace(more, `"version":null`, `"version":"1"`, 1))); k.Version != "1" {
		t.Errorf("version 1 was kept as %s", k.Version)
	}
	if k := r.keep(json.RawMessage(strings.Replace(string(definition("env", "torch")), `"version":null`, `"version":"1"`, 1))); !strings.HasPrefix(k.Version, autosaved) {
		t.Errorf("version 1, changed since, was kept as %s", k.Version)
	}
	for _, reference := range []string{`{"name":"env","version":"1"}`, `{"name":"env"}`, `{"name":"env","version":null}`} {
		if k := r.keep(json.RawMessage(reference)); k.Version != "1" || !strings.Contains(k.Spec.CondaFile, "scipy") {
			t.Errorf("%s gave version %s with %q", reference, k.Version, k.Spec.CondaFile)
		}
	}
	if v, err := r.Environment(t.Context(), r.ws, "env", first.Version); err != nil || v.Version != first.Version {
		t.Errorf("by its version it is %s, %v", v.Version, err)
	}
	names, err := r.AssetNames(t.Context(), r.ws, environments, store.Page{})
	if err != nil || len(names) != 1 || names[0].Version != "1" {
		t.Errorf("listed by name: %+v, %v", names, err)
	}
	_, latest, err := r.AssetContainer(t.Context(), r.ws, environments, "env")
	if err != nil || latest.Version != "1" {
		t.Errorf("the newest for v2 is %s, %v", latest.Version, err)
	}
	if docs, err := r.Assets(t.Context(), r.ws, environments, "env", store.Page{Limit: 1}); err != nil || len(docs) != 1 || docs[0].Version != "1" {
		t.Errorf("v2 lists %+v, %v", docs, err)
	}
	for _, nothing := range []string{"", "null", `{}`, `{"name":null}`} {
		if k := r.keep(json.RawMessage(nothing)); k.Name != "" || !k.Spec.Empty() {
			t.Errorf("%q gave %+v", nothing, k)
		}
	}
	if k := r.keep(json.RawMessage(`{"python":{"userManagedDependencies":true}}`)); k.Name != defaultEnvironment || k.Spec.Interpreter != "python" {
		t.Errorf("without a name: %+v", k)
	}
}

func TestBothDialectsReadOneEnvironment(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	r.register("one", "", definition("one", "numpy"))
	doc, err := r.Asset(t.Context(), r.ws, environments, "one", "1")
	if err != nil {
		t.Fatal(err)
	}
	body, err := AssetBody(doc)
	if err != nil {
		t.Fatal(err)
	}
	if len(body) != 1 || !strings.Contains(string(body["properties"]), `"image":"mcr.example/base:1"`) || !strings.Contains(string(body["properties"]), "- numpy") {
		t.Errorf("v2 sees %s", body)
	}
	// A client of v2 writes the same conda file its own way, and adds a description.
	var p map[string]any
	if err := json.Unmarshal(body["properties"], &p); err != nil {
		t.Fatal(err)
	}
	p["description"], p["condaFile"] = "new words", "dependencies: [python=3.10.18, {pip: [azureml-defaults]}, numpy]\nchannels: [anaconda]\n"
	changed, err := json.Marshal(map[string]any{"properties": p, definitionField: map[string]any{"python": 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, created, err := r.PutAsset(t.Context(), r.admin, r.ws, environments, "one", "1", changed); err != nil || created {
		t.Fatalf("created %v, %v", created, err)
	}
	if v := r.register("one", "", definition("one", "numpy")); v.Version != "1" {
		t.Errorf("after a change by v2 the same environment became version %s", v.Version)
	}
	if k := r.keep(definition("one", "numpy")); k.Version != "1" {
		t.Errorf("after a change by v2 a run kept it as %s", k.Version)
	}

	v2 := json.RawMessage(`{"properties":{"image":"i:1","condaFile":"channels: [c]\ndependencies: [python=3.11, {pip: [six]}]\n"}}`)
	if _, _, err := r.PutAsset(t.Context(), r.admin, r.ws, environments, "two", "1", v2); err != nil {
		t.Fatal(err)
	}
	v, err := r.Environment(t.Context(), r.ws, "two", "")
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := environment.ReadDefinition(v.Definition)
	if err != nil || d.Docker.Image != "i:1" || string(d.Python.Conda) != `{"channels":["c"],"dependencies":["python=3.11",{"pip":["six"]}],"name":"project_environment"}` {
		t.Errorf("v1 sees %s, %v", v.Definition, err)
	}
	if again := r.register("two", "1", v.Definition); again.Version != "1" {
		t.Errorf("what v1 was given is another: %s", again.Version)
	}

	for name, want := range map[string]environment.Spec{
		"azureml:one:1":      {CondaFile: "numpy", Variables: map[string]string{"A": "b"}},
		"azureml:two@latest": {CondaFile: "six", Image: "i:1"},
	} {
		job, _, err := r.SubmitJob(t.Context(), r.admin, r.ws, strings.NewReplacer(":", "-", "@", "-").Replace(name), json.RawMessage(`{"jobType":"Command","command":"x","environmentId":"`+name+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		var spec workspace.JobSpec
		var got environment.Spec
		if err := errors.Join(json.Unmarshal(job.Spec, &spec), json.Unmarshal(spec.Environment, &got)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(got.CondaFile, want.CondaFile) || got.Image != want.Image || !cmp.Equal(got.Variables, want.Variables) {
			t.Errorf("a job with %s gets %+v", name, got)
		}
	}
}

func TestCuratedEnvironmentsAreReadByV1(t *testing.T) {
	r := newRig(t)
	for _, version := range []string{"", "1", "12", "latest"} {
		v, err := r.Environment(t.Context(), r.ws, "AzureML-sklearn-1.5", version)
		if err != nil || !strings.Contains(string(v.Definition), `"scikit-learn~=1.5.0"`) || !strings.Contains(string(v.Definition), `"azureml-defaults"`) {
			t.Errorf("version %q: %+v, %v", version, v, err)
		}
		if k := r.keep(json.RawMessage(`{"name":"AzureML-sklearn-1.5","version":` + string(must(json.Marshal(v.Version))) + `}`)); !strings.Contains(k.Spec.CondaFile, "azureml-defaults") {
			t.Errorf("a run with version %q gets %+v", v.Version, k)
		}
	}
	for _, unknown := range []string{"AzureML-sklern-1.5", "azureml-sklern-1.5"} {
		_, err := r.Environment(t.Context(), r.ws, unknown, "")
		p, ok := errors.AsType[*workspace.Problem](err)
		if !ok || p.Class != workspace.NotFound || !strings.Contains(p.Cause, "sklearn-1.5, sklearn-1.1") {
			t.Errorf("%s: %v", unknown, err)
		}
	}
	if _, err := r.RegisterEnvironment(t.Context(), r.admin, r.ws, "AzureML-mine", "", definition("AzureML-mine", "numpy")); !errors.Is(err, &workspace.Problem{Code: "ReservedName"}) {
		t.Errorf("registered under a curated name: %v", err)
	}
	// A run may change what it was given under such a name. That is kept for the run alone.
	changed := r.keep(definition("AzureML-sklearn-1.5", "numpy"))
	if v, err := r.Environment(t.Context(), r.ws, changed.Name, changed.Version); err != nil || !strings.Contains(string(v.Definition), "numpy") {
		t.Errorf("the run's own is %+v, %v", v, err)
	}
	if v, err := r.Environment(t.Context(), r.ws, changed.Name, ""); err != nil || strings.Contains(string(v.Definition), "numpy") {
		t.Errorf("the curated one is %+v, %v", v, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestEnvironmentsAreListedByName(t *testing.T) {
	r := newRig(t)
	r.register("b", "", definition("b", "numpy"))
	r.register("b", "", definition("b", "scipy"))
	r.keep(definition("b", "pandas"))
	r.keep(definition("a", "pandas"))
	r.keep(definition("AzureML-minimal", "pandas"))
	anonymous := json.RawMessage(`{"properties":{"image":"i:1","isAnonymous":true}}`)
	if _, _, err := r.PutAsset(t.Context(), r.admin, r.ws, environments, "CliV2AnonymousEnvironment", "ab12", anonymous); err != nil {
		t.Fatal(err)
	}
	list, next, err := r.NewestEnvironments(t.Context(), r.ws, "")
	if err != nil || next != "" || len(list) < 10 {
		t.Fatalf("%d, %q, %v", len(list), next, err)
	}
	seen := map[string]string{}
	for _, v := range list {
		if _, twice := seen[v.Name]; twice {
			t.Errorf("%s is listed twice", v.Name)
		}
		seen[v.Name] = v.Version
	}
	if list[0].Name != "a" || seen["b"] != "2" || seen["AzureML-minimal"] != "1" || seen["AzureML-sklearn-1.5"] != "1" {
		t.Errorf("listed %v", seen)
	}
	for name := range seen {
		if strings.Contains(name, "*") || strings.HasPrefix(name, "CliV2") {
			t.Errorf("%s is listed", name)
		}
	}
}

func TestLabelNamesOneVersion(t *testing.T) {
	r := newRig(t)
	r.register("env", "", definition("env", "numpy"))
	r.register("env", "", definition("env", "scipy"))
	label := func(version string, labels ...string) error {
		return r.LabelEnvironment(t.Context(), r.admin, r.ws, "env", version, labels)
	}
	if err := errors.Join(label("2", "prod", "test"), label("1", "prod")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"prod": "1", "test": "2", "latest": "2"} {
		if v, err := r.LabelledEnvironment(t.Context(), r.ws, "env", name); err != nil || v.Version != want {
			t.Errorf("%s is version %s, %v", name, v.Version, err)
		}
	}
	if _, err := r.LabelledEnvironment(t.Context(), r.ws, "env", "none"); !errors.Is(err, &workspace.Problem{Code: "ResourceNotFound"}) {
		t.Errorf("a label that is nobody's: %v", err)
	}
	for code, err := range map[string]error{"ResourceNotFound": label("7", "x"), "ReservedName": label("1", "latest"), "InvalidName": label("1", "a b")} {
		if !errors.Is(err, &workspace.Problem{Code: code}) {
			t.Errorf("want %s, got %v", code, err)
		}
	}
}

func TestBuildIsAJobThatMakesTheEnvironment(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	r.register("env", "", definition("env", "numpy"))
	if build, err := r.BuildEnvironment(t.Context(), r.admin, r.ws, "env", "1", ""); err != nil || build != "" {
		t.Errorf("without a compute: %q, %v", build, err)
	}
	build, err := r.BuildEnvironment(t.Context(), r.admin, r.ws, "env", "", "gpu")
	if err != nil {
		t.Fatal(err)
	}
	job, err := r.Job(t.Context(), r.admin, r.ws, build)
	if err != nil || !strings.Contains(string(job.Spec), "numpy") || job.ComputeName != "gpu" {
		t.Errorf("%+v, %v", job, err)
	}
	_, err = r.BuildEnvironment(t.Context(), r.admin, r.ws, "env", "", "none")
	if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Class != workspace.Invalid || !strings.Contains(p.Message, `"none"`) {
		t.Errorf("on a compute that is not there: %v", err)
	}
	if _, err := r.BuildEnvironment(t.Context(), r.admin, r.ws, "none", "", ""); !errors.Is(err, &workspace.Problem{Class: workspace.NotFound, Code: "ResourceNotFound"}) {
		t.Errorf("an environment that is not there: %v", err)
	}
	if _, err := r.BuildEnvironment(t.Context(), r.admin, r.ws, "AzureML-sklearn-1.5", "", "gpu"); err != nil {
		t.Errorf("a curated one: %v", err)
	}
}
