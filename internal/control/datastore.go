package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/blob"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Datastore is a place for data under a name of the workspace: a container of this server, or one elsewhere of which only
// the address and the credential are known.
type Datastore struct {
	Name string `json:"-"`
	// Container is the one on this server; empty: it is elsewhere.
	Container string `json:"container,omitempty"`
	// Account, Remote, Endpoint and Protocol are the address of one elsewhere; Subscription and ResourceGroup say whose its
	// account is, if the client did.
	Account       string `json:"account,omitempty"`
	Remote        string `json:"remote,omitempty"` // its container
	Endpoint      string `json:"endpoint,omitempty"`
	Protocol      string `json:"protocol,omitempty"`
	Subscription  string `json:"subscription,omitempty"`
	ResourceGroup string `json:"resource_group,omitempty"`
	// CredentialType is "Sas", "AccountKey" or "None", and says what Credential is. A container of this server needs
	// none, and what a client gives for it is kept unused.
	CredentialType string            `json:"credential_type,omitempty"`
	Credential     workspace.Secret  `json:"-"`
	Tags           map[string]string `json:"tags,omitempty"`
	Default        bool              `json:"-"`
	Created        int64             `json:"-"` // milliseconds since the epoch; 0: with the workspace
	CreatedBy      string            `json:"-"`
}

// The collections of documents of datastores.
const (
	datastores       = "datastores"
	defaultDatastore = "default datastore" // one document, whose body names it
)

// builtIn are the datastores that every workspace has.
var builtIn = []string{DefaultDatastore, ArtifactDatastore}

var (
	datastoreName = newNameForm(`^[a-z0-9][a-z0-9_-]*$`, 255)
	remoteName    = newNameForm(`^[A-Za-z0-9$][A-Za-z0-9.-]*$`, 253)
	endpointName  = newNameForm(`^[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?$`, 259)
	// workspaceContainer is a container that the server made for a workspace.
	workspaceContainer = regexp.MustCompile(`^azureml-(?:blobstore|artifacts)-(.+)$`)
)

// RegisterDatastore keeps a datastore under a name. A name that is taken is a Problem DatastoreExists, unless nothing
// changes; with overwrite it changes. The server's own two cannot be changed.
func (c *Control) RegisterDatastore(ctx context.Context, p workspace.Principal, ws workspace.Workspace, d Datastore, overwrite bool) error {
	d.Name = strings.ToLower(d.Name) // so does Azure (azureml-v1.md §20)
	if err := d.check(ws); err != nil {
		return err
	}
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("control: datastore %s: %w", d.Name, err)
	}
	sealed, err := c.Box.Seal([]byte(d.Credential.Reveal()), secretOf(ws, d.Name))
	if err != nil {
		return err
	}
	now := c.Clock.Millis()
	doc := store.Document{WorkspaceID: ws.ID, Collection: datastores, Name: d.Name, Body: body, Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name}
	return c.Store.Write(ctx, func(tx *store.Tx) error {
		had, err := tx.Document(ctx, ws.ID, datastores, d.Name, "")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil && !overwrite {
			secret, err := c.openSecret(ctx, tx, ws, d.Name)
			if err != nil {
				return err
			}
			if string(had.Body) == string(body) && secret.Reveal() == d.Credential.Reveal() {
				return nil
			}
			return &workspace.Problem{
				Class: workspace.Conflict, Code: "DatastoreExists", Target: d.Name,
				Message: "a datastore " + quote(d.Name) + " is there, with another address or credential", Mend: "take another name, or register it with overwrite=True",
			}
		}
		if _, err := tx.PutDocument(ctx, doc); err != nil {
			return err
		}
		if d.Credential.Empty() {
			return tx.DeleteSecret(ctx, secretOf(ws, d.Name))
		}
		return tx.PutSecret(ctx, store.Secret{ID: secretOf(ws, d.Name), Sealed: sealed})
	})
}

