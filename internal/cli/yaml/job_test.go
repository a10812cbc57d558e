package yaml

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// folder makes files and gives their folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func parseJob(t *testing.T, dir, text string) (*Job, error) {
	t.Helper()
	doc, err := Parse([]byte(text), filepath.Join(dir, "job.yml"))
	if err != nil {
		return nil, err
	}
	return ParseJob(doc)
}

func TestJobBecomesTheBodyThatAzuresClientSends(t *testing.T) {
	dir := folder(t, map[string]string{"src/a.py": "", "data/x.csv": "1", "env.yml": "name: mine\nversion: 2\nimage: python:3.12\n", "conda.yml": "dependencies: [pip]\n"})
	for _, tc := range []struct {
		name, text, want string // want: JSON of the properties, without those that every job has
	}{
		{"command", "command: echo", `{"command":"echo"}`},
		{"type in the schema", "$schema: https://x/commandJob.schema.json\ncommand: echo", `{"command":"echo"}`},
		{"folded command", "command: >-\n  python train.py\n  --lr 1\n", `{"command":"python train.py --lr 1"}`},
		{"literals", "command: c\ninputs: {a: 1, b: 1e-3, c: true, d: text, e: '7', f: {value: 0.10}, g: {type: integer, default: 3}, h: null}", `{"command":"c","inputs":{
			"a":{"jobInputType":"literal","value":"1"},"b":{"jobInputType":"literal","value":"1e-3"},"c":{"jobInputType":"literal","value":"True"},
			"d":{"jobInputType":"literal","value":"text"},"e":{"jobInputType":"literal","value":"7"},"f":{"jobInputType":"literal","value":"0.10"},
			"g":{"jobInputType":"literal","value":"3"}}}`},
		{"remote inputs", "command: c\ninputs:\n  a: {path: 'azureml://datastores/d/paths/p', mode: download}\n  b: {type: uri_file, path: https://h/f, mode: ro_mount}\n  c: {path: '${{parent.inputs.x}}'}", `{"command":"c","inputs":{
			"a":{"jobInputType":"uri_folder","mode":"Download","uri":"azureml://datastores/d/paths/p"},
			"b":{"jobInputType":"uri_file","mode":"ReadOnlyMount","uri":"https://h/f"},"c":{"jobInputType":"literal","value":"${{parent.inputs.x}}"}}}`},
		{"local inputs know what they are", "command: c\ninputs: {a: {path: data}, b: {path: ./data/x.csv}}", `{"command":"c","inputs":{"a":{"jobInputType":"uri_folder"},"b":{"jobInputType":"uri_file"}}}`},
		{"outputs", "command: c\noutputs: {a: null, b: {type: uri_file, mode: upload, name: n, version: 1, path: 'azureml://x'}}", `{"command":"c","outputs":{
			"a":{"jobOutputType":"uri_folder"},"b":{"jobOutputType":"uri_file","mode":"Upload","assetName":"n","assetVersion":"1","uri":"azureml://x"}}}`},
		{"resources", "command: c\nresources: {instance_count: 2, instance_type: gpu1, shm_size: 8g, docker_args: --ipc=host, properties: {gpus: 1}}", `{"command":"c",
			"resources":{"instanceCount":2,"instanceType":"gpu1","shmSize":"8g","dockerArgs":"--ipc=host","properties":{"gpus":1}}}`},
		{"distribution", "command: c\ndistribution: {type: pytorch, process_count_per_instance: 4}", `{"command":"c","distribution":{"distributionType":"PyTorch","processCountPerInstance":4}}`},
		{"timeout in days", "command: c\nlimits: {timeout: 90061}", `{"command":"c","limits":{"jobLimitsType":"Command","timeout":"P1DT1H1M1S"}}`},
		{"timeout of a day", "command: c\nlimits: {timeout: 86400}", `{"command":"c","limits":{"jobLimitsType":"Command","timeout":"P1D"}}`},
		{"queue", "command: c\nqueue_settings: {job_tier: Standard, priority: high}", `{"command":"c","queueSettings":{"jobTier":"Standard","priority":3}}`},
		{"identity", "command: c\nidentity: {type: user_identity}", `{"command":"c","identity":{"identityType":"UserIdentity"}}`},
		{"texts", "command: c\ndisplay_name: d\nexperiment_name: e\ndescription: x\ntags: {a: 1, b: true, c: null}\nproperties: {d: 1.50, e: false, f: 2026-01-02}\nenvironment_variables: {B: true, C: 0x10}", `{"command":"c","displayName":"d",
			"experimentName":"e","description":"x","tags":{"a":"1","b":"True","c":""},"properties":{"d":"1.50","e":"False","f":"2026-01-02"},"environmentVariables":{"B":"True","C":"0x10"}}`},
		{"anchors and merge keys", "command: c\nx-base: &b {a: 1, b: 2}\nenvironment_variables: {<<: *b, b: 3}", `{"command":"c","environmentVariables":{"a":"1","b":"3"}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j, err := parseJob(t, dir, tc.text)
			if err != nil {
				t.Fatal(err)
			}
			delete(j.Properties, "jobType")
			delete(j.Properties, "isArchived")
			text, err := json.Marshal(j.Properties)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			if err := errors.Join(json.Unmarshal(text, &got), json.Unmarshal([]byte(tc.want), &want)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPathsStartAtTheFileThatNamesThem(t *testing.T) {
	dir := folder(t, map[string]string{"sub/src/a.py": "", "sub/data/x": "", "envs/env.yml": "conda_file: conda.yml\nimage: i\n", "envs/conda.yml": "dependencies: [a]\n"})
	j, err := parseJob(t, filepath.Join(dir, "sub"), "command: c\ncode: src\ninputs: {d: {path: 'file:data'}}\nenvironment: file:../envs/env.yml")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "sub/src"); j.Code != want {
		t.Errorf("code %s, not %s", j.Code, want)
	}
	if diff := cmp.Diff([]LocalInput{{"d", filepath.Join(dir, "sub/data"), true}}, j.Local); diff != "" {
		t.Error(diff)
	}
	if got := j.Environment.Properties["condaFile"]; got != "dependencies: [a]\n" {
		t.Errorf("conda file %q", got)
	}
}

func TestEnvironmentIsNamedByItsContent(t *testing.T) {
	dir := folder(t, map[string]string{"env.yml": "name: mine\nversion: 2\nimage: python\n"})
	version := func(text string) (string, string) {
		t.Helper()
		j, err := parseJob(t, dir, "command: c\nenvironment: "+text)
		if err != nil {
			t.Fatal(err)
		}
		if j.Environment.Ref != "" {
			return j.Environment.Ref, ""
		}
		if err := j.Environment.Seal(); err != nil {
			t.Fatal(err)
		}
		return j.Environment.Name, j.Environment.Version
	}
	n1, v1 := version("{image: a, conda_file: {dependencies: [x], name: e}}")
	n2, v2 := version("{conda_file: {name: e, dependencies: [x]}, image: a}")
	_, v3 := version("{image: b}")
	if n1 != Anonymous || n1 != n2 || v1 != v2 || v1 == v3 || len(v1) != 64 {
		t.Errorf("%s %s, %s %s, %s", n1, v1, n2, v2, v3)
	}
	if n, v := version("env.yml"); n != "mine" || v != "2" {
		t.Errorf("named environment: %s %s", n, v)
	}
	for _, ref := range []string{"azureml:e:1", "azureml:AzureML-sklearn-1.5@latest", "azureml://registries/r/environments/e/versions/1", "/subscriptions/s/x"} {
		if got, _ := version(ref); got != ref {
			t.Errorf("%s became %s", ref, got)
		}
	}
	if got, _ := version("AzureML-x@latest"); got != "azureml:AzureML-x@latest" {
		t.Errorf("without its prefix: %s", got)
	}
}

// Each fault is told with its place, and with the nearest name where there is one.
func TestFaultsAreToldWithTheirPlace(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"no command", "type: command", `job.yml: the field "command" is missing`},
		{"a list", "- a", "job.yml:1:1: the document must be a map of fields, not a list"},
		{"empty", "", `the field "command" is missing`},
		{"wrong type", "command: c\nlimits:\n  timeout: soon", `job.yml:3:12: "limits.timeout" must be a whole number, not "soon"`},
		{"negative", "command: c\nlimits: {timeout: -1}", `job.yml:2:19: "limits.timeout" must be at least 1, not -1`},
		{"bad mode", "command: c\ninputs: {a: {path: https://x, mode: ro_mout}}", `Did you mean "ro_mount"?`},
		{"no code", "command: c\ncode: ./nowhere", "nowhere cannot be read: no such file or directory"},
		{"code from git", "command: c\ncode: git+https://x/y", "Clone it here"},
		{"no input", "command: c\ninputs: {a: {type: uri_file}}", `the input "a" has neither a value nor a path`},
		{"pipeline", "type: pipeline\njobs: {}", `jobs of type "pipeline" are not run by Moorage yet`},
		{"pipeline by schema", "$schema: https://x/pipelineJob.schema.json", `jobs of type "pipeline" are not run by Moorage yet`},
		{"sweep by its fields", "trial: {command: c}", `jobs of type "sweep" are not run by Moorage yet`},
		{"misspelt type", "type: comand\ncommand: c", `Did you mean "command"?`},
		{"compute", "type: ssh\naddress: x", "this is a compute, not a job"},
		{"tab", "command: c\n\tcode: x", "Indent with spaces"},
		{"doubled key", "command: c\ncommand: d", "job.yml:2:1 is not valid YAML"},
		{"two documents", "command: c\n---\ncommand: d", "one file holds one document"},
		{"unknown alias", "command: *x", "has no anchor before it"},
		{"nested brackets", "command: " + strings.Repeat("[", 200), "nested deeper than 100 levels"},
		{"nested dashes", strings.Repeat("- ", 200), "nested deeper than 100 levels"},
		{"empty environment", "command: c\nenvironment: {description: d}", "names neither an image, nor a conda_file, nor a build context"},
		{"image and build", "command: c\nenvironment: {image: i, build: {path: .}}", `either "image" or "build"`},
		{"no conda file", "command: c\nenvironment: {conda_file: c.yml}", "c.yml is not there"},
		{"bad name", "command: c\nname: a/b", `job name "a/b" cannot be used`},
		{"input a folder", "command: c\ninputs: {a: {type: uri_file, path: .}}", "is a folder"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := parseJob(t, t.TempDir(), tc.text)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v\ndoes not say: %s", err, tc.want)
			}
			if _, ok := errors.AsType[*workspace.Problem](err); !ok {
				t.Errorf("%T is not a problem", err)
			}
		})
	}
}

func TestUnknownFieldsWarnAndNameTheNearest(t *testing.T) {
	j, err := parseJob(t, t.TempDir(), "comand: x\ncommand: c\nresources:\n  instance_cnt: 2\n  zzz: 1\nservices: {}\ninputs: {a: {path: https://x, tpye: uri_file}}")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range j.Warnings {
		if !w.Warning {
			t.Errorf("%v is not a warning", w)
		}
		got = append(got, filepath.Base(strings.SplitN(w.Message, ": ", 2)[0])+" "+w.Mend)
	}
	want := []string{
		`job.yml:1:1 it is ignored; did you mean "command"?`, `job.yml:7:31 it is ignored; did you mean "type"?`,
		`job.yml:4:3 it is ignored; did you mean "instance_count"?`, `job.yml:5:3 it is ignored`, `job.yml:6:11 they are ignored; the job runs without them`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSetChangesTheDocument(t *testing.T) {
	for _, tc := range []struct{ set, want string }{
		{"a.b=1", `{"a":{"b":1,"c":[1,{"d":2}]},"n":null}`},
		{"a.c.1.d=x", `{"a":{"c":[1,{"d":"x"}]},"n":null}`},
		{"a.c.0='7'", `{"a":{"c":["7",{"d":2}]},"n":null}`},
		{"n.x.y=true", `{"a":{"c":[1,{"d":2}]},"n":{"x":{"y":true}}}`},
		{"a={k: [1]}", `{"a":{"k":[1]},"n":null}`},
		{"a=", `{"a":"","n":null}`},
		{"a=b=c", `{"a":"b=c","n":null}`},
		{"a=[unclosed", `{"a":"[unclosed","n":null}`},
		{"a.c.5=x", ""},
		{"a.c.x=1", ""},
		{"a.c.0.d=1", ""},
		{"=1", ""},
		{"a..b=1", ""},
		{"a", ""},
	} {
		doc, err := Parse([]byte("a: {c: [1, {d: 2}]}\nn:\n"), "f")
		if err != nil {
			t.Fatal(err)
		}
		err = doc.Set(tc.set)
		if tc.want == "" {
			if !errors.Is(err, &workspace.Problem{Code: "InvalidSet"}) {
				t.Errorf("--set %s: %v", tc.set, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("--set %s: %v", tc.set, err)
			continue
		}
		got, err := json.Marshal(doc.Root.Any())
		if err != nil || string(got) != tc.want {
			t.Errorf("--set %s: %s, %v; want %s", tc.set, got, err, tc.want)
		}
	}
}

func TestAliasesCannotMultiplyWithoutEnd(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		b.WriteString(strings.ReplaceAll(strings.ReplaceAll("aN: &aN [*aP,*aP,*aP,*aP,*aP,*aP,*aP,*aP,*aP,*aP]\n", "N", string(rune('0'+i))), "P", string(rune('0'+i-1))))
	}
	if _, err := Parse([]byte(b.String()), "bomb.yml"); err == nil || !strings.Contains(err.Error(), "more than 200000 values") {
		t.Errorf("%v", err)
	}
}

func FuzzDocument(f *testing.F) {
	for _, seed := range []string{
		"command: c\ninputs: {a: 1, b: {path: https://x}}\n", "type: ssh\naddress: ssh://h\nssh_settings: {ssh_port: 22}\n", "a: &x [1]\nb: *x\n<<: {c: 1}\n",
		"- [{\n", "? a\n: b\n", "!!str 1", "a: |\n  text\n  more\n", "\t", "a: .nan\nb: .inf\nc: 0x1F\nd: 1_000\n", "---\n...\n---\n", "a: \"\\u00e4\\n\"\n# c\n", "%YAML 1.2\n---\na: 1",
	} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := Parse([]byte(text), filepath.Join(dir, "f.yml"))
		if err != nil {
			if _, ok := errors.AsType[*workspace.Problem](err); !ok {
				t.Fatalf("%T is not a problem: %v", err, err)
			}
			return
		}
		if _, err := json.Marshal(doc.Root.Any()); err != nil {
			t.Fatalf("does not encode: %v", err)
		}
		if j, err := ParseJob(doc); err == nil {
			if _, err := json.Marshal(j.Properties); err != nil {
				t.Fatalf("the job does not encode: %v", err)
			}
		}
		if c, err := ParseCompute(doc); err == nil {
			if _, err := json.Marshal(c.Body); err != nil {
				t.Fatalf("the compute does not encode: %v", err)
			}
		}
		_ = doc.Set("a.b=" + text)
	})
}
