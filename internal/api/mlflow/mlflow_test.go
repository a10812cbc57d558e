package mlflow_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/mlflow"
)

// TestRecordedExchanges replays mlflow.md §11.1: what MLflow's client sent, and what its server answered.
func TestRecordedExchanges(t *testing.T) {
	s := start(t)
	s.post(t, "/mlflow/experiments/create", `{"name":"e1"}`)
	if got := string(s.post(t, "/mlflow/experiments/create", `{"name":"e2","tags":[{"key":"a","value":"b"}]}`).body); got != `{"experiment_id":"2"}` {
		t.Error(got)
	}
	a := s.post(t, "/mlflow/experiments/create", `{"name":"e2"}`)
	if m := a.json(t); a.status != 400 || m["error_code"] != "RESOURCE_ALREADY_EXISTS" || !strings.HasPrefix(m["message"].(string), "Experiment(name=e2) already exists. ") {
		t.Errorf("%d %s", a.status, a.body)
	}

	a = s.post(t, "/mlflow/experiments/search", `{"max_results":1,"filter":"name LIKE 'e%' AND tags.a = 'b'","order_by":["name DESC"],"view_type":"ACTIVE_ONLY"}`)
	e := a.json(t)["experiments"].([]any)[0].(map[string]any)
	for key, want := range map[string]any{
		"experiment_id": "2", "name": "e2", "lifecycle_stage": "active", "tags": []any{map[string]any{"key": "a", "value": "b"}},
		"artifact_location": s.URL + "/mlflow/api/2.0/mlflow-artifacts/artifacts/2",
	} {
		if diff := cmp.Diff(want, e[key]); diff != "" {
			t.Errorf("experiment's %s (-want +got):\n%s", key, diff)
		}
	}

	a = s.post(t, "/mlflow/runs/create", `{"experiment_id":"2","user_id":"unknown","run_name":"rn","start_time":1795533712815,"tags":[{"key":"t","value":"1"}]}`)
	run := a.json(t)["run"].(map[string]any)
	info := run["info"].(map[string]any)
	id := info["run_id"].(string)
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
		t.Errorf("run id %q", id)
	}
	want := map[string]any{
		"run_id": id, "run_uuid": id, "experiment_id": "2", "run_name": "rn", "user_id": "unknown", "status": "RUNNING", "start_time": 1795533712815.0,
		"artifact_uri": s.URL + "/mlflow/api/2.0/mlflow-artifacts/artifacts/2/" + id + "/artifacts", "lifecycle_stage": "active",
	}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{}, run["inputs"]); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}

	for _, c := range []struct{ path, body, want string }{
		{"/mlflow/runs/log-metric", `{"run_uuid":"ID","run_id":"ID","key":"m","value":0.5,"timestamp":"1795533712876","step":1}`, "{}"},
		{"/mlflow/runs/log-metric", `{"run_uuid":"ID","run_id":"ID","key":"m","value":"NaN","timestamp":1795533712939,"step":2}`, "{}"},
		{"/mlflow/runs/log-batch", `{"run_id":"ID","metrics":[{"key":"b","value":1.0,"timestamp":1795533713347,"step":0}],"params":[{"key":"p","value":"1"}],"tags":[{"key":"x","value":"y"}]}`, "{}"},
		{"/mlflow/runs/search", `{"experiment_ids":["2"],"run_view_type":"ACTIVE_ONLY","filter":"metrics.m < 1","max_results":1000}`, "{}"},
		{"/mlflow/runs/log-inputs", `{"run_id":"ID","datasets":[{"tags":[{"key":"mlflow.data.context","value":"train"}],"dataset":{"name":"ds","digest":"dg","source_type":"local","source":"{\"uri\":\"x\"}","schema":"{…}","profile":"{…}"}}]}`, "{}"},
	} {
		a := s.post(t, c.path, strings.ReplaceAll(c.body, "ID", id))
		if a.status != 200 || string(a.body) != c.want {
			t.Errorf("%s: %d %s", c.path, a.status, a.body)
		}
	}
	a = s.get(t, "/mlflow/metrics/get-history?run_uuid="+id+"&metric_key=m&run_id="+id+"&max_results=25000")
	if got := string(a.body); got != `{"metrics":[{"key":"m","value":0.5,"timestamp":1795533712876,"step":1},{"key":"m","value":"NaN","timestamp":1795533712939,"step":2}]}` {
		t.Error(got)
	}

	place := "/mlflow-artifacts/artifacts/2/" + id + "/artifacts/dir/a%20b.txt"
	if a := s.as(t, token, http.MethodPut, place, "hello"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = s.get(t, "/mlflow-artifacts/artifacts?path="+url.QueryEscape("2/"+id+"/artifacts"))
	if got := string(a.body); got != `{"files":[{"path":"dir","is_dir":true}]}` {
		t.Error(got)
	}
	if got := string(s.get(t, place).body); got != "hello" {
		t.Error(got)
	}
}

