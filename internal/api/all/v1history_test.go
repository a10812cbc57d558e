package all

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const historyPath = "/history/v1.0" + wsPath

// told is an event as azureml-core sends it (azureml-v1.md §6.4).
func told(run, what string, data map[string]any) map[string]any {
	all := map[string]any{"RunId": run}
	maps.Copy(all, data)
	return map[string]any{"timestamp": "2026-11-24T08:34:23.151000Z", "name": "Microsoft.MachineLearning.Run." + what, "data": all}
}

func TestExperimentsOfTheHistory(t *testing.T) {
	s := newServer(t)
	s.call("GET", historyPath+"/experiments/my%20exp", nil).want(404).has(map[string]any{"error.innerError.code": "ResourceNotFound", "componentName": "moorage"})
	made := s.call("POST", historyPath+"/experiments/my%20exp", nil).want(200).has(map[string]any{"name": "my exp", "archivedTime": nil})
	id := made.get("experimentId").(string)
	for _, path := range []string{"/experiments/my%20exp", "/experimentids/" + id, "/experiments/" + id, "//experiments/my%20exp/"} {
		s.call("GET", historyPath+path, nil).want(200).has(map[string]any{"experimentId": id})
	}
	s.call("POST", historyPath+"/experiments/my%20exp", nil).want(200).has(map[string]any{"experimentId": id})
	byID := historyPath + "/experimentids/" + id
	s.call("PATCH", byID, map[string]any{"tags": map[string]any{"a": "b", "n": nil}, "description": "words"}).want(200).has(map[string]any{"tags.a": "b", "tags.n": "", "description": "words"})
	s.call("POST", byID+"/tags:delete", map[string]any{"tags": []string{"n"}}).want(200)
	query := historyPath + "/experiments:query"
	s.call("POST", query, map[string]any{"filter": "(name eq my exp)", "viewType": "ActiveOnly"}).want(200).has(map[string]any{"value.0.name": "my exp", "value.0.tags.n": nil, "value.1": nil, "continuationToken": nil})
	s.call("POST", query, map[string]any{"filter": "(Tags/a eq c)"}).want(200).has(map[string]any{"value.0": nil})
	next := s.call("POST", query, map[string]any{"top": 1}).want(200).get("continuationToken")
	if next == nil {
		t.Error("two experiments are on one page of one")
	}
	s.call("POST", query, map[string]any{"top": 1, "continuationToken": next}).want(200).has(map[string]any{"continuationToken": nil})
	s.call("PATCH", byID, map[string]any{"archive": true}).want(200)
	s.call("POST", query, map[string]any{"viewType": "ActiveOnly"}).want(200).has(map[string]any{"value.1": nil})
	s.call("POST", query, map[string]any{"viewType": "ArchivedOnly"}).want(200).has(map[string]any{"value.0.name": "my exp"})
	s.call("PATCH", historyPath+"/experiments/my%20exp/runs/r", map[string]any{}).want(400).has(map[string]any{"error.code": "ExperimentDeleted"})
	s.call("PATCH", byID, map[string]any{"archive": false}).want(200).has(map[string]any{"archivedTime": nil})
	s.call("PATCH", historyPath+"/experiments/my%20exp/runs/r", map[string]any{}).want(200)
	s.call("DELETE", byID, nil).want(409)
	other := s.call("POST", historyPath+"/experiments/other", nil).want(200).get("experimentId").(string)
	s.call("DELETE", historyPath+"/experimentids/"+other, nil).want(200)
	s.call("GET", historyPath+"/experimentids/11111111-1111-4111-8111-111111111111", nil).want(404)
}

