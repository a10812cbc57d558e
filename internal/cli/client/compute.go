package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Compute is a compute as ARM shows it.
type Compute struct {
	Name       string          `json:"name"`
	Properties ComputeOuter    `json:"properties"`
	Raw        json.RawMessage `json:"-"`
}

// ComputeOuter are the properties that all kinds share.
type ComputeOuter struct {
	ComputeType        string          `json:"computeType"`
	Description        string          `json:"description,omitempty"`
	ResourceID         string          `json:"resourceId,omitempty"`
	ProvisioningState  string          `json:"provisioningState"`
	ProvisioningErrors []ErrorEntry    `json:"provisioningErrors,omitempty"`
	CreatedOn          string          `json:"createdOn,omitempty"`
	Inner              json.RawMessage `json:"properties,omitempty"`
}

// ErrorEntry is one of a compute's provisioning errors.
type ErrorEntry struct {
	Error armError `json:"error"`
}

// Problem is the entry as a problem.
func (e ErrorEntry) Problem() workspace.Problem { return e.Error.problem() }

// Address is where an attached compute is; "" for an alias.
func (c *Compute) Address() string {
	var inner struct {
		Address string `json:"address"`
	}
	_ = json.Unmarshal(c.Properties.Inner, &inner) // without an object there is no address
	return inner.Address
}

// UnmarshalJSON keeps the text beside the fields.
func (c *Compute) UnmarshalJSON(b []byte) error {
	type plain Compute
	return keepText(b, (*plain)(c), &c.Raw)
}

// Facts is what a pre-flight found.
type Facts struct {
	Details  map[string]string   `json:"details"`
	Problems []workspace.Problem `json:"problems"`
	Raw      json.RawMessage     `json:"-"`
}

// UnmarshalJSON keeps the text beside the fields.
func (f *Facts) UnmarshalJSON(b []byte) error {
	type plain Facts
	return keepText(b, (*plain)(f), &f.Raw)
}

// PutCompute attaches or updates a compute and waits until that has succeeded or failed.
func (c *Client) PutCompute(ctx context.Context, name string, body map[string]any) error {
	a, err := c.call(ctx, http.MethodPut, c.arm("computes", name), body, nil)
	if err != nil {
		return err
	}
	_, err = c.operation(ctx, a)
	return err
}

// operation waits for a long operation, if the answer began one. It asks often at first: attaching takes a moment. left
// is what a detach left behind.
func (c *Client) operation(ctx context.Context, a answer) (left []string, err error) {
	place := a.header.Get("Azure-AsyncOperation")
	if place == "" {
		return nil, nil
	}
	for wait := 10 * time.Millisecond; ; wait = min(wait*3/2, time.Second) {
		if err := Pause(ctx, wait); err != nil {
			return nil, err
		}
		var op struct {
			Status     string `json:"status"`
			Properties struct {
				Left []string `json:"left"`
			} `json:"properties"`
			Error *armError `json:"error"`
		}
		if _, err := c.call(ctx, http.MethodGet, place, nil, &op); err != nil {
			return nil, err
		}
		switch op.Status {
		case "Succeeded":
			return op.Properties.Left, nil
		case "Failed", "Canceled":
			if op.Error != nil {
				p := op.Error.problem()
				p.Class = workspace.Invalid
				return nil, &p
			}
			return nil, &workspace.Problem{Code: "OperationFailed", Message: "the operation ended as " + op.Status}
		}
	}
}

// Compute is one compute.
func (c *Client) Compute(ctx context.Context, name string) (*Compute, error) {
	out := &Compute{}
	_, err := c.call(ctx, http.MethodGet, c.arm("computes", name), nil, out)
	return out, err
}

// Computes lists the workspace's computes.
func (c *Client) Computes(ctx context.Context) ([]*Compute, error) {
	return list[*Compute](ctx, c, c.arm("computes"))
}

// list reads all pages of an ARM collection.
func list[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	all := []T{}
	for path != "" {
		var page struct {
			Value    []T    `json:"value"`
			NextLink string `json:"nextLink"`
		}
		if _, err := c.call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		if page.NextLink == path {
			break
		}
		path = page.NextLink
	}
	return all, nil
}

