package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// dataflow is a definition as azureml-core sends it, of YAML within JSON.
func dataflow(yaml string) string {
	text, err := json.Marshal(map[string]any{"blocks": []any{}, "meta": map[string]string{"RsDataflow": yaml}})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestPathsOfADefinition(t *testing.T) {
	const at = "azureml://subscriptions/S/resourcegroups/G/workspaces/W/datastores/D/paths/"
	yaml := "---\ntype: mltable\npaths:\n  - pattern: \"" + at + "tab/\"\n  - file: " + at + "a b.csv\n  - folder: \"" + at + "größe\"\nmetadata:\n  infer_column_types: \"False\"\ntransformations:\n  - take: 5\n"
	want := []DataPath{{"pattern", at + "tab/"}, {"file", at + "a b.csv"}, {"folder", at + "größe"}}
	for what, text := range map[string]string{"as the client sends it": dataflow(yaml), "plain": yaml} {
		got, err := Definition{Dataflow: text}.Paths()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	for what, text := range map[string]string{
		"nothing": "", "no paths": dataflow("type: mltable\n"), "not YAML": dataflow("\t- {"), "JSON of another sort": `{"a":1}`, "a list": dataflow("- a\n"),
		"aliases": dataflow("paths: &a\n  - file: x\nmore: *a\n"),
	} {
		if got, err := (Definition{Dataflow: text}).Paths(); err == nil {
			t.Errorf("%s gives %v", what, got)
		}
	}
}

func FuzzPathsOfADefinition(f *testing.F) {
	f.Add(dataflow("paths:\n  - file: x\n"))
	f.Add("paths: [{file: x}]")
	f.Add(`{"meta":{"RsDataflow":7}}`)
	f.Fuzz(func(t *testing.T, text string) {
		paths, err := Definition{Dataflow: text}.Paths()
		if (err == nil) != (len(paths) > 0) {
			t.Fatalf("%v, %v", paths, err)
		}
	})
}

func TestARegisteredDatasetKeepsTheJobThatMadeIt(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	now := r.Clock.Now
	r.Clock.Now = func() time.Time { return now().Add(-30 * 24 * time.Hour) }
	jobs := []store.Job{r.submitted("registered"), r.submitted("saved")}
	r.Clock.Now = now
	for _, job := range jobs {
		r.force(job, func(j *store.Job) {
			j.State, j.Phase, j.Due, j.Ended = workspace.Completed, store.Released, nil, job.Created+1000
		})
		d := Definition{Type: "file", Dataflow: dataflow("paths:\n  - folder: azureml://datastores/workspaceblobstore/paths/dataset/" + job.Name + "/out\n")}
		_, err := r.SaveDefinition(t.Context(), r.admin, r.ws, d)
		if err == nil && job.Name == "registered" {
			_, err = r.RegisterDataset(t.Context(), r.admin, r.ws, Dataset{Name: "out", Definition: d}, false)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r.Retention = time.Hour
	if g, err := r.CollectGarbage(t.Context(), r.admin, false); err != nil || g.Jobs != 1 {
		t.Fatalf("%+v, %v", g, err)
	}
	if _, err := r.Job(t.Context(), r.admin, r.ws, "registered"); err != nil {
		t.Errorf("the dataset has lost its files: %v", err)
	}
}

func TestJobsReadAndWriteRegisteredDatastores(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1")
	for _, d := range []Datastore{{Name: "Mine", Container: "my-box"}, {Name: "far", Account: "acct", Remote: "data", Endpoint: "core.windows.net"}} {
		if err := r.RegisterDatastore(t.Context(), r.admin, r.ws, d, false); err != nil {
			t.Fatal(err)
		}
	}
	use := `"inputs":{"in":{"jobInputType":"uri_folder","uri":"azureml://datastores/%[1]s/paths/tab"}},"outputs":{"out":{"jobOutputType":"uri_folder","uri":"azureml://datastores/%[1]s/paths/to/${{name}}"}}`
	job := r.submitted("uses", fmt.Sprintf(use, "mine"))
	var spec workspace.JobSpec
	if err := json.Unmarshal(job.Spec, &spec); err != nil || spec.Inputs[0].Prefix != "c/my-box/tab" || spec.Outputs[0].Prefix != "c/my-box/to/uses/" {
		t.Errorf("%v: %s", err, job.Spec)
	}
	for place, want := range map[string]string{spec.Outputs[0].Prefix: "/datastores/mine/paths/to/uses/", "c/azureml-blobstore-" + r.ws.ID + "/x": "/datastores/workspaceblobstore/paths/x", "c/other/x": ""} {
		if uri, err := r.PlaceURI(t.Context(), r.ws, place); err != nil || !strings.HasSuffix(uri, want) || (uri == "") != (want == "") {
			t.Errorf("%s is %q, %v", place, uri, err)
		}
	}
	_, err := r.submit("elsewhere", fmt.Sprintf(use, "far"))
	r.refused(err, "RemoteDatastore")
	_, err = r.submit("nowhere", fmt.Sprintf(use, "none"))
	r.refused(err, "UnknownDatastore")
}

func TestAModelOfMLflowIsKnownAsOne(t *testing.T) {
	r := newRig(t)
	at := "c/azureml-artifacts-" + r.ws.ID + "/LocalUpload/s/model"
	for _, name := range []string{"/MLmodel", "/data/m.pkl"} {
		if _, err := r.Blob.Put(t.Context(), at+name, strings.NewReader("x"), 1, blob.Meta{}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := r.KeepModelAsset(t.Context(), r.admin, r.ws, ModelAsset{Name: "m", Artifacts: []ArtifactName{{Prefix: "LocalUpload/s/model/"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.RegisterModel(t.Context(), r.admin, r.ws, Model{Name: "m", ModelDetails: ModelDetails{Asset: a.ID}}); err != nil {
		t.Fatal(err)
	}
	doc, err := r.Asset(t.Context(), r.ws, "models", "m", "1")
	if err != nil || !strings.Contains(string(doc.Body), `"modelType":"mlflow_model"`) {
		t.Errorf("%v: %s", err, doc.Body)
	}
}

func TestWhatCannotBeLookedForIsNotSaidToBeMissing(t *testing.T) {
	r := newRig(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Model(ended, r.ws, "m"); !errors.Is(err, context.Canceled) {
		t.Errorf("a model: %v", err)
	}
	if spec, err := r.environmentSpec(ended, r.ws, "AzureML-sklearn-1.5", "1"); !errors.Is(err, context.Canceled) {
		t.Errorf("an environment: %+v, %v", spec, err)
	}
}

func TestVersionsGoOnAfterTheHighestNumber(t *testing.T) {
	r := newRig(t)
	if _, err := r.Blob.Put(t.Context(), "c/azureml-artifacts-"+r.ws.ID+"/LocalUpload/s/m", strings.NewReader("x"), 1, blob.Meta{}); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"7", "3", "beta"} {
		if _, _, err := r.PutAsset(t.Context(), r.admin, r.ws, "models", "m", version, json.RawMessage(`{"properties":{"modelUri":"runs:/r1/model"}}`)); err != nil {
			t.Fatal(err)
		}
	}
	a, err := r.KeepModelAsset(t.Context(), r.admin, r.ws, ModelAsset{Name: "m", Artifacts: []ArtifactName{{ID: "LocalUpload/s/m"}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.RegisterModel(t.Context(), r.admin, r.ws, Model{Name: "m", ModelDetails: ModelDetails{Asset: a.ID}})
	if err != nil || m.ID() != "m:8" {
		t.Errorf("%s, %v", m.ID(), err)
	}
	place, err := r.ModelPlace(t.Context(), r.ws, "m:7")
	if err != nil || place != "c/azureml-artifacts-"+r.ws.ID+"/ExperimentRun/dcid.r1/model" {
		t.Errorf("an MLflow run's model lies at %s, %v", place, err)
	}
}