// TestRunOfAClientLivesByItsEvents walks the calls of start_logging to the end (azureml-v1.md §6.4).
func TestRunOfAClientLivesByItsEvents(t *testing.T) {
	s := newServer(t)
	run := historyPath + "/experiments/exp/runs/r1"
	s.call("GET", run, nil).want(404)
	a := s.call("PATCH", run, map[string]any{
		"runId": "r1", "name": "run_r1", "target": "local", "status": nil, "displayName": nil, "tags": nil, "runTypeV2": map[string]any{"orchestrator": "SDK", "traits": []string{}},
		"cancelUri": "https://elsewhere.example/steal", "diagnosticsUri": "https://elsewhere.example/steal",
	}, header("Content-Type", "application/json-patch+json")).want(200)
	a.has(map[string]any{
		"runId": "r1", "rootRunId": "r1", "parentRunId": nil, "status": "NotStarted", "startTimeUtc": nil, "endTimeUtc": nil, "dataContainerId": "dcid.r1", "name": "run_r1", "displayName": "r1",
		"target": "local", "hidden": false, "runType": nil, "runTypeV2.orchestrator": "SDK", "cancelUri": nil, "diagnosticsUri": nil, "token": nil, "error": nil, "createdBy.userName": "administrator",
	})
	experiment := s.call("GET", historyPath+"/experiments/exp", nil).want(200).get("experimentId").(string)
	if a.get("experimentId") != experiment {
		t.Errorf("the run is in %v, and the experiment is %s", a.get("experimentId"), experiment)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000000Z", a.get("createdUtc").(string)); err != nil {
		t.Error(err)
	}
	byID := historyPath + "/experimentids/" + experiment + "/runs/r1"
	s.call("POST", run+"/events", told("r1", "Start", map[string]any{"StartTime": "2026-11-24T08:34:23.151000Z"})).want(200)
	s.call("GET", byID, nil).want(200).has(map[string]any{"status": "Running", "startTimeUtc": "2026-11-24T08:34:23.151000Z"})
	s.call("GET", run+"/metricsingest/wait", nil).want(200)
	s.call("PATCH", byID, map[string]any{"tags": map[string]any{"a": "b", "empty": nil}, "properties": map[string]any{"p": "1"}, "displayName": "nice", "description": "words", "hidden": true}).want(200)
	s.call("PATCH", run, map[string]any{"properties": map[string]any{"p": "1", "q": "2"}}).want(200)
	s.call("PATCH", run, map[string]any{"properties": map[string]any{"p": "2"}}).want(400).has(map[string]any{"error.code": "PropertyImmutable"})
	s.call("DELETE", run+"/tags", []string{"empty"}).want(200).has(map[string]any{
		"tags.a": "b", "tags.empty": nil, "properties.p": "1", "properties.q": "2", "displayName": "nice", "description": "words", "hidden": true, "runTypeV2.orchestrator": "SDK",
	})
	s.call("POST", run+"/events", told("r1", "Error", map[string]any{"ErrorResponse": map[string]any{"error": map[string]any{"code": "UserError", "message": "it broke"}}})).want(200)
	s.call("POST", run+"/events", told("r1", "Warning", map[string]any{"Source": "me", "Message": "careful"})).want(200)
	token := s.call("GET", run+"/token", nil).want(200)
	if text, _ := token.get("token").(string); strings.Count(text, ".") != 2 {
		t.Errorf("%v is no JWT", token.get("token"))
	}
	s.call("POST", run+"/events", told("r1", "Failed", map[string]any{"EndTime": "2026-11-24T09:00:00.000000Z"})).want(200)
	details := s.call("GET", run+"/details", nil).want(200).has(map[string]any{
		"status": "Failed", "endTimeUtc": "2026-11-24T09:00:00.000000Z", "error.error.message": "it broke", "error.error.code": "UserError", "warnings.0.message": "careful", "target": "local", "submittedBy": "administrator",
	})
	if details.get("error.error.details") == nil || details.get("logFiles") == nil || details.get("runDefinition") == nil || details.get("services") == nil {
		t.Errorf("a client breaks on %s", details.Body)
	}
	s.call("POST", run+"/token", nil).want(409)
	// The run is a run of MLflow's, too.
	s.call("GET", "/mlflow/v1.0"+wsPath+"/api/2.0/mlflow/runs/get?run_id=r1", nil).want(200).has(map[string]any{"run.info.status": "FAILED", "run.info.run_name": "nice"})
	// Without an experiment in the path nothing is made.
	s.call("PATCH", historyPath+"/runs/none", map[string]any{}).want(404)
	s.call("GET", historyPath+"/runs/r1", nil).want(200).has(map[string]any{"status": "Failed"})
	s.call("POST", run+"/events", `{"name":"Start","timestamp":"yesterday"}`).want(400)
	s.call("PATCH", run, map[string]any{"status": "Happy"}).want(400)
}

