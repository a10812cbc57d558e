package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Seen is an answer, whatever it says.
type Seen struct {
	Status int
	Date   time.Time // the server's clock, to the second; zero: it did not tell
}

// lookLimit bounds one look.
const lookLimit = 15 * time.Second

// Look asks a URL without a credential. An error has the problem and what was underneath.
func (c *Client) Look(ctx context.Context, at string) (Seen, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return Seen{}, fmt.Errorf("client: look: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Seen{}, errors.Join(c.lost(err), err)
	}
	defer resp.Body.Close()
	drain(resp.Body)
	date, _ := http.ParseTime(resp.Header.Get("Date")) // zero if there is none
	return Seen{Status: resp.StatusCode, Date: date}, nil
}

// Untrusted tells whether err is a certificate that was refused.
func Untrusted(err error) bool { return errors.Is(err, &workspace.Problem{Code: tlsCode}) }

// ProxyFor is the proxy that the environment names for a URL; nil: none.
func ProxyFor(u *url.URL) (*url.URL, error) {
	return http.ProxyFromEnvironment(&http.Request{URL: u})
}

// About is what a server tells of itself.
type About struct {
	BlobHost string             `json:"blob_host"` // the name under which azureml-core uploads
	Room     *workspace.Problem `json:"room"`      // what its disk lacks to take new work; nil: nothing
}

// Server asks for it.
func (c *Client) Server(ctx context.Context) (About, error) {
	var about About
	_, err := c.call(ctx, http.MethodGet, native+"/server", nil, &about)
	return about, err
}

// CheckWorkspace asks for the workspace, and gives its problem if it is not there or not ours.
func (c *Client) CheckWorkspace(ctx context.Context) error {
	_, err := c.call(ctx, http.MethodGet, c.arm(), nil, nil)
	return err
}
