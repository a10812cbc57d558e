package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// NewAzure makes the source. It asks nothing yet: a wrong secret shows at the first question. An error is a Problem of
// the configuration.
func NewAzure(c AzureConfig) (*Azure, error) {
	place, err := c.cloud()
	if err != nil {
		return nil, err
	}
	options := policy.ClientOptions{
		Cloud:     place.cloud,
		Telemetry: policy.TelemetryOptions{ApplicationID: "moorage"},
		// A short Retry-After is waited for; a longer one is said to the person, who is waiting too.
		Retry: policy.RetryOptions{MaxRetries: 2, RetryDelay: 300 * time.Millisecond, MaxRetryDelay: 3 * time.Second, TryTimeout: 6 * time.Second},
	}
	if c.HTTP != nil {
		options.Transport = c.HTTP
	}
	credential, err := c.credential(options)
	if err != nil {
		return nil, err
	}
	return &Azure{
		pipeline: runtime.NewPipeline("moorage", "v1", runtime.PipelineOptions{
			PerCall:  []policy.Policy{runtime.NewRequestIDPolicy()},
			PerRetry: []policy.Policy{runtime.NewBearerTokenPolicy(login{credential}, []string{place.audience + "/.default"}, nil)},
		}, &options),
		endpoint: place.endpoint, client: c.Client, log: c.Log, now: c.Now,
		known: map[string]remembered{}, quiet: map[string]time.Time{},
	}, nil
}

// call is one request to Azure Resource Manager.
type call struct {
	id      armID
	action  string // the last segment of a POST; empty: GET
	version string // api-version
	expand  string // $expand
	role    string // the least of Azure's built-in roles that allows it; empty: Reader
}

// ask sends a call and decodes its answer. An error is a Problem, or the end of ctx.
func (a *Azure) ask(ctx context.Context, c call, answer any) error {
	if wait := a.hushed(c.id.subscription); wait > 0 {
		return throttled(c.id, wait, "")
	}
	method, path := http.MethodGet, c.id.path()
	if c.action != "" {
		method, path = http.MethodPost, path+"/"+c.action
	}
	req, err := runtime.NewRequest(ctx, method, a.endpoint+path)
	if err != nil {
		return fmt.Errorf("request %s: %w", path, err)
	}
	query := url.Values{"api-version": {c.version}}
	if c.expand != "" {
		query.Set("$expand", c.expand)
	}
	req.Raw().URL.RawQuery = query.Encode()
	req.Raw().Header.Set("Accept", "application/json")
	resp, err := a.pipeline.Do(req)
	if err != nil {
		return a.failed(ctx, c, err)
	}
	defer resp.Body.Close()
	if !runtime.HasStatusCode(resp, http.StatusOK) {
		return a.refused(c, resp)
	}
	if err := runtime.UnmarshalAsJSON(resp, answer); err != nil {
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: "AzureAnswerUnreadable", Target: "resourceId",
			Message: fmt.Sprintf("Azure's answer about %s %s cannot be read", noun(c.id), c.id.name()),
			Cause:   fmt.Sprintf("it is not what api-version %s promises", c.version),
			Mend:    "see that no proxy answers in Azure's place, or " + tell(c.id),
		}
	}
	return nil
}

// failed explains a call without an answer: no login, or no connection.
func (a *Azure) failed(ctx context.Context, c call, err error) error {
	if l, ok := errors.AsType[*loginError](err); ok {
		return a.notLoggedIn(ctx, c, l)
	}
	cause := "it did not answer in time"
	if ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
		cause = clip(rootCause(err))
	}
	return &workspace.Problem{
		Class: workspace.Unavailable, Code: "AzureUnreachable", Target: "resourceId",
		Message: fmt.Sprintf("Azure could not be asked where %s %s is", noun(c.id), c.id.name()), Cause: cause,
		Mend: "see that this server reaches " + a.endpoint + " (HTTPS_PROXY counts), try again, or " + tell(c.id),
	}
}