// check says what is wrong with a datastore that a client wants to have.
func (d Datastore) check(ws workspace.Workspace) error {
	if slices.Contains(builtIn, d.Name) {
		return &workspace.Problem{Class: workspace.Conflict, Code: "DatastoreIsBuiltIn", Target: d.Name, Message: "datastore " + quote(d.Name) + " is the server's own", Mend: "register yours under another name"}
	}
	if !datastoreName.MatchString(d.Name) {
		return invalid("InvalidName", "name", "datastore name "+quote(d.Name)+" cannot be used", "", "use 1 to 255 small letters, digits, '_' and '-', beginning with a letter or digit")
	}
	if d.Container == "" {
		if !remoteName.MatchString(d.Account) || !remoteName.MatchString(d.Remote) || !endpointName.MatchString(d.Endpoint) {
			return invalid("InvalidDatastore", d.Name, "account, container and endpoint of datastore "+quote(d.Name)+" are not an address", "", "give all three as names, e.g. account_name=\"acct\", container_name=\"data\", endpoint=\"core.windows.net\"")
		}
		return nil
	}
	if !blob.IsContainerName(d.Container) {
		return invalid("InvalidDatastore", d.Name, "container "+quote(d.Container)+" of datastore "+quote(d.Name)+" cannot be used", "", "use 3 to 63 small letters, digits and single dashes")
	}
	if m := workspaceContainer.FindStringSubmatch(d.Container); m != nil && m[1] != ws.ID {
		return &workspace.Problem{Class: workspace.Denied, Code: "ForeignContainer", Target: d.Container, Message: "container " + quote(d.Container) + " belongs to another workspace", Mend: "use a container of your own"}
	}
	return nil
}

func secretOf(ws workspace.Workspace, name string) string { return store.DatastoreSecret(ws.ID, name) }

// secretReads are reads of sealed secrets, in a transaction or outside of one.
type secretReads interface {
	Secret(ctx context.Context, id string) (store.Secret, error)
}

func (c *Control) openSecret(ctx context.Context, from secretReads, ws workspace.Workspace, name string) (workspace.Secret, error) {
	s, err := from.Secret(ctx, secretOf(ws, name))
	if errors.Is(err, store.ErrNotFound) {
		return workspace.Secret{}, nil
	}
	if err != nil {
		return workspace.Secret{}, err
	}
	plain, err := c.Box.Open(s.Sealed, secretOf(ws, name))
	return workspace.NewSecret(string(plain)), err
}

// Datastore gives a datastore, with its credential if it is elsewhere. The empty name is the workspace's default.
func (c *Control) Datastore(ctx context.Context, ws workspace.Workspace, name string) (Datastore, error) {
	standard, err := c.defaultDatastore(ctx, ws)
	if err != nil {
		return Datastore{}, err
	}
	if name == "" {
		name = standard
	}
	name = strings.ToLower(name)
	if container, err := Container(ws.ID, name); err == nil {
		return Datastore{Name: name, Container: container, Default: name == standard}, nil
	}
	doc, err := c.Store.Document(ctx, ws.ID, datastores, name, "")
	if err != nil {
		return Datastore{}, datastoreNotFound(err, name)
	}
	d, err := readDatastore(doc, standard)
	if err != nil || d.Container != "" {
		return d, err
	}
	d.Credential, err = c.openSecret(ctx, c.Store, ws, name)
	return d, err
}

func readDatastore(doc store.Document, standard string) (d Datastore, err error) {
	if err = json.Unmarshal(doc.Body, &d); err != nil {
		return d, fmt.Errorf("control: datastore %s: %w", doc.Name, err)
	}
	d.Name, d.Default, d.Created, d.CreatedBy = doc.Name, doc.Name == standard, doc.Created, doc.CreatedBy
	return d, nil
}

func datastoreNotFound(err error, name string) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return &workspace.Problem{
		Class: workspace.NotFound, Code: "UnknownDatastore", Target: name,
		Message: "datastore " + quote(name) + " was not found", Mend: "use " + DefaultDatastore + ", or register it first",
	}
}

// Datastores lists datastores by name, without credentials; on the first page the server's own are in front, beyond the
// limit. next is the cursor of the next page, "" on the last.
func (c *Control) Datastores(ctx context.Context, ws workspace.Workspace, page store.Page) (list []Datastore, next string, err error) {
	standard, err := c.defaultDatastore(ctx, ws)
	if err != nil {
		return nil, "", err
	}
	if page.After == "" {
		for _, name := range builtIn {
			container, err := Container(ws.ID, name)
			if err != nil {
				return nil, "", err
			}
			list = append(list, Datastore{Name: name, Container: container, Default: name == standard})
		}
	}
	docs, err := c.Store.Containers(ctx, ws.ID, datastores, page)
	if err != nil {
		return nil, "", err
	}
	for _, doc := range docs {
		d, err := readDatastore(doc, standard)
		if err != nil {
			return nil, "", err
		}
		list = append(list, d)
	}
	if len(docs) > 0 && len(docs) == page.Limit {
		next = docs[len(docs)-1].Name
	}
	return list, next, nil
}

