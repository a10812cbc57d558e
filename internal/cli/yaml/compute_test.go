package yaml

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// twoContexts is a kubeconfig of which one context shall leave the machine.
const twoContexts = `
current-context: red
contexts: [{name: blue, context: {cluster: b, user: u}}, {name: red, context: {cluster: r, user: v}}]
clusters: [{name: b, cluster: {server: "https://b", certificate-authority: id}}, {name: r, cluster: {server: "https://r"}}]
users: [{name: u, user: {token: t}}, {name: v, user: {exec: {command: kubelogin}}}]
`

func TestIdentityOfAClusterIsIgnoredWithAWord(t *testing.T) {
	doc, err := Parse([]byte("type: kubernetes\nresource_id: /x\nidentity: {type: system_assigned}"), "c.yml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCompute(doc)
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Message, "identity") {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestProgramsOfAKubeconfigAreRefusedBeforeTheyLeave(t *testing.T) {
	dir := folder(t, map[string]string{"config": twoContexts})
	doc, err := Parse([]byte("type: kubernetes\nkubeconfig_file: config"), filepath.Join(dir, "c.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCompute(doc); err == nil || !strings.Contains(err.Error(), "kubelogin") || !strings.Contains(err.Error(), "KUBECONFIG") {
		t.Errorf("%v", err)
	}
}

func TestKindsAreToldByTheAddress(t *testing.T) {
	for address, want := range map[string]string{
		"kubeconfig://c": "kubernetes", "incluster://": "kubernetes", "docker+ssh://h": "docker", "docker+unix:///s": "docker", "slurm+ssh://h": "batch", "ssh://h": "ssh", "https://h": "", "h": "",
	} {
		if got := KindOf(address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}

func TestComputeBecomesTheBodyThatAzuresClientSends(t *testing.T) {
	dir := folder(t, map[string]string{"id": "KEY", "pass": "word\n", "config": twoContexts})
	for _, tc := range []struct{ name, text, want string }{
		{"vm", "type: virtualmachine\nname: vm\nresource_id: /subscriptions/s/vm1\nssh_settings: {admin_username: bob, ssh_private_key_file: id}", `{"properties":{
			"computeType":"VirtualMachine","resourceId":"/subscriptions/s/vm1","properties":{"sshPort":22,"administratorAccount":{"username":"bob","privateKeyData":"KEY"}}}}`},
		{"vm by schema, with a password", "$schema: https://x/vmCompute.schema.json\nssh_settings: {admin_username: bob, admin_password: pw, ssh_port: 2200}\ntags: {a: b}\nlocation: here", `{
			"location":"here","tags":{"a":"b"},"properties":{"computeType":"VirtualMachine","computeLocation":"here",
			"properties":{"sshPort":2200,"administratorAccount":{"username":"bob","password":"pw"}}}}`},
		{"ours", "type: ssh\naddress: ssh://h\nssh_settings: {admin_username: bob, ssh_private_key_file: ./id, passphrase_file: pass, ssh_port: 2222}\njump: ssh://g\nslots: 2\nuse_agent: true\ndistinct: true\nsettings: {extra: [1]}", `{
			"properties":{"computeType":"VirtualMachine","properties":{"distinct":true,"settings":{"address":"ssh://h:2222","username":"bob","private_key":"KEY","passphrase":"word",
			"jump":["ssh://g"],"slots":2,"use_agent":true,"extra":[1]}}}}`},
		{"a clone", "type: virtualmachine\naddress: ssh://bob@h\ndistinct: true", `{"properties":{"computeType":"VirtualMachine","properties":{"sshPort":22,"address":"ssh://bob@h","distinct":true}}}`},
		{"local", "type: local\nslots: 1\nfolder: /x", `{"properties":{"computeType":"Local","properties":{"settings":{"slots":1,"folder":"/x"}}}}`},
		{"amlcompute", "type: AmlCompute\nsize: S\ntier: low_priority\nmax_instances: 3\nalias: gpu", `{"properties":{"computeType":"AmlCompute","properties":{"vmSize":"S","vmPriority":"LowPriority",
			"alias":"gpu","scaleSettings":{"minNodeCount":0,"maxNodeCount":3}}}}`},
		{"kubernetes", "type: kubernetes\nresource_id: kubeconfig://c\nnamespace: ml\nproperties: {x: 1}\n", `{
			"properties":{"computeType":"Kubernetes","resourceId":"kubeconfig://c","properties":{"namespace":"ml","x":1}}}`},
		{"kubernetes with a kubeconfig", "type: kubernetes\nresource_id: kubeconfig://blue\nkubeconfig_file: ./config\nimage: python:3.12\ngpus: 1", `{"properties":{"computeType":"Kubernetes","resourceId":"kubeconfig://blue",
			"properties":{"settings":{"address":"kubeconfig://blue","image":"python:3.12","gpus":1,"kubeconfig":"{\"apiVersion\":\"v1\",\"clusters\":[{\"cluster\":{\"certificate-authority-data\":\"S0VZ\",\"server\":\"https://b\"},\"name\":\"b\"}],\"contexts\":[{\"context\":{\"cluster\":\"b\",\"user\":\"u\"},\"name\":\"blue\"}],\"current-context\":\"blue\",\"kind\":\"Config\",\"users\":[{\"name\":\"u\",\"user\":{\"token\":\"t\"}}]}"}}}}`},
		{"kubernetes without a namespace", "type: kubernetes\naddress: incluster://", `{"properties":{"computeType":"Kubernetes","properties":{"namespace":"default","settings":{"address":"incluster://"}}}}`},
		{"docker over ssh", "type: docker\naddress: docker+ssh://bob@h\nimage: python:3.12\nssh_settings: {ssh_private_key_file: id}", `{"properties":{"computeType":"Docker","properties":{"settings":{
			"address":"docker+ssh://bob@h","image":"python:3.12","private_key":"KEY"}}}}`},
		{"docker over tls", "type: docker\naddress: docker+tcp://h:2376\ntls: {ca_file: id, cert_file: ./id, key_file: id}", `{"properties":{"computeType":"Docker","properties":{"settings":{
			"address":"docker+tcp://h:2376","ca":"KEY","cert":"KEY","key":"KEY"}}}}`},
		{"synapse", "type: synapsespark\nresource_id: r", `{"properties":{"computeType":"SynapseSpark","resourceId":"r"}}`},
		{"databricks", "type: databricks\nworkspace_url: u\naccess_token: t", `{"properties":{"computeType":"Databricks","properties":{"settings":{"workspace_url":"u","access_token":"t"}}}}`},
		{"batch", "type: batch\naddress: slurm+ssh://login\npool: p", `{"properties":{"computeType":"Batch","properties":{"settings":{"address":"slurm+ssh://login","pool":"p"}}}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc, err := Parse([]byte(tc.text), filepath.Join(dir, "c.yml"))
			if err != nil {
				t.Fatal(err)
			}
			c, err := ParseCompute(doc)
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Warnings) > 0 {
				t.Errorf("%v", c.Warnings)
			}
			text, err := json.Marshal(c.Body)
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

func TestComputeFaultsAreTold(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"name: x", `the field "type" is missing`},
		{"type: virtualmaschine", `Did you mean "virtualmachine"?`},
		{"type: command", "This looks like a job: moorage job create -f"},
		{"type: ssh\nname: -x", `compute name "-x" cannot be used`},
		{"type: ssh\nssh_settings: {ssh_private_key_file: nowhere}", "nowhere cannot be read: no such file or directory"},
		{"type: ssh\nslots: many", `"slots" must be a whole number, not "many"`},
		{"type: ssh\nsettings: [1]", `"settings" must be a map`},
		{"type: kubernetes\nkubeconfig_file: nowhere", "nowhere cannot be read: no such file or directory"},
		{"type: kubernetes\naddress: ssh://h\nkubeconfig_file: x", "not with ssh://h"},
		{"type: docker\ntls: {ca_file: nowhere}", "nowhere cannot be read"},
	} {
		doc, err := Parse([]byte(tc.text), filepath.Join(t.TempDir(), "c.yml"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCompute(doc); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v\ndoes not say: %s", tc.text, err, tc.want)
		}
	}
}

func TestNearestNamesOnlyWhatIsNear(t *testing.T) {
	known := []string{"$schema", "command", "compute", "code", "inputs", "environment_variables"}
	for word, want := range map[string]string{
		"comand": "command", "inptus": "inputs", "Environment_Variable": "environment_variables", "zzz": "", "cod": "code", "x": "", "schema": "",
		strings.Repeat("long", 100): "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("%s: %q, not %q", word, got, want)
		}
	}
}
