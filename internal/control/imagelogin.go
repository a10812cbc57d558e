package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// dockerHub is the registry of images that name none, by the name under which logins of it are kept; the others are its names too.
const dockerHub = "docker.io"

var dockerHubs = map[string]bool{"docker.io": true, "index.docker.io": true, "registry-1.docker.io": true, "registry.hub.docker.com": true}

// registryOf is the host in an image's name, with its port, as Docker reads names: what stands before the first slash if it
// has a dot or a colon or is localhost.
func registryOf(image string) string {
	host, _, found := strings.Cut(image, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return dockerHub
	}
	return oneRegistry(host)
}

// oneRegistry is a registry's host in the form that is compared. It may be given as a URL.
func oneRegistry(target string) string {
	host := strings.ToLower(target)
	if _, rest, found := strings.Cut(host, "://"); found {
		host = rest
	}
	host, _, _ = strings.Cut(host, "/")
	if dockerHubs[host] {
		return dockerHub
	}
	return host
}

// Login gives what is known of the registry that a workspace's image comes from: the login that came with an environment of
// just that image, else a connection's to the registry; nil when there is none, and it is pulled without. It is asked when a
// job is handed over.
func (c *Control) Login(ctx context.Context, ws workspace.Workspace, image string) (*compute.Login, error) {
	login, err := c.openLogin(ctx, store.RegistrySecret(ws.ID, ofImage(image)))
	if login != nil || err != nil {
		return login, err
	}
	host := registryOf(image)
	docs, err := c.Connections(ctx, ws, "")
	if err != nil {
		return nil, err
	}
	for _, doc := range docs {
		conn, err := readConnection(doc.Body)
		if err != nil || oneRegistry(conn.Target) != host {
			continue
		}
		if login, err = c.openLogin(ctx, connectionSecret(ws, doc.Name)); login != nil || err != nil {
			return login, err
		}
	}
	return nil, nil
}

// sealedLogin is a login as it is sealed.
type sealedLogin struct {
	Server   string `json:"server"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// ofImage names the login of one image.
func ofImage(image string) string {
	sum := sha256.Sum256([]byte(image))
	return "image/" + hex.EncodeToString(sum[:])
}

// openLogin gives the login of a secret; nil when there is no such secret.
func (c *Control) openLogin(ctx context.Context, id string) (*compute.Login, error) {
	s, err := c.Store.Secret(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	plain, err := c.Box.Open(s.Sealed, id)
	if err != nil {
		return nil, err
	}
	var l sealedLogin
	if err := json.Unmarshal(plain, &l); err != nil {
		return nil, fmt.Errorf("control: login of a registry: %w", err)
	}
	return &compute.Login{Server: l.Server, Username: l.Username, Password: workspace.NewSecret(l.Password)}, nil
}

func (c *Control) sealLogin(id string, l sealedLogin) (store.Secret, error) {
	plain, err := json.Marshal(l)
	if err != nil {
		return store.Secret{}, fmt.Errorf("control: login of a registry: %w", err)
	}
	sealed, err := c.Box.Seal(plain, id)
	return store.Secret{ID: id, Sealed: sealed}, err
}

// keepImageLogin seals the login that azureml-core sends with an environment's image (azureml-v1.md §6.1), for the jobs of that
// image. The client gets it back from nowhere and sends it only once: without a password, what is known stays.
func (c *Control) keepImageLogin(ctx context.Context, ws workspace.Workspace, d environment.Definition, body json.RawMessage) error {
	var given struct {
		Docker struct {
			BaseImageRegistry struct{ Username, Password string }
		}
	}
	if err := json.Unmarshal(body, &given); err != nil {
		return invalid("InvalidEnvironment", "docker.baseImageRegistry", "the environment's registry cannot be read", "", "give address, username and password as texts")
	}
	image, registry := d.BaseImage(), given.Docker.BaseImageRegistry
	if image == "" || registry.Password == "" {
		return nil
	}
	sealed, err := c.sealLogin(store.RegistrySecret(ws.ID, ofImage(image)), sealedLogin{Server: registryOf(image), Username: registry.Username, Password: registry.Password})
	if err != nil {
		return err
	}
	return c.Store.Write(ctx, func(tx *store.Tx) error { return tx.PutSecret(ctx, sealed) })
}

// withoutRegistryPassword gives a run's definition as the history may show it: without the password of its image's registry.
func withoutRegistryPassword(definition json.RawMessage) json.RawMessage {
	out, _ := forget(definition, "environment", "docker", "baseImageRegistry", "password")
	return out
}

// forget empties the field at a path of objects, however the case of its names, and tells whether it was there.
func forget(text json.RawMessage, path ...string) (json.RawMessage, bool) {
	if len(path) == 0 {
		return json.RawMessage("null"), string(text) != "null"
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil {
		return text, false
	}
	changed := false
	for name := range fields {
		if !strings.EqualFold(name, path[0]) {
			continue
		}
		if v, ok := forget(fields[name], path[1:]...); ok {
			fields[name], changed = v, true
		}
	}
	if !changed {
		return text, false
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return json.RawMessage("null"), true // raw values that were read before always encode
	}
	return out, true
}
