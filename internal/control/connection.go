package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// connections is the collection of connections; they have no versions.
const connections = "connections"

// maxConnections is how many of a workspace are listed.
const maxConnections = 1000

// containerRegistry is the one category of connections that something is done with here.
const containerRegistry = "ContainerRegistry"

// connection is our view of a connection's properties, as azure-ai-ml sends them.
type connection struct {
	Category    string `json:"category"`
	Target      string `json:"target"`
	AuthType    string `json:"authType"`
	Credentials struct {
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"credentials"`
}

func readConnection(body json.RawMessage) (conn connection, err error) {
	if err := json.Unmarshal(properties(body), &conn); err != nil {
		return conn, invalid("InvalidConnection", "properties", "the connection cannot be read", "", "send category, target, authType and credentials as Azure ML v2 does")
	}
	return conn, nil
}

func connectionSecret(ws workspace.Workspace, name string) string {
	return store.RegistrySecret(ws.ID, "connection/"+name)
}

// PutConnection keeps a login to a registry of container images under a name, for the jobs of the workspace whose image comes
// from there. The password is sealed; an update without one keeps the old. body is the ARM document.
func (c *Control) PutConnection(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, body json.RawMessage) (store.Document, error) {
	if p := workspace.CheckName("connection", name); p != nil {
		return store.Document{}, p
	}
	conn, err := readConnection(body)
	if err != nil {
		return store.Document{}, err
	}
	if err := conn.check(); err != nil {
		return store.Document{}, err
	}
	id, now := connectionSecret(ws, name), c.Clock.Millis()
	sealed, err := c.sealLogin(id, sealedLogin{Server: oneRegistry(conn.Target), Username: conn.Credentials.Username, Password: conn.Credentials.Password})
	if err != nil {
		return store.Document{}, err
	}
	doc := store.Document{
		WorkspaceID: ws.ID, Collection: connections, Name: name, Body: withoutCredentials(body, conn.Credentials.Username), Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name,
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		had, err := tx.Document(ctx, ws.ID, connections, name, "")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if old, oldErr := readConnection(had.Body); conn.Credentials.Password == "" && (err != nil || oldErr != nil || old.Credentials.Username != conn.Credentials.Username || oneRegistry(old.Target) != oneRegistry(conn.Target)) {
			return invalid("MissingPassword", "properties.credentials.password", "connection "+quote(name)+" has no password", "", "give the password, or the token, of "+quote(conn.Credentials.Username))
		}
		if _, err := tx.PutDocument(ctx, doc); err != nil || conn.Credentials.Password == "" {
			return err
		}
		return tx.PutSecret(ctx, sealed)
	})
	if err != nil {
		return store.Document{}, err
	}
	return c.Connection(ctx, ws, name)
}

// check refuses what would be kept for nothing.
func (conn connection) check() error {
	if !strings.EqualFold(conn.Category, containerRegistry) {
		return &workspace.Problem{
			Class: workspace.Unsupported, Code: "UnsupportedConnection", Target: "properties.category", Message: fmt.Sprintf("connections of category %s are not used by this server", quote(conn.Category)),
			Mend: "connect a registry of container images: category " + containerRegistry,
		}
	}
	if !strings.EqualFold(conn.AuthType, "UsernamePassword") {
		return &workspace.Problem{
			Class: workspace.Unsupported, Code: "UnsupportedConnection", Target: "properties.authType", Message: fmt.Sprintf("this server does not log in to a registry by %s", quote(conn.AuthType)),
			Mend: "give a user name with a password or a token: authType UsernamePassword",
		}
	}
	if host := oneRegistry(conn.Target); !endpointName.MatchString(host) {
		return invalid("InvalidConnection", "properties.target", quote(conn.Target)+" is not the host of a registry", "", "write it like registry.example or registry.example:5000")
	}
	if conn.Credentials.Username == "" {
		return invalid("InvalidConnection", "properties.credentials.username", "the connection names no user", "", "give the user name that the registry knows")
	}
	return nil
}

// withoutCredentials gives the document with nothing of the credentials but the user's name.
func withoutCredentials(body json.RawMessage, username string) json.RawMessage {
	var doc, inner map[string]json.RawMessage
	if json.Unmarshal(body, &doc) != nil || json.Unmarshal(properties(body), &inner) != nil {
		return json.RawMessage(`{}`) // it was read before
	}
	inner["credentials"], _ = json.Marshal(map[string]string{"username": username}) // texts always encode
	delete(inner, "value")                                                          // another form in which credentials come
	doc["properties"], _ = json.Marshal(inner)                                      // raw values that were read before
	out, _ := json.Marshal(doc)
	return out
}

// Connection gives a connection. Its document holds no password.
func (c *Control) Connection(ctx context.Context, ws workspace.Workspace, name string) (store.Document, error) {
	doc, err := c.Store.Document(ctx, ws.ID, connections, name, "")
	return doc, notFound(err, "connection", name)
}

// ConnectionPassword gives the password of a connection, for listsecrets, which has an action of its own.
func (c *Control) ConnectionPassword(ctx context.Context, ws workspace.Workspace, name string) (workspace.Secret, error) {
	if _, err := c.Connection(ctx, ws, name); err != nil {
		return workspace.Secret{}, err
	}
	login, err := c.openLogin(ctx, connectionSecret(ws, name))
	if err != nil || login == nil {
		return workspace.Secret{}, err
	}
	return login.Password, nil
}

// Connections lists a workspace's connections, or those of a category.
func (c *Control) Connections(ctx context.Context, ws workspace.Workspace, category string) ([]store.Document, error) {
	if category != "" && !strings.EqualFold(category, containerRegistry) {
		return nil, nil
	}
	return c.Store.Documents(ctx, ws.ID, connections, "", store.Page{Limit: maxConnections})
}

// DeleteConnection forgets a connection and its password. Jobs that were handed over keep what they have.
func (c *Control) DeleteConnection(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) error {
	err := c.Store.Write(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.DeleteDocument(ctx, ws.ID, connections, name, ""), tx.DeleteSecret(ctx, connectionSecret(ws, name)))
	})
	return notFound(err, "connection", name)
}
