package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// RegistryLogin is how an engine logs in to the server's image registry.
type RegistryLogin struct {
	Server   string `json:"server"` // host and port
	Prefix   string `json:"prefix"` // first part of the names of the workspace's images
	Username string `json:"username"`
	Password string `json:"password"`
	Expires  string `json:"expires"`
}

// RegistryLogin makes a token for the images of the workspace, to pull or also to push, for so many days; 0 is 30.
func (c *Client) RegistryLogin(ctx context.Context, push bool, days int) (l RegistryLogin, err error) {
	_, err = c.call(ctx, http.MethodPost, c.native("registry", "login"), map[string]any{"push": push, "days": days}, &l)
	return l, err
}

// Repositories lists the names of all repositories of images.
func (c *Client) Repositories(ctx context.Context) (names []string, err error) {
	for path := "/v2/_catalog"; path != ""; {
		var page struct{ Repositories []string }
		a, err := c.call(ctx, http.MethodGet, path, nil, &page)
		if err != nil {
			return nil, err
		}
		names = append(names, page.Repositories...)
		path = nextPage(a.header)
	}
	return names, nil
}

// ImageTags lists the tags of a repository.
func (c *Client) ImageTags(ctx context.Context, repository string) (tags []string, err error) {
	for path := "/v2/" + escaped(repository) + "/tags/list"; path != ""; {
		var page struct{ Tags []string }
		a, err := c.call(ctx, http.MethodGet, path, nil, &page)
		if err != nil {
			return nil, err
		}
		tags = append(tags, page.Tags...)
		path = nextPage(a.header)
	}
	return tags, nil
}

// DeleteImage takes away a tag, or by a digest a manifest with all its tags.
func (c *Client) DeleteImage(ctx context.Context, repository, reference string) error {
	_, err := c.call(ctx, http.MethodDelete, "/v2/"+escaped(repository)+"/manifests/"+url.PathEscape(reference), nil, nil)
	return err
}

// escaped quotes the parts of a repository's name, and leaves the slashes between them.
func escaped(repository string) string {
	return strings.TrimPrefix(join(strings.Split(repository, "/")), "/")
}

// nextPage is the path at which a list goes on; empty at its end.
func nextPage(h http.Header) string {
	link, rel, _ := strings.Cut(h.Get("Link"), ">")
	if !strings.Contains(rel, `rel="next"`) {
		return ""
	}
	return strings.TrimPrefix(link, "<")
}
