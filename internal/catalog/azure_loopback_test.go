package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/contract"
)

// loopback is a simulator of Azure on 127.0.0.1: an authority that gives tokens, and a resource manager that knows what a
// test tells it. It is no Azure; what keeps it honest is that every exchange is checked against Microsoft's contracts
// where they are at hand.
type loopback struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string][]answer // by "GET path"; the last one stays
	asked   []string            // "GET path", in order
	checked []contract.Exchange
	tokens  []url.Values // requests for tokens
	token   answer       // what the authority answers; zero: a token
	log     bytes.Buffer // of the source
	at      time.Time    // the source's clock
	lenient bool         // answers are not checked: they are not of the simulator
}

// answer is one answer to a request.
type answer struct {
	status int // 0: 200
	header map[string]string
	body   any // JSON; a string is sent as it is
	held   <-chan struct{}
}

const (
	testTenant = "11111111-2222-3333-4444-555555555555"
	testClient = "66666666-7777-8888-9999-000000000000"
	testSecret = "the-secret-of-the-application"
	testToken  = "token-of-the-simulator"
	testScope  = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/lab/providers/"
)

func startLoopback(t *testing.T) *loopback {
	t.Helper()
	l := &loopback{answers: map[string][]answer{}, at: time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)}
	l.Server = httptest.NewUnstartedServer(l)
	l.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of clients that leave, as some tests want
	l.StartTLS()
	t.Cleanup(func() {
		l.CloseClientConnections()
		l.Close()
		l.check(t)
	})
	return l
}