// Environment is an environment that was made on a compute, or is to be.
type Environment struct {
	Hash     string             `json:"hash"`
	Phase    string             `json:"phase"`
	LastUsed string             `json:"last_used"`
	Problem  *workspace.Problem `json:"problem"`
	Spec     struct {
		Curated   string   `json:"curated"`
		Image     string   `json:"image"`
		CondaFile string   `json:"conda_file"`
		Python    string   `json:"python"`
		Pip       []string `json:"pip"`
	} `json:"spec"`
	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON keeps the text beside the fields.
func (e *Environment) UnmarshalJSON(b []byte) error {
	type plain Environment
	return keepText(b, (*plain)(e), &e.Raw)
}

// Environments lists what was made of jobs' environments on a compute, the one used last first.
func (c *Client) Environments(ctx context.Context, name string) ([]*Environment, error) {
	var out struct {
		Environments []*Environment `json:"environments"`
	}
	_, err := c.call(ctx, http.MethodGet, c.native("computes", name, "environments"), nil, &out)
	return out.Environments, err
}

// CheckCompute makes the pre-flight of an attached compute.
func (c *Client) CheckCompute(ctx context.Context, name string) (*Facts, error) {
	out := &Facts{}
	_, err := c.call(ctx, http.MethodPost, c.native("computes", name, "check"), map[string]any{}, out)
	return out, err
}

// CheckBody makes the pre-flight of a compute that is not attached; body is what attaching would send.
func (c *Client) CheckBody(ctx context.Context, body map[string]any) (*Facts, error) {
	out := &Facts{}
	_, err := c.call(ctx, http.MethodPost, c.native("computes", "check"), body, out)
	return out, err
}

// Detach forgets a compute; the target itself stays. cancelJobs ends its jobs first; force is for a target that does
// not answer. left is what stayed behind on the target, as the server says it.
func (c *Client) Detach(ctx context.Context, name string, force, cancelJobs bool) (left []string, err error) {
	q := url.Values{"underlyingResourceAction": {"Detach"}}
	if force {
		q.Set("force", "true")
	}
	if cancelJobs {
		q.Set("cancelJobs", "true")
	}
	var out struct {
		Left []string `json:"left"`
	}
	a, err := c.call(ctx, http.MethodDelete, c.arm("computes", name)+"&"+q.Encode(), nil, &out)
	if err != nil {
		return nil, err
	}
	left, err = c.operation(ctx, a)
	return append(out.Left, left...), err
}

// Kind is one kind of compute that the server can attach.
type Kind struct {
	Kind   string          `json:"kind"`
	Schema json.RawMessage `json:"schema"`
	Limits map[string]any  `json:"limits"`
}

// Kinds lists what the server can attach.
func (c *Client) Kinds(ctx context.Context) (kinds []Kind, raw json.RawMessage, err error) {
	if _, err := c.call(ctx, http.MethodGet, native+"/kinds", nil, &raw); err != nil {
		return nil, nil, err
	}
	return kinds, raw, under(raw, "kinds", &kinds)
}

// Resource is one entry of the catalogue. The server takes secrets among the settings and shows none.
type Resource struct {
	ID       string         `json:"id"`
	Address  string         `json:"address"`
	Settings map[string]any `json:"settings,omitempty"`
}

// Resources lists the catalogue.
func (c *Client) Resources(ctx context.Context) (resources []Resource, raw json.RawMessage, err error) {
	if _, err := c.call(ctx, http.MethodGet, native+"/resources", nil, &raw); err != nil {
		return nil, nil, err
	}
	return resources, raw, under(raw, "resources", &resources)
}

// PutResource says where the resource with that ARM id really is.
func (c *Client) PutResource(ctx context.Context, r Resource) error {
	_, err := c.call(ctx, http.MethodPut, native+"/resources?id="+url.QueryEscape(r.ID), r, nil)
	return err
}

// DeleteResource takes a resource out of the catalogue.
func (c *Client) DeleteResource(ctx context.Context, id string) error {
	_, err := c.call(ctx, http.MethodDelete, native+"/resources?id="+url.QueryEscape(id), nil, nil)
	return err
}

// under decodes what stands under a name.
func under(raw json.RawMessage, name string, out any) error {
	var wrapped map[string]json.RawMessage
	err := json.Unmarshal(raw, &wrapped)
	if err == nil {
		err = json.Unmarshal(wrapped[name], out)
	}
	if err != nil {
		return &workspace.Problem{Code: "UnexpectedAnswer", Message: "the server's answer is not understood", Cause: err.Error(), Mend: "check that the server is of this version"}
	}
	return nil
}

// PutEnvironment registers an environment version; the same again changes nothing.
func (c *Client) PutEnvironment(ctx context.Context, name, version string, properties map[string]any) error {
	_, err := c.call(ctx, http.MethodPut, c.arm("environments", name, "versions", version), map[string]any{"properties": properties}, nil)
	return err
}

// PatchCompute changes an attached compute and waits until that is done. What body does not name stays.
func (c *Client) PatchCompute(ctx context.Context, name string, body map[string]any) error {
	a, err := c.call(ctx, http.MethodPatch, c.arm("computes", name), body, nil)
	if err != nil {
		return err
	}
	_, err = c.operation(ctx, a)
	return err
}