func TestErrorsAreWhatTheClientKnows(t *testing.T) {
	s := start(t)
	id := s.newRun(t, `{"experiment_id":"0"}`)
	gone := s.newRun(t, `{}`)
	s.post(t, "/mlflow/runs/delete", `{"run_id":"`+gone+`"}`)
	s.post(t, "/mlflow/runs/log-parameter", `{"run_id":"`+id+`","key":"q","value":"2"}`)
	for _, c := range []struct {
		method, path, body string
		status             int
		code, message      string
	}{
		{"GET", "/mlflow/runs/get", "", 400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'run_id'."},
		{"GET", "/mlflow/runs/get?run_id=0", "", 404, "RESOURCE_DOES_NOT_EXIST", "Run with id=0 not found"},
		{"GET", "/mlflow/runs/get?run_id=%ff", "", 400, "INVALID_PARAMETER_VALUE", "not valid text"},
		{"GET", "/mlflow/runs/get?run_id=a%00b", "", 400, "INVALID_PARAMETER_VALUE", "not valid text"},
		{"GET", "/mlflow/runs/get?run_id=%zz", "", 400, "INVALID_PARAMETER_VALUE", "malformed"},
		{"GET", "/mlflow/experiments/get?experiment_id=999", "", 404, "RESOURCE_DOES_NOT_EXIST", "No Experiment with id=999 exists"},
		{"GET", "/mlflow/experiments/get?experiment_id=abc", "", 400, "INVALID_PARAMETER_VALUE", "experiment_id"},
		{"GET", "/mlflow/experiments/get-by-name?experiment_name=nope", "", 404, "RESOURCE_DOES_NOT_EXIST", "Could not find experiment with name 'nope'"},
		{"POST", "/mlflow/runs/create", `{"experiment_id":1}`, 400, "INVALID_PARAMETER_VALUE", "Invalid value 1 for parameter 'experiment_id' supplied: "},
		{"POST", "/mlflow/runs/create", `{"experiment_id":"77"}`, 404, "RESOURCE_DOES_NOT_EXIST", "No Experiment with id=77 exists"},
		{"POST", "/mlflow/runs/create", `{"experiment_id":`, 400, "BAD_REQUEST", "not valid JSON"},
		{"POST", "/mlflow/runs/create", `[1]`, 400, "", ""},
		{"POST", "/mlflow/runs/create", `{"run_name":"a\u0000b"}`, 400, "INVALID_PARAMETER_VALUE", "zero character"},
		{"POST", "/mlflow/runs/set-tag", `{"run_id":"` + gone + `","key":"k","value":"v"}`, 400, "INVALID_PARAMETER_VALUE", "The run " + gone + " must be in the 'active' state. Current state is deleted."},
		{"POST", "/mlflow/runs/delete-tag", `{"run_id":"` + id + `","key":"kk"}`, 404, "RESOURCE_DOES_NOT_EXIST", "No tag with name: kk in run with id " + id},
		{"POST", "/mlflow/runs/log-parameter", `{"run_id":"` + id + `","key":"q","value":"3"}`, 400, "INVALID_PARAMETER_VALUE", "Changing param values is not allowed. Param with key='q' was already logged with value='2' for run ID='" + id + "'. Attempted logging new value '3'."},
		{"POST", "/mlflow/runs/log-metric", `{"run_id":"` + id + `","key":"m","value":"x","timestamp":1}`, 400, "INVALID_PARAMETER_VALUE", "parameter 'value'"},
		{"POST", "/mlflow/runs/log-metric", `{"run_id":"` + id + `","key":"m","timestamp":1}`, 400, "INVALID_PARAMETER_VALUE", "required parameter 'value'"},
		{"POST", "/mlflow/runs/log-metric", `{"run_id":"` + id + `","key":"m","value":1,"timestamp":99999999999999999999}`, 400, "INVALID_PARAMETER_VALUE", "timestamp"},
		{"POST", "/mlflow/runs/update", `{"run_id":"` + id + `","status":"DONE"}`, 400, "INVALID_PARAMETER_VALUE", "status"},
		{"POST", "/mlflow/runs/search", `{"experiment_ids":["0"],"order_by":["metrics.m","metrics.m"]}`, 400, "INVALID_PARAMETER_VALUE", "duplicate"},
		{"POST", "/mlflow/runs/search", `{"experiment_ids":["0"],"max_results":50001}`, 400, "INVALID_PARAMETER_VALUE", "max_results"},
		{"POST", "/mlflow/runs/search", `{"experiment_ids":["0"],"page_token":"x"}`, 400, "INVALID_PARAMETER_VALUE", "Invalid page token, could not base64-decode"},
		{"POST", "/mlflow/experiments/search", `{}`, 400, "INVALID_PARAMETER_VALUE", "max_results"},
		{"POST", "/mlflow/experiments/search", `{"max_results":0}`, 400, "INVALID_PARAMETER_VALUE", "max_results"},
		{"POST", "/mlflow/experiments/create", `{"name":""}`, 400, "INVALID_PARAMETER_VALUE", "'name'"},
		{"POST", "/mlflow/experiments/create", `{"name":"loc","artifact_location":"/etc"}`, 400, "INVALID_PARAMETER_VALUE", "artifact_location"},
		{"GET", "/mlflow/metrics/get-history?run_id=" + id + "&metric_key=m&max_results=0", "", 400, "INVALID_PARAMETER_VALUE", "max_results"},
		{"GET", "/mlflow-artifacts/artifacts/0/" + id + "/artifacts/nope", "", 404, "RESOURCE_DOES_NOT_EXIST", "No such artifact"},
		{"GET", "/mlflow-artifacts/artifacts?path=..%2Fx", "", 400, "INVALID_PARAMETER_VALUE", "Invalid path"},
		{"GET", "/mlflow-artifacts/artifacts?path=%2Fetc", "", 400, "INVALID_PARAMETER_VALUE", "Invalid path"},
		{"GET", "/mlflow-artifacts/artifacts?path=C:%5Cx", "", 400, "INVALID_PARAMETER_VALUE", "Invalid path"},
		{"GET", "/mlflow-artifacts/artifacts?path=a%2F%252e%252e%2Fb", "", 400, "INVALID_PARAMETER_VALUE", "Invalid path"},
		{"PUT", "/mlflow-artifacts/artifacts/0/" + id + "/artifacts/%252e%252e/b", "x", 400, "INVALID_PARAMETER_VALUE", "Invalid path"},
		{"PUT", "/mlflow-artifacts/artifacts/0/" + id + "/artifacts/%2e%2e/b", "x", 400, "", ""},
		{"PUT", "/mlflow-artifacts/artifacts/0/unknown/artifacts/b", "x", 404, "RESOURCE_DOES_NOT_EXIST", "Run with id=unknown not found"},
		{"POST", "/mlflow-artifacts/mpu/create/0/x", `{"path":"f","num_parts":2}`, 501, "NOT_IMPLEMENTED", "Multipart upload is not supported for the current artifact repository"},
		{"GET", "/mlflow-artifacts/presigned/0/x", "", 501, "NOT_IMPLEMENTED", ""},
		{"POST", "/mlflow/traces", `{}`, 404, "ENDPOINT_NOT_FOUND", ""},
		{"GET", "@/mlflow/api/3.0/mlflow/traces", "", 404, "ENDPOINT_NOT_FOUND", ""},
	} {
		a := s.as(t, token, c.method, c.path, c.body)
		m := a.json(t)
		message, _ := m["message"].(string)
		if a.status != c.status || (c.code != "" && m["error_code"] != c.code) || !strings.Contains(message, c.message) {
			t.Errorf("%s %s %s: %d %s, want %d %s %q", c.method, c.path, c.body, a.status, a.body, c.status, c.code, c.message)
		}
	}
	if a := s.as(t, "", http.MethodGet, "/mlflow/runs/get?run_id="+id, ""); a.status != 401 || a.json(t)["error_code"] != "UNAUTHENTICATED" {
		t.Errorf("%d %s", a.status, a.body)
	}
	big := `{"run_id":"` + id + `","tags":[{"key":"k","value":"` + strings.Repeat("x", 1<<20) + `"}]}`
	if a := s.post(t, "/mlflow/runs/log-batch", big); a.status != 400 || a.json(t)["error_code"] != "INVALID_PARAMETER_VALUE" {
		t.Errorf("%d %.200s", a.status, a.body)
	}
}

func TestEveryFormOfARequestIsRead(t *testing.T) {
	s := start(t)
	id := s.newRun(t, `{"experiment_id":"0","start_time":"5","unknown":{"x":[1]}}`)
	for _, body := range []string{
		`{"run_uuid":"ID","key":"s","value":"1.5","timestamp":"7","step":"-3"}`,
		`{"run_id":"ID","key":"s","value":"-Infinity","timestamp":8.0}`,
		`{"run_id":"ID","key":"s","value":1e3,"timestamp":9,"step":null}`,
	} {
		if a := s.post(t, "/mlflow/runs/log-metric", strings.ReplaceAll(body, "ID", id)); a.status != 200 {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	a := s.get(t, "/mlflow/metrics/get-history?metric_key=s&run_uuid="+id)
	want := `{"metrics":[{"key":"s","value":1.5,"timestamp":7,"step":-3},{"key":"s","value":-1.7976931348623157e+308,"timestamp":8,"step":0},{"key":"s","value":1000,"timestamp":9,"step":0}]}`
	if string(a.body) != want {
		t.Errorf("%s", a.body)
	}
	for _, status := range []string{`"FINISHED"`, `3`, `"3"`} {
		a := s.post(t, "/mlflow/runs/update", `{"run_id":"`+id+`","status":`+status+`,"end_time":9}`)
		if info := a.json(t)["run_info"].(map[string]any); info["status"] != "FINISHED" || info["end_time"] != 9.0 {
			t.Errorf("%s: %s", status, a.body)
		}
	}
	for _, view := range []string{`"ALL"`, `3`} {
		if a := s.post(t, "/mlflow/runs/search", `{"experiment_ids":["0"],"run_view_type":`+view+`}`); !strings.Contains(string(a.body), id) {
			t.Errorf("%s: %s", view, a.body)
		}
	}
	a = s.get(t, "/mlflow/experiments/search?max_results=5&order_by=name&order_by=experiment_id+DESC&view_type=ACTIVE_ONLY")
	if !strings.Contains(string(a.body), `"name":"Default"`) {
		t.Errorf("%s", a.body)
	}
	a = s.get(t, "/mlflow/metrics/get-history-bulk-interval?run_ids="+id+"&run_ids="+id+"&metric_key=s&max_results=10&start_step=-5&end_step=5")
	if n := len(a.json(t)["metrics"].([]any)); n != 6 {
		t.Errorf("%d points: %s", n, a.body)
	}
}

func TestWorkspacesAreMountedApart(t *testing.T) {
	s := start(t)
	id := s.newRun(t, `{}`)
	for _, version := range []string{"v1.0", "v2.0"} {
		for _, root := range []string{"api", "ajax-api"} {
			mount := "@/mlflow/" + version + "/subscriptions/s/resourcegroups/g/providers/microsoft.machinelearningservices/workspaces/"
			if a := s.get(t, mount+"home/"+root+"/2.0/mlflow/runs/get?run_id="+id); a.status != 200 {
				t.Errorf("%s %s: %d %s", version, root, a.status, a.body)
			} else if uri := a.json(t)["run"].(map[string]any)["info"].(map[string]any)["artifact_uri"].(string); !strings.HasSuffix(uri, "/workspaces/home/api/2.0/mlflow-artifacts/artifacts/0/"+id+"/artifacts") {
				t.Errorf("artifact_uri %s", uri)
			}
			if a := s.get(t, mount+"other/"+root+"/2.0/mlflow/runs/get?run_id="+id); a.status != 404 {
				t.Errorf("another workspace shows the run: %d %s", a.status, a.body)
			}
			if a := s.get(t, mount+"none/"+root+"/2.0/mlflow/runs/get?run_id="+id); a.status != 404 {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		if a := s.as(t, "", http.MethodGet, "@/mlflow/"+version+other.Path()+"/version", ""); string(a.body) != mlflow.Version {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	for path, want := range map[string]string{"/health": "OK", "/version": "3.17.2"} {
		if a := s.as(t, "", http.MethodGet, "@/mlflow"+path, ""); a.status != 200 || string(a.body) != want {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	a := s.as(t, "", http.MethodGet, "@/mlflow/api/3.0/mlflow/server-info", "")
	if m := a.json(t); m["multipart_uploads_enabled"] != false || m["store_type"] != "SqlStore" {
		t.Errorf("%s", a.body)
	}
}

func TestEveryRouteHasARightOrAReason(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range mlflow.Routes(mlflow.Config{}) {
		if (r.Action == "") == (r.Public == "") || r.Handler == nil || r.Dialect == nil {
			t.Errorf("%s %s", r.Method, r.Pattern)
		}
		if r.Action != "" && r.Job != api.JobHandler {
			t.Errorf("%s %s does not say what a job may do", r.Method, r.Pattern)
		}
		if key := r.Method + r.Pattern; seen[key] {
			t.Errorf("%s twice", key)
		} else {
			seen[key] = true
		}
	}
	if want := 3 * (2*37 + 3); len(seen) != want {
		t.Errorf("%d routes, want %d", len(seen), want)
	}
}
