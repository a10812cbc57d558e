package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// AzureConfig says who this server is in Azure, and where that Azure is. One of Secret, Certificate and ManagedIdentity
// is how it proves it.
type AzureConfig struct {
	Tenant, Client  string
	Secret          workspace.Secret // of the application Client
	Certificate     workspace.Secret // of the application Client, with its private key, PEM
	ManagedIdentity bool             // of the machine that the server runs on; Client picks one of several

	Cloud           string // public (empty means it too), government, china
	Authority       string // a base URL that replaces the cloud's own: a private cloud, or a test
	ResourceManager string // the same

	HTTP *http.Client // nil: with the system's proxies and certificates
	Log  *slog.Logger
	Now  func() time.Time
}

const (
	// azurePatience is how long one question may take with all its requests: attaching fails in seconds.
	azurePatience = 12 * time.Second
	// azureMemory is how long an answer serves. It spares Azure the bursts, a check and the attach after it, and is short
	// enough that a machine whose address changed is soon found.
	azureMemory = time.Minute
	// azureEntries bounds what is remembered.
	azureEntries = 1000
)

// Azure is a Source that asks Azure Resource Manager. It only reads: it changes nothing there, and registers nothing.
// What it knows is taken from Microsoft's published contracts of the versions named beside each request.
type Azure struct {
	pipeline runtime.Pipeline
	endpoint string // without a slash at the end
	client   string // who asks, for mends; empty for the machine's only identity
	log      *slog.Logger
	now      func() time.Time

	mu    sync.Mutex
	known map[string]remembered
	quiet map[string]time.Time // by subscription: Azure asked for no requests until then
}

type remembered struct {
	found Found
	until time.Time
}

var _ Source = (*Azure)(nil)

// answerer tells where resources of one type are.
type answerer func(a *Azure, ctx context.Context, id armID) (Found, error)

// answererOf gives what answers for a type of resource, nil for a type that nothing is known of.
func answererOf(kind string) answerer {
	switch strings.ToLower(kind) {
	case strings.ToLower(machineKind):
		return (*Azure).machine
	case strings.ToLower(hdinsightKind):
		return (*Azure).hdinsight
	case strings.ToLower(synapseKind), strings.ToLower(poolKind):
		return (*Azure).sparkPool
	case strings.ToLower(batchKind):
		return (*Azure).batchAccount
	case strings.ToLower(databricksKind):
		return (*Azure).databricks
	case strings.ToLower(managedKind):
		return (*Azure).managedCluster
	case strings.ToLower(connectedKind):
		return (*Azure).connectedCluster
	}
	return nil
}

// Address asks Azure where a resource is. See Source.
func (a *Azure) Address(ctx context.Context, resourceID string) (Found, error) {
	id, ok := parseID(resourceID)
	if !ok {
		return Found{}, ErrUnknownType
	}
	ask := answererOf(id.kind())
	if ask == nil {
		return Found{}, ErrUnknownType
	}
	key := strings.ToLower(id.String())
	if found, ok := a.recall(key); ok {
		return found, nil
	}
	patient, cancel := context.WithTimeout(ctx, azurePatience)
	defer cancel()
	began := a.now()
	found, err := ask(a, patient, id)
	a.log.Debug("asked Azure for an address", "resource", id.String(), "address", found.Address, "took", a.now().Sub(began), "found", err == nil)
	if err != nil {
		if ctx.Err() != nil { // the caller's end, not ours
			return Found{}, fmt.Errorf("catalog: azure: %w", context.Cause(ctx))
		}
		if _, ok := errors.AsType[*workspace.Problem](err); !ok {
			err = fmt.Errorf("catalog: azure: %w", err)
		}
		return Found{}, err
	}
	a.remember(key, found)
	return found.clone(), nil
}

func (a *Azure) recall(key string) (Found, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.known[key]
	if !ok || !a.now().Before(r.until) {
		return Found{}, false
	}
	return r.found.clone(), true
}

// remember keeps an answer for a while, but none with a secret: those are fetched when they are needed.
func (a *Azure) remember(key string, found Found) {
	if len(found.Secrets) > 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if len(a.known) >= azureEntries {
		maps.DeleteFunc(a.known, func(_ string, r remembered) bool { return !now.Before(r.until) })
	}
	if len(a.known) < azureEntries {
		a.known[key] = remembered{found, now.Add(azureMemory)}
	}
}

// hush records that Azure asked for no more requests of a subscription for so long; it throttles each by itself.
func (a *Azure) hush(subscription string, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	maps.DeleteFunc(a.quiet, func(_ string, until time.Time) bool { return !now.Before(until) })
	a.quiet[strings.ToLower(subscription)] = now.Add(wait)
}

// hushed gives for how long a subscription must still be left alone.
func (a *Azure) hushed(subscription string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(0, a.quiet[strings.ToLower(subscription)].Sub(a.now()))
}

// clone gives a copy that the receiver may change.
func (f Found) clone() Found {
	f.Details, f.Secrets, f.Warnings = maps.Clone(f.Details), maps.Clone(f.Secrets), slices.Clone(f.Warnings)
	return f
}

// details drops what is not known.
func details(pairs map[string]string) map[string]string {
	maps.DeleteFunc(pairs, func(_, value string) bool { return value == "" })
	return pairs
}
