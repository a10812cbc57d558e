// Package client speaks HTTP to a Moorage server: the ARM API and, for what ARM lacks, the native one. Every failure
// that it returns is a *workspace.Problem. Package cli calls it; it prints nothing.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is how to reach a server.
type Config struct {
	URL       string // scheme, host and port
	CA        string // file with the server's certificate authority, PEM; "" trusts what the system trusts
	Token     workspace.Secret
	Workspace workspace.Workspace // subscription, resource group and name
}

// Client is one server and one workspace of it. It is safe for concurrent use.
type Client struct {
	base  string // URL without a trailing slash
	ws    string // ARM path of the workspace
	token workspace.Secret
	http  *http.Client
}

// APIVersion is sent with every ARM call; the server takes any.
const APIVersion = "2024-10-01"

const native = "/native/v1"

// New makes a client. It does no network I/O.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidURL", Target: "url",
			Message: fmt.Sprintf("the server's address %q is not a URL", cfg.URL), Mend: "give it like https://127.0.0.1:8443",
		}
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, &workspace.Problem{
				Class: workspace.Invalid, Code: "CANotReadable", Target: cfg.CA,
				Message: "the server's certificate authority cannot be read", Cause: err.Error(), Mend: `run eval "$(moorage env --data DIR)" again`,
			}
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, &workspace.Problem{
				Class: workspace.Invalid, Code: "CANotReadable", Target: cfg.CA,
				Message: cfg.CA + " holds no certificate", Mend: `run eval "$(moorage env --data DIR)" again`,
			}
		}
		tlsConfig.RootCAs = pool
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second, MaxReceiveBufferPerStream: 8 << 20, MaxReceiveBufferPerConnection: 16 << 20},
		DisableCompression:  true,
		MaxIdleConnsPerHost: 8,
	}
	return &Client{
		base: strings.TrimRight(u.Scheme+"://"+u.Host+u.Path, "/"), ws: cfg.Workspace.Path(), token: cfg.Token,
		http: &http.Client{Transport: transport},
	}, nil
}

// Workspace is the ARM path of the workspace that the client works in.
func (c *Client) Workspace() string { return c.ws }

// URL is the server's address.
func (c *Client) URL() string { return c.base }

// Warm opens the connection that the next request will use. If it cannot, that request will tell.
func (c *Client) Warm(ctx context.Context) {
	if resp, err := c.send(ctx, http.MethodGet, "/healthz", nil, ""); err == nil {
		drain(resp.Body)
		resp.Body.Close()
	}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// answer is what a call gives back beside its body.
type answer struct {
	status   int
	header   http.Header
	repeated bool // an earlier try of the same call may have reached the server
}

// patience is how long an ordinary call may take.
const patience = 2 * time.Minute

// call sends body as JSON and decodes the answer into out; either may be nil. A call that can be repeated without
// harm is repeated when the connection breaks under it.
func (c *Client) call(ctx context.Context, method, path string, body, out any) (answer, error) {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return answer{}, fmt.Errorf("client: encode %s: %w", path, err)
		}
	}
	for try := 0; ; try++ {
		a, sent, err := c.once(ctx, method, path, payload, out)
		a.repeated = try > 0
		if err == nil || !sent || method == http.MethodPost || try == 4 || ctx.Err() != nil || !Lost(err) {
			return a, err
		}
		if err := Pause(ctx, time.Duration(100<<try)*time.Millisecond); err != nil {
			return a, err
		}
	}
}

func (c *Client) once(ctx context.Context, method, path string, payload []byte, out any) (a answer, sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var r io.Reader
	if payload != nil {
		r = bytes.NewReader(payload)
	}
	resp, err := c.send(ctx, method, path, r, "application/json")
	if err != nil {
		return answer{}, !refused(err), err
	}
	defer resp.Body.Close()
	defer drain(resp.Body)
	a = answer{status: resp.StatusCode, header: resp.Header}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return a, true, nil
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, true, c.lost(err)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return a, true, nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return a, true, &workspace.Problem{
			Code: "UnexpectedAnswer", Target: path, Message: "the server's answer is not understood", Cause: err.Error(),
			Mend: "check that " + c.base + " is a Moorage server of this version",
		}
	}
	return a, true, nil
}

