package all

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/arm"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
)

func (s *server) routes() []api.Route {
	return table(Config{
		Control: s.control, Blob: s.blobs, Auth: s.auth, Clock: clock.System(), Metrics: nil,
		Ready: func(*http.Request) error { return nil },
	}, arm.NewOperations(clock.System()))
}

var variable = regexp.MustCompile(`\{([a-z]+)(\.\.\.)?\}`)

// concrete is a path that matches a route's pattern, in the workspace that there is.
func concrete(pattern string) string {
	return variable.ReplaceAllStringFunc(pattern, func(v string) string {
		switch m := variable.FindStringSubmatch(v); m[1] {
		case "sub":
			return "S-1"
		case "rg":
			return "rg"
		case "ws":
			return "main"
		case "container":
			return "some-container"
		default:
			return "x"
		}
	})
}

// shapes are what tells each dialect's errors, by the first segment of the path.
func shapeOf(path string) string {
	switch {
	case strings.HasPrefix(path, "/blob/"):
		return `<Error><Code>`
	case strings.HasPrefix(path, "/mlflow"):
		return `"error_code"`
	case strings.HasPrefix(path, "/v2"):
		return `{"errors":[{"code":"`
	}
	return `{"error":{"code":"`
}

func TestEveryRouteHasAnActionOrAReasonToBePublic(t *testing.T) {
	s := newServer(t)
	action := regexp.MustCompile(`^(Microsoft\.[A-Za-z]+|Moorage)(/[A-Za-z]+)+/(read|write|delete|action)$`)
	seen := map[string]bool{}
	for _, r := range s.routes() {
		line := r.Method + " " + r.Pattern
		switch {
		case (r.Action == "") == (r.Public == ""):
			t.Errorf("%s: action %q and public %q", line, r.Action, r.Public)
		case r.Action != "" && !action.MatchString(r.Action):
			t.Errorf("%s: %q is not an ARM action", line, r.Action)
		case r.Public != "" && len(r.Public) < 15:
			t.Errorf("%s: %q is no reason", line, r.Public)
		case r.Handler == nil || r.Dialect == nil:
			t.Errorf("%s lacks a handler or a dialect", line)
		case r.Method != http.MethodGet && strings.HasSuffix(r.Action, "/read") && !readsByPost(r.Pattern):
			t.Errorf("%s changes something with the right to read", line)
		}
		if seen[line] {
			t.Errorf("%s is there twice", line)
		}
		seen[line] = true
	}
	if len(seen) < 100 {
		t.Errorf("the table has only %d lines", len(seen))
	}
}

// readsByPost are calls that take their question in a body.
func readsByPost(pattern string) bool {
	for _, end := range []string{"/rundata", "/batchGetResolvedUris", "/check", "/search", "/search-datasets", "/missing", ":query", "/list", "/full"} {
		if strings.HasSuffix(pattern, end) {
			return true
		}
	}
	return false
}

