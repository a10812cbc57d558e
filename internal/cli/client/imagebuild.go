package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// ImageBuild is the making of an image of an environment.
type ImageBuild struct {
	Build    string             `json:"build"`
	Phase    string             `json:"phase"`
	Image    string             `json:"image,omitempty"`
	Digest   string             `json:"digest,omitempty"`
	Problem  *workspace.Problem `json:"problem,omitempty"`
	Started  string             `json:"started,omitempty"`
	Ended    string             `json:"ended,omitempty"`
	LastUsed string             `json:"last_used"`
}

// ImageBuilds lists the builds of images of the workspace.
func (c *Client) ImageBuilds(ctx context.Context) (all []ImageBuild, err error) {
	for after := ""; ; {
		var page struct {
			Builds []ImageBuild `json:"builds"`
			Next   string       `json:"next"`
		}
		if _, err := c.call(ctx, http.MethodGet, c.native("imagebuilds")+"?after="+url.QueryEscape(after), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Builds...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}

// BuildEnvironment has an environment made ahead, and gives the id of that; "" when there is nothing to make. version may be
// empty for the newest, compute for the server's registry.
func (c *Client) BuildEnvironment(ctx context.Context, name, version, compute string) (build string, err error) {
	var out struct{ Build string }
	_, err = c.call(ctx, http.MethodPost, c.native("imagebuilds"), map[string]string{"environment": name, "version": version, "compute": compute}, &out)
	return out.Build, err
}

// EnvironmentBuild gives the state of a build, in the words of a job's.
func (c *Client) EnvironmentBuild(ctx context.Context, build string) (workspace.State, error) {
	var out struct{ State workspace.State }
	_, err := c.call(ctx, http.MethodGet, c.native("imagebuilds", build), nil, &out)
	return out.State, err
}

// EnvironmentBuildLog copies what there is of a build's log.
func (c *Client) EnvironmentBuildLog(ctx context.Context, build string, w io.Writer) error {
	resp, err := c.send(ctx, http.MethodGet, c.native("imagebuilds", build, "log"), nil, "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}

// CancelEnvironmentBuild asks for the end of a build.
func (c *Client) CancelEnvironmentBuild(ctx context.Context, build string) error {
	_, err := c.call(ctx, http.MethodPost, c.native("imagebuilds", build, "cancel"), nil, nil)
	return err
}