func TestChildrenInBatches(t *testing.T) {
	s := newServer(t)
	exp := historyPath + "/experiments/exp"
	s.call("PATCH", exp+"/runs/top", map[string]any{}).want(200)
	a := s.call("PATCH", exp+"/batch/runs", map[string]any{"runs": []any{
		map[string]any{"runId": "k1", "parentRunId": "top", "status": "NotStarted", "tags": map[string]any{"lr": "1"}}, map[string]any{"runId": "k2", "parentRunId": "top", "status": "NotStarted"},
	}}).want(200).has(map[string]any{"runs.k1.parentRunId": "top", "runs.k1.rootRunId": "top", "runs.k1.tags.lr": "1", "runs.k2.status": "NotStarted"})
	if errors, _ := a.get("errors").(map[string]any); errors == nil || len(errors) != 0 {
		t.Errorf("errors: %v", a.get("errors"))
	}
	s.call("POST", exp+"/batch/events", map[string]any{"events": []any{told("k1", "Start", nil), told("k2", "Start", nil)}}).want(200)
	s.call("POST", exp+"/batch/events", map[string]any{"events": []any{told("k1", "Completed", nil), told("none", "Completed", nil)}}).want(404)
	list := s.call("GET", exp+"/runs/top/children?$orderby="+url.QueryEscape("StartTimeUtc desc")+"&$top=1", nil).want(200)
	link := s.path(list.get("nextLink"))
	rest := s.call("GET", link, nil).want(200).has(map[string]any{"continuationToken": nil, "nextLink": nil})
	if one, two := list.get("value.0.runId"), rest.get("value.0.runId"); one == two || list.get("value.0.status") != "Running" || rest.get("value.1") != nil {
		t.Errorf("%v, then %v", one, two)
	}
	s.call("GET", historyPath+"/runs/none/children", nil).want(404)
}

