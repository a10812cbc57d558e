package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

const batchID = testScope + "Microsoft.Batch/batchAccounts/batch1"

var aBatch = object{"location": "westeurope", "properties": object{"provisioningState": "Succeeded", "accountEndpoint": "batch1.westeurope.batch.azure.com"}}

func tooMany(header, value string) answer {
	a := armFailure(http.StatusTooManyRequests, "TooManyRequests", "The request is being throttled.")
	a.header[header] = value
	return a
}

func TestShortThrottlingIsWaitedFor(t *testing.T) {
	l := startLoopback(t)
	l.will("GET "+batchID, tooMany("Retry-After", "1"), answer{body: aBatch})
	began := time.Now()
	if _, err := l.source(t).Address(t.Context(), batchID); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); len(l.asked) != 2 || took < time.Second {
		t.Errorf("asked %d times in %v", len(l.asked), took)
	}
}

func TestLongThrottlingIsSaidAndKept(t *testing.T) {
	l := startLoopback(t)
	l.will("GET "+batchID, tooMany("Retry-After", "17"))
	a := l.source(t)
	_, err := a.Address(t.Context(), batchID)
	if p := problem(t, err, "AzureThrottled", "17 seconds", "TooManyRequests", "r-17"); p.Class != workspace.Throttled {
		t.Errorf("class %s", p.Class)
	}
	l.at = l.at.Add(10 * time.Second)
	_, err = a.Address(t.Context(), vmID) // the same subscription
	problem(t, err, "AzureThrottled", "7 seconds")
	if len(l.asked) != 1 {
		t.Errorf("asked although Azure asked for silence: %v", l.asked)
	}
	elsewhere := strings.Replace(batchID, "000000000001", "000000000002", 1)
	l.knows(elsewhere, aBatch)
	if _, err := a.Address(t.Context(), elsewhere); err != nil {
		t.Errorf("another subscription: %v", err)
	}
	l.at = l.at.Add(10 * time.Second)
	l.knows(batchID, aBatch)
	if _, err := a.Address(t.Context(), batchID); err != nil {
		t.Errorf("after the silence: %v", err)
	}
}

