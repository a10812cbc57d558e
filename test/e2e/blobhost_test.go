package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/test/engine"
)

// uploading is a job that asks where to upload a file of its run, as azureml-core does, and uploads it there with what Python
// has: urllib knows proxies by their variables and asks the system for names.
const uploading = `python3 - <<'END'
import json, os, urllib.request as web
run, server = os.environ["AZUREML_RUN_ID"], os.environ["AZUREML_SERVICE_ENDPOINT"]
workspace = "/subscriptions/{AZUREML_ARM_SUBSCRIPTION}/resourceGroups/{AZUREML_ARM_RESOURCEGROUP}/providers/Microsoft.MachineLearningServices/workspaces/{AZUREML_ARM_WORKSPACE_NAME}".format(**os.environ)
ask = web.Request(server + "/artifact/v2.0" + workspace + "/artifacts/batch/metadata/ExperimentRun/dcid." + run,
    data=json.dumps({"paths": [{"path": "up.txt"}]}).encode(), headers={"Authorization": "Bearer " + os.environ["AZUREML_RUN_TOKEN"], "Content-Type": "application/json"})
url = json.load(web.urlopen(ask))["artifactContentInformation"]["up.txt"]["contentUri"]
assert url.startswith("https://" + os.environ["MOORAGE_BLOB_HOST"] + "/"), url
web.urlopen(web.Request(url, data=b"from " + run.encode(), method="PUT", headers={"x-ms-blob-type": "BlockBlob", "x-ms-version": "2021-12-02"}))
END`

// TestJobUploadsByNameWhereTheTargetDoesNotKnowIt: the address for uploads that a job is given leads to its way back, whether
// a mount namespace or the keeper's proxy helps it there, and the log of preparing says which.
func TestJobUploadsByNameWhereTheTargetDoesNotKnowIt(t *testing.T) {
	machine := engine.StartSSHD(t, engine.SSHDOptions{})
	server := started(t, filepath.Join(t.TempDir(), "data"))
	server.mustAttach("box", machine, machine.Addr, nil)
	for _, tt := range []struct{ way, says string }{
		{"", "uploads of azureml-core: "},
		{"namespace", "uploads of azureml-core: "}, // some machines give nobody a namespace, and then the proxy helps
		{"proxy", "the keeper is the job's proxy for https"},
	} {
		for _, compute := range []string{"local", "box"} {
			t.Run(compute+" "+tt.way, func(t *testing.T) {
				name := "upload_" + compute + "_" + tt.way + "x"
				more := on(compute)
				more["environmentVariables"] = map[string]string{"MOORAGE_BLOB_HOST_WAY": tt.way}
				server.mustSubmit(name, uploading, more)
				if v, err := server.wait(t.Context(), name); err != nil || v.State != "Completed" {
					log, _ := server.log(t.Context(), name)
					t.Fatalf("%+v %v\n%s", v, err, log)
				}
				var kept []byte
				at := strings.Replace(workspacePath, "/subscriptions", "/artifact/v2.0/subscriptions", 1) + "/artifacts/contentinfo/ExperimentRun/dcid." + name + "/up.txt"
				var where struct{ ContentURI string }
				if _, err := server.call(t.Context(), "GET", at, nil, &where); err != nil {
					t.Fatal(err)
				}
				if _, err := server.send(t.Context(), "GET", where.ContentURI, "", nil, &kept); err != nil || string(kept) != "from "+name {
					t.Errorf("kept %q %v", kept, err)
				}
				var said []byte
				if _, err := server.call(t.Context(), "GET", native+"/jobs/"+name+"/log?stream=prepare", nil, &said); err != nil || !strings.Contains(string(said), tt.says) {
					t.Errorf("log of preparing %q %v", said, err)
				}
				t.Logf("%s", said)
			})
		}
	}
}
