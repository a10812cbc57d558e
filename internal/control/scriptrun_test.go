package control

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/snapshot"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// run submits train.py to compute gpu, with further fields of the definition.
func (r *rig) run(name string, fields ...string) (store.Job, error) {
	r.Helper()
	text := strings.Join(append([]string{`"target":"gpu","script":"train.py"`}, fields...), ",")
	job, _, err := r.SubmitRun(r.Context(), r.admin, r.ws, name, ScriptRun{Experiment: "exp", Snapshot: "snap", Definition: json.RawMessage("{" + text + "}")})
	return job, err
}

func (r *rig) spec(job store.Job, err error) workspace.JobSpec {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
	var spec workspace.JobSpec
	if err := json.Unmarshal(job.Spec, &spec); err != nil {
		r.Fatal(err)
	}
	return spec
}

func newRunRig(t *testing.T, others ...compute.Driver) *rig {
	t.Helper()
	r := newRig(t, others...)
	r.attached("gpu", "fake://gpu")
	if err := r.put("snap", "", project{"train.py": "print(1)"}, "train.py"); err != nil {
		t.Fatal(err)
	}
	return r
}

// upload puts a file into the default datastore.
func (r *rig) upload(names ...string) {
	r.Helper()
	container, err := Container(r.ws.ID, DefaultDatastore)
	if err != nil {
		r.Fatal(err)
	}
	for _, name := range names {
		if _, err := r.Blob.Put(r.Context(), "c/"+container+"/"+name, strings.NewReader(name), int64(len(name)), blob.Meta{}); err != nil {
			r.Fatal(err)
		}
	}
}

// files is a file dataset of one path; it gives the id.
func (r *rig) files(path string) string {
	r.Helper()
	d, err := r.SaveDefinition(r.Context(), r.admin, r.ws, Definition{Type: "file", Dataflow: flowOf(pathURI(r.ws, DefaultDatastore, path))})
	if err != nil {
		r.Fatal(err)
	}
	return d.ID
}

