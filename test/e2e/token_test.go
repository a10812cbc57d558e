package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/secret"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// TestNoTokenThatDoesNotCountOpensARoute walks the main routes with no token and with every sort of wrong one.
func TestNoTokenThatDoesNotCountOpensARoute(t *testing.T) {
	data := t.TempDir()
	p := started(t, data)
	shared := openFolder(t)
	p.mustSubmit("job", `printf %s "$MLFLOW_TRACKING_TOKEN" > `+shared+`/new; mv `+shared+`/new `+shared+`/token; sleep 300`, on("local"))
	var credential []byte
	until(t, "the job has its credential", func() bool { credential, _ = os.ReadFile(filepath.Join(shared, "token")); return len(credential) > 0 })
	until(t, "the job is told to run", func() bool { v, err := p.show(t.Context(), "job"); return err == nil && v.State == "Running" })
	good := p.exchange(p.token)
	if _, err := p.send(t.Context(), http.MethodGet, native+"/jobs", good, nil, nil); err != nil {
		t.Errorf("a good token: %v", err)
	}
	head, rest, _ := strings.Cut(good, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	tokens := map[string]string{
		"none": "", "nonsense": "nonsense", "an empty JWT": "..", "unsigned": "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + claims + ".",
		"a changed signature": head + "." + claims + "." + signature[:len(signature)-4] + "AAAA", "changed claims": head + "." + claims[:len(claims)-6] + "AAAAAA." + signature,
		"expired": p.expired(time.Now().Add(-26 * time.Hour)), "not yet valid": p.expired(time.Now().Add(26 * time.Hour)),
		"for somebody else": p.exchangeFor(p.token, "https://vault.azure.net"), "a job's, from elsewhere": string(credential),
		"the secret, cut": p.token[:len(p.token)-1], "very long": strings.Repeat("x", 32<<10),
	}
	routes := [][2]string{
		{http.MethodGet, "/subscriptions"},
		{http.MethodGet, workspacePath},
		{"DELETE", workspacePath},
		{http.MethodGet, workspacePath + "/computes"},
		{"PUT", workspacePath + "/computes/c"},
		{"PATCH", workspacePath + "/computes/local"},
		{"DELETE", workspacePath + "/computes/local"},
		{"POST", workspacePath + "/computes/local/listKeys"},
		{http.MethodGet, workspacePath + "/jobs"},
		{"PUT", workspacePath + "/jobs/j"},
		{http.MethodGet, workspacePath + "/jobs/job"},
		{"POST", workspacePath + "/jobs/job/cancel"},
		{"DELETE", workspacePath + "/jobs/job"},
		{http.MethodGet, workspacePath + "/environments"},
		{"PUT", workspacePath + "/environments/e/versions/1"},
		{http.MethodGet, workspacePath + "/codes/c/versions/1"},
		{"POST", workspacePath + "/codes/c/versions/1/startPendingUpload"},
		{http.MethodGet, workspacePath + "/data"},
		{http.MethodGet, workspacePath + "/models"},
		{http.MethodGet, workspacePath + "/datastores"},
		{"POST", workspacePath + "/datastores/workspaceblobstore/listSecrets"},
		{http.MethodGet, native + "/jobs"},
		{http.MethodGet, native + "/jobs/job"},
		{http.MethodGet, native + "/jobs/job/log"},
		{http.MethodGet, native + "/jobs/job/wait"},
		{http.MethodGet, native + "/jobs/job/events"},
		{http.MethodGet, native + "/jobs/job/files"},
		{"POST", native + "/jobs/job/abandon"},
		{"POST", native + "/computes/check"},
		{"POST", native + "/computes/local/check"},
		{"POST", native + "/snapshots/missing"},
		{"POST", native + "/snapshots/objects"},
		{http.MethodGet, "/native/v1/kinds"},
		{http.MethodGet, "/native/v1/resources"},
		{"PUT", "/native/v1/resources"},
		{http.MethodGet, "/blob/acct/azureml/x"},
		{"PUT", "/blob/acct/azureml/x"},
		{"DELETE", "/blob/acct/azureml/x"},
		{http.MethodGet, "/blob/acct/azureml?restype=container&comp=list"},
		{http.MethodGet, "/history/v1.0" + workspacePath + "/experimentids/x/runs/job"},
		{"POST", "/mlflow/v1.0" + workspacePath + "/api/2.0/mlflow/runs/create"},
		{"POST", "/mlflow/v1.0" + workspacePath + "/api/2.0/mlflow/experiments/search"},
		{"POST", "/mlflow/api/2.0/mlflow/runs/search"},
		{http.MethodGet, "/mlflow/api/2.0/mlflow-artifacts/artifacts"},
	}
	for _, route := range routes {
		for what, token := range tokens {
			status, err := p.send(t.Context(), route[0], route[1], token, strings.NewReader("{}"), nil)
			if status != 401 && status != 403 && status != 404 && !(what == "very long" && status == 431) {
				t.Errorf("%s %s with a token that is %s: %d %v", route[0], route[1], what, status, err)
			}
			if status == 404 && !strings.HasPrefix(route[1], "/history") {
				t.Errorf("%s %s is no route", route[0], route[1])
			}
		}
	}
	if v, err := p.show(t.Context(), "job"); err != nil || v.State != "Running" {
		t.Errorf("something went through: the job is %s, %v", v.State, err)
	}
	if err := p.cancel(t.Context(), "job"); err != nil {
		t.Fatal(err)
	}
	p.mustEnd("job", "Canceled")
}

// exchange gives a token for a secret, as managed identity does.
func (p *program) exchange(secret string) string {
	return p.exchangeFor(secret, "https://management.azure.com")
}

func (p *program) exchangeFor(secret, audience string) string {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+"/msi/token?api-version=2019-08-01&resource="+url.QueryEscape(audience), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("X-IDENTITY-HEADER", secret)
	res, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	var out struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil || out.Token == "" {
		p.t.Fatalf("no token: %d %v", res.StatusCode, err)
	}
	return out.Token
}

// expired is a token that this very server signed at another time.
func (p *program) expired(at time.Time) string {
	p.t.Helper()
	ctx := p.t.Context()
	fatal := func(err error) {
		p.t.Helper()
		if err != nil {
			p.t.Fatal(err)
		}
	}
	st, err := store.Open(ctx, store.Config{URL: "sqlite:" + filepath.Join(p.data, "moorage.db")})
	fatal(err)
	defer st.Close()
	master, err := secret.Master("", filepath.Join(p.data, "keys", "master.key"), nil)
	fatal(err)
	box, err := secret.NewBox(master)
	fatal(err)
	sealed, err := st.Setting(ctx, "signing.key")
	fatal(err)
	key, err := box.Open(sealed, "setting/signing.key")
	fatal(err)
	id, err := st.Setting(ctx, "server.id")
	fatal(err)
	then := clock.System()
	then.Now = func() time.Time { return at }
	a, err := authn.New(authn.Config{Key: [32]byte(key), Server: string(id), Admin: workspace.NewSecret("x"), Clock: then})
	fatal(err)
	token, _, err := a.Issue(a.Administrator(), "https://management.azure.com", p.url)
	fatal(err)
	return token
}
