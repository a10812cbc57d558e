// Package catalog turns a resource id, by which Azure's clients name a target, into an address that a driver can
// dial. The table is filled by an administrator (moorage resource add). It is asked by control alone.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Source knows resources that nobody has written into the table: a cloud that can be asked for them.
type Source interface {
	// Address tells where a resource is. A Problem says why that cannot be told, in words for the person who attaches
	// it; ErrUnknownType is for an id that this source does not speak about. It is safe for concurrent use, answers or
	// gives up within half a minute, and never holds a secret in an error.
	Address(ctx context.Context, resourceID string) (Found, error)
}

// ErrUnknownType is the answer of a Source to an id of a kind of resource that it does not know.
var ErrUnknownType = errors.New("catalog: no such kind of resource")

// Found is what is known of a resource.
type Found struct {
	// Address is what a driver dials: "ssh://192.0.2.7", "livy+https://…", "https://…", "kubeconfig://CONTEXT". It has no
	// port where only the caller knows it (sshd's on a virtual machine).
	Address string
	// Public tells that Address can be reached from outside the cloud's private networks.
	Public bool
	// Details are for people and for planning, as compute.Facts has them: "os", "private_ip", "https", "spark_version", …
	Details map[string]string
	// Settings are the driver's that an administrator wrote beside the address; SecretID names the sealed ones among them,
	// which only package control can open.
	Settings json.RawMessage
	SecretID string
	// Secrets are settings of the driver that came with the address ("kubeconfig"). They are sealed like those that a
	// person gave, and never written into the table.
	Secrets map[string]workspace.Secret
	// Warnings do not stand in the way: a private address, a machine behind a load balancer.
	Warnings []workspace.Problem
}

// Catalog answers from the store's table, then from its Source.
type Catalog struct {
	store  *store.Store
	source Source
}

// New makes a catalogue over the store.
func New(s *store.Store) *Catalog { return &Catalog{store: s} }

// WithSource gives a catalogue that asks the source for what is not in the table.
func (c *Catalog) WithSource(s Source) *Catalog { return &Catalog{store: c.store, source: s} }

// Find gives what is known of a resource id. An id that is an address itself ("ssh://bob@host:22") is its own answer.
// What an administrator wrote into the table is believed before any source. A Problem UnknownResource says which command
// adds the missing line.
func (c *Catalog) Find(ctx context.Context, resourceID string) (Found, error) {
	if scheme, _, found := strings.Cut(resourceID, "://"); found && !strings.Contains(scheme, "/") {
		return Found{Address: resourceID}, nil
	}
	r, err := c.store.Resource(ctx, resourceID)
	switch {
	case err == nil:
		return Found{Address: r.Address, Settings: r.Settings, SecretID: r.SecretID}, nil
	case !errors.Is(err, store.ErrNotFound):
		return Found{}, fmt.Errorf("catalog: find: %w", err)
	case c.source == nil:
		return Found{}, unknown(resourceID, "it is not in this server's catalogue, and no Azure credentials are configured to ask for it")
	}
	found, err := c.source.Address(ctx, resourceID)
	if errors.Is(err, ErrUnknownType) {
		return Found{}, unknown(resourceID, "it is not in this server's catalogue, and Azure has no address for an id like this one")
	}
	return found, err
}

func unknown(resourceID, cause string) *workspace.Problem {
	if strings.Contains(strings.ToLower(resourceID), "/connectedclusters/") {
		cause += "; the id of an Arc cluster would not be enough anyway, because Azure reaches its Kubernetes API through a relay that only Microsoft's own proxy speaks"
	}
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "UnknownResource", Target: "resourceId",
		Message: fmt.Sprintf("no address is known for resource %q", resourceID),
		Cause:   cause,
		Mend:    fmt.Sprintf("tell the server where it is: moorage resource add %s --address %s", shellWord(resourceID), exampleAddress(resourceID)),
	}
}

// shellWord is a text as a shell takes it for one word.
func shellWord(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("/-._:@%+", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// exampleAddress is the form of the address that a resource of the id's type has.
func exampleAddress(resourceID string) string {
	id := strings.ToLower(resourceID)
	for part, example := range map[string]string{
		"/managedclusters/": "kubeconfig://CONTEXT --kubeconfig-file FILE", "/connectedclusters/": "kubeconfig://CONTEXT --kubeconfig-file FILE", "/bigdatapools/": "livy+https://HOST/", "/microsoft.databricks/": "https://HOST",
		"/batchaccounts/": "slurm+ssh://HOST:22 --set folder=/SHARED/FOLDER", "/microsoft.datalakeanalytics/": "ADDRESS",
	} {
		if strings.Contains(id, part) {
			return example
		}
	}
	return "ssh://HOST:22"
}