func TestARunIsAJobThatBothClientsRead(t *testing.T) {
	r := newRunRig(t)
	job, err := r.run("exp_1_ab", `"arguments":["--lr",0.5,"a b"],"maxRunDurationSeconds":90,"environmentVariables":{"A":"1"},"nodeCount":1,"framework":"Python"`)
	spec := r.spec(job, err)
	if !strings.HasSuffix(spec.Command, "exec \"$python\" train.py --lr 0.5 'a b'\n") {
		t.Errorf("the command is %q", spec.Command)
	}
	if spec.Timeout != 90 || spec.Variables["A"] != "1" || spec.Code == "" || len(spec.Inputs) != 1 || spec.Inputs[0].Name != flushName {
		t.Errorf("the spec is %+v", spec)
	}
	var doc struct {
		Command, ComputeID, CodeID string
		Inputs                     map[string]any
		Limits                     struct{ Timeout string }
	}
	if err := json.Unmarshal(job.Doc, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Command != "python train.py --lr 0.5 'a b'" || doc.ComputeID != r.ws.Path()+"/computes/gpu" || doc.Limits.Timeout != "PT90S" || len(doc.Inputs) != 0 {
		t.Errorf("v2 clients read %+v", doc)
	}
	run, err := r.Store.HistoryRun(t.Context(), r.ws.ID, "exp_1_ab")
	if err != nil {
		t.Fatal(err)
	}
	if run.Record.Script != "train.py" || run.Record.Target != "gpu" || !strings.Contains(string(run.Record.Definition), `"a b"`) || run.Experiment != "exp" {
		t.Errorf("the history has %+v", run.Record)
	}
	again, created, err := r.SubmitRun(t.Context(), r.admin, r.ws, "exp_1_ab", ScriptRun{Experiment: "exp", Snapshot: "snap", Definition: json.RawMessage(`{"target":"gpu","script":"train.py"}`)})
	if err != nil || created || again.ID != job.ID {
		t.Errorf("the same run once more: %s created %v: %v", again.ID, created, err)
	}
}

func TestWhatCannotRunIsRefusedAtOnce(t *testing.T) {
	r := newRunRig(t)
	for _, c := range []struct{ fields, code string }{
		{`"framework":"PySpark"`, "UnsupportedFramework"},
		{`"nodeCount":2`, "TooManyNodes"},
		{`"communicator":"Mpi","mpi":{"processCountPerNode":0.5}`, "InvalidCount"},
		{`"script":"other.py"`, "ScriptNotFound"},
		{`"script":"../train.py"`, "InvalidScript"},
		{`"script":""`, "MissingScript"},
		{`"target":"nowhere"`, "ResourceNotFound"},
		{`"arguments":[{}]`, "InvalidRunDefinition"},
		{`"environmentVariables":{"A=B":"1"}`, "InvalidVariable"},
		{`"data":{"m":{"mechanism":"mount"}}`, "InvalidData"},
		{`"data":{"m":{"mechanism":"mount","dataLocation":{"dataset":{"id":"gone"}}}}`, "DatasetNotFound"},
		{`"data":{"a-b":{"mechanism":"mount"}}`, "InvalidName"},
		{`"data":{"m":{"mechanism":"hdfs","dataLocation":{"dataset":{"id":"` + r.files("x") + `"}}}}`, "UnsupportedMechanism"},
		{`"data":{"m":{"mechanism":"mount","dataLocation":{"dataset":{"id":"` + r.files("x/*.csv") + `"}}}}`, "MissingInput"},
		{`"outputData":{"o":{"mechanism":"mount","outputLocation":{"dataPath":{"datastoreName":"nowhere","relativePath":"a"}}}}`, "UnknownDatastore"},
		{`"dataReferences":{"ab":{"dataStoreName":"` + DefaultDatastore + `","pathOnDataStore":"x","mode":"direct"}}`, "UnsupportedMechanism"},
	} {
		_, err := r.run("x", c.fields)
		if err == nil {
			t.Errorf("%s was accepted", c.fields)
			continue
		}
		r.refused(err, c.code)
	}
	_, _, err := r.SubmitRun(t.Context(), r.admin, r.ws, "x", ScriptRun{Experiment: "e", Snapshot: "gone", Definition: json.RawMessage(`{"target":"gpu","script":"train.py"}`)})
	r.refused(err, "SnapshotNotFound")
}

func TestDataOfARunAreFetchedAndToldOf(t *testing.T) {
	r := newRunRig(t)
	r.upload("tab/a.csv", "tab/b.txt", "tab/deep/c.csv")
	folder, file, pattern := r.files("tab/"), r.files("tab/a.csv"), r.files("tab/**/*.csv")
	data := func(id, mechanism, at string) string {
		return `{"mechanism":"` + mechanism + `","dataLocation":{"dataset":{"id":"` + id + `"}},"pathOnCompute":"` + at + `"}`
	}
	spec := r.spec(r.run("exp_1", `"data":{"folder":`+data(folder, "mount", "")+`,"file":`+data(file, "Download", "")+`,"pattern":`+data(pattern, "mount", "/tmp/p")+`,"direct":`+data(folder, "direct", "")+`}`,
		`"arguments":["DatasetConsumptionConfig:folder","DatasetConsumptionConfig:file","DatasetConsumptionConfig:pattern","DatasetConsumptionConfig:direct"]`,
		`"dataReferences":{"ab12":{"dataStoreName":"`+DefaultDatastore+`","pathOnDataStore":"tab","mode":"mount"}}`))
	if want := "train.py ${{inputs.folder}} ${{inputs.file}} /tmp/p " + folder; !strings.Contains(spec.Command, want) {
		t.Errorf("the command is\n%s\nwithout %s", spec.Command, want)
	}
	if !strings.Contains(spec.Command, "export FOLDER=${{inputs.folder}}\n") || !strings.Contains(spec.Command, "export AZUREML_DATAREFERENCE_ab12=${{inputs.reference.ab12}}\n") {
		t.Errorf("variables are missing in\n%s", spec.Command)
	}
	if got := spec.Variables["AZUREML_DATASET_ENVIRONMENT_VARS"]; got != "direct:direct,file:download,folder:mount,pattern:mount" {
		t.Errorf("the client finds the inputs %s", got)
	}
	inputs := map[string]workspace.InputSpec{}
	for _, in := range spec.Inputs {
		inputs[in.Name] = in
	}
	if in := inputs["folder"]; !in.Folder || !in.Link || !strings.HasSuffix(in.Prefix, "/tab") {
		t.Errorf("the folder is %+v", in)
	}
	if in := inputs["file"]; in.Folder || in.Link || !strings.HasSuffix(in.Prefix, "/tab/a.csv") {
		t.Errorf("the file is %+v", in)
	}
	tree, err := r.CAS.Tree(t.Context(), snapshot.Hash(inputs["pattern"].Tree))
	if err != nil || len(tree) != 2 || tree[0].Name != "a.csv" || tree[1].Name != "deep" {
		t.Errorf("the pattern gives %+v: %v", tree, err)
	}
	run, err := r.Store.HistoryRun(t.Context(), r.ws.ID, "exp_1")
	if err != nil || !strings.Contains(string(run.Record.Inputs), `"inputName":"file","mechanism":"Download"`) {
		t.Errorf("the history has %s: %v", run.Record.Inputs, err)
	}
}

func TestOutputsBecomeDatasetsWhenTheJobEndsWell(t *testing.T) {
	r := newRunRig(t)
	output := `"outputData":{"out":{"mechanism":"mount","outputLocation":{"dataPath":{"datastoreName":"` + DefaultDatastore + `","relativePath":"made/{run-id}"}},` +
		`"additionalOptions":{"registrationOptions":{"name":"made","description":"d","tags":{"k":"v"}}}},"up":{"mechanism":"upload"},"logs":{"mechanism":"upload"}}`
	job, err := r.run("exp_1", output)
	spec := r.spec(job, err)
	for i, want := range []struct{ name, place string }{{"output.logs", "/dataset/exp_1/logs/"}, {"out", "/made/exp_1/"}, {"up", "/dataset/exp_1/up/"}} {
		if o := spec.Outputs[i]; o.Name != want.name || !strings.HasSuffix(o.Prefix, want.place) {
			t.Errorf("output %d is %+v", i, o)
		}
	}
	if got := spec.Variables["AZUREML_DATASET_FILE_OUTPUTS"]; got != "logs;out;up" {
		t.Errorf("the client finds the outputs %s", got)
	}
	end := func(state workspace.State) error {
		job.State = state
		return r.Store.Write(t.Context(), func(tx *store.Tx) error { return r.RegisterOutputs(t.Context(), tx, job) })
	}
	if err := end(workspace.Failed); err != nil {
		t.Fatal(err)
	}
	_, err = r.Dataset(t.Context(), r.ws, "made", "")
	r.refused(err, "DatasetNotFound")
	for range 2 {
		if err := end(workspace.Completed); err != nil {
			t.Fatal(err)
		}
	}
	d, err := r.Dataset(t.Context(), r.ws, "made", "")
	if err != nil || d.Version != 1 || d.Description != "d" || d.Tags["k"] != "v" {
		t.Fatalf("registered is %+v: %v", d, err)
	}
	paths, err := d.Definition.Paths()
	if err != nil || len(paths) != 1 || !strings.HasSuffix(paths[0].URI, "/datastores/"+DefaultDatastore+"/paths/made/exp_1/") {
		t.Errorf("it is of %+v: %v", paths, err)
	}
	if _, err = r.run("exp_2", output); err != nil {
		t.Fatal(err)
	}
}