func TestQueriesOfRuns(t *testing.T) {
	s := newServer(t)
	exp := historyPath + "/experiments/exp"
	s.call("PATCH", exp+"/runs/r1", map[string]any{"tags": map[string]any{"quality": "fantastic run"}, "properties": map[string]any{"author": "x"}}).want(200)
	s.call("PATCH", exp+"/runs/r2", map[string]any{"parentRunId": "r1"}).want(200)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(map[string]any{"experimentName": "exp", "computeId": wsPath + "/computes/local"})).want(201)
	s.finish("j1", workspace.Completed, "", nil)
	for text, want := range map[string]string{
		"":                       "j1 r1 r2",
		"(ParentRunId eq null)":  "j1 r1",
		"(Status eq Completed)":  "j1",
		"(Status eq NotStarted)": "r1 r2",
		`((Tags/quality eq "fantastic run") and (Properties/author eq "x") and (ParentRunId eq null))`: "r1",
		"(Tags/quality ne null or Tags/quality eq null)":                                               "r1",
		"(RunType eq azureml.scriptrun or Properties/azureml.runsource eq azureml.scriptrun)":          "j1",
		"(Target eq local)":     "j1",
		"RunId eq r2":           "r2",
		"(RootRunId eq r1)":     "r1 r2",
		"(Status eq Elsewhere)": "",
	} {
		body := map[string]any{"orderby": "RunId asc", "top": 500}
		if text != "" {
			body["filter"] = text
		}
		a := s.call("POST", exp+"/runs:query", body).want(200)
		var got []string
		for _, run := range a.get("value").([]any) {
			got = append(got, run.(map[string]any)["runId"].(string))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
	s.call("POST", exp+"/runs:query", map[string]any{"filter": "(Nothing eq 1)"}).want(400).has(map[string]any{"error.code": "InvalidFilter", "error.target": "filter"})
	s.call("POST", exp+"/runs:query", map[string]any{"orderby": "Nothing"}).want(400)
	s.call("POST", historyPath+"/experiments/none/runs:query", map[string]any{}).want(404)
	s.call("GET", exp+"/runs?$filter="+url.QueryEscape("RunId eq r2"), nil).want(200).has(map[string]any{"value.0.runId": "r2", "value.1": nil})
	s.call("GET", historyPath+"/computes/local/runs", nil).want(200).has(map[string]any{"value.0.runId": "j1", "value.1": nil})
}

// TestOlderClientsNeverSeeFinalizing: they would take it for the end (azureml-v1.md §6.2).
func TestOlderClientsNeverSeeFinalizing(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(map[string]any{"experimentName": "exp"})).want(201)
	s.finish("j1", workspace.Finalizing, "", nil)
	for path, want := range map[string]string{"/experiments/exp/runs/j1": "Running", "/experiments/exp/runs/j1/details": "Running", "/runs/j1": "Finalizing"} {
		s.call("GET", historyPath+path, nil).want(200).has(map[string]any{"status": want})
	}
}

// TestOlderClientsStreamThePreparing: they print the last log by name (azureml-v1.md §6.3).
func TestOlderClientsStreamThePreparing(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(map[string]any{"experimentName": "exp"})).want(201)
	logs := func(path string) map[string]any {
		return s.call("GET", historyPath+path+"/details", nil).want(200).get("logFiles").(map[string]any)
	}
	if queued := logs("/experiments/exp/runs/j1"); len(queued) != 0 {
		t.Errorf("azureml-core streams %v of a run that waits", queued)
	}
	job := s.finish("j1", workspace.Preparing, "", nil)
	older, newer := logs("/experiments/exp/runs/j1"), logs("/runs/j1")
	if _, early := older["user_logs/std_log.txt"]; early || len(newer) != 1 || newer["user_logs/std_log.txt"] == nil {
		t.Errorf("to azureml-core %v, to azure-ai-ml %v", older, newer)
	}
	must(t, tracking.JobLog{Blob: s.blobs}.SealPreparing(t.Context(), job, strings.NewReader("by uv; warning: Python 3.11 in place of 3.10\n")))
	s.finish("j1", workspace.Completed, "said\n", nil)
	if got := s.call("GET", s.path(older["azureml-logs/20_preparing.txt"]), nil, as("")).want(200); got.Body.String() != "by uv; warning: Python 3.11 in place of 3.10\n" {
		t.Errorf("the log of preparing is %q", got.Body)
	}
	after := logs("/experiments/exp/runs/j1")
	if after["user_logs/std_log.txt"] == nil || after["system_logs/preparing.txt"] == nil || after["azureml-logs/20_preparing.txt"] != nil {
		t.Errorf("afterwards %v", after)
	}
	for _, path := range []string{"/experiments/exp/runs/j1", "/runs/j1"} {
		s.call("GET", historyPath+path+"/details", nil).want(200).has(map[string]any{"warnings.0.message": "environment: Python 3.11 in place of 3.10", "warnings.1": nil})
	}
	s.call("GET", strings.Replace(s.path(older["azureml-logs/20_preparing.txt"]), "preparing.txt", "other.txt", 1), nil, as("")).want(404)
}