// send makes one request and turns an answer that is an error into its problem. path may be an absolute URL of this server.
func (c *Client) send(ctx context.Context, method, path string, body io.Reader, contentType string) (*http.Response, error) {
	target := path
	if strings.HasPrefix(path, "/") {
		target = c.base + path
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("client: %s %s: %w", method, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if !c.token.Empty() && strings.HasPrefix(target, c.base+"/") {
		req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		return nil, problem(resp)
	}
	return resp, nil
}

// arm is the path of a resource below the workspace, with the api-version.
func (c *Client) arm(segments ...string) string {
	return c.ws + join(segments) + "?api-version=" + APIVersion
}

// native is the path of a native route below the workspace.
func (c *Client) native(segments ...string) string { return native + c.ws + join(segments) }

func join(segments []string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// drain reads what is left, so that the connection can be used again.
func drain(body io.Reader) { _, _ = io.CopyN(io.Discard, body, 64<<10) }

// Pause waits, or returns why ctx ended before that.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// lostCode marks a broken or refused connection; Lost tells it.
const lostCode, tlsCode = "ServerUnreachable", "CertificateNotTrusted"

// Lost tells whether err is a connection that broke or could not be made, so that trying again may help.
func Lost(err error) bool { return errors.Is(err, &workspace.Problem{Code: lostCode}) }

// unreachable is a lost connection's problem with what was underneath.
type unreachable struct {
	*workspace.Problem
	err error
}

func (u *unreachable) Unwrap() []error { return []error{u.Problem, u.err} }

func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// lost explains a failure of the connection.
func (c *Client) lost(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	cause := strings.TrimPrefix(err.Error(), "Get ")
	var ue *url.Error
	if errors.As(err, &ue) {
		cause = ue.Err.Error()
	}
	if errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) {
		return &workspace.Problem{
			Class: workspace.Unavailable, Code: tlsCode, Target: c.base, Message: "the certificate of " + c.base + " is not trusted", Cause: cause,
			Mend: `take the server's own authority: eval "$(moorage env --data DIR)", or MOORAGE_CA=FILE`,
		}
	}
	return &unreachable{&workspace.Problem{
		Class: workspace.Unavailable, Code: lostCode, Target: c.base, Message: "the server at " + c.base + " cannot be reached", Cause: cause,
		Mend: "start it with moorage serve, or name another one with --url or MOORAGE_URL",
	}, err}
}

// armError is an error in ARM's shape, with the cause and mend that our server adds.
type armError struct {
	Code, Message, Cause, Mend, Target string
	Details                            []struct{ Message string }
}

// problem is the error without a class, which ARM's shape does not tell.
func (e armError) problem() workspace.Problem {
	cause := e.Cause
	for _, d := range e.Details {
		if d.Message != "" && d.Message != e.Message {
			cause = strings.TrimPrefix(cause+"; "+d.Message, "; ")
		}
	}
	return workspace.Problem{Code: e.Code, Message: bare(e.Message, cause, e.Mend), Cause: cause, Mend: e.Mend, Target: e.Target}
}

// keepText decodes text into a value and keeps the text itself beside it, so that what a newer server adds is shown too.
func keepText(text []byte, into any, raw *json.RawMessage) error {
	*raw = bytes.Clone(text)
	return json.Unmarshal(text, into)
}

// problem reads the error of an answer.
func problem(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var body struct {
		Error  armError
		Errors []armError // of the image registry, which has a shape of its own
	}
	p := &workspace.Problem{}
	understood := json.Unmarshal(text, &body) == nil
	if len(body.Errors) > 0 {
		body.Error = body.Errors[0]
	}
	if understood && body.Error.Message != "" {
		*p = body.Error.problem()
	} else {
		p.Code = strings.ReplaceAll(http.StatusText(resp.StatusCode), " ", "")
		p.Message = fmt.Sprintf("%s answered %s", resp.Request.URL.Host, resp.Status)
		if t := strings.TrimSpace(string(text)); t != "" && len(t) < 300 {
			p.Cause = t
		}
	}
	p.Class = class(resp.StatusCode)
	if p.Mend == "" && resp.StatusCode == http.StatusUnauthorized {
		p.Mend = `take the administrator's token: eval "$(moorage env --data DIR)"`
	}
	return p
}

// bare takes cause and mend off a message: the server adds them for clients that show nothing else.
func bare(message, cause, mend string) string {
	if mend != "" {
		message = strings.TrimSuffix(message, ". "+strings.ToUpper(mend[:1])+mend[1:])
	}
	if cause != "" {
		message = strings.TrimSuffix(message, ": "+cause)
	}
	return message
}

func class(status int) workspace.Class {
	switch status {
	case http.StatusNotFound:
		return workspace.NotFound
	case http.StatusConflict:
		return workspace.Conflict
	case http.StatusUnauthorized:
		return workspace.Unauthenticated
	case http.StatusForbidden:
		return workspace.Denied
	case http.StatusRequestEntityTooLarge:
		return workspace.TooLarge
	case http.StatusTooManyRequests:
		return workspace.Throttled
	case http.StatusNotImplemented:
		return workspace.Unsupported
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return workspace.Unavailable
	}
	if status < 500 {
		return workspace.Invalid
	}
	return workspace.Internal
}