// SetDefaultDatastore makes a datastore the one that is meant where none is named.
func (c *Control) SetDefaultDatastore(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error {
	d, err := c.Datastore(ctx, ws, name)
	if err != nil {
		return err
	}
	body, err := json.Marshal(d.Name)
	if err != nil {
		return fmt.Errorf("control: default datastore: %w", err)
	}
	now := c.Clock.Millis()
	return c.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.PutDocument(ctx, store.Document{WorkspaceID: ws.ID, Collection: defaultDatastore, Name: defaultDatastore, Body: body, Created: now, Modified: now, CreatedBy: p.Name, ModifiedBy: p.Name})
		return err
	})
}

func (c *Control) defaultDatastore(ctx context.Context, ws workspace.Workspace) (string, error) {
	doc, err := c.Store.Document(ctx, ws.ID, defaultDatastore, defaultDatastore, "")
	if errors.Is(err, store.ErrNotFound) {
		return DefaultDatastore, nil
	}
	if err != nil {
		return "", err
	}
	var name string
	if err := json.Unmarshal(doc.Body, &name); err != nil {
		return "", fmt.Errorf("control: default datastore: %w", err)
	}
	return name, nil
}

// UnregisterDatastore forgets a datastore and its credential. The data stay where they are. When it was the default, the
// server's own is the default again.
func (c *Control) UnregisterDatastore(ctx context.Context, _ workspace.Principal, ws workspace.Workspace, name string) error {
	name = strings.ToLower(name)
	if _, err := Container(ws.ID, name); err == nil {
		return &workspace.Problem{Class: workspace.Conflict, Code: "DatastoreIsBuiltIn", Target: name, Message: "datastore " + quote(name) + " is the server's own", Mend: "leave it"}
	}
	standard, err := c.defaultDatastore(ctx, ws)
	if err != nil {
		return err
	}
	err = c.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.DeleteDocument(ctx, ws.ID, datastores, name, ""); err != nil {
			return err
		}
		if err := tx.DeleteSecret(ctx, secretOf(ws, name)); err != nil || name != standard {
			return err
		}
		return tx.DeleteDocument(ctx, ws.ID, defaultDatastore, defaultDatastore, "")
	})
	return datastoreNotFound(err, name)
}

// DatastoreContainer is the container on this server of a datastore, for what jobs read and write. One elsewhere is a
// Problem: targets do not fetch from there.
func (c *Control) DatastoreContainer(ctx context.Context, ws workspace.Workspace, name string) (string, error) {
	if container, err := Container(ws.ID, name); err == nil {
		return container, nil
	}
	doc, err := c.Store.Document(ctx, ws.ID, datastores, strings.ToLower(name), "")
	if err != nil {
		return "", datastoreNotFound(err, name)
	}
	d, err := readDatastore(doc, "")
	if err == nil && d.Container == "" {
		err = &workspace.Problem{
			Class: workspace.Unsupported, Code: "RemoteDatastore", Target: name,
			Message: "datastore " + quote(name) + " is " + d.Account + ".blob." + d.Endpoint + ", from which this server does not move data for jobs",
			Mend:    "copy the data to " + DefaultDatastore + ", or read them in the script",
		}
	}
	return d.Container, err
}

// PlaceURI is the long azureml:// form of a place in the blob store, by whichever datastore of the workspace it is in; ""
// if by none.
func (c *Control) PlaceURI(ctx context.Context, ws workspace.Workspace, place string) (string, error) {
	if uri := DatastoreURI(ws, place); uri != "" {
		return uri, nil
	}
	for after := ""; ; {
		list, next, err := c.Datastores(ctx, ws, store.Page{After: after, Limit: 500})
		if err != nil {
			return "", err
		}
		for _, d := range list {
			if rest, ok := strings.CutPrefix(place, "c/"+d.Container+"/"); ok && d.Container != "" {
				return pathURI(ws, d.Name, rest), nil
			}
		}
		if next == "" {
			return "", nil
		}
		after = next
	}
}

// pathURI is the long azureml:// form of a path of a datastore.
func pathURI(ws workspace.Workspace, datastore, path string) string {
	return "azureml://subscriptions/" + ws.Subscription + "/resourcegroups/" + ws.ResourceGroup + "/workspaces/" + ws.Name + "/datastores/" + datastore + "/paths/" + path
}
