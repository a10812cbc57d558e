package attach

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/control"
)

var kinds = []control.KindInfo{
	{Kind: "ssh", Schema: json.RawMessage(`{"properties":{"private_key":{"writeOnly":true},"pin":{"writeOnly":true},"slots":{}}}`)}, {Kind: "local"},
}

func TestRequestFindsTheAddress(t *testing.T) {
	tests := []struct{ resourceID, inner, want string }{
		{"ssh://bob@10.0.0.5:2222", `{"sshPort":22}`, "ssh://bob@10.0.0.5:2222"},
		{"ssh://bob@10.0.0.5", `{"sshPort":2022}`, "ssh://bob@10.0.0.5:2022"},
		{"ssh://10.0.0.5", `{"administratorAccount":{"username":"eve"}}`, "ssh://eve@10.0.0.5:22"},
		{"/subscriptions/s/x", `{"address":"box.example","sshPort":2022}`, "ssh://box.example:2022"},
		{"/subscriptions/s/x", `{"address":"[fe80::1]"}`, "ssh://[fe80::1]:22"},
		{"/subscriptions/s/x", `{"settings":{"address":"ssh://a:1"}}`, "ssh://a:1"},
		{"/subscriptions/s/x", `{}`, ""},
	}
	for _, tt := range tests {
		body := `{"properties":{"computeType":"VirtualMachine","resourceId":"` + tt.resourceID + `","properties":` + tt.inner + `}}`
		req, err := Request(json.RawMessage(body), kinds, "local")
		if err != nil || req.Address != tt.want || req.Kind != "ssh" {
			t.Errorf("%s %s: %+v, %v; want address %q", tt.resourceID, tt.inner, req, err, tt.want)
		}
	}
}

func TestRequestMovesSecretsOutOfTheDocument(t *testing.T) {
	body := `{"tags":{"a":"b"},"properties":{"computeType":"virtualmachine","future":[{"password":"hush"}],"properties":{
		"administratorAccount":{"username":"u","password":"hush","privateKeyData":"hush","publicKeyData":"shown"},"distinct":true,"settings":{"pin":"hush","slots":3}}}}`
	req, err := Request(json.RawMessage(body), kinds, "local")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(req.Doc), "hush") || !strings.Contains(string(req.Doc), "shown") || !strings.Contains(string(req.Doc), `"slots":3`) {
		t.Errorf("document: %s", req.Doc)
	}
	var settings map[string]any
	if err := json.Unmarshal(req.Settings, &settings); err != nil {
		t.Fatal(err)
	}
	if settings["password"] != "hush" || settings["private_key"] != "hush" || settings["pin"] != "hush" || settings["username"] != "u" || !req.Distinct {
		t.Errorf("settings: %v, distinct %v", settings, req.Distinct)
	}
}

func TestRequestOfAKindWithoutADriverKeepsNoSettings(t *testing.T) {
	for computeType, inner := range map[string]string{
		"Databricks": `{"databricksAccessToken":"hush"}`,
		"HDInsight":  `{"address":"10.0.0.5","administratorAccount":{"username":"u","password":"hush","privateKeyData":"hush"}}`,
		"Kubernetes": `{"namespace":"ml","settings":{"some_new_secret":"hush"}}`,
		"AKS":        `{"sslConfiguration":{"status":"Enabled","key":"hush"}}`,
	} {
		req, err := Request(json.RawMessage(`{"properties":{"computeType":"`+computeType+`","resourceId":"/subscriptions/s/x","properties":`+inner+`}}`), kinds, "local")
		if err != nil || req.ResourceID != "/subscriptions/s/x" || !control.Foreseen(req.Kind) {
			t.Errorf("%s: %+v, %v", computeType, req, err)
		}
		if strings.Contains(string(req.Doc)+string(req.Settings), "hush") {
			t.Errorf("%s: a secret is kept: %s %s", computeType, req.Doc, req.Settings)
		}
	}
	if _, err := Request(json.RawMessage(`{"properties":{"computeType":"Quantum"}}`), kinds, "local"); err == nil {
		t.Error("a type that nobody knows is attached")
	}
}

func TestRequestHasThePortForAnAddressOfTheCatalogue(t *testing.T) {
	req, err := Request(json.RawMessage(`{"properties":{"computeType":"VirtualMachine","resourceId":"/subscriptions/s/x","properties":{"sshPort":2022}}}`), kinds, "local")
	if err != nil || req.Address != "" || req.Port != 2022 {
		t.Errorf("%+v, %v", req, err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(`{"properties":{"computeType":"VirtualMachine","properties":{"administratorAccount":{"password":"x"}}}}`)
	f.Add(`{"properties":{"computeType":"AmlCompute","description":"alias of x"}}`)
	f.Add(`{"properties":null}`)
	f.Add(`{"properties":{"computeType":"Local","properties":[1,{"token":2}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		if !json.Valid([]byte(body)) {
			return
		}
		req, err := Request(json.RawMessage(body), kinds, "local")
		if err == nil && !json.Valid(req.Doc) {
			t.Fatalf("%s gave the document %s", body, req.Doc)
		}
	})
}