// source is an Azure over the loopback, with the real credential of an application.
func (l *loopback) source(t *testing.T, changes ...func(*AzureConfig)) *Azure {
	t.Helper()
	c := AzureConfig{
		Tenant: testTenant, Client: testClient, Secret: workspace.NewSecret(testSecret), Authority: l.URL, ResourceManager: l.URL, HTTP: l.Client(),
		Log: slog.New(slog.NewTextHandler(&l.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: func() time.Time { return l.at },
	}
	for _, change := range changes {
		change(&c)
	}
	a, err := NewAzure(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// knows tells the resource manager about a resource.
func (l *loopback) knows(id string, body any) { l.will("GET "+id, answer{body: body}) }

// will sets the answers to a request, in order; the last one stays.
func (l *loopback) will(request string, answers ...answer) { l.answers[request] = answers }

func (l *loopback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	l.mu.Lock()
	defer l.mu.Unlock()
	switch r.URL.Path {
	case "/" + testTenant + "/v2.0/.well-known/openid-configuration":
		base := l.URL + "/" + testTenant
		l.send(w, answer{body: map[string]any{"token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize", "issuer": base + "/v2.0"}})
		return
	case "/" + testTenant + "/oauth2/v2.0/token":
		_ = r.ParseForm() // what cannot be read is missing below
		l.tokens = append(l.tokens, r.PostForm)
		a := l.token
		if a.body == nil {
			a.body = map[string]any{"access_token": testToken, "expires_in": 3600, "token_type": "Bearer"}
		}
		l.send(w, a)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+testToken {
		l.send(w, armFailure(http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid."))
		return
	}
	request := r.Method + " " + r.URL.Path
	l.asked = append(l.asked, request)
	list := l.answers[request]
	a := armFailure(http.StatusNotFound, "ResourceNotFound", "The Resource was not found.")
	if len(list) > 0 {
		a = list[0]
	}
	if len(list) > 1 {
		l.answers[request] = list[1:]
	}
	status, answered := l.send(w, a)
	l.checked = append(l.checked, contract.Exchange{Request: r, Body: body, Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Answer: answered})
}

func (l *loopback) send(w http.ResponseWriter, a answer) (status int, body []byte) {
	if a.held != nil {
		<-a.held
	}
	body, err := json.Marshal(a.body)
	if err != nil {
		panic(err) // a test gave what is no JSON
	}
	if text, ok := a.body.(string); ok {
		body = []byte(text)
	}
	if status = a.status; status == 0 {
		status = http.StatusOK
	}
	w.Header().Set("Content-Type", "application/json")
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // who does not read it hears so elsewhere
	return status, body
}

// armFailure is an answer in the shape of ARM's errors.
func armFailure(status int, code, message string) answer {
	return answer{status: status, header: map[string]string{"x-ms-request-id": "r-17"}, body: map[string]any{"error": map[string]any{"code": code, "message": message}}}
}

// contractOf names the file that describes a type of resource.
var contractOf = map[string]string{
	"microsoft.compute/virtualmachines":          "compute/resource-manager/Microsoft.Compute/ComputeRP/stable/2024-03-01/virtualMachine.json",
	"microsoft.network/networkinterfaces":        "network/resource-manager/Microsoft.Network/stable/2024-01-01/networkInterface.json",
	"microsoft.network/publicipaddresses":        "network/resource-manager/Microsoft.Network/stable/2024-01-01/publicIpAddress.json",
	"microsoft.hdinsight/clusters":               "hdinsight/resource-manager/Microsoft.HDInsight/stable/2021-06-01/cluster.json",
	"microsoft.synapse/workspaces":               "synapse/resource-manager/Microsoft.Synapse/stable/2021-06-01/workspace.json",
	"microsoft.synapse/workspaces/bigdatapools":  "synapse/resource-manager/Microsoft.Synapse/stable/2021-06-01/bigDataPool.json",
	"microsoft.batch/batchaccounts":              "batch/resource-manager/Microsoft.Batch/stable/2024-02-01/BatchManagement.json",
	"microsoft.databricks/workspaces":            "databricks/resource-manager/Microsoft.Databricks/stable/2024-05-01/databricks.json",
	"microsoft.containerservice/managedclusters": "containerservice/resource-manager/Microsoft.ContainerService/aks/stable/2024-05-01/managedClusters.json",
	"microsoft.kubernetes/connectedclusters":     "hybridkubernetes/resource-manager/Microsoft.Kubernetes/stable/2024-01-01/connectedClusters.json",
}

var contracts contract.Cache

// check holds every exchange against its contract, where the contracts are at hand; TestMicrosoftsContractsAreAtHand says
// when they are not.
func (l *loopback) check(t *testing.T) {
	folder, ok := contract.Find()
	if !ok {
		return
	}
	for _, x := range l.checked {
		if l.lenient {
			x.Status = 0
		}
		if err := meets(folder, x); err != nil {
			t.Error(err)
		}
	}
}

func meets(folder string, x contract.Exchange) error {
	id, ok := parseID(strings.TrimSuffix(x.Request.URL.Path, "/listClusterUserCredential"))
	if !ok {
		return fmt.Errorf("no id is in the path of %s", x.Request.URL)
	}
	file, ok := contractOf[strings.ToLower(id.kind())]
	if !ok {
		return fmt.Errorf("no contract is known for %s", id.kind())
	}
	c, err := contracts.Load(filepath.Join(folder, filepath.FromSlash(file)))
	if err != nil {
		return err
	}
	r := x.Request.Clone(x.Request.Context())
	if strings.Contains(file, "connectedClusters") { // the one file that writes this word small; ARM takes any case
		r.URL.Path = strings.Replace(r.URL.Path, "/resourceGroups/", "/resourcegroups/", 1)
	}
	x.Request = r
	return c.Check(x)
}

func TestMicrosoftsContractsAreAtHand(t *testing.T) { contract.Folder(t) }

// problem asserts what a person is told.
func problem(t *testing.T, err error, code string, words ...string) *workspace.Problem {
	t.Helper()
	p, ok := err.(*workspace.Problem) //nolint:errorlint // it comes unwrapped, so that every dialect shows it
	if !ok || p.Code != code || p.Message == "" || p.Mend == "" {
		t.Fatalf("got %T %v, want the problem %s with message and mend", err, err, code)
	}
	for _, word := range words {
		if !strings.Contains(p.Error(), word) {
			t.Errorf("%s\nlacks %q", p.Error(), word)
		}
	}
	return p
}