// refused explains an answer that is no success. Its body has ARM's shape: {"error":{"code","message"}}.
func (a *Azure) refused(c call, resp *http.Response) error {
	said := armError(resp)
	p := &workspace.Problem{Class: workspace.Unavailable, Code: "AzureRefused", Target: "resourceId", Cause: said}
	what := fmt.Sprintf("%s %s", noun(c.id), c.id.name())
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		wait := retryAfter(resp)
		a.hush(c.id.subscription, wait)
		return throttled(c.id, wait, said)
	case resp.StatusCode == http.StatusUnauthorized:
		p.Class, p.Code = workspace.Denied, "AzureLoginFailed"
		p.Message = "Azure does not accept this server's login for " + what
		p.Mend = fmt.Sprintf("check that the tenant in the server's azure settings is the one of subscription %s, or %s", c.id.subscription, tell(c.id))
	case resp.StatusCode == http.StatusForbidden:
		role := c.role
		if role == "" {
			role = "Reader"
		}
		p.Class, p.Code = workspace.Denied, "AzureForbidden"
		p.Message = "this server may not read " + what + " in Azure"
		p.Mend = fmt.Sprintf("give it the right: az role assignment create --assignee %s --role %q --scope %s; or %s", a.assignee(), role, shellWord(c.id.String()), tell(c.id))
	case resp.StatusCode == http.StatusNotFound:
		p.Class, p.Code = workspace.NotFound, "AzureResourceNotFound"
		p.Message = "Azure knows no " + what
		p.Mend = "correct the resource id, or " + tell(c.id)
	case resp.StatusCode >= http.StatusInternalServerError:
		p.Code = "AzureUnreachable"
		p.Message = "Azure fails to say where " + what + " is"
		p.Mend = "try again later, or " + tell(c.id)
	default:
		p.Class = workspace.Invalid
		p.Message = "Azure refuses to say where " + what + " is"
		p.Mend = "correct what it names, or " + tell(c.id)
	}
	return p
}

func (a *Azure) assignee() string {
	if a.client == "" {
		return "THIS-MACHINE'S-IDENTITY"
	}
	return a.client
}

func throttled(id armID, wait time.Duration, said string) *workspace.Problem {
	if said == "" {
		said = "it asked for no more requests for a while"
	}
	return &workspace.Problem{
		Class: workspace.Throttled, Code: "AzureThrottled", Target: "resourceId",
		Message: fmt.Sprintf("Azure takes no more questions about subscription %s now", id.subscription), Cause: said,
		Mend: fmt.Sprintf("try again in %d seconds", int(wait.Seconds()+0.999)),
	}
}

// retryAfter is how long Azure wants to be left alone: what it says, within reason, else half a minute.
func retryAfter(resp *http.Response) time.Duration {
	text := resp.Header.Get("Retry-After")
	wait := 30 * time.Second
	if seconds, err := strconv.Atoi(text); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, time.Second), time.Hour)
}

// armError gives what an answer says went wrong, with the number by which Microsoft finds the request.
func armError(resp *http.Response) string {
	body, _ := runtime.Payload(resp) // it was read already
	var doc struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	said := resp.Status
	if json.Unmarshal(body, &doc) == nil && doc.Error.Code != "" {
		said = clip(doc.Error.Code + ": " + doc.Error.Message)
	}
	if request := resp.Header.Get("x-ms-request-id"); request != "" {
		said += " (request " + clip(request) + ")"
	}
	return said
}

// login marks what fails before a request is sent: getting a token.
type login struct{ azcore.TokenCredential }

func (l login) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := l.TokenCredential.GetToken(ctx, o)
	if err != nil {
		return token, &loginError{err}
	}
	return token, nil
}

// loginError hides what it wraps: the SDK writes whole answers of the authority into it.
type loginError struct{ err error }

func (e *loginError) Error() string { return "no token for Azure" }
func (e *loginError) Unwrap() error { return e.err }

// tell is the way that always works.
func tell(id armID) string {
	return fmt.Sprintf("tell the server the address yourself: moorage resource add %s --address %s", shellWord(id.String()), exampleAddress(id.String()))
}

// rootCause is the innermost error: what the network said.
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// clip keeps one line of a text from elsewhere, of a length that a person reads.
func clip(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 400 {
		return string(r[:400]) + "…"
	}
	return s
}
