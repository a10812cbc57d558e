package history

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// details is what clients ask for again and again while a run goes on (azureml-v1.md §6.3).
func (h handlers) details(w http.ResponseWriter, r *http.Request) error {
	run, err := h.run(r, r.PathValue("run"))
	if err != nil {
		return err
	}
	logs, err := h.logFiles(r, run)
	if err != nil {
		return err
	}
	said, err := h.warnings(r, run)
	if err != nil {
		return err
	}
	b := run.Record.RunBody
	v := map[string]any{
		"runId": run.ID, "target": target(run), "status": string(h.settled(r, run)), "services": map[string]any{}, "properties": texts(tracking.Properties(run)),
		"startTimeUtc": nil, "endTimeUtc": nil, "error": nil, "warnings": said, "submittedBy": run.UserID, "logFiles": logs,
		"inputDatasets": raw(b.Inputs, []any{}), "outputDatasets": raw(b.Outputs, []any{}), "runDefinition": raw(b.Definition, map[string]any{}),
	}
	addTimes(v, run)
	addError(v, run)
	return api.WriteJSON(w, http.StatusOK, v)
}

// settling is for how long azure-ai-ml sees a run that ended as Finalizing. It prints a log only after it saw the run in
// progress once, and looks again after two seconds: without this the log of a job that takes less is never seen.
const settling = 1500 * time.Millisecond

func (h handlers) settled(r *http.Request, run store.HistoryRun) workspace.State {
	older := r.PathValue("experiment") != "" // azureml-core prints the log whatever it sees first
	if j := run.Job; !older && j != nil && j.State.Terminal() && h.Clock.Millis()-j.Ended < settling.Milliseconds() {
		return workspace.Finalizing
	}
	return shown(r, run)
}

// logFiles are the addresses of a run's logs by their paths; never nil (azureml-v1.md §6.3). A job's own log is among them
// from the beginning, though it is no file before the job's end. Clients stream the last one by name: while an environment
// is made, azureml-core shall show that, and before nothing.
func (h handlers) logFiles(r *http.Request, run store.HistoryRun) (map[string]string, error) {
	paths, err := h.Tracking.LogFiles(r.Context(), run.Run)
	if err != nil {
		return nil, err
	}
	files := make(map[string]string, len(paths)+1)
	container := tracking.ArtifactContainer(run.WorkspaceID)
	expires := h.Clock.Now().Add(logTime)
	for _, p := range paths {
		blob := "ExperimentRun/" + dataContainer(run.ID) + "/" + p
		query := h.Tokens.Sign(authn.Signature{Container: container, Blob: blob, Verbs: "r", Expires: expires})
		files[p] = api.BaseURL(r) + "/blob/acct/" + container + "/" + escaped(blob) + "?" + query
	}
	older := r.PathValue("experiment") != ""
	switch j := run.Job; {
	case j == nil:
	case older && slices.Contains(waiting, j.State):
	case older && j.State == workspace.Preparing:
		files[preparingPath] = h.logURL(r, run, preparingName)
	default:
		files[tracking.StdLog] = h.logURL(r, run, logName)
	}
	return files, nil
}

// waiting are the states of a job that has said nothing yet.
var waiting = []workspace.State{workspace.NotStarted, workspace.Queued, workspace.Starting}

// escaped is a path for a URL, segment by segment.
func escaped(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return strings.Join(segments, "/")
}

// logTime is how long the signed URL of a log is good for. Clients ask for a new one with every look at the run.
const logTime = time.Hour

// logName is the one name that clients stream (azureml-v1.md §6.3, azureml-v2.md §10), preparingName what azureml-core
// streams before, by a path of the second form that it knows.
const (
	logName       = "std_log.txt"
	preparingName = "preparing.txt"
	preparingPath = "azureml-logs/20_" + preparingName
)

func logGrant(r *http.Request) api.Grant {
	return logOf(r.PathValue("sub")+"/"+r.PathValue("rg")+"/"+r.PathValue("ws"), r.PathValue("run"))
}

func logOf(ws, run string) api.Grant {
	return api.Grant{Container: "log of " + ws, Blob: run, Verb: "r"}
}

func (h handlers) logURL(r *http.Request, run store.HistoryRun, file string) string {
	ws := api.WorkspaceOf(r)
	g := logOf(ws.Subscription+"/"+ws.ResourceGroup+"/"+ws.Name, run.ID)
	query := h.Tokens.Sign(authn.Signature{Container: g.Container, Blob: g.Blob, Verbs: g.Verb, Expires: h.Clock.Now().Add(logTime)})
	return api.BaseURL(r) + "/history/v1.0" + ws.Path() + "/runs/" + url.PathEscape(run.ID) + "/logs/" + file + "?" + query
}