func TestCancelByTheRunsOwnAddress(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(map[string]any{"experimentName": "my exp"})).want(201)
	run := historyPath + "/experiments/my%20exp/runs/"
	address := s.path(s.call("GET", run+"j1", nil).want(200).get("cancelUri"))
	s.call("POST", address, nil, as("")).want(401)
	s.call("POST", address, nil).want(200)
	s.call("GET", run+"j1", nil).want(200).has(map[string]any{"status": "Canceled"})
	s.call("PATCH", run+"r1", map[string]any{}).want(200)
	s.call("POST", run+"r1/cancel", nil).want(200)
	s.call("GET", run+"r1", nil).want(200).has(map[string]any{"status": "Canceled"})
	s.call("POST", run+"none/cancel", nil).want(404)
}

// TestJobIsItsRun: what one client writes of a job, the others read.
func TestJobIsItsRun(t *testing.T) {
	s := newServer(t)
	s.call("PUT", wsPath+"/jobs/j1", commandJob(map[string]any{"experimentName": "exp", "tags": map[string]any{"a": "b"}, "properties": map[string]any{"p": "1"}})).want(201)
	run, mlflow := historyPath+"/experiments/exp/runs/j1", "/mlflow/v1.0"+wsPath+"/api/2.0/mlflow/"
	s.call("PATCH", run, map[string]any{"tags": map[string]any{"v1": "x"}, "properties": map[string]any{"ContentSnapshotId": "s"}, "displayName": "nice"}).want(200).has(map[string]any{
		"runType": "azureml.scriptrun", "tags.a": "b", "tags.v1": "x", "properties.p": "1", "status": "Queued",
	})
	s.call("POST", mlflow+"runs/set-tag", map[string]any{"run_id": "j1", "key": "flow", "value": "y"}).want(200)
	s.call("POST", run+"/events", told("j1", "Completed", nil)).want(200)
	s.call("GET", wsPath+"/jobs/j1", nil).want(200).has(map[string]any{
		"properties.tags.a": "b", "properties.tags.v1": "x", "properties.tags.flow": "y", "properties.displayName": "nice", "properties.properties.ContentSnapshotId": "s", "properties.status": "Queued",
	})
	s.call("PATCH", wsPath+"/jobs/j1", map[string]any{"properties": map[string]any{"tags": map[string]any{"v2": "z"}, "displayName": "other"}}).want(200)
	got := s.call("GET", mlflow+"runs/get?run_id=j1", nil).want(200).has(map[string]any{"run.info.run_name": "other", "run.info.status": "SCHEDULED"}).Body.String()
	if !strings.Contains(got, `{"key":"v2","value":"z"}`) {
		t.Errorf("MLflow does not see v2's tag: %s", got)
	}
	s.call("POST", "/metric/v2.0"+wsPath+"/runs/j1/batch", `{"values":[{"name":"acc","columns":{"acc":"double"},"value":[{"metricId":"1","createdUtc":"2026-11-24T08:34:23Z","data":{"acc":0.5}}],"properties":{"uxMetricType":"azureml.v1.scalar"}}]}`).want(200)
	s.call("POST", mlflow+"runs/log-metric", map[string]any{"run_id": "j1", "key": "loss", "value": 2, "timestamp": 1, "step": 0}).want(200)
	s.call("GET", mlflow+"metrics/get-history?run_id=j1&metric_key=acc", nil).want(200).has(map[string]any{"metrics.0.value": 0.5})
	s.call("POST", "/metric/v2.0"+wsPath+"/runs/j1/full", `{"metricName":"loss"}`).want(200).has(map[string]any{"value.0.data.loss": 2.0, "properties.uxMetricType": "azureml.v1.scalar"})
	s.call("POST", historyPath+"/experiments/exp/metrics:query?mergestrategytype=None", map[string]any{"filter": "RunId eq j1"}).want(200).has(map[string]any{
		"value.0.name": "acc", "value.0.cells.0.acc": 0.5, "value.0.schema.properties.0.propertyId": "acc", "value.1.name": "loss", "value.1.runId": "j1",
	})
	s.call("POST", historyPath+"/experiments/exp/metrics:query", map[string]any{"filter": "(RunId eq j1 and name eq loss)"}).want(200).has(map[string]any{"value.0.name": "loss", "value.1": nil})
	s.call("POST", historyPath+"/experiments/exp/metrics:query", map[string]any{}).want(400)
}