func TestRetryAfterIsReadInEachForm(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"5": 5 * time.Second, "0": time.Second, "-3": time.Second, "": 30 * time.Second, "soon": 30 * time.Second, "999999": time.Hour,
		time.Now().Add(time.Minute).UTC().Format(http.TimeFormat): time.Minute,
	} {
		got := retryAfter(&http.Response{Header: http.Header{"Retry-After": {text}}})
		if off := got - want; off > 0 || off < -2*time.Second {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestRefusalsHaveCauseAndMend(t *testing.T) {
	for name, tc := range map[string]struct {
		answer answer
		code   string
		class  workspace.Class
		words  []string
	}{
		"forbidden": {armFailure(403, "AuthorizationFailed", "The client does not have authorization."), "AzureForbidden", workspace.Denied, []string{
			"may not read Batch account batch1", "AuthorizationFailed", "r-17", "az role assignment create --assignee " + testClient + ` --role "Reader" --scope ` + batchID, "moorage resource add " + batchID,
		}},
		"gone":           {armFailure(404, "ResourceGroupNotFound", "Resource group 'lab' could not be found."), "AzureResourceNotFound", workspace.NotFound, []string{"Batch account batch1", "ResourceGroupNotFound"}},
		"token refused":  {armFailure(401, "InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer."), "AzureLoginFailed", workspace.Denied, []string{"tenant", "wrong issuer"}},
		"odd":            {armFailure(409, "MissingSubscriptionRegistration", "The subscription is not registered."), "AzureRefused", workspace.Invalid, []string{"MissingSubscriptionRegistration"}},
		"out of order":   {armFailure(501, "NotImplemented", "No."), "AzureUnreachable", workspace.Unavailable, []string{"ry again later"}},
		"a proxy's page": {answer{status: 403, body: "<html>Access denied</html>"}, "AzureForbidden", workspace.Denied, []string{"403 Forbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLoopback(t)
			l.lenient = true // pages and unknown codes are no answers of Azure
			l.will("GET "+batchID, tc.answer)
			_, err := l.source(t).Address(t.Context(), batchID)
			if p := problem(t, err, tc.code, tc.words...); p.Class != tc.class {
				t.Errorf("class %s", p.Class)
			}
		})
	}
}

func TestCommandsCanBePastedIntoAShell(t *testing.T) {
	l := startLoopback(t)
	id := strings.Replace(batchID, "/lab/", "/lab(old)/", 1)
	l.will("GET "+id, armFailure(403, "AuthorizationFailed", "No."))
	_, err := l.source(t).Address(t.Context(), id)
	problem(t, err, "AzureForbidden", "--scope '"+id+"'", "resource add '"+id+"'")
}

func TestForbiddenKubeconfigNamesTheRoleForIt(t *testing.T) {
	l := startLoopback(t)
	l.knowsAKS(object{"provisioningState": "Succeeded"}, "")
	l.will("POST "+aksID+"/listClusterUserCredential", armFailure(403, "AuthorizationFailed", "No."))
	_, err := l.source(t).Address(t.Context(), aksID)
	problem(t, err, "AzureForbidden", `--role "Azure Kubernetes Service Cluster User Role" --scope `+aksID)
}

func TestAnswerThatIsNotJSONIsSaid(t *testing.T) {
	l := startLoopback(t)
	l.lenient = true
	l.knows(batchID, "<html>please log in to the network</html>")
	_, err := l.source(t).Address(t.Context(), batchID)
	problem(t, err, "AzureAnswerUnreadable", "batch1", "proxy")
}

func TestPassingFailuresAreTriedAgain(t *testing.T) {
	l := startLoopback(t)
	l.will("GET "+batchID, armFailure(503, "ServiceUnavailable", "Later."), answer{body: aBatch})
	if _, err := l.source(t).Address(t.Context(), batchID); err != nil || len(l.asked) != 2 {
		t.Errorf("%v, %v", l.asked, err)
	}
}

func TestAzureThatCannotBeReachedIsSaid(t *testing.T) {
	l := startLoopback(t)
	gone := httptest.NewTLSServer(http.NotFoundHandler())
	gone.Close()
	a := l.source(t, func(c *AzureConfig) { c.ResourceManager = gone.URL })
	_, err := a.Address(t.Context(), batchID)
	problem(t, err, "AzureUnreachable", "connection refused", gone.URL, "moorage resource add")
	a = l.source(t, func(c *AzureConfig) { c.Authority = gone.URL })
	_, err = a.Address(t.Context(), batchID)
	problem(t, err, "AzureUnreachable", "log in to Azure", "connection refused")
	a = l.source(t, func(c *AzureConfig) { c.HTTP = http.DefaultClient })
	_, err = a.Address(t.Context(), batchID)
	problem(t, err, "AzureUnreachable", "certificate")
}

func TestCallersEndIsNoProblemOfAzure(t *testing.T) {
	l := startLoopback(t)
	held := make(chan struct{})
	defer close(held)
	l.will("GET "+batchID, answer{body: aBatch, held: held})
	a := l.source(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the person left")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	if _, err := a.Address(ctx, batchID); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestAzureThatIsSilentIsSaid(t *testing.T) {
	l := startLoopback(t)
	held := make(chan struct{})
	defer close(held)
	l.will("GET "+batchID, answer{body: aBatch, held: held})
	a := l.source(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // as Address limits it
	defer cancel()
	id, _ := parseID(batchID)
	_, err := a.batchAccount(ctx, id)
	problem(t, err, "AzureUnreachable", "did not answer in time")
}

func TestAnswersAreRememberedForAMinute(t *testing.T) {
	l := startLoopback(t)
	l.knows(batchID, aBatch)
	a := l.source(t)
	ask := func(want int) {
		t.Helper()
		found, err := a.Address(t.Context(), batchID)
		if err != nil || len(l.asked) != want || found.Details["location"] != "westeurope" {
			t.Fatalf("asked %d times, want %d: %+v, %v", len(l.asked), want, found, err)
		}
		found.Details["location"] = "changed by the caller"
	}
	ask(1)
	ask(1)
	ask(1)
	l.at = l.at.Add(azureMemory)
	ask(2)
	if len(l.tokens) != 1 {
		t.Errorf("%d tokens were asked for", len(l.tokens))
	}
	// What failed is asked again: the person may have mended it.
	_, err := a.Address(t.Context(), vmID)
	problem(t, err, "AzureResourceNotFound")
	l.knows(vmID, aMachine(nil, ref(nicID, true)))
	l.knows(nicID, aNIC(object{"privateIPAddress": "10.0.0.4"}))
	if _, err := a.Address(t.Context(), vmID); err != nil {
		t.Error(err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	a := startLoopback(t).source(t)
	for i := range 2 * azureEntries {
		a.remember(fmt.Sprint(i), Found{Address: "x"})
	}
	if len(a.known) != azureEntries {
		t.Errorf("%d entries", len(a.known))
	}
	a.now = func() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) }
	a.remember("new", Found{Address: "x"})
	if _, ok := a.recall("new"); !ok || len(a.known) != 1 {
		t.Errorf("%d entries after all others expired", len(a.known))
	}
}

func TestManyAskAtOnce(t *testing.T) {
	l := startLoopback(t)
	l.knows(batchID, aBatch)
	a := l.source(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := a.Address(t.Context(), batchID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(l.tokens) != 1 {
		t.Errorf("%d tokens were asked for", len(l.tokens))
	}
}

func TestLogTellsWhatWasAskedAndNoSecret(t *testing.T) {
	l := startLoopback(t)
	l.knows(batchID, aBatch)
	if _, err := l.source(t).Address(t.Context(), batchID); err != nil {
		t.Fatal(err)
	}
	log := l.log.String()
	if !strings.Contains(log, batchID) || strings.Contains(log, testSecret) || strings.Contains(log, testToken) {
		t.Errorf("log:\n%s", log)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(vmID)
	f.Add(testScope + "Microsoft.Synapse/workspaces/s/bigDataPools/p/")
	f.Add("/subscriptions/ü/RESOURCEGROUPS/g/providers/P/t/n")
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := parseID(text)
		if !ok {
			return
		}
		if strings.ContainsAny(id.path(), "?#\\ ") || strings.Contains(id.path(), "/../") || strings.Contains(id.path(), "//") {
			t.Errorf("%q leads to %q", text, id.path())
		}
		if again, ok := parseID(id.String()); !ok || again.String() != id.String() {
			t.Errorf("%q is read as %q, and that as %q", text, id, again)
		}
	})
}
