package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// The API is spoken in JSON by structs that hold only what is looked at: a thousand pods then take little memory, which
// objects that hold everything do not.

// resource is a kind of object in the namespace, by the path of its collection.
type resource struct{ group, plural string }

var (
	jobs       = resource{"apis/batch/v1", "jobs"}
	pods       = resource{"api/v1", "pods"}
	configMaps = resource{"api/v1", "configmaps"}
	secrets    = resource{"api/v1", "secrets"}
	services   = resource{"api/v1", "services"}
	events     = resource{"api/v1", "events"}
)

func (c *cluster) path(r resource, rest ...string) string {
	words := []string{"", r.group, "namespaces", url.PathEscape(c.namespace), r.plural}
	for _, s := range rest {
		words = append(words, url.PathEscape(s))
	}
	return strings.Join(words, "/")
}

// callLimit bounds one call that is no watch.
const callLimit = 30 * time.Second

// mostAnswer is how much of one answer is read, in bytes.
const mostAnswer = 256 << 20

// refusal is an error that the API server answered, as metav1.Status tells it.
type refusal struct {
	Code    int
	Reason  string
	Message string
	After   time.Duration
}

func (r *refusal) Error() string { return r.Message }

func (c *cluster) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.call(ctx, http.MethodGet, path, query, nil, out)
}

func (c *cluster) create(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPost, path, nil, in, out)
}

// patch merges in into an object. With a resourceVersion in it, a change in between is a conflict.
func (c *cluster) patch(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPatch, path, nil, in, out)
}

// remove deletes an object if it is still the same, and in the background what it owns.
func (c *cluster) remove(ctx context.Context, path, uid string) error {
	in := object{"propagationPolicy": "Background"}
	if uid != "" {
		in["preconditions"] = object{"uid": uid}
	}
	return c.call(ctx, http.MethodDelete, path, nil, in, nil)
}

type object = map[string]any

func (c *cluster) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callLimit, fmt.Errorf("no answer within %s", callLimit))
	defer cancel()
	body, err := c.open(ctx, method, path, query, in)
	if err != nil && method == http.MethodGet && code(err) == 0 && ctx.Err() == nil {
		body, err = c.open(ctx, method, path, query, in) // the connection may have ended before it was used
	}
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(body, mostAnswer))
		return err
	}
	return json.NewDecoder(io.LimitReader(body, mostAnswer)).Decode(out)
}

// open makes a call and gives the body of a good answer.
func (c *cluster) open(ctx context.Context, method, path string, query url.Values, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	u := c.base + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	switch {
	case method == http.MethodPatch:
		req.Header.Set("Content-Type", "application/merge-patch+json")
	case in != nil:
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, refused(resp)
}

func refused(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var s struct {
		Message string `json:"message"`
		Reason  string `json:"reason"`
	}
	_ = json.Unmarshal(b, &s)
	if s.Message == "" {
		s.Message = resp.Status
	}
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return &refusal{Code: resp.StatusCode, Reason: s.Reason, Message: s.Message, After: time.Duration(after) * time.Second}
}

func code(err error) int {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.Code
	}
	return 0
}

func gone(err error) bool     { return code(err) == http.StatusNotFound }
func conflict(err error) bool { return code(err) == http.StatusConflict }

// failed makes an error of the contract of what the API server or the way to it said.
func (t *Target) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*compute.Error](err); ok {
		return err
	}
	e := &compute.Error{Kind: compute.ErrUnreachable, Err: err, Problem: workspace.Problem{
		Class: workspace.Unavailable, Code: "ClusterUnreachable", Message: "the cluster's API server does not answer at " + t.cluster.base, Cause: err.Error(),
		Mend: "check that the cluster is up and that the server may connect to it; jobs there go on",
	}}
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return e
	}
	p := &e.Problem
	p.Code, p.Message, p.Mend = "ClusterFailed", "the cluster could not do it", "look at the cluster's API server"
	switch r.Code {
	case http.StatusUnauthorized:
		e.Kind, p.Class, p.Code, p.Message = compute.ErrDenied, workspace.Denied, "CredentialsRefused", "the cluster does not take the credentials"
		p.Mend = "give the compute a kubeconfig whose token or certificate is valid"
	case http.StatusForbidden:
		e.Kind, p.Class, p.Code, p.Message = compute.ErrDenied, workspace.Denied, "RightMissing", "the cluster does not allow it"
		p.Mend = "grant the right in namespace " + t.cluster.namespace + "; probing the compute lists all that are missing"
		if full(r) {
			e.Kind, p.Class, p.Code, p.Message = compute.ErrFull, workspace.Unavailable, "QuotaExceeded", "the namespace's quota is used up"
			p.Mend = "wait for other jobs there to end, or have the quota raised: kubectl describe quota -n " + t.cluster.namespace
		}
	case http.StatusTooManyRequests:
		e.Kind, e.After, p.Code, p.Message, p.Mend = compute.ErrThrottled, r.After, "Throttled", "the cluster's API server is busy", "nothing needs doing: it is tried again"
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		e.Kind, p.Class, p.Code, p.Message, p.Mend = compute.ErrInvalid, workspace.Invalid, "JobRefused", "the cluster does not take the job", "correct the job's resources or the compute's settings"
	case http.StatusNotFound:
		e.Kind, p.Class, p.Code, p.Message = compute.ErrDenied, workspace.NotFound, "NamespaceMissing", "the cluster does not know it"
		p.Mend = "kubectl create namespace " + t.cluster.namespace + ", or correct the compute's settings"
	}
	return e
}

// full tells a quota's refusal from a missing right: both are 403.
func full(r *refusal) bool {
	return strings.Contains(r.Message, "exceeded quota")
}
