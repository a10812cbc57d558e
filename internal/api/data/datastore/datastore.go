// Package datastore serves Azure's datastore service to azureml-core (azureml-v1.md §20): places for data under names, with
// the credential by which the client then reads and writes them. For containers of this server that is a signature of its
// own.
package datastore

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Datastores is what the routes call; package control has it.
type Datastores interface {
	RegisterDatastore(ctx context.Context, p workspace.Principal, ws workspace.Workspace, d control.Datastore, overwrite bool) error
	Datastore(ctx context.Context, ws workspace.Workspace, name string) (control.Datastore, error)
	Datastores(ctx context.Context, ws workspace.Workspace, page store.Page) (list []control.Datastore, next string, err error)
	SetDefaultDatastore(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error
	UnregisterDatastore(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error
}

type handlers struct {
	datastores Datastores
	sign       func(authn.Signature) string
	clock      clock.Source
}

// Routes is datastore's part of the route table. Looking at one datastore gives its credential, so it needs that right;
// a list gives none.
func Routes(datastores Datastores, sign func(authn.Signature) string, c clock.Source) []api.Route {
	h := handlers{datastores, sign, c}
	base := "/datastore/v1.0" + api.WorkspacePath
	secrets, write := api.ActionWorkspaces+"datastores/listsecrets/action", api.ActionWorkspaces+"datastores/write"
	table := []api.Route{
		{Method: "GET", Pattern: base + "/datastores", Action: api.ActionWorkspaces + "datastores/read", Job: api.JobAny, Handler: h.list},
		{Method: "POST", Pattern: base + "/datastores", Action: write, Handler: h.register},
		{Method: "GET", Pattern: base + "/datastores/{name}", Action: secrets, Job: api.JobHandler, Handler: h.get},
		{Method: "PUT", Pattern: base + "/datastores/{name}", Action: write, Handler: h.change},
		{Method: "DELETE", Pattern: base + "/datastores/{name}", Action: api.ActionWorkspaces + "datastores/delete", Handler: h.unregister},
		{Method: "GET", Pattern: base + "/default", Action: secrets, Job: api.JobHandler, Handler: h.get},
		{Method: "PUT", Pattern: base + "/default/{name}", Action: write, Handler: h.setDefault},
	}
	for i := range table {
		table[i].Dialect = dialect{}
	}
	return table
}

// dialect is the data plane's, with the one answer that has another form: the client goes on to overwrite a datastore
// only on status 400 and these words (azureml-v1.md §20).
type dialect struct{ api.DataPlane }

// WriteProblem implements api.Dialect.
func (d dialect) WriteProblem(w http.ResponseWriter, r *http.Request, p *workspace.Problem) {
	if p.Code == "DatastoreExists" {
		other := *p
		other.Class, other.Message = workspace.Invalid, "Another datastore with the same name already exists but with different credentials"
		p = &other
	}
	d.DataPlane.WriteProblem(w, r, p)
}

var _ api.Dialect = dialect{}

// The times for which a container's signature is good: the client keeps it as long as its datastore object.
const (
	signatureTime    = 24 * time.Hour
	jobSignatureTime = time.Hour
)

// section is a blob container on the wire. Two readers look at the credential: the Python client at sasToken and
// accountKey, the native one at credentialType and credential (azureml-v1.md §20, §22).
type section struct {
	Account        string  `json:"accountName"`
	Container      string  `json:"containerName"`
	Endpoint       *string `json:"endpoint"`
	Protocol       *string `json:"protocol"`
	CredentialType string  `json:"credentialType"`
	Credential     *string `json:"credential"`
	IsSas          bool    `json:"isSas"`
	SasToken       *string `json:"sasToken"`
	AccountKey     *string `json:"accountKey"`
	CacheTimeout   int     `json:"blobCacheTimeout"`
	Identities     bool    `json:"areWorkspaceManagedIdentitiesAllowed"`
	Identity       string  `json:"serviceDataAccessAuthIdentity"`
	Subscription   string  `json:"subscriptionId"`
	ResourceGroup  string  `json:"resourceGroup"`
	Client         *string `json:"clientCredentials"`
}

const blobType = "AzureBlob"

type datastore struct {
	Name      string            `json:"name"`
	Type      string            `json:"dataStoreType"`
	Validated bool              `json:"hasBeenValidated"`
	Tags      map[string]string `json:"tags"`
	Section   section           `json:"azureStorageSection"`
}

// view is a datastore, with the credential to reach it or without.
func view(r *http.Request, d control.Datastore, credentialType, credential string) datastore {
	ws := api.WorkspaceOf(r)
	s := section{
		Account: d.Account, Container: d.Remote, Endpoint: &d.Endpoint, Protocol: &d.Protocol, CredentialType: credentialType, Identity: "None",
		Subscription: ws.Subscription, ResourceGroup: ws.ResourceGroup,
	}
	if d.Subscription != "" {
		s.Subscription, s.ResourceGroup = d.Subscription, d.ResourceGroup
	}
	if credentialType == "" {
		s.CredentialType = "None"
	}
	if d.Container != "" {
		account, endpoint := api.BlobAccount(r)
		protocol := "https"
		s.Account, s.Container, s.Endpoint, s.Protocol = account, d.Container, &endpoint, &protocol
	}
	if credential != "" {
		s.Credential = &credential
		if s.IsSas = credentialType == "Sas"; s.IsSas {
			s.SasToken = &credential
		} else {
			s.AccountKey = &credential
		}
	}
	if d.Tags == nil {
		d.Tags = map[string]string{}
	}
	return datastore{d.Name, blobType, true, d.Tags, s}
}

// get gives one datastore, or the default one, with its credential. A job gets a signature for containers of this server
// that is short, forbids deleting, and is never for the artifacts, among which other runs' are.
func (h handlers) get(w http.ResponseWriter, r *http.Request) error {
	d, err := h.datastores.Datastore(r.Context(), api.WorkspaceOf(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	job := api.PrincipalOf(r).Job != ""
	if job && (d.Container == "" || d.Name == control.ArtifactDatastore) {
		return &workspace.Problem{
			Class: workspace.Denied, Code: "NotForJobs", Target: d.Name, Message: "a job's own credential does not open datastore " + d.Name,
			Mend: "use " + control.DefaultDatastore + ", or give the script the credential itself",
		}
	}
	if d.Container == "" {
		return api.WriteJSON(w, http.StatusOK, view(r, d, d.CredentialType, d.Credential.Reveal()))
	}
	s := authn.Signature{Container: d.Container, Verbs: "rcwdl", Expires: h.clock.Now().Add(signatureTime)}
	if job {
		s.Verbs, s.Expires = "rcwl", h.clock.Now().Add(jobSignatureTime)
	}
	return api.WriteJSON(w, http.StatusOK, view(r, d, "Sas", h.sign(s)))
}

func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("count"))
	if err != nil || limit <= 0 || limit > 500 {
		limit = 100
	}
	list, next, err := h.datastores.Datastores(r.Context(), api.WorkspaceOf(r), store.Page{After: q.Get("continuationToken"), Limit: limit})
	if err != nil {
		return err
	}
	views := make([]datastore, len(list))
	for i, d := range list {
		views[i] = view(r, d, d.CredentialType, "")
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"value": views, "continuationToken": api.OrNull(next), "nextLink": nil})
}

func (h handlers) register(w http.ResponseWriter, r *http.Request) error { return h.put(w, r, false) }

func (h handlers) change(w http.ResponseWriter, r *http.Request) error { return h.put(w, r, true) }

func (h handlers) put(w http.ResponseWriter, r *http.Request, overwrite bool) error {
	var req datastore
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	if req.Type != blobType {
		return &workspace.Problem{
			Class: workspace.Unsupported, Code: "UnsupportedDatastore", Target: "dataStoreType", Message: "this server does not keep datastores of type " + strconv.Quote(req.Type),
			Mend: "register a blob container, or read that store in the script",
		}
	}
	if name := r.PathValue("name"); name != "" {
		req.Name = name
	}
	if err := h.datastores.RegisterDatastore(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), asked(r, req), overwrite); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// asked is the datastore that a client describes. Without an endpoint it is on this server, whatever account is named:
// azureml-core sends null, and makes a name of it that exists nowhere (azureml-v1.md §20).
func asked(r *http.Request, req datastore) control.Datastore {
	s := req.Section
	d := control.Datastore{Name: req.Name, CredentialType: s.CredentialType, Tags: req.Tags}
	if s.Credential != nil {
		d.Credential = workspace.NewSecret(*s.Credential)
	}
	if _, ours := api.BlobAccount(r); s.Endpoint == nil || *s.Endpoint == "" || strings.EqualFold(*s.Endpoint, ours) {
		d.Container = s.Container
		return d
	}
	d.Account, d.Remote, d.Endpoint, d.Protocol, d.Subscription, d.ResourceGroup = s.Account, s.Container, *s.Endpoint, "https", s.Subscription, s.ResourceGroup
	if s.Protocol != nil && *s.Protocol != "" {
		d.Protocol = *s.Protocol
	}
	return d
}

func (h handlers) unregister(w http.ResponseWriter, r *http.Request) error {
	if err := h.datastores.UnregisterDatastore(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h handlers) setDefault(w http.ResponseWriter, r *http.Request) error {
	if err := h.datastores.SetDefaultDatastore(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
