package kubernetes

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/computetest"
	"github.com/moorage-ml/moorage/internal/keeper"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const config = `{"current-context":"one","contexts":[{"name":"one","context":{"cluster":"c","user":"u","namespace":"theirs"}},{"name":"two","context":{"cluster":"c","user":"u"}}],
	"clusters":[{"name":"c","cluster":{"server":"https://192.0.2.1:6443"}}],"users":[{"name":"u","user":{"token":"t"}}]}`

func TestAddressesOfClusters(t *testing.T) {
	t.Setenv("KUBECONFIG", t.TempDir()+"/none")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, tt := range []struct {
		name      string
		settings  Settings
		base      string
		namespace string
		refusal   string
	}{
		{"the current context", Settings{Kubeconfig: config}, "https://192.0.2.1:6443", "theirs", ""},
		{"a context without a namespace", Settings{Kubeconfig: config, Address: "kubeconfig://two"}, "https://192.0.2.1:6443", "default", ""},
		{"a namespace of the settings", Settings{Kubeconfig: config, Address: "kubeconfig://one", Namespace: "ml"}, "https://192.0.2.1:6443", "ml", ""},
		{"no such context", Settings{Kubeconfig: config, Address: "kubeconfig://three"}, "", "", `no context "three"`},
		{"no kubeconfig at all", Settings{Address: "kubeconfig://one"}, "", "", `no context "one"`},
		{"a kubeconfig that is none", Settings{Kubeconfig: "{"}, "", "", "cannot be read"},
		{"one that starts a program", Settings{Kubeconfig: strings.ReplaceAll(config, `"token":"t"`, `"exec":{"apiVersion":"client.authentication.k8s.io/v1","command":"sh"}`)}, "", "", "by a program"},
		{"one that reads a file", Settings{Kubeconfig: strings.ReplaceAll(config, `"token":"t"`, `"tokenFile":"/etc/shadow"`)}, "", "", "names files"},
		{"one whose cluster reads a file", Settings{Kubeconfig: strings.ReplaceAll(config, `"server"`, `"certificate-authority":"/etc/shadow","server"`)}, "", "", "names a file"},
		{"directly", Settings{Address: "https://192.0.2.1:6443/k8s/c", Token: "t"}, "https://192.0.2.1:6443/k8s/c", "default", ""},
		{"directly without a token", Settings{Address: "https://192.0.2.1:6443"}, "", "", "no token"},
		{"a token without an address", Settings{Kubeconfig: config, Token: "t"}, "", "", "goes with an https:// address"},
		{"not in a cluster", Settings{Address: "incluster://"}, "", "", "does not run in a pod"},
		{"another address", Settings{Address: "ssh://h"}, "", "", "is not the address of a cluster"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Driver{}.Open(t.Context(), settings(t, tt.settings), compute.Env{Clock: clock.System()})
			if tt.refusal != "" {
				isKind(t, err, compute.ErrInvalid, tt.refusal)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			target := got.(*Target)
			if target.cluster.base != tt.base || target.cluster.namespace != tt.namespace {
				t.Errorf("%s, %s", target.cluster.base, target.cluster.namespace)
			}
			if err := target.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSettingsAreAllInTheSchema(t *testing.T) {
	var s struct {
		Properties map[string]struct {
			Description string `json:"description"`
			WriteOnly   bool   `json:"writeOnly"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(Driver{}.Schema(), &s); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	var names map[string]any
	if err := json.Unmarshal(b, &names); err != nil {
		t.Fatal(err)
	}
	for name := range names {
		if s.Properties[name].Description == "" {
			t.Errorf("setting %s is not in the schema", name)
		}
	}
	if len(names) != len(s.Properties) || !s.Properties["kubeconfig"].WriteOnly || !s.Properties["token"].WriteOnly {
		t.Errorf("%d settings, %d in the schema", len(names), len(s.Properties))
	}
}

func TestWhatTheAPIServerAnswersIsSaidInTheWordsOfTheContract(t *testing.T) {
	answer, header := http.StatusOK, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if header != "" {
			w.Header().Set("Retry-After", header)
		}
		w.WriteHeader(answer)
		_, _ = w.Write([]byte(`{"kind":"Status","message":"its own words, exceeded nothing"}`))
	}))
	t.Cleanup(server.Close)
	target := newTarget(&cluster{http: server.Client(), base: server.URL, namespace: "ml"}, Settings{Image: "i"}, compute.Env{Clock: clock.System(), Objects: &computetest.Objects{}})
	for code, kind := range map[int]error{
		401: compute.ErrDenied, 403: compute.ErrDenied, 404: compute.ErrDenied, 400: compute.ErrInvalid, 422: compute.ErrInvalid, 429: compute.ErrThrottled,
		500: compute.ErrUnreachable, 503: compute.ErrUnreachable,
	} {
		answer, header = code, map[bool]string{true: "7"}[code == 429]
		err := target.failed(t.Context(), target.cluster.get(t.Context(), "/x", nil, nil))
		isKind(t, err, kind, "its own words")
		if e, ok := errors.AsType[*compute.Error](err); code == 429 && (!ok || e.After != 7*time.Second) {
			t.Errorf("throttled: %+v", err)
		}
	}
	server.Close()
	isKind(t, target.failed(t.Context(), target.cluster.get(t.Context(), "/x", nil, nil)), compute.ErrUnreachable, "does not answer")
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := target.Status(t.Context(), nil)
	isKind(t, err, compute.ErrUnreachable, "closed")
}

func TestAJobThatCannotRunIsRefused(t *testing.T) {
	target := newTarget(&cluster{http: http.DefaultClient, base: "http://192.0.2.1", namespace: "ml"}, Settings{}, compute.Env{Clock: clock.System(), Objects: &computetest.Objects{}})
	t.Cleanup(func() { _ = target.Close() })
	_, err := target.Submit(t.Context(), compute.Job{Key: compute.Key{Job: "j", Attempt: 1}, Command: "exit 0"})
	isKind(t, err, compute.ErrInvalid, "names no image")
}

func TestNamesFitAndAreTheKeysOwn(t *testing.T) {
	at := func(server, c string) *Target { return &Target{env: compute.Env{Server: server, Compute: c}} }
	key := compute.Key{Job: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Attempt: 1}
	seen := map[string]bool{}
	for _, target := range []*Target{at("a", "b"), at("a", "c"), at("b", "b"), at("ab", ""), at("", "ab")} {
		for _, k := range []compute.Key{key, {Job: key.Job, Attempt: 2}, {Job: strings.Repeat("Größe ", 40), Attempt: 1}} {
			name := target.name(k)
			if len(name) > 59 || !labelValue.MatchString(name) || strings.ToLower(name) != name || seen[name] {
				t.Errorf("name %q", name)
			}
			seen[name] = true
		}
	}
	target := at("01ARZ3NDEKTSV4RRFFQ69G5FAA", "01ARZ3NDEKTSV4RRFFQ69G5FAB")
	if got, ok := target.key(meta{Labels: target.labelled(key)}); !ok || got.Job != key.Job || got.Attempt != 1 {
		t.Errorf("the labels give %v", got)
	}
}

func TestAJobOnSeveralNodesIsAsItsSlowest(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	is := func(phase compute.Phase) compute.Status { return compute.Status{Phase: phase, Reason: nil} }
	ended := func(outcome compute.Outcome, code int, after time.Duration) compute.Status {
		return compute.Status{Phase: compute.Ended, Exit: &compute.Exit{Outcome: outcome, Code: code, Ended: at.Add(after), PeakMemory: int64(after)}}
	}
	lacks := compute.Status{Phase: compute.Missing, Reason: notStarted("evicted")}
	for _, tt := range []struct {
		name    string
		parts   []compute.Status
		phase   compute.Phase
		outcome compute.Outcome
		code    int
	}{
		{"waits", []compute.Status{is(compute.Waiting), is(compute.Preparing)}, compute.Waiting, "", 0},
		{"prepares", []compute.Status{is(compute.Preparing), is(compute.Preparing)}, compute.Preparing, "", 0},
		{"one is late", []compute.Status{is(compute.Preparing), is(compute.Running)}, compute.Running, "", 0},
		{"one is over", []compute.Status{ended(compute.Failed, 3, 1), is(compute.Running)}, compute.Running, "", 0},
		{"all succeeded", []compute.Status{ended(compute.Succeeded, 0, 1), ended(compute.Succeeded, 0, 2)}, compute.Ended, compute.Succeeded, 0},
		{"the last failed", []compute.Status{ended(compute.Canceled, -1, 1), ended(compute.Failed, 5, 2)}, compute.Ended, compute.Failed, 5},
		{"the first of two that failed", []compute.Status{ended(compute.Failed, 9, 2), ended(compute.Failed, 5, 1)}, compute.Ended, compute.Failed, 5},
		{"canceled", []compute.Status{ended(compute.Canceled, -1, 1), ended(compute.Canceled, -1, 2)}, compute.Ended, compute.Canceled, -1},
		{"none began", []compute.Status{lacks, lacks}, compute.Missing, "", 0},
		{"one never began", []compute.Status{ended(compute.Canceled, -1, 1), lacks}, compute.Ended, compute.Lost, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := joined(tt.parts)
			if s.Phase != tt.phase {
				t.Errorf("it is %s", s.Phase)
			}
			if tt.outcome != "" && (s.Exit.Outcome != tt.outcome || s.Exit.Code != tt.code) {
				t.Errorf("it ended as %+v", s.Exit)
			}
		})
	}
}

func TestOnlyWhatCertainlyNeverRanIsStartedAgain(t *testing.T) {
	running, waiting := keeper.Status{Phase: keeper.Running}, keeper.Status{Phase: keeper.Waiting}
	for _, tt := range []struct {
		name    string
		said    keeper.Status
		spoke   bool
		running bool
		code    int
		want    bool
	}{
		{"told to end in silence", keeper.Status{}, false, false, asked, true},
		{"killed in silence", keeper.Status{}, false, false, 137, true},
		{"brought no keeper", keeper.Status{}, false, false, notGiven, true},
		{"failed in silence", keeper.Status{}, false, false, 127, false},
		{"told to end before the job", waiting, true, false, asked, true},
		{"killed while the job came", waiting, true, false, 137, false},
		{"killed while it ran", running, true, false, 137, false},
		{"told to end while it ran", running, true, false, asked, false},
		{"not started by a node that is gone", keeper.Status{}, false, false, -1, true},
		{"seen running on a node that is gone", keeper.Status{}, false, true, -1, false},
	} {
		if got := neverBegan(tt.said, tt.spoke, tt.running, tt.code); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestRegistriesVerdictsAreToldFromOutages(t *testing.T) {
	for message, hopeless := range map[string]bool{
		`failed to resolve reference "x": x: not found`:                          true,
		`pull access denied, repository does not exist`:                          true,
		`unexpected status from HEAD request: 401 Unauthorized`:                  true,
		`no match for platform in manifest: not found`:                           true,
		`dial tcp 192.0.2.1:443: connect: connection refused`:                    false,
		`dial tcp: lookup registry.example: i/o timeout`:                         false,
		`Back-off pulling image "x": ErrImagePull: net/http: TLS handshake time`: false,
	} {
		if p, got := stuck("ErrImagePull", message); got != hopeless || p.Cause != message || p.Mend == "" {
			t.Errorf("%s: %v, %+v", message, got, p)
		}
	}
	if p, got := stuck("InvalidImageName", "x"); !got || p.Class != workspace.Invalid {
		t.Errorf("a name that is none: %+v", p)
	}
	if _, got := stuck("CreateContainerConfigError", "secret x not found"); got {
		t.Error("a Secret may still come")
	}
}

// isKind checks an error's sentinel, and that its problem says a text and what to do.
func isKind(t *testing.T, err, kind error, text string) {
	t.Helper()
	p, ok := errors.AsType[*workspace.Problem](err)
	if !ok || !errors.Is(err, kind) || !strings.Contains(p.Error(), text) || p.Mend == "" {
		t.Errorf("error: %v", err)
	}
}
