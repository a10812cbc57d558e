package control

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestCommandGetsLiteralsAndKeepsFiles(t *testing.T) {
	cases := []struct{ name, job, want string }{
		{"text", `{"command":"echo ${{inputs.word}}","inputs":{"word":{"jobInputType":"literal","value":"hi there"}}}`, "echo hi there"},
		{"number", `{"command":"echo ${{ inputs.n }}","inputs":{"n":{"jobInputType":"literal","value":0.5}}}`, "echo 0.5"},
		{"truth", `{"command":"echo ${{inputs.yes}}","inputs":{"yes":{"jobInputType":"literal","value":true}}}`, "echo True"},
		{"file", `{"command":"cat ${{inputs.data}}","inputs":{"data":{"jobInputType":"uri_file","uri":"https://h/x"}}}`, "cat ${{inputs.data}}"},
		{"output", `{"command":"ls > ${{outputs.o}}/x","outputs":{"o":{"jobOutputType":"uri_folder"}}}`, "ls > ${{outputs.o}}/x"},
		{"optional given", `{"command":"run $[[--a ${{inputs.a}}]]","inputs":{"a":{"jobInputType":"literal","value":"1"}}}`, "run --a 1"},
		{"optional absent", `{"command":"run $[[--a ${{inputs.a}}]] x"}`, "run  x"},
		{"shell variables stay", `{"command":"echo ${HOME} $((1+1))"}`, "echo ${HOME} $((1+1))"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var j commandJob
			if err := json.Unmarshal([]byte(c.job), &j); err != nil {
				t.Fatal(err)
			}
			got, err := j.fill()
			if err != nil || got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestJobThatCannotRunIsRefusedByName(t *testing.T) {
	cases := []struct{ name, job, code string }{
		{"not json", `{`, "InvalidJob"},
		{"another type", `{"jobType":"Sweep","command":"x"}`, "UnsupportedJobType"},
		{"no type", `{"command":"x"}`, "MissingJobType"},
		{"no command", `{"jobType":"Command","command":"  "}`, "MissingCommand"},
		{"bad variable", `{"jobType":"Command","command":"x","environmentVariables":{"A=B":"c"}}`, "InvalidVariable"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseCommandJob([]byte(c.job))
			if !errors.Is(err, &workspace.Problem{Code: c.code}) {
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
}

func TestUnknownReferenceIsNamed(t *testing.T) {
	j := commandJob{Command: "cat ${{inputs.dat}}"}
	_, err := j.fill()
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || p.Code != "UnknownReference" {
		t.Fatalf("got %v", err)
	}
}

func TestDurationsOfISO8601(t *testing.T) {
	good := map[string]time.Duration{
		"": 0, "PT30M": 30 * time.Minute, "P1DT2H": 26 * time.Hour, "PT0.5S": 500 * time.Millisecond, "PT3600S": time.Hour,
	}
	for text, want := range good {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"P", "PT", "30", "1h", "PT-5S", "PT99999999S"} {
		if _, err := parseDuration(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestGPUsAreANumber(t *testing.T) {
	for value, want := range map[string]int{`2`: 2, `"1"`: 1, `0`: 0} {
		var j commandJob
		if err := json.Unmarshal([]byte(`{"resources":{"properties":{"gpus":`+value+`}}}`), &j); err != nil {
			t.Fatal(err)
		}
		if got, err := j.gpus(); err != nil || got != want {
			t.Errorf("%s: got %d, %v", value, got, err)
		}
	}
	j := commandJob{}
	j.Resources.Properties = map[string]any{"gpus": "many"}
	if _, err := j.gpus(); err == nil {
		t.Error("many: no error")
	}
}

func TestTagsMayBeNumbersAndTruthValues(t *testing.T) {
	j, err := parseCommandJob([]byte(`{"jobType":"Command","command":"x","tags":{"n":1.50,"b":true,"s":"x","z":null},"properties":{"n":1},"environmentVariables":{"B":false}}`))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]textMap{{"n": "1.50", "b": "true", "s": "x", "z": ""}, {"n": "1"}, {"B": "false"}}, []textMap{j.Tags, j.Properties, j.Variables}); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{`{"a":{}}`, `{"a":[1]}`, `[]`, `"a"`} {
		_, err := parseCommandJob([]byte(`{"jobType":"Command","command":"x","tags":` + bad + `}`))
		if p, ok := errors.AsType[*workspace.Problem](err); !ok || p.Code != "InvalidJob" {
			t.Errorf("tags %s: %v", bad, err)
		}
	}
}

func TestReferencesToAssets(t *testing.T) {
	cases := []struct{ id, collection, name, version string }{
		{"azureml:mine:3", "environments", "mine", "3"},
		{"azureml:mine@latest", "environments", "mine", "latest"},
		{"/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/environments/mine/versions/3", "environments", "mine", "3"},
		{"/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/data/d/versions/1", "data", "d", "1"},
		{"nothing", "data", "", ""},
	}
	for _, c := range cases {
		name, version := assetRef(c.id, c.collection)
		if name != c.name || version != c.version {
			t.Errorf("%s: got %q, %q", c.id, name, version)
		}
	}
}
