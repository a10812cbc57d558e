package client

import (
	"context"
	"encoding/json"
	"net/http"
)

// Connection is a login to a registry of container images, as ARM shows it.
type Connection struct {
	Name       string `json:"name"`
	Properties struct {
		Category    string `json:"category"`
		Target      string `json:"target"`
		AuthType    string `json:"authType"`
		Credentials struct {
			Username string `json:"username"`
		} `json:"credentials"`
	} `json:"properties"`
	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON keeps the text beside the fields.
func (c *Connection) UnmarshalJSON(b []byte) error {
	type plain Connection
	return keepText(b, (*plain)(c), &c.Raw)
}

// PutConnection keeps a login to a registry under a name.
func (c *Client) PutConnection(ctx context.Context, name, registry, username, password string) (*Connection, error) {
	body := map[string]any{"properties": map[string]any{
		"category": "ContainerRegistry", "target": registry, "authType": "UsernamePassword", "credentials": map[string]string{"username": username, "password": password},
	}}
	out := &Connection{}
	_, err := c.call(ctx, http.MethodPut, c.arm("connections", name), body, out)
	return out, err
}

// Connections lists the workspace's connections.
func (c *Client) Connections(ctx context.Context) ([]*Connection, error) {
	return list[*Connection](ctx, c, c.arm("connections"))
}

// Connection is one connection.
func (c *Client) Connection(ctx context.Context, name string) (*Connection, error) {
	out := &Connection{}
	_, err := c.call(ctx, http.MethodGet, c.arm("connections", name), nil, out)
	return out, err
}

// DeleteConnection forgets a login.
func (c *Client) DeleteConnection(ctx context.Context, name string) error {
	_, err := c.call(ctx, http.MethodDelete, c.arm("connections", name), nil, nil)
	return err
}