func TestEveryRouteRefusesThoseWhoMayNot(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"mine", "theirs"} {
		s.call("PUT", wsPath+"/jobs/"+name, map[string]any{"properties": map[string]any{"jobType": "Command", "command": "true"}}).want(201)
	}
	mine, err := s.control.Job(t.Context(), s.auth.Administrator(), s.ws, "mine")
	must(t, err)
	credential := s.auth.JobSecret(mine.ID, mine.Attempt).Reveal()
	onWayBack := func(r *http.Request) { *r = *r.WithContext(authn.WithWayBack(r.Context(), mine.ID, mine.Attempt)) }
	stranger, _, err := s.auth.Exchange(t.Context(), admin, "https://elsewhere.example", "https://box.example:8443")
	must(t, err)
	for _, r := range s.routes() {
		if r.Public != "" {
			continue
		}
		t.Run(r.Method+" "+strings.ReplaceAll(strings.TrimPrefix(r.Pattern, "/"), "/", " "), func(t *testing.T) {
			path := concrete(r.Pattern)
			for who, options := range map[string][]option{
				"without a token":            {as("")},
				"with a wrong token":         {as("not-the-secret")},
				"with a forged token":        {as("eyJhbGciOiJub25lIn0.eyJtb29yYWdlIjp0cnVlfQ.")},
				"with a token for others":    {as(stranger)},
				"with a stolen credential":   {as(credential)}, // it did not come by the way back
				"with a wrong password":      {header("Authorization", "Basic dTpw")},
				"with a signature of nobody": {as(""), func(q *http.Request) { q.URL.RawQuery = "sv=1&sr=c&sp=rcwdl&se=2099-01-01T00:00:00Z&sig=AAAA" }},
			} {
				a := s.call(r.Method, path, nil, options...)
				if a.Code != http.StatusUnauthorized {
					t.Errorf("%s: %d, want 401: %s", who, a.Code, a.Body)
				}
				if !strings.Contains(a.Body.String(), shapeOf(path)) {
					t.Errorf("%s: the error is not in the dialect's shape %s: %s", who, shapeOf(path), a.Body)
				}
				if strings.Contains(a.Body.String(), credential) || strings.Contains(a.Body.String(), stranger) {
					t.Errorf("%s: the credential is in the answer", who)
				}
			}
			if r.Job == api.JobHandler || r.Job == api.JobAny {
				return // these look into the request; their own tests are beside them
			}
			// The credential of another job, on its own way back: the path names run or job "x".
			a := s.call(r.Method, path, nil, as(credential), onWayBack)
			if a.Code != http.StatusForbidden || !strings.Contains(a.Body.String(), shapeOf(path)) {
				t.Errorf("with the credential of another job: %d, want 403 in the dialect's shape: %s", a.Code, a.Body)
			}
		})
	}
}

func TestAJobReachesItselfAndItsWorkspaceAlone(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"mine", "theirs"} {
		s.call("PUT", wsPath+"/jobs/"+name, map[string]any{"properties": map[string]any{"jobType": "Command", "command": "true"}}).want(201)
	}
	mine, err := s.control.Job(t.Context(), s.auth.Administrator(), s.ws, "mine")
	must(t, err)
	credential := as(s.auth.JobSecret(mine.ID, mine.Attempt).Reveal())
	onWayBack := func(r *http.Request) { *r = *r.WithContext(authn.WithWayBack(r.Context(), mine.ID, mine.Attempt)) }
	history := "/history/v1.0" + wsPath
	for _, tt := range []struct {
		method, path string
		body         any
		status       int
	}{
		{"GET", wsPath, nil, 200},
		{"GET", wsPath + "/jobs/mine", nil, 200},
		{"GET", wsPath + "/jobs/theirs", nil, 403},
		{"GET", wsPath + "/jobs", nil, 403},
		{"POST", wsPath + "/jobs/mine/cancel", nil, 403},
		{"GET", history + "/runs/mine/details", nil, 200},
		{"GET", history + "/runs/theirs/details", nil, 403},
		{"POST", history + "/rundata", map[string]string{"runId": "mine"}, 200},
		{"POST", history + "/rundata", map[string]string{"runId": "theirs"}, 403},
		{"PATCH", history + "/experiments/Default/runs/mine", map[string]any{"tags": map[string]string{"a": "b"}}, 200},
		{"PATCH", history + "/experiments/Default/runs/theirs", map[string]any{"tags": map[string]string{"a": "b"}}, 403},
		{"POST", wsPath + "/computes/local/listKeys", nil, 403},
	} {
		if a := s.call(tt.method, tt.path, tt.body, credential, onWayBack); a.Code != tt.status {
			t.Errorf("%s %s: %d, want %d: %s", tt.method, tt.path, a.Code, tt.status, a.Body)
		}
	}
	must(t, s.control.CancelJob(t.Context(), s.auth.Administrator(), s.ws, "mine"))
	ended, err := s.control.Job(t.Context(), s.auth.Administrator(), s.ws, "mine")
	must(t, err)
	if !ended.State.Terminal() {
		must(t, s.control.AbandonJob(t.Context(), s.auth.Administrator(), s.ws, "mine"))
	}
	s.call("GET", wsPath+"/jobs/mine", nil, credential, onWayBack).want(http.StatusUnauthorized)
}