func TestAJobOfTheHistoryReachesItselfAndItsChildren(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"mine", "theirs"} {
		s.call("PUT", wsPath+"/jobs/"+name, commandJob(map[string]any{"experimentName": "exp"})).want(201)
	}
	mine, err := s.control.Job(t.Context(), s.auth.Administrator(), s.ws, "mine")
	must(t, err)
	token, _ := s.auth.JobToken(mine.ID, mine.Attempt)
	onWayBack := func(r *http.Request) { *r = *r.WithContext(authn.WithWayBack(r.Context(), mine.ID, mine.Attempt)) }
	exp, metric := historyPath+"/experiments/exp", "/metric/v2.0"+wsPath+"/runs/"
	child := map[string]any{"parentRunId": "mine"}
	for _, c := range []struct {
		method, path string
		body         any
		status       int
	}{
		{"GET", exp, nil, 200},
		{"POST", historyPath + "/experiments/exp", nil, 200},
		{"GET", historyPath + "/experiments/Default", nil, 403},
		{"POST", historyPath + "/experiments/new", nil, 403},
		{"PATCH", exp, map[string]any{"archive": true}, 403},
		{"GET", exp + "/runs/mine", nil, 200},
		{"GET", exp + "/runs/theirs", nil, 403},
		{"GET", exp + "/runs/theirs/details", nil, 403},
		{"PATCH", exp + "/runs/kid", child, 200},
		{"PATCH", exp + "/runs/stray", map[string]any{}, 403},
		{"PATCH", exp + "/batch/runs", map[string]any{"runs": []any{map[string]any{"runId": "kid2", "parentRunId": "mine"}}}, 200},
		{"PATCH", exp + "/batch/runs", map[string]any{"runs": []any{map[string]any{"runId": "theirs", "tags": map[string]any{"a": "b"}}}}, 403},
		{"POST", exp + "/runs/kid/events", told("kid", "Completed", nil), 200},
		{"POST", exp + "/runs/theirs/events", told("theirs", "Completed", nil), 403},
		{"POST", exp + "/batch/events", map[string]any{"events": []any{told("theirs", "Completed", nil)}}, 403},
		{"POST", exp + "/runs:query", map[string]any{"filter": "RunId eq theirs"}, 200},
		{"POST", historyPath + "/experiments/Default/runs:query", map[string]any{}, 403},
		{"POST", exp + "/metrics:query", map[string]any{"filter": "RunId eq theirs"}, 403},
		{"GET", exp + "/runs/mine/children", nil, 200},
		{"GET", exp + "/runs/theirs/children", nil, 403},
		{"GET", exp + "/runs/mine/token", nil, 200},
		{"GET", exp + "/runs/theirs/token", nil, 403},
		{"GET", exp + "/runs/mine/metricsingest/wait", nil, 200},
		{"DELETE", exp + "/runs/theirs/tags", []string{"a"}, 403},
		{"POST", exp + "/runs/mine/cancel", nil, 403},
		{"POST", metric + "kid/batch", `{"values":[]}`, 200},
		{"POST", metric + "theirs/batch", `{"values":[]}`, 403},
	} {
		a := s.call(c.method, c.path, c.body, as(token.Reveal()), onWayBack)
		if a.Code != c.status || strings.Contains(a.Body.String(), `"runId":"theirs"`) {
			t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, a.Code, c.status, a.Body)
		}
	}
}
